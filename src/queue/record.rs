//! What is remembered of an element between its attempts.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Events kept for one element; the oldest go first.
const MOST_EVENTS: usize = 50;
/// Characters of a message that are kept.
const LONGEST_MESSAGE: usize = 500;

/// The memory of one element. It is written by whoever has the element, and by the instance that
/// takes it back from a dead one; an element that was never in trouble has none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Attempts that failed. A stop, a crash and an absent task store are none.
    #[serde(default)]
    pub attempts: u32,
    /// When an instance died that ran it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crashes: Vec<Timestamp>,
    /// Everything that happened to it, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Event>,
    /// How the job has ended, noted before the end was told to anybody: whoever has the element next
    /// tells it again instead of running the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

/// One thing that happened to an element.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub at: Timestamp,
    /// The instance it happened to.
    pub instance: String,
    /// [`FailureKind::name`](crate::failure::FailureKind::name), or `revived`.
    pub kind: String,
    pub message: String,
}

/// How a job has ended for good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Delivered under this folder name.
    Delivered {
        folder: String,
        /// Since when the backend is to be told; `None` when it has accepted the finalize call, or there
        /// is none to make.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        untold_since: Option<Timestamp>,
    },
    /// Given up: [`FailureKind::name`](crate::failure::FailureKind::name), the message, and when.
    Failed {
        kind: String,
        message: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<Timestamp>,
    },
}

impl Verdict {
    /// Delivered, and the backend knows.
    pub fn told(folder: impl Into<String>) -> Verdict {
        Verdict::Delivered { folder: folder.into(), untold_since: None }
    }

    /// Delivered, and the backend is to be told since then.
    pub fn untold(folder: impl Into<String>, since: Timestamp) -> Verdict {
        Verdict::Delivered { folder: folder.into(), untold_since: Some(since) }
    }

    /// Given up because of this, then.
    pub fn failed(failure: &Failure, at: Timestamp) -> Verdict {
        Verdict::Failed { kind: failure.kind.name().to_owned(), message: failure.message.clone(), at: Some(at) }
    }
}

impl Record {
    /// Reads a record. One that cannot be read counts as none: it must not keep the job from running.
    pub(super) fn parse(text: &[u8]) -> Record {
        if text.is_empty() {
            return Record::default();
        }
        serde_json::from_slice(text).unwrap_or_else(|error| {
            tracing::warn!(%error, "the record of an element cannot be read: its attempts count from 1 again");
            Record::default()
        })
    }

    pub(super) fn to_json(&self) -> String {
        // cannot fail: strings, numbers and timestamps only
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Notes what happened, now.
    pub(super) fn note(&mut self, instance: &str, kind: &str, message: &str) {
        let message = message.chars().take(LONGEST_MESSAGE).collect();
        self.history.push(Event {
            at: Timestamp::now(),
            instance: instance.to_owned(),
            kind: kind.to_owned(),
            message,
        });
        let surplus = self.history.len().saturating_sub(MOST_EVENTS);
        self.history.drain(..surplus);
    }

    /// An attempt has failed.
    pub(super) fn failed(&mut self, instance: &str, failure: &Failure) {
        self.attempts += u32::from(failure.kind.costs_an_attempt());
        self.note(instance, failure.kind.name(), &failure.message);
    }

    /// How often in a row, until now, it has failed in this way.
    pub fn failed_alike(&self, failure: &Failure) -> u32 {
        let alike = self.history.iter().rev().take_while(|event| event.kind == failure.kind.name());
        // cannot be too many: there are at most MOST_EVENTS
        u32::try_from(alike.count()).unwrap_or(u32::MAX)
    }

    /// Whether this instance has died while it ran the element, and the element was taken back.
    pub(super) fn has_crashed(&self, instance: &str) -> bool {
        let crashed = crate::failure::FailureKind::WorkerCrashed.name();
        self.history.iter().any(|event| event.kind == crashed && event.instance == instance)
    }

    /// Takes over what an instance had found out before it died: its last attempt, or the end.
    pub(super) fn learn(&mut self, found: &Record) {
        self.attempts = self.attempts.max(found.attempts);
        self.verdict.clone_from(&found.verdict);
        let events = found.history.iter().filter(|event| !self.history.contains(event)).cloned().collect::<Vec<_>>();
        self.history.extend(events);
        self.history.sort_by_key(|event| event.at);
    }

    /// An instance has died while it ran the element. Returns the number of crashes within `window`.
    pub(super) fn crashed(&mut self, instance: &str, window: Duration) -> usize {
        let now = Timestamp::now();
        let since = now.checked_sub(window).unwrap_or(Timestamp::MIN);
        self.crashes.retain(|at| *at >= since);
        self.crashes.push(now);
        self.note(
            instance,
            crate::failure::FailureKind::WorkerCrashed.name(),
            "the instance died while it ran this job",
        );
        self.crashes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureKind;

    #[test]
    fn a_record_survives_its_text_and_stays_small() {
        let mut record = Record::default();
        let failure = Failure::new(FailureKind::ServerError, "é\"".repeat(2000));
        for _ in 0..200 {
            record.failed("h-0-1-a", &failure);
        }
        record.verdict = Some(Verdict::untold("Course", Timestamp::now()));
        assert_eq!((record.attempts, record.history.len()), (200, 50));
        let text = record.to_json();
        assert!(text.len() < 100_000, "{}", text.len());
        assert_eq!(Record::parse(text.as_bytes()), record);
    }

    #[test]
    fn a_record_that_cannot_be_read_counts_as_none() {
        for text in [&b""[..], b"{", b"[]", b"\xff", b"{\"attempts\":-1}"] {
            assert_eq!(Record::parse(text), Record::default());
        }
        assert_eq!(Record::parse(b"{\"attempts\":2,\"later\":1}").attempts, 2);
    }

    #[test]
    fn only_crashes_within_the_window_count() {
        let mut record = Record::default();
        let window = Duration::from_secs(72 * 3600);
        record.crashes = vec![Timestamp::now() - Duration::from_secs(73 * 3600)];
        assert_eq!(record.crashed("i", window), 1);
        assert_eq!(record.crashed("i", window), 2);
        assert_eq!(record.crashed("i", window), 3);
        assert_eq!((record.history.len(), record.attempts), (3, 0));
    }
}
