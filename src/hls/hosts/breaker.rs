//! Whether a host answers at all. After many failures in a row it is asked one at a time, with growing
//! pauses, and what becomes of that one request is told to all that wait for the host: a host that is
//! down gets a few requests, however many jobs want something from it.

use std::time::Duration;

use tokio::time::Instant;

use crate::failure::{Failure, FailureKind};
use crate::http;

/// Failures in a row, of all jobs together, that are no accident any more.
const FAILURES: u32 = 16;
/// Longest pause between two requests to a host that is down. Jobs wait longer between their attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// What is known of one host.
#[derive(Debug, Default)]
pub struct Breaker {
    /// Since the last answer.
    failures: u32,
    /// `None` as long as the host is asked as usual.
    open: Option<Open>,
    /// Counts the failures of those that went ahead alone.
    verdicts: u64,
}

#[derive(Debug)]
struct Open {
    /// Of the last failure.
    kind: FailureKind,
    /// When the next one may go ahead.
    next: Instant,
    /// Somebody has gone ahead.
    is_asked: bool,
}

/// What somebody may do who wants to ask.
#[derive(Debug)]
pub enum Way {
    Free,
    /// Go ahead, alone: tell what became of it.
    Ahead,
    /// Look again after this time.
    Pause(Duration),
    /// Look again when the one that has gone ahead is back.
    Behind,
    /// Those before have failed.
    Closed(FailureKind),
}

impl Breaker {
    /// To be remembered by somebody who begins to wait.
    pub fn verdicts(&self) -> u64 {
        self.verdicts
    }

    /// Whether the host is taken for down.
    fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether an answer would change anything.
    pub fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// How many requests have failed since the last answer.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// What somebody may do who has waited since `verdicts`.
    pub fn way(&mut self, verdicts: u64, now: Instant) -> Way {
        let Some(open) = &mut self.open else { return Way::Free };
        let pause = open.next.saturating_duration_since(now);
        if self.verdicts > verdicts {
            Way::Closed(open.kind)
        } else if open.is_asked {
            Way::Behind
        } else if pause > Duration::ZERO {
            Way::Pause(pause)
        } else {
            open.is_asked = true;
            Way::Ahead
        }
    }

    /// A request has failed; `ahead`: it had gone ahead. Says whether the host is taken for down from now on.
    pub fn failed(&mut self, failure: &Failure, ahead: bool, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        if self.failures < FAILURES || (self.is_open() && !ahead) {
            // Too few, or one of those that were under way already.
            return false;
        }
        self.verdicts += u64::from(ahead);
        let is_new = !self.is_open();
        let bound = http::pause_bound(self.failures - FAILURES + 1).min(LONGEST_PAUSE);
        let next = now + bound.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.open = Some(Open { kind: failure.kind, next, is_asked: false });
        is_new
    }

    /// The host has answered. Says whether it was taken for down.
    pub fn answered(&mut self) -> bool {
        self.failures = 0;
        self.open.take().is_some()
    }

    /// The one that had gone ahead has been stopped.
    pub fn gave_up(&mut self) {
        if let Some(open) = &mut self.open {
            open.is_asked = false;
        }
    }
}
