//! The command line: what can be asked of this program.

pub mod answer;
pub mod check;
pub mod dead;
pub mod demo;
pub mod enqueue;
pub mod exit;
pub mod fetch;
mod help;
pub mod inspect;
pub mod manual;
pub mod queue;
pub mod status;
pub mod story;
pub mod tasks;

use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{Container, Sources};
use exit::Exit;

/// Where the packaged configuration lies.
const DEFAULT_CONFIG: &str = "/etc/hauld/hauld.toml";

/// Download worker daemon for course platforms.
#[derive(Debug, Parser)]
#[command(
    name = "hauld",
    version,
    long_version = help::LONG_VERSION.as_str(),
    about,
    propagate_version = true,
    after_help = "See `hauld --help` for examples, and `hauld help COMMAND`.",
    after_long_help = help::overview()
)]
pub struct Cli {
    #[command(flatten)]
    pub config: ConfigArguments,
    /// Answers as JSON, one object a line; errors too, on standard error
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Reads the arguments of this process; ends it with status 2 when they are not understood.
    pub fn from_arguments() -> Cli {
        Cli::try_parse().unwrap_or_else(|mut error| {
            let argument = error.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
            let may_be_secret = ["URL", "--set", "--header"].iter().any(|name| argument.contains(name));
            if error.kind() == ErrorKind::ValueValidation && may_be_secret {
                error.insert(ContextKind::InvalidValue, ContextValue::String("…".into()));
            }
            // clap has not read the flag when it has not understood the line.
            if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
                let message = error.to_string();
                let message = message.trim_end().strip_prefix("error: ").unwrap_or(&message);
                answer::say_object(&answer::error_object("usage", message, Exit::Usage));
                std::process::exit(Exit::Usage.status().into());
            }
            error.exit()
        })
    }
}

/// Where the configuration comes from.
#[derive(Debug, Args)]
pub struct ConfigArguments {
    /// Configuration file [default: /etc/hauld/hauld.toml, if it is there]; a file `environment`
    /// beside it is read as the unit's EnvironmentFile= is
    #[arg(long, global = true, env = "HAULD_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Overrides one setting; may be repeated
    #[arg(long = "set", global = true, value_name = "SECTION.NAME=VALUE", value_parser = setting)]
    pub set: Vec<(String, String)>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the daemon: takes jobs until it is stopped
    #[command(after_long_help = help::RUN)]
    Run,
    /// Downloads one playlist or course to disk, without Redis
    #[command(after_long_help = help::FETCH)]
    Fetch(fetch::FetchArguments),
    /// Shows what the playlist parser understood
    #[command(after_long_help = help::INSPECT)]
    Inspect(inspect::InspectArguments),
    /// Shows what waits, runs and has failed, of all instances
    #[command(after_long_help = help::STATUS)]
    Status(status::StatusArguments),
    /// Pushes one job onto the queue
    #[command(after_long_help = help::ENQUEUE)]
    Enqueue(enqueue::EnqueueArguments),
    /// Puts tasks into the queue once more
    #[command(after_long_help = help::REQUEUE)]
    Requeue(tasks::RequeueArguments),
    /// Stops tasks that wait or run
    #[command(after_long_help = help::CANCEL)]
    Cancel(tasks::CancelArguments),
    /// Shows what happened to tasks in the last 30 days
    #[command(after_long_help = help::TASKS)]
    Tasks(story::TasksArguments),
    /// Shows and handles jobs that were given up
    #[command(after_long_help = help::DEAD)]
    Dead(dead::DeadArguments),
    /// Counts every element and finds what does not add up
    #[command(after_long_help = help::QUEUE)]
    Queue(queue::QueueArguments),
    /// Stops the starting of jobs; what runs goes on
    #[command(after_long_help = help::PAUSE)]
    Pause(queue::PauseArguments),
    /// Ends a pause
    #[command(after_long_help = help::RESUME)]
    Resume(queue::ResumeArguments),
    /// Says in plain words whether everything that is configured can be used
    #[command(after_long_help = help::CHECK)]
    Check,
    /// Runs the whole main job on a sample course, with a private Redis (needs redis-server and ffmpeg)
    Demo,
    /// Prints the completions for a shell
    #[command(hide = true)]
    Completions(manual::CompletionsArguments),
    /// Writes the manual pages
    #[command(hide = true)]
    Man(manual::ManArguments),
}

/// `--container`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ContainerArgument {
    /// By the file's extension, else mp4 if ffmpeg is there
    Auto,
    /// .mp4; needs ffmpeg for transport streams
    Mp4,
    /// As it came: no remuxing
    Ts,
}

impl From<ContainerArgument> for Container {
    fn from(argument: ContainerArgument) -> Container {
        match argument {
            ContainerArgument::Auto => Container::Auto,
            ContainerArgument::Mp4 => Container::Mp4,
            ContainerArgument::Ts => Container::Ts,
        }
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("is not SECTION.NAME=VALUE")?;
    if name.ends_with("token") || name.ends_with("secret") {
        return Err("a secret on a command line can be read by every user of this host; put it into a file".into());
    }
    Ok((name.to_owned(), value.to_owned()))
}

impl ConfigArguments {
    /// Where the configuration is read from.
    pub fn sources(&self) -> Sources {
        let default = PathBuf::from(DEFAULT_CONFIG);
        let file = self.config.clone().or(default.exists().then_some(default));
        self.sources_with(file)
    }

    /// The same without the packaged file: for commands that a user without rights runs on the side.
    pub fn sources_without_default(&self) -> Sources {
        self.sources_with(self.config.clone())
    }

    fn sources_with(&self, file: Option<PathBuf>) -> Sources {
        Sources::new(file, self.set.iter().cloned().collect())
    }
}
