//! The command line program: arguments, configuration, logs, work, exit status.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

use hauld::cli::answer::{self, Answer, Failed};
use hauld::cli::exit::Exit;
use hauld::cli::{Cli, Command, check, dead, demo, enqueue, fetch, inspect, manual, queue, status, story, tasks};
use hauld::config::{Config, LogFormat, LogSettings, Sources, Values};
use hauld::failure::{Failure, FailureKind, is_exhaustion};
use hauld::logging::Level;
use hauld::reload::Reload;
use hauld::traces::Traces;
use hauld::{app, logging};

/// How long a thread that is stuck in the system may hold up the end.
const STUCK_LIMIT: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    run(Cli::from_arguments()).into()
}

fn run(cli: Cli) -> Exit {
    let json = cli.json;
    // What a package is built with needs no configuration.
    match &cli.command {
        Command::Completions(arguments) => return manual::completions(arguments).print(),
        Command::Man(arguments) => {
            return manual::pages(arguments).map_or_else(|failed| failed.print(None, json), |answer| answer.print());
        }
        _ => {}
    }
    let sources = match cli.command {
        Command::Fetch(_) | Command::Inspect(_) | Command::Demo => cli.config.sources_without_default(),
        _ => cli.config.sources(),
    };
    let (config, values) = match sources.load() {
        Ok(loaded) => loaded,
        Err(errors) => return answer::refuse(&errors, json),
    };
    let fail = |failed: Failed| {
        let hint = answer::hint(failed.failure.kind, &config);
        failed.print(hint, json)
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let message = format!("cannot start the async runtime: {error}");
            let kind = if is_exhaustion(&error) { FailureKind::HostExhausted } else { FailureKind::Internal };
            return fail(Failure::new(kind, message).into());
        }
    };
    // Spans are sent by the runtime.
    let entered = runtime.enter();
    let traces = matches!(cli.command, Command::Run).then(|| Traces::open(&config));
    let traces = match traces.transpose() {
        Ok(traces) => traces,
        Err(failure) => return fail(failure.into()),
    };
    let layer = traces.as_ref().and_then(Traces::layer);
    let level = match logging::init(&log_settings(&cli, &config), layer) {
        Ok(level) => level,
        Err(error) => return answer::refuse(&[error], json),
    };
    drop(entered);
    let answered = runtime.block_on(async {
        let answered = dispatch(cli.command, sources, (config.clone(), values), level, json).await;
        if let Some(traces) = traces {
            traces.close().await;
        }
        answered
    });
    // A look-up of a name, or a mount, may hang for ever.
    runtime.shutdown_timeout(STUCK_LIMIT);
    match answered {
        Ok(answer) => answer.print(),
        Err(failed) => fail(failed),
    }
}

async fn dispatch(
    command: Command,
    sources: Sources,
    (config, values): (Config, Values),
    level: Level,
    json: bool,
) -> Result<Answer, Failed> {
    let nothing = Answer::new(json);
    let answer = match command {
        Command::Run => app::run(Reload::new(sources, config, values), level).await.map(|()| nothing)?,
        Command::Fetch(arguments) => fetch::run(&arguments, config, json).await?,
        Command::Inspect(arguments) => inspect::run(&arguments, config, json).await?,
        Command::Status(arguments) => status::run(&arguments, &config, json).await?,
        Command::Enqueue(arguments) => enqueue::run(&arguments, &config, json).await?,
        Command::Requeue(arguments) => tasks::requeue(&arguments, &config, json).await?,
        Command::Cancel(arguments) => tasks::cancel(&arguments, &config, json).await?,
        Command::Tasks(arguments) => story::run(&arguments, &config, json).await?,
        Command::Dead(arguments) => dead::run(&arguments, &config, json).await?,
        Command::Queue(arguments) => queue::run(&arguments, &config, json).await?,
        Command::Pause(arguments) => queue::pause(&arguments, &config, json).await?,
        Command::Resume(arguments) => queue::resume(&arguments, &config, json).await?,
        Command::Check => check::run(&config, sources.file()).await.answer(json),
        Command::Demo => demo::run().await.map(|()| nothing)?,
        // Answered before there is a configuration.
        Command::Completions(_) | Command::Man(_) => nothing,
    };
    Ok(answer)
}

/// The daemon logs as it is configured. A command answers on standard output and says only what is
/// wrong beside it, unless the log level was set on purpose.
fn log_settings(cli: &Cli, config: &Config) -> LogSettings {
    let format = if cli.json { LogFormat::Json } else { LogFormat::Human };
    match (&cli.command, config.log.level.as_str()) {
        (Command::Run, _) => config.log.clone(),
        (_, "info") => LogSettings { level: "warn".into(), format },
        (_, level) => LogSettings { level: level.into(), format },
    }
}
