//! The enrollment gate: nothing is downloaded before the customer is enrolled.

#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tracing::info;

use crate::config::GateSettings;
use crate::failure::{Failure, FailureKind, Result};
use crate::job::JobSpec;
use crate::store::{TaskRecord, TaskStore};

/// How long the look at the very end may take.
const LAST_LOOK: Duration = Duration::from_millis(500);

/// Proof that the gate was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enrolled {
    /// The order of the task, where it is known.
    pub order_id: Option<u64>,
    /// How long the gate took.
    pub waited: Duration,
}

/// Waits until the task is enrolled, at most `settings.wait`.
///
/// # Errors
/// `enrollment_failed`, `enrollment_timeout`, `task_not_found`, `unexpected_status`; or
/// `task_store_unavailable` when the store never answered in the whole time.
pub async fn admit(store: &dyn TaskStore, spec: &JobSpec, settings: &GateSettings) -> Result<Enrolled> {
    let task_id = spec.task_id.get();
    let started = Instant::now();
    info!(task_id, wait_seconds = settings.wait.as_secs(), "ENROLL CHECK start");
    let result = wait(store, spec, settings, started).await;
    let waited_seconds = started.elapsed().as_secs_f64();
    match &result {
        Ok(enrolled) => info!(task_id, order_id = enrolled.order_id, waited_seconds, "ENROLL CHECK passed"),
        Err(failure) => {
            info!(task_id, kind = failure.kind.name(), waited_seconds, "ENROLL CHECK refused: {failure}");
        }
    }
    result
}

async fn wait(store: &dyn TaskStore, spec: &JobSpec, settings: &GateSettings, started: Instant) -> Result<Enrolled> {
    let deadline = started + settings.wait;
    let mut store_answered = false;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let seen = match timeout(left.max(LAST_LOOK), store.read(spec.task_id)).await {
            Ok(seen) => seen,
            Err(_) => Err(Failure::new(FailureKind::TaskStoreUnavailable, "the task store did not answer")),
        };
        let waiting_for = match seen {
            Ok(record) => {
                store_answered = true;
                match judge(record)? {
                    Verdict::Enrolled(order_id) => return Ok(Enrolled { order_id, waited: started.elapsed() }),
                    Verdict::Pending(status) => status,
                }
            }
            Err(failure) if !store_answered && Instant::now() >= deadline => {
                return Err(failure.at(format!("the status could not be read in {} s", settings.wait.as_secs())));
            }
            Err(failure) => failure.message,
        };
        let now = Instant::now();
        if now >= deadline {
            let message = format!("enrollment timeout after {}s", settings.wait.as_secs());
            return Err(Failure::new(FailureKind::EnrollmentTimeout, message));
        }
        let waited_seconds = started.elapsed().as_secs_f64();
        info!(task_id = spec.task_id.get(), waiting_for, waited_seconds, "ENROLL CHECK waiting");
        sleep(settings.poll.min(deadline - now)).await;
    }
}

enum Verdict {
    /// With the order, where it is known.
    Enrolled(Option<u64>),
    /// With the status, to be looked at again.
    Pending(String),
}

/// What each status in the backend's table means at the gate.
fn judge(record: Option<TaskRecord>) -> Result<Verdict> {
    let Some(TaskRecord { status, order_id, .. }) = record else {
        return Err(Failure::new(FailureKind::TaskNotFound, "not found"));
    };
    match status.as_str() {
        "enrolled" => Ok(Verdict::Enrolled(order_id)),
        "paid" | "pending" | "processing" => Ok(Verdict::Pending(status)),
        "failed" => Err(Failure::new(FailureKind::EnrollmentFailed, "enrollment failed")),
        _ => Err(Failure::new(FailureKind::UnexpectedStatus, format!("unexpected status {status:?}"))),
    }
}
