//! What follows from how an attempt ended.

use crate::failure::{Failure, JobPolicy};
use crate::job::Outcome;

/// The outcome of attempt `attempt` (from 1) of at most `max_attempts` that ended in `failure`.
pub fn outcome(failure: Failure, attempt: u32, max_attempts: u32) -> Outcome {
    match failure.kind.job_policy() {
        JobPolicy::Retry if attempt < max_attempts => Outcome::Retry(failure),
        JobPolicy::Retry | JobPolicy::GiveUp => Outcome::Dead(failure),
        JobPolicy::HandBack => Outcome::HandBack,
        JobPolicy::Abandon => Outcome::Abandoned,
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
