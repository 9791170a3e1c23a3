//! Logs: one event, one line on stderr. For people on a terminal, as JSON otherwise.

mod format;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::str::FromStr;

use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{DefaultFields, Format, JsonFields};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

use crate::config::{ConfigError, LogFormat, LogSettings};
use crate::traces;
use format::{JsonLine, OneLine, Prioritised};

/// How a line looks, once the terminal has been looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Human {
        colours: bool,
    },
    Json,
    /// JSON for the journal.
    Journal,
}

/// What is logged of a log that is installed.
pub struct Level(Box<dyn Fn(Targets) + Send + Sync>);

/// What spans are handed to beside the log.
pub type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// A level that can be used.
pub struct Filter(Targets);

impl Filter {
    /// Reads `log.level`.
    ///
    /// # Errors
    /// When it is not a filter.
    pub fn new(settings: &LogSettings) -> Result<Filter, ConfigError> {
        filter(settings).map(Filter)
    }
}

impl Level {
    /// Another level from now on.
    pub fn change(&self, Filter(filter): Filter) {
        (self.0)(filter);
    }
}

/// Installs the log for the whole process, and a hook that logs panics. Spans go to `traces` too.
///
/// # Errors
/// When `log.level` is not a filter, or a log is installed already.
pub fn init(settings: &LogSettings, traces: Option<BoxedLayer>) -> Result<Level, ConfigError> {
    let terminal = std::io::stderr().is_terminal();
    let colours = colours(terminal, |name| std::env::var_os(name));
    let style = style(settings.format, terminal, colours, is_journal());
    let (subscriber, level) = subscriber(settings, style, std::io::stderr, traces)?;
    subscriber.try_init().map_err(|error| error_in_level(settings, error.to_string()))?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(level)
}

/// Whether standard error goes to the journal (systemd.exec(5), `JOURNAL_STREAM`): a child that
/// writes elsewhere has the variable too.
fn is_journal() -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else { return false };
    let opened = rustix::fs::fstat(std::io::stderr());
    opened.is_ok_and(|opened| stream == OsString::from(format!("{}:{}", opened.st_dev, opened.st_ino)))
}

/// See <https://no-color.org> and <https://bixense.com/clicolors>; clap goes by them too.
fn colours(terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let no = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
    let force = variable("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0");
    !no && (force || terminal)
}

fn style(format: LogFormat, terminal: bool, colours: bool, journal: bool) -> Style {
    match (format, terminal) {
        (LogFormat::Auto, false) if journal => Style::Journal,
        (LogFormat::Json, _) | (LogFormat::Auto, false) => Style::Json,
        (LogFormat::Human, _) | (LogFormat::Auto, true) => Style::Human { colours },
    }
}

fn subscriber<W>(
    settings: &LogSettings,
    style: Style,
    writer: W,
    traces: Option<BoxedLayer>,
) -> Result<(impl Subscriber + Send + Sync + use<W>, Level), ConfigError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match style {
        Style::Json => layer.fmt_fields(JsonFields::new()).with_ansi(false).event_format(JsonLine).boxed(),
        Style::Journal => {
            layer.fmt_fields(JsonFields::new()).with_ansi(false).event_format(Prioritised(JsonLine)).boxed()
        }
        Style::Human { colours } => {
            let line = OneLine(Format::default().compact().with_ansi(colours));
            layer.fmt_fields(DefaultFields::new()).with_ansi(colours).event_format(line).boxed()
        }
    };
    let (filter, level) = reload::Layer::new(filter(settings)?);
    // It can only fail when the log is gone, and then nobody would read of it.
    let change = move |filter| drop(level.reload(filter));
    Ok((tracing_subscriber::registry().with(traces).with(lines.with_filter(filter)), Level(Box::new(change))))
}

/// Reads `log.level`. A bare word that is no level would be taken for a module's name and silence
/// everything else, so a slip of the pen is told instead.
fn filter(settings: &LogSettings) -> Result<Targets, ConfigError> {
    let directives: Vec<&str> = settings.level.split(',').map(str::trim).collect();
    for directive in &directives {
        let word = !directive.contains(['=', '[']);
        if directive.is_empty() || word && LevelFilter::from_str(directive).is_err() {
            let reason = format!("{directive:?} is not a level (error, warn, info, debug, trace) nor module=level");
            return Err(error_in_level(settings, reason));
        }
    }
    // They log what they also return, and one failure is logged once, where it is handled. Spans for
    // traces stay: a line finds its job by way of them.
    let directives =
        format!("error,rustls_platform_verifier=off,redis=off,{}=info,{}", traces::TARGET, directives.join(","));
    Targets::from_str(&directives).map_err(|error| error_in_level(settings, error.to_string()))
}

fn error_in_level(settings: &LogSettings, reason: String) -> ConfigError {
    let value = Some(settings.level.clone());
    ConfigError { name: "log.level".into(), value, reason, origin: "configuration".into() }
}

fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let message = panic.payload_as_str().unwrap_or("no message");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(thread, location, "panic: {message}");
}

#[cfg(test)]
mod tests;
