//! The enrollment gate: nothing is downloaded before the customer is enrolled.

mod hints;
mod looks;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use tracing::info;

use self::looks::{Looks, Place, Seen};

use crate::config::GateSettings;
use crate::current::Current;
use crate::failure::{Failure, FailureKind, Result};
use crate::job::JobSpec;
use crate::redis_client::Commands;
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

/// The gate of this process. However many jobs wait at it, a look at their tasks is one question.
pub struct Gate {
    looks: Arc<Looks>,
    settings: Current<GateSettings>,
    /// Ends with the gate.
    _hints: Option<AbortOnDropHandle<()>>,
}

impl Gate {
    /// A gate that believes `store`, and looks every `settings.poll`.
    pub fn new(store: Arc<dyn TaskStore>, settings: GateSettings) -> Gate {
        Gate { looks: Looks::new(store), settings: Current::new(settings), _hints: None }
    }

    /// Other settings, for those who come to it from now on.
    pub fn use_settings(&self, settings: GateSettings) {
        self.settings.replace(settings);
    }

    /// Looks also when something is published about a task, as long as jobs wait: on the backend's
    /// `task:<id>:status`, or by a store of [`store::open`](crate::store::open) that has written `enrolled`.
    pub fn told_by(self, commands: Commands) -> Gate {
        let listening = tokio::spawn(hints::listen(self.looks.clone(), commands));
        Gate { _hints: Some(AbortOnDropHandle::new(listening)), ..self }
    }

    /// Waits until the task is enrolled, at most `settings.wait`.
    ///
    /// # Errors
    /// `enrollment_failed`, `enrollment_timeout`, `task_not_found`, `unexpected_status`; or
    /// `task_store_unavailable` when the store never answered in the whole time.
    pub async fn admit(&self, spec: &JobSpec) -> Result<Enrolled> {
        let task_id = spec.task_id.get();
        let started = Instant::now();
        let settings = self.settings.get();
        info!(task_id, wait_seconds = settings.wait.as_secs(), "ENROLL CHECK start");
        let result = self.wait(spec, started, &settings).await;
        let waited_seconds = started.elapsed().as_secs_f64();
        match &result {
            Ok(enrolled) => info!(task_id, order_id = enrolled.order_id, waited_seconds, "ENROLL CHECK passed"),
            Err(failure) => {
                info!(task_id, kind = failure.kind.name(), waited_seconds, "ENROLL CHECK refused: {failure}");
            }
        }
        result
    }

    async fn wait(&self, spec: &JobSpec, started: Instant, settings: &GateSettings) -> Result<Enrolled> {
        let GateSettings { wait, poll } = *settings;
        let deadline = started + wait;
        let mut place = self.looks.join(spec.task_id);
        let mut store_answered = false;
        // The first look is for this job alone: those that wait are looked at when they are due.
        place.ask();
        let mut seen = answer_by(&mut place, deadline.max(started + LAST_LOOK)).await;
        let mut is_last = Instant::now() >= deadline;
        loop {
            let waiting_for = match seen {
                Ok(record) => {
                    store_answered = true;
                    match judge(record)? {
                        Verdict::Enrolled(order_id) => return Ok(Enrolled { order_id, waited: started.elapsed() }),
                        Verdict::Pending(status) => status,
                    }
                }
                Err(failure) if !store_answered && is_last => {
                    return Err(failure.at(format!("the status could not be read in {} s", wait.as_secs())));
                }
                Err(failure) => failure.message,
            };
            if is_last {
                let message = format!("enrollment timeout after {}s", wait.as_secs());
                return Err(Failure::new(FailureKind::EnrollmentTimeout, message));
            }
            place.listen();
            let waited_seconds = started.elapsed().as_secs_f64();
            info!(task_id = spec.task_id.get(), waiting_for, waited_seconds, "ENROLL CHECK waiting");
            (seen, is_last) = next_look(&mut place, deadline.min(Instant::now() + poll), deadline).await;
        }
    }
}

/// The next answer: that of somebody else's look before `at`, or of our own. And whether it is the last.
async fn next_look(place: &mut Place, at: Instant, deadline: Instant) -> (Seen, bool) {
    if let Ok(answer) = timeout_at(at, place.answer()).await {
        return (answer, false);
    }
    if at < deadline {
        place.ask_for_all()
    } else {
        place.ask()
    }
    let answer = answer_by(place, deadline.max(at + LAST_LOOK)).await;
    (answer, Instant::now() >= deadline)
}

async fn answer_by(place: &mut Place, limit: Instant) -> Seen {
    let silent = || Err(Failure::new(FailureKind::TaskStoreUnavailable, "the task store did not answer"));
    timeout_at(limit, place.answer()).await.unwrap_or_else(|_| silent())
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
