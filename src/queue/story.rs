//! What happened to a task, step by step: lines in Redis that any host can read, for a month. They are
//! written in `story_writer` and read in `story_view`.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Lectures of one attempt that have a line.
const MOST_LECTURES: u64 = 20;
/// Remarks in one attempt that have a line.
pub const MOST_REMARKS: usize = 20;
/// Characters kept of a message or a name.
const LONGEST_TEXT: usize = 500;

/// A name or a message: short, on one line, and without e-mail addresses, which are nobody's business
/// here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text(String);

impl Text {
    /// The words.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let is_address = |word: &str| word.contains('@') || word.contains("%40");
        let words = text.split(' ').map(|word| if is_address(word) { "…" } else { word });
        // Cut afterwards: half an address is still somebody's name.
        Text(words.collect::<Vec<_>>().join(" ").chars().take(LONGEST_TEXT).collect())
    }
}

/// One thing that can happen to a task. Times are in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// An instance has begun an attempt; how long after it was enqueued, if that is known.
    Taken {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        waited_seconds: Option<f64>,
    },
    /// The gate let it pass.
    Enrolled { waited_seconds: f64 },
    /// The course is known.
    Resolved { course: Text, lectures: u64, seconds: f64 },
    /// A lecture is there with all that belongs to it; of a long course only some have a line.
    Lecture { number: u64, lectures: u64, title: Text, seconds: f64 },
    /// Something of a lecture is not as it should be, and that is allowed; of many only some have a line.
    Remark { number: u64, remark: Text },
    /// The course is on disk.
    Downloaded { folder: Text, bytes: u64, seconds: f64 },
    /// The course was on disk: another job or an earlier attempt had downloaded it.
    Reused { folder: Text },
    /// The course is at its destination.
    Delivered { folder: Text, seconds: f64 },
    /// The backend has accepted the finalize call.
    Finalized { seconds: f64 },
    /// The task is completed.
    Done { seconds: f64 },
    /// The attempt failed; another one follows.
    Retry { kind: String, message: Text, seconds: f64 },
    /// Delivered, but the backend or the task store is still to be told.
    Untold { kind: String, message: Text, again_in_seconds: f64 },
    /// The task has failed for good.
    Dead { kind: String, message: Text },
    /// The instance stops and has put it back.
    Returned,
    /// The instance had lost it to another one.
    Abandoned,
    /// The instance that ran it is dead; it was put back.
    Reaped { dead_instance: String },
}

/// How a task is after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// An instance has it.
    Running,
    /// In the list again.
    Waiting,
    /// Waiting for its next attempt.
    Delayed,
    /// Delivered; somebody is still to be told.
    Untold,
    /// Completed.
    Done,
    /// Failed for good.
    Dead,
}

/// One step of one attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// By the clock of the instance's host.
    pub at: Timestamp,
    /// Who wrote it.
    pub instance: String,
    /// From 1.
    pub attempt: u32,
    #[serde(flatten)]
    pub step: Step,
}

/// Whether this one of so many lectures of a course has a line: at most 20 in an attempt do.
pub fn has_line(number: u64, lectures: u64) -> bool {
    number == lectures || number.is_multiple_of(lectures.div_ceil(MOST_LECTURES).max(1))
}

/// Seconds with three decimals: nobody reads more, and they would fill Redis.
pub fn seconds(duration: Duration) -> f64 {
    duration.as_millis() as f64 / 1000.0
}

impl Step {
    /// The attempt failed after so long; another one follows.
    pub fn retry(failure: &Failure, took: Duration) -> Step {
        Step::Retry { kind: failure.kind.name().into(), message: (&*failure.message).into(), seconds: seconds(took) }
    }

    /// Delivered; whoever does not know yet is told again after the pause.
    pub fn untold(failure: &Failure, after: Duration) -> Step {
        let (kind, message) = (failure.kind.name().into(), (&*failure.message).into());
        Step::Untold { kind, message, again_in_seconds: seconds(after) }
    }

    /// Failed for good.
    pub fn dead(failure: &Failure) -> Step {
        Step::Dead { kind: failure.kind.name().into(), message: (&*failure.message).into() }
    }

    /// The failure's name and message, if it is one.
    pub fn failure(&self) -> Option<(&str, &str)> {
        match self {
            Step::Retry { kind, message, .. } | Step::Untold { kind, message, .. } | Step::Dead { kind, message } => {
                Some((kind, message.as_str()))
            }
            _ => None,
        }
    }

    /// How the task is after it.
    pub fn state(&self) -> State {
        match self {
            Step::Done { .. } => State::Done,
            Step::Retry { .. } => State::Delayed,
            Step::Untold { .. } => State::Untold,
            Step::Dead { .. } => State::Dead,
            Step::Returned | Step::Reaped { .. } => State::Waiting,
            _ => State::Running,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Taken { waited_seconds: None } => f.write_str("taken"),
            Step::Taken { waited_seconds: Some(waited) } => write!(f, "taken, {waited:.1} s after it was enqueued"),
            Step::Enrolled { waited_seconds } => write!(f, "enrolled: passed the gate after {waited_seconds:.1} s"),
            Step::Resolved { course, lectures, seconds } => {
                write!(f, "resolved in {seconds:.1} s: {:?}, {lectures} lectures", course.as_str())
            }
            Step::Lecture { number, lectures, title, seconds } => {
                write!(f, "lecture {number} of {lectures}, {:?}, in {seconds:.1} s", title.as_str())
            }
            Step::Remark { number, remark } => write!(f, "lecture {number}: {}", remark.as_str()),
            Step::Downloaded { bytes, seconds, .. } => {
                write!(f, "downloaded in {seconds:.1} s: {:.1} MB", *bytes as f64 / 1e6)
            }
            Step::Reused { .. } => f.write_str("downloaded before, by another job or an earlier attempt"),
            Step::Delivered { folder, seconds } => write!(f, "delivered in {seconds:.1} s as {:?}", folder.as_str()),
            Step::Finalized { seconds } => write!(f, "finalized: the backend accepted the call in {seconds:.1} s"),
            Step::Done { seconds } => write!(f, "completed; the attempt took {seconds:.1} s"),
            Step::Retry { kind, message, seconds } => {
                write!(f, "failed after {seconds:.1} s, to be tried again: {kind}: {}", message.as_str())
            }
            Step::Untold { kind, message, again_in_seconds } => {
                write!(f, "delivered; told again in {again_in_seconds:.0} s: {kind}: {}", message.as_str())
            }
            Step::Dead { kind, message } => write!(f, "failed for good: {kind}: {}", message.as_str()),
            Step::Returned => f.write_str("handed back: the instance stops"),
            Step::Abandoned => f.write_str("left to the instance that has it now"),
            Step::Reaped { dead_instance } => write!(f, "taken back from {dead_instance}, which died"),
        }
    }
}

impl State {
    /// Every state there is.
    pub const ALL: [State; 6] =
        [State::Running, State::Waiting, State::Delayed, State::Untold, State::Done, State::Dead];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Waiting => "waiting",
            State::Delayed => "delayed",
            State::Untold => "untold",
            State::Done => "done",
            State::Dead => "dead",
        }
    }

    /// The state of this name.
    pub fn named(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureKind;

    fn line(step: Step) -> Line {
        Line { at: "2026-01-13T02:00:00Z".parse().unwrap(), instance: "h-0-1-a".into(), attempt: 2, step }
    }

    #[test]
    fn a_line_survives_its_text() {
        let failure = Failure::new(FailureKind::ServerError, "lecture \"A\": segment 3: 503");
        for step in [
            Step::Taken { waited_seconds: None },
            Step::Taken { waited_seconds: Some(1.25) },
            Step::Lecture { number: 2, lectures: 40, title: "B \"c\"".into(), seconds: 0.001 },
            Step::Remark { number: 2, remark: "3 segments lack packets".into() },
            Step::Downloaded { folder: "F".into(), bytes: u64::MAX, seconds: 3.0 },
            Step::retry(&failure, Duration::from_millis(1234)),
            Step::untold(&failure, Duration::from_secs(60)),
            Step::dead(&failure),
            Step::Returned,
            Step::Reaped { dead_instance: "h-0-2-b".into() },
        ] {
            let line = line(step);
            let text = serde_json::to_string(&line).unwrap();
            assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line, "{text}");
            assert!(!line.step.to_string().is_empty());
        }
        let text = serde_json::to_string(&line(Step::Returned)).unwrap();
        let expected = r#"{"at":"2026-01-13T02:00:00Z","instance":"h-0-1-a","attempt":2,"step":"returned"}"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn a_text_is_short_on_one_line_and_names_no_customer() {
        let text = Text::from("no seat for <user@example.com>, \u{1b}[31m ask\nthem");
        assert_eq!(text.as_str(), "no seat for …  [31m ask them");
        assert_eq!(Text::from(&*"é".repeat(2000)).as_str().chars().count(), LONGEST_TEXT);
    }

    #[test]
    fn a_long_course_has_no_more_lines_than_a_short_one() {
        let numbers = |lectures: u64| (1..=lectures).filter(|number| has_line(*number, lectures)).collect::<Vec<_>>();
        assert_eq!(numbers(3), [1, 2, 3]);
        assert_eq!(numbers(20).len(), 20);
        assert_eq!(numbers(41)[..3], [3, 6, 9]);
        for lectures in [21, 41, 500, 10_000] {
            let numbers = numbers(lectures);
            assert!((11..=21).contains(&numbers.len()) && numbers.last() == Some(&lectures), "{lectures}");
        }
    }

    #[test]
    fn states_have_names_that_are_found_again() {
        for state in State::ALL {
            assert_eq!(State::named(state.name()), Some(state));
        }
        assert_eq!(State::named("lost"), None);
    }
}
