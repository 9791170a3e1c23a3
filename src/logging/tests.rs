use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tracing::subscriber::with_default;
use tracing::{debug, error, info, info_span};

use super::*;

/// Keeps what is written.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn settings(level: &str) -> LogSettings {
    LogSettings { level: level.into(), format: LogFormat::Auto }
}

fn lines(style: Style, write: impl FnOnce()) -> Vec<String> {
    let paper = Paper::default();
    let writer = paper.clone();
    with_default(subscriber(&settings("info"), style, move || writer.clone(), None).unwrap().0, write);
    let text = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines().map(str::to_owned).collect()
}

fn within_a_job(write: impl FnOnce()) {
    info_span!("job", task_id = 43, attempt = 1).in_scope(|| {
        info_span!("lecture", title = "Loops").in_scope(|| info_span!("segment", number = 14).in_scope(write))
    });
}

#[test]
fn task_id_is_on_top_of_every_json_line_of_a_job() {
    let lines = lines(Style::Json, || {
        within_a_job(|| info!(bytes = 1_u64, ratio = 0.5, whole = true, "DOWNLOAD \"a\"\nnext line"));
        within_a_job(|| error!(number = 15, level = "x", "an inner field hides an outer one"));
        info!("no job");
        debug!("below the level");
    });
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    let first = lines[0].as_object().unwrap();
    let names: Vec<&str> = first.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "timestamp",
            "level",
            "target",
            "message",
            "spans",
            "attempt",
            "task_id",
            "title",
            "number",
            "bytes",
            "ratio",
            "whole"
        ]
    );
    assert!(first["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    assert_eq!((&first["level"], &first["target"]), (&"INFO".into(), &"hauld::logging::tests".into()));
    assert_eq!(first["message"], "DOWNLOAD \"a\"\nnext line");
    assert_eq!(first["spans"], serde_json::json!(["job", "lecture", "segment"]));
    assert_eq!((&first["task_id"], &first["bytes"], &first["whole"]), (&43.into(), &1.into(), &true.into()));
    assert_eq!(
        (&lines[1]["level"], &lines[1]["level_"], &lines[1]["number"]),
        (&"ERROR".into(), &"x".into(), &15.into())
    );
    assert!(lines[2].get("task_id").is_none() && lines[2].get("spans").is_none());
}

#[test]
fn a_field_that_is_recorded_later_is_there_too() {
    let lines = lines(Style::Json, || {
        let span = info_span!("job", task_id = 43, course = tracing::field::Empty);
        span.record("course", "Intro");
        span.in_scope(|| info!("x"));
    });
    let line: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!((&line["task_id"], &line["course"]), (&43.into(), &"Intro".into()));
}

#[test]
fn a_human_line_is_one_line_with_the_task() {
    let write = || within_a_job(|| info!(bytes = 1, "first\nsecond\r"));
    let plain = lines(Style::Human { colours: false }, write);
    assert_eq!(plain.len(), 1, "{plain:?}");
    for part in ["INFO", r"first\nsecond\r", "bytes=1", "task_id=43", "job:lecture:segment"] {
        assert!(plain[0].contains(part), "{part}: {}", plain[0]);
    }
    assert!(!plain[0].contains('\x1b'), "{:?}", plain[0]);
    let coloured = lines(Style::Human { colours: true }, write);
    assert!(coloured.len() == 1 && coloured[0].contains('\x1b'), "{coloured:?}");
}

#[test]
fn colours_only_on_a_terminal_and_when_wanted() {
    let wanted = |terminal: bool, variables: &[(&str, &str)]| {
        colours(terminal, |name| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| value.into()))
    };
    assert!(wanted(true, &[]) && !wanted(false, &[]));
    assert!(wanted(true, &[("NO_COLOR", "")]) && !wanted(true, &[("NO_COLOR", "1")]));
    assert!(wanted(false, &[("CLICOLOR_FORCE", "1")]) && !wanted(false, &[("CLICOLOR_FORCE", "0")]));
    assert!(!wanted(true, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
    assert_eq!(style(LogFormat::Auto, true, true, false), Style::Human { colours: true });
    assert_eq!(style(LogFormat::Auto, false, true, false), Style::Json);
    assert_eq!(style(LogFormat::Human, false, false, false), Style::Human { colours: false });
    assert_eq!(style(LogFormat::Json, true, true, false), Style::Json);
    assert_eq!(style(LogFormat::Auto, false, false, true), Style::Journal);
    assert_eq!(style(LogFormat::Json, false, false, true), Style::Json, "as it was asked for");
}

#[test]
fn a_filter_that_is_none_is_an_error() {
    for good in ["info", "WARN", "off", "hauld=debug", "warn,hauld::hls=trace", "info, hyper=off"] {
        assert!(filter(&settings(good)).is_ok(), "{good}");
    }
    for bad in ["inof", "hauld=loud", "info,,debug", "", "hauld"] {
        let error = filter(&settings(bad)).unwrap_err();
        assert_eq!((error.name.as_str(), error.value.as_deref()), ("log.level", Some(bad)));
    }
}

#[test]
fn a_panic_is_an_event_with_its_message() {
    // The log and the panic hook are the process's: another process of this program has them.
    let executable = std::env::current_exe().unwrap();
    let output = std::process::Command::new(executable)
        .args(["--exact", "logging::tests::panics_with_the_log_installed", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("no event in {text}"));
    let event: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&event["level"], &event["message"]), (&"ERROR".into(), &"panic: the sky\nfell".into()));
    assert_eq!(event["task_id"], 43);
    assert!(event["location"].as_str().unwrap().contains("logging/tests.rs:"), "{event}");
}

#[test]
#[ignore = "run by a_panic_is_an_event_with_its_message"]
fn panics_with_the_log_installed() {
    init(&LogSettings { level: "info".into(), format: LogFormat::Json }, None).unwrap();
    within_a_job(|| panic!("the sky\n{}", "fell"));
}

#[test]
fn a_span_for_traces_is_not_seen_and_hides_no_job() {
    let lines = lines(Style::Json, || {
        let lecture = info_span!("job", task_id = 43).in_scope(|| {
            let _lecture = traces::span!("lecture", title = "Loops").entered();
            tracing::Span::current()
        });
        // As in a task that is spawned for it.
        lecture.in_scope(|| info!("a piece"));
    });
    let line: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!((&line["task_id"], &line["spans"], &line["title"]), (&43.into(), &vec!["job"].into(), &Value::Null));
}
