//! What follows from how an attempt ended.

use std::time::Duration;

use crate::failure::{Failure, JobPolicy};
use crate::job::Outcome;
use crate::queue::Record;
use crate::queue::story::{Step, seconds};

/// The outcome of attempt `attempt` (from 1) of at most `max_attempts` that ended in `failure`.
pub fn outcome(failure: Failure, attempt: u32, max_attempts: u32) -> Outcome {
    match failure.kind.job_policy() {
        JobPolicy::Retry if attempt < max_attempts => Outcome::Retry(failure),
        JobPolicy::Retry | JobPolicy::GiveUp => Outcome::Dead(failure),
        JobPolicy::HandBack => Outcome::HandBack,
        JobPolicy::Abandon => Outcome::Abandoned,
    }
}

/// What the task's story says of an attempt that took so long; `record` is what was remembered before it.
/// `None` when it says so already.
pub fn step(outcome: &Outcome, record: &Record, took: Duration) -> Option<Step> {
    Some(match outcome {
        Outcome::Done => Step::Done { seconds: seconds(took) },
        Outcome::Retry(failure) => Step::retry(failure, took),
        // They are told again and again for a day.
        Outcome::Untold { failure, .. } if record.failed_alike(failure) > 0 => return None,
        Outcome::Untold { failure, after, .. } => Step::untold(failure, *after),
        Outcome::Dead(failure) => Step::dead(failure),
        Outcome::HandBack => Step::Returned,
        Outcome::Abandoned => Step::Abandoned,
    })
}

/// What happens next, for the log.
pub fn next(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Retry(_) => "it is tried again",
        Outcome::Dead(_) => "it is given up",
        Outcome::HandBack => "it goes back to the queue",
        Outcome::Abandoned => "it is left to the instance that has it now",
        Outcome::Done | Outcome::Untold { .. } => "it is delivered",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureKind;

    #[test]
    fn the_policy_of_the_kind_and_the_attempts_left_decide() {
        let name = |kind, attempt| outcome(Failure::new(kind, ""), attempt, 3).name();
        assert_eq!(name(FailureKind::ServerError, 1), "retry");
        assert_eq!(name(FailureKind::ServerError, 2), "retry");
        assert_eq!(name(FailureKind::ServerError, 3), "dead");
        assert_eq!(name(FailureKind::EnrollmentFailed, 1), "dead");
        assert_eq!(name(FailureKind::Interrupted, 3), "returned");
        assert_eq!(name(FailureKind::LeaseLost, 1), "abandoned");
    }
}
