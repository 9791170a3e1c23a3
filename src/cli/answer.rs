//! What a command answers on standard output, and what it says on standard error when it cannot:
//! words for people, or JSON, one object a line.

use std::fmt::{Display, Write as _};
use std::io::Write as _;

use serde_json::{Value, json};

use super::exit::Exit;
use crate::config::{Config, ConfigError};
use crate::failure::{Failure, FailureKind};

/// What a command found.
#[derive(Debug)]
pub struct Answer {
    json: bool,
    text: String,
    sound: bool,
}

impl Answer {
    /// An empty one, in words or as JSON.
    pub fn new(json: bool) -> Answer {
        Answer { json, text: String::new(), sound: true }
    }

    /// One thing: a line of words, or an object.
    pub fn add(&mut self, words: impl Display, object: impl FnOnce() -> Value) {
        // Writing into a String does not fail.
        let _ = match self.json {
            true => writeln!(self.text, "{}", object()),
            false => writeln!(self.text, "{words}"),
        };
    }

    /// An object that people do not need.
    pub fn add_object(&mut self, object: impl FnOnce() -> Value) {
        if self.json {
            let _ = writeln!(self.text, "{}", object());
        }
    }

    /// A line that programs do not need.
    pub fn add_words(&mut self, words: impl Display) {
        if !self.json {
            let _ = writeln!(self.text, "{words}");
        }
    }

    /// Something is not as it should be: the exit status will say so.
    pub fn is_wrong(&mut self) {
        self.sound = false;
    }

    /// Prints it. A reader that has gone away (`| head`) is no reason to panic.
    pub fn print(&self) -> Exit {
        let _ = std::io::stdout().write_all(self.text.as_bytes());
        if self.sound { Exit::Success } else { Exit::Found }
    }
}

/// Why a command has no answer.
#[derive(Debug)]
pub struct Failed {
    /// What happened.
    pub failure: Failure,
    /// How the command ends.
    pub exit: Exit,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Failed {
        Failed { exit: failure.kind.into(), failure }
    }
}

impl Failed {
    /// Says it, with what can be done about it.
    pub fn print(&self, hint: Option<String>, json: bool) -> Exit {
        let Failed { failure, exit } = self;
        if json {
            let mut error = error_object(failure.kind.name(), &failure.message, *exit);
            error["error"]["hint"] = hint.into();
            say(error);
        } else {
            say(format_args!("hauld: {failure} [{}]", failure.kind));
            if let Some(hint) = hint {
                say(format_args!("  {hint}"));
            }
        }
        *exit
    }
}

/// What to look at, where the failure itself cannot know it: which setting leads there.
pub fn hint(kind: FailureKind, config: &Config) -> Option<String> {
    match kind {
        FailureKind::QueueUnavailable => Some(format!(
            "Redis is looked for at {}, which is the setting redis.url; `hauld check` looks at everything that is \
             configured",
            config.redis.shown()
        )),
        FailureKind::TaskStoreUnavailable | FailureKind::CatalogUnavailable | FailureKind::EnrollmentUnavailable => {
            Some("`hauld check` looks at everything that is configured".into())
        }
        _ => None,
    }
}

/// Says everything that is wrong with the configuration.
pub fn refuse(errors: &[ConfigError], json: bool) -> Exit {
    let exit = Exit::Configuration;
    let denied = errors.iter().any(|error| error.reason.contains("Permission denied"));
    let hint = denied.then_some("run it as the user of the daemon: sudo -u hauld hauld …");
    if json {
        let mut error = error_object("configuration", "the configuration cannot be used", exit);
        let settings = errors.iter().map(
            |error| json!({ "name": error.name, "value": error.value, "reason": error.reason, "origin": error.origin }),
        );
        error["error"]["settings"] = settings.collect();
        error["error"]["hint"] = hint.into();
        say(error);
    } else {
        say("hauld: the configuration cannot be used:");
        for error in errors {
            say(format_args!("  {error}"));
        }
        if let Some(hint) = hint {
            say(hint);
        }
    }
    exit
}

/// An error as programs read it.
pub fn error_object(kind: &str, message: &str, exit: Exit) -> Value {
    json!({ "error": { "kind": kind, "message": message, "exit_status": exit.status() } })
}

/// Writes a line to standard error, which may be closed.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
