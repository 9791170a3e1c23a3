//! What a command answers on standard output, and what it says on standard error when it cannot:
//! words for people, or JSON, one object a line.

use std::fmt::{Display, Write as _};
use std::io::{ErrorKind, Write as _};

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
        match self.json {
            true => self.add_object(object),
            false => self.add_words(words),
        }
    }

    /// An object that people do not need.
    pub fn add_object(&mut self, object: impl FnOnce() -> Value) {
        if self.json {
            // Writing into a String does not fail.
            let _ = writeln!(self.text, "{}", json_line(&object()));
        }
    }

    /// A line that programs do not need.
    pub fn add_words(&mut self, words: impl Display) {
        if !self.json {
            let _ = writeln!(self.text, "{}", harmless(&words.to_string()));
        }
    }

    /// What it says so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Something is not as it should be: the exit status will say so.
    pub fn is_wrong(&mut self) {
        self.sound = false;
    }

    /// Prints it, and says how the command ends.
    pub fn print(&self) -> Exit {
        match write_out(&self.text) {
            Err(failed) => failed.print(None, self.json),
            Ok(_) if self.sound => Exit::Success,
            Ok(_) => Exit::Found,
        }
    }
}

/// Writes to standard output; `false` when its reader has gone away (`| head`) and has what it wanted.
///
/// # Errors
/// When somebody who is there does not get it all.
pub fn write_out(text: &str) -> Result<bool, Failed> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failed { failure: Failure::disk("writing to standard output", error), exit: Exit::Disk }),
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
            say_object(&error);
        } else {
            say(format_args!("hauld: {failure} [{}]", failure.kind));
            if let Some(hint) = hint {
                say(format_args!("  {hint}"));
            }
        }
        *exit
    }
}

/// Whether a character steers a terminal instead of being shown: control characters, and those that
/// turn the direction of what follows. Titles and messages come from servers.
fn steers(character: char) -> bool {
    let turns =
        matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || character.is_control() && !matches!(character, '\n' | '\t')
}

/// A text as it may be shown on a terminal.
pub fn harmless(text: &str) -> String {
    text.chars().map(|character| if steers(character) { '\u{fffd}' } else { character }).collect()
}

/// JSON on one line, without such characters, which can only stand inside its strings.
pub fn json_line(value: &Value) -> String {
    let json = value.to_string();
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        let _ = match steers(character) {
            true => write!(text, "\\u{:04x}", u32::from(character)),
            false => text.write_char(character),
        };
    }
    text
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
        say_object(&error);
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

/// Writes a line to standard error, which may be closed. Messages come from servers too.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{}", harmless(&line.to_string()));
}

/// The same for programs.
pub fn say_object(object: &Value) {
    let _ = writeln!(std::io::stderr(), "{}", json_line(object));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_is_printed() {
        let title = "a\u{9b}31m\x1b[2J\u{202e}b\n\tc";
        let mut answer = Answer::new(false);
        answer.add_words(title);
        assert_eq!(answer.text(), "a\u{fffd}31m\u{fffd}[2J\u{fffd}b\n\tc\n");
        let mut answer = Answer::new(true);
        answer.add_object(|| json!({ "title": title }));
        assert!(answer.text().is_ascii(), "{}", answer.text());
        let read: Value = serde_json::from_str(answer.text()).unwrap();
        assert_eq!(read["title"], title, "for a program it is the same");
        assert_eq!(harmless(&json_line(&read)), json_line(&read), "nor by what is said on standard error");
    }
}
