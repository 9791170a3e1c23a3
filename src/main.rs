//! The command line program: arguments, configuration, logs, work, exit code.

use std::io::Write;
use std::process::ExitCode;

use hauld::cli::{Cli, Command, check, dead, demo, enqueue, fetch, inspect, queue, tasks};
use hauld::config::{Config, ConfigError, LogFormat, LogSettings, Sources, Values};
use hauld::failure::Result;
use hauld::reload::Reload;
use hauld::traces::Traces;
use hauld::{app, logging};

/// The work failed.
const EXIT_FAILED: u8 = 1;
/// EX_CONFIG of sysexits: systemd does not restart into it.
const EXIT_CONFIGURATION: u8 = 78;

fn main() -> ExitCode {
    // clap exits with 2 on bad usage.
    let cli = Cli::from_arguments();
    let sources = match cli.command {
        Command::Fetch(_) | Command::Inspect(_) | Command::Demo => cli.config.sources_without_default(),
        _ => cli.config.sources(),
    };
    let loaded = match sources.load() {
        Ok(loaded) => loaded,
        Err(errors) => return refuse(&errors),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(dispatch(cli, sources, loaded)),
        Err(error) => fail(&format!("cannot start the async runtime: {error}")),
    }
}

async fn dispatch(cli: Cli, sources: Sources, (config, values): (Config, Values)) -> ExitCode {
    let command = cli.command;
    let traces = match command {
        Command::Run => Traces::open(&config).map(Some),
        _ => Ok(None),
    };
    let traces = match traces {
        Ok(traces) => traces,
        Err(failure) => return fail(&failure.to_string()),
    };
    let layer = traces.as_ref().and_then(Traces::layer);
    let level = match logging::init(&log_settings(&command, &config), layer) {
        Ok(level) => level,
        Err(error) => return refuse(&[error]),
    };
    let result: Result<String> = match command {
        Command::Run => {
            let ended = app::run(Reload::new(sources, config, values), level).await;
            if let Some(traces) = traces {
                traces.close().await;
            }
            ended.map(|()| String::new())
        }
        Command::Fetch(arguments) => {
            let path = fetch::run(&arguments, config).await;
            path.map(|path| if arguments.json { String::new() } else { format!("{}\n", path.display()) })
        }
        Command::Inspect(arguments) => inspect::run(&arguments, config).await,
        Command::Enqueue(arguments) => {
            let length = enqueue::run(&arguments, &config).await;
            length.map(|length| format!("pushed; {length} waiting in {}\n", config.queue.list))
        }
        Command::Requeue(arguments) => return answer(tasks::requeue(&arguments, &config).await),
        Command::Cancel(arguments) => return answer(tasks::cancel(&arguments, &config).await),
        Command::Dead(arguments) => return answer(dead::run(&arguments, &config).await),
        Command::Queue(arguments) => return answer(queue::run(&arguments, &config).await),
        Command::Pause(arguments) => queue::pause(&arguments, &config).await,
        Command::Resume(arguments) => queue::resume(&arguments, &config).await,
        Command::Check => {
            let report = check::run(&config, sources.file()).await;
            return answer(Ok((report.to_string(), report.is_usable())));
        }
        Command::Demo => demo::run().await.map(|()| String::new()),
    };
    match result {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(failure) => fail(&format!("{failure} [{}]", failure.kind)),
    }
}

/// Prints what a command found, and says by the exit code whether all is well.
fn answer(result: Result<(String, bool)>) -> ExitCode {
    match result {
        Ok((text, sound)) => {
            print(&text);
            if sound { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) }
        }
        Err(failure) => fail(&format!("{failure} [{}]", failure.kind)),
    }
}

/// The daemon logs as it is configured. A command answers on standard output and says only what is
/// wrong beside it, unless the log level was set on purpose.
fn log_settings(command: &Command, config: &Config) -> LogSettings {
    match (command, config.log.level.as_str()) {
        (Command::Run, _) => config.log.clone(),
        (_, "info") => LogSettings { level: "warn".into(), format: LogFormat::Human },
        (_, level) => LogSettings { level: level.into(), format: LogFormat::Human },
    }
}

/// Writes to standard output. A reader that has gone away (`| head`) is no reason to panic.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Writes a line to standard error, which may be closed as well.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn fail(message: &str) -> ExitCode {
    say(&format!("hauld: {message}"));
    ExitCode::from(EXIT_FAILED)
}

fn refuse(errors: &[ConfigError]) -> ExitCode {
    say("hauld: the configuration cannot be used:");
    for error in errors {
        say(&format!("  {error}"));
    }
    ExitCode::from(EXIT_CONFIGURATION)
}
