//! `hauld status`: the operator page on a terminal, once or again and again.

use std::fmt::{self, Write as _};
use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

use super::answer::{self, Answer, Failed, harmless};
use crate::config::Config;
use crate::overview::{InstanceState, Overview, Overviews, PauseNote, RecentFailure, RunningTask};
use crate::redis_client;

/// Columns of a terminal that nobody has made wider.
const WIDTH: usize = 80;
/// Rows of each table that are shown at most.
const ROWS: usize = 20;

/// Arguments of `hauld status`.
#[derive(Debug, Args)]
pub struct StatusArguments {
    /// Goes on until it is stopped: redraws on a terminal, appends elsewhere
    #[arg(long)]
    pub watch: bool,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub interval: u64,
}

/// Looks once, or until it is stopped or its reader has gone away.
///
/// # Errors
/// `queue_unavailable`; while it watches, that is said and it looks again.
pub async fn run(arguments: &StatusArguments, config: &Config, json: bool) -> Result<Answer, Failed> {
    let overviews = Overviews::new(redis_client::commands(&config.redis)?, &config.queue);
    if !arguments.watch {
        return Ok(answered(&overviews.look().await?, json));
    }
    let mut ticks = tokio::time::interval(Duration::from_secs(arguments.interval));
    loop {
        ticks.tick().await;
        let is_read = match overviews.look().await {
            Ok(overview) => answer::write_out(&drawn(&answered(&overview, json), json))?,
            Err(failure) => {
                let failed = Failed::from(failure);
                failed.print(answer::hint(failed.failure.kind, config), json);
                true
            }
        };
        if !is_read {
            return Ok(Answer::new(json));
        }
    }
}

fn answered(overview: &Overview, json: bool) -> Answer {
    let mut answer = Answer::new(json);
    // Strings and numbers cannot fail to be JSON.
    answer.add(in_words(overview), || serde_json::to_value(overview).unwrap_or_default());
    answer
}

/// What is written for one look: on a terminal over the one before.
fn drawn(answer: &Answer, json: bool) -> String {
    if json || !std::io::stdout().is_terminal() {
        return answer.text().to_owned();
    }
    // To the top, each line cleared behind its end, then what is below: nothing flickers.
    let text = answer.text().replace('\n', "\x1b[K\n");
    format!("\x1b[H{text}\x1b[J")
}

/// The whole of it, at most 80 columns wide.
fn in_words(overview: &Overview) -> String {
    let mut text = Text(String::new());
    let depths = &overview.depths;
    text.line(format_args!("{}  {:.0}", overview.list, overview.at));
    if let Some(pause) = &overview.pause {
        text.line(format_args!("PAUSED{}", Paused(pause, overview.at)));
    }
    let oldest = overview.oldest_waiting_seconds.map(|age| format!(" (oldest {})", age_text(age as i64)));
    text.line(format_args!(
        "waiting {}{}  running {}  delayed {}  untold {}  dead {}  done {}",
        depths.waiting,
        oldest.unwrap_or_default(),
        depths.running,
        depths.delayed,
        depths.untold,
        depths.dead,
        overview.counts.get("done").unwrap_or(&0)
    ));
    text.table(
        "INSTANCE                  JOBS   LEASE       UP  VERSION",
        &overview.instances,
        "no instance has a lease: nothing is taken",
        |text, instance| text.instance(instance, overview.at),
    );
    text.table(
        "TASK            %      SPEED     LEFT  LECTURE  COURSE",
        &overview.running,
        "nothing runs",
        Text::running,
    );
    text.table(
        "TASK          WHEN  KIND                    NEXT",
        &overview.failures,
        "nothing has failed",
        |text, failure| text.failure(failure, overview.at),
    );
    text.0.truncate(text.0.trim_end().len());
    text.0
}

struct Text(String);

impl Text {
    fn line(&mut self, line: fmt::Arguments) {
        let mut width = 0;
        let whole = harmless(&line.to_string().replace(['\n', '\t'], " "));
        let end = whole.char_indices().find(|(_, character)| {
            // Characters of East Asia and pictures take two columns.
            width += if *character < '\u{1100}' { 1 } else { 2 };
            width > WIDTH
        });
        self.0.push_str(whole[..end.map_or(whole.len(), |(at, _)| at)].trim_end());
        self.0.push('\n');
    }

    fn table<T>(&mut self, heading: &str, rows: &[T], none: &str, mut row: impl FnMut(&mut Text, &T)) {
        self.0.push('\n');
        if rows.is_empty() {
            return self.line(format_args!("{none}"));
        }
        self.line(format_args!("{heading}"));
        for shown in rows.iter().take(ROWS) {
            row(self, shown);
        }
        if let Some(more @ 1..) = rows.len().checked_sub(ROWS) {
            self.line(format_args!("… and {more} more"));
        }
    }

    fn instance(&mut self, instance: &InstanceState, now: Timestamp) {
        let up = instance.started_at.map_or("-".into(), |since| age_text(seconds_between(since, now)));
        let mut row = format!(
            "{:<24} {:>5} {:>7} {up:>8}  {}",
            instance.name,
            instance.running,
            age_text(instance.lease_seconds),
            instance.version
        );
        if let Some(pause) = &instance.pause {
            let _ = write!(row, "  paused{}", Paused(pause, now));
        }
        self.line(format_args!("{row}"));
    }

    fn running(&mut self, task: &RunningTask) {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        let lecture = task.lecture.zip(task.lectures).map(|(lecture, lectures)| format!("{lecture}/{lectures}"));
        self.line(format_args!(
            "{:<12} {:>4} {:>10} {:>8} {:>8}  {}",
            or_dash(task.task_id.map(|id| id.to_string())),
            or_dash(task.percent.map(|percent| format!("{percent:.0}"))),
            or_dash(task.speed.map(|speed| format!("{:.1} MB/s", speed as f64 / 1e6))),
            or_dash(task.remaining_seconds.map(|left| age_text(left as i64))),
            or_dash(lecture),
            or_dash(task.course.clone()),
        ));
    }

    fn failure(&mut self, failure: &RecentFailure, now: Timestamp) {
        let next = match failure.retry_at {
            Some(at) if at > now => format!("again in {}", age_text(seconds_between(now, at))),
            Some(_) => "again now".into(),
            None => "given up".into(),
        };
        self.line(format_args!(
            "{:<12} {:>5}  {:<23} {next}",
            failure.task_id.map_or_else(|| "-".into(), |id| id.to_string()),
            age_text(seconds_between(failure.at, now)),
            failure.kind,
        ));
        self.line(format_args!("    {}", failure.message));
    }
}

/// ` since 3 min: disk is full`
struct Paused<'a>(&'a PauseNote, Timestamp);

impl fmt::Display for Paused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(since) = self.0.since {
            write!(f, " for {}", age_text(seconds_between(since, self.1)))?;
        }
        write!(f, ": {}", self.0.reason)
    }
}

fn seconds_between(one: Timestamp, other: Timestamp) -> i64 {
    other.duration_since(one).as_secs()
}

/// `42 s`, `7 min`, `3 h`, `12 d`
fn age_text(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        for (seconds, text) in [(-3, "-3 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 d")] {
            assert_eq!(age_text(seconds), text);
        }
    }

    #[test]
    fn a_line_is_cut_at_the_edge_and_holds_nothing_that_steers_a_terminal() {
        let mut text = Text(String::new());
        text.line(format_args!("{}", "x".repeat(100)));
        text.line(format_args!("{}", "\u{8b1b}".repeat(100)));
        text.line(format_args!("a\x1b[31m\u{202e}b\nc"));
        let lines: Vec<&str> = text.0.lines().collect();
        assert_eq!(lines[0].len(), 80);
        assert_eq!(lines[1].chars().count(), 40, "two columns each");
        assert_eq!(lines[2], "a\u{fffd}[31m\u{fffd}b c");
    }
}
