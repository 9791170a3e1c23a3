//! The steps of an order: enroll in every course, then push what is enrolled.

use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};

use super::book::{CLAIM, Noted, Step};
use super::order::{Order, TaskOutcome, TaskStatus};
use super::{Orders, Result};
use crate::enroll::EnrollmentResult;
use crate::failure::JobPolicy;
use crate::http;
use crate::job::JobSpec;

/// Statuses of one order that are written at once.
const WRITES_AT_ONCE: usize = 16;
/// Longest pause between two tries of a step that Redis or the task store does not take.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// The order belongs to another instance.
struct NotOurs;

impl Orders {
    /// Goes on with the order from where it is, as long as it is `worker`'s.
    pub(super) async fn work(&self, order: &Order, outcomes: Vec<TaskOutcome>, worker: &str) {
        let ended = tokio::select! {
            ended = self.enroll_then_enqueue(order, outcomes, worker) => ended,
            () = self.keep_holding(order.order_id, worker) => Err(NotOurs),
        };
        if ended.is_err() {
            tracing::warn!(order_id = order.order_id, "order: another instance goes on with it");
            return;
        }
        // When tasks were opened again meanwhile, it is not at its end: whoever comes goes on.
        if matches!(self.book.leave(order.order_id, worker).await, Ok(true)) {
            self.more.notify_one();
        }
    }

    /// Returns when the claim is lost. An outage of Redis loses none by itself.
    async fn keep_holding(&self, order_id: u64, worker: &str) {
        loop {
            tokio::time::sleep(CLAIM / 3).await;
            if matches!(self.book.hold(order_id, worker).await, Ok(false)) {
                return;
            }
        }
    }

    async fn enroll_then_enqueue(
        &self,
        order: &Order,
        outcomes: Vec<TaskOutcome>,
        worker: &str,
    ) -> Result<(), NotOurs> {
        let order_id = order.order_id;
        let tasks = order.tasks.iter().zip(outcomes);
        let enrolled = join_all(tasks.map(|(spec, outcome)| self.enroll_task(order_id, spec, outcome, worker))).await;
        let outcomes: Vec<TaskOutcome> = enrolled.into_iter().collect::<Result<_, NotOurs>>()?;
        let total = outcomes.len();
        let failed = count(&outcomes, TaskStatus::EnrollmentFailed);
        let enrolled = total - failed;
        tracing::info!(order_id, total, enrolled, failed, "order: enrollment is done");

        // The status first: the gate must see `enrolled` as soon as a worker can have the element.
        let tasks = order.tasks.iter().zip(outcomes);
        let writes: Vec<_> = tasks.map(|(spec, outcome)| self.write_status(order_id, spec, outcome)).collect();
        let mut written = stream::iter(writes).buffered(WRITES_AT_ONCE);
        let mut outcomes = Vec::with_capacity(total);
        while let Some((spec, outcome, written)) = written.next().await {
            outcomes.push(match outcome.status {
                TaskStatus::Enrolled => self.push(order_id, spec, outcome, written, worker).await?,
                _ => outcome,
            });
        }
        let queued = count(&outcomes, TaskStatus::Queued);
        let queue_failures = count(&outcomes, TaskStatus::QueueFailed);
        tracing::info!(order_id, enrolled, queued, queue_failures, "order: queueing is done");
        Ok(())
    }

    async fn enroll_task(
        &self,
        order_id: u64,
        spec: &JobSpec,
        outcome: TaskOutcome,
        worker: &str,
    ) -> Result<TaskOutcome, NotOurs> {
        if outcome.status != TaskStatus::Waiting {
            return Ok(outcome);
        }
        let (task_id, course) = (spec.task_id.get(), http::shown(&spec.course_url));
        // The same for every try, also of another instance: a service that knows such keys enrolls once.
        let key = format!("order-{order_id}-task-{task_id}");
        let enrollment = self.enrollment.enroll(&spec.email, &spec.course_url, Some(order_id), Some(&key)).await;
        let next = match enrollment.and_then(EnrollmentResult::into_enrolled) {
            Ok(result) => {
                let course_id = result.course_id.as_ref().map(ToString::to_string);
                tracing::info!(task_id, order_id, course, course_id, "enrolled");
                let (course_id, title) = (result.course_id, result.title);
                TaskOutcome { status: TaskStatus::Enrolled, course_id, title, ..TaskOutcome::WAITING }
            }
            Err(failure) => {
                let kind = failure.kind.name();
                tracing::warn!(task_id, order_id, course, kind, %failure, "enrollment failed");
                outcome.then(TaskStatus::EnrollmentFailed, Some(&failure))
            }
        };
        self.note(order_id, worker, &Step { task_id: spec.task_id, from: &outcome, to: &next, element: None }).await?;
        Ok(next)
    }

    /// Writes `enrolled`. Waits while the store is away: the customer has paid.
    async fn write_status<'a>(
        &self,
        order_id: u64,
        spec: &'a JobSpec,
        outcome: TaskOutcome,
    ) -> (&'a JobSpec, TaskOutcome, Result<()>) {
        if outcome.status != TaskStatus::Enrolled {
            return (spec, outcome, Ok(()));
        }
        let mut attempt = 1;
        loop {
            let failure = match self.store.enroll(spec, Some(order_id)).await {
                Err(failure) if failure.kind.job_policy() == JobPolicy::Retry => failure,
                written => return (spec, outcome, written),
            };
            if attempt == 1 {
                let (task_id, kind) = (spec.task_id.get(), failure.kind.name());
                tracing::warn!(task_id, order_id, kind, "the status is not written yet, trying on: {failure}");
            }
            tokio::time::sleep(http::pause(attempt, failure.retry_after).min(LONGEST_PAUSE)).await;
            attempt += 1;
        }
    }

    /// The element goes to the queue in the instant in which that is noted: once, whatever dies.
    async fn push(
        &self,
        order_id: u64,
        spec: &JobSpec,
        outcome: TaskOutcome,
        written: Result<()>,
        worker: &str,
    ) -> Result<TaskOutcome, NotOurs> {
        let task_id = spec.task_id.get();
        let (next, element) = match written {
            Ok(()) => (outcome.then(TaskStatus::Queued, None), Some(spec.to_element(jiff::Timestamp::now()))),
            Err(failure) => {
                let kind = failure.kind.name();
                tracing::error!(task_id, order_id, kind, %failure, "enrolled but not queued: retry the order, or requeue the task");
                (outcome.then(TaskStatus::QueueFailed, Some(&failure)), None)
            }
        };
        let step = Step { task_id: spec.task_id, from: &outcome, to: &next, element: element.as_ref() };
        let length = self.note(order_id, worker, &step).await?;
        if next.status == TaskStatus::Queued {
            tracing::info!(task_id, order_id, queue_length = length, "queued");
        }
        Ok(next)
    }

    /// Notes a step, however long Redis is away. Returns the length of the list after a push.
    async fn note(&self, order_id: u64, worker: &str, step: &Step<'_>) -> Result<Option<u64>, NotOurs> {
        let mut attempt = 1;
        loop {
            match self.book.note(order_id, worker, step).await {
                Ok(Noted::Yes(length)) => return Ok(step.element.map(|_| length)),
                Ok(Noted::Before) => return Ok(None),
                Ok(Noted::NotOurs) => return Err(NotOurs),
                Err(failure) if attempt == 1 => {
                    let (task_id, kind) = (step.task_id.get(), failure.kind.name());
                    tracing::warn!(task_id, order_id, kind, "the order waits: {failure}");
                }
                Err(_) => {}
            }
            tokio::time::sleep(http::pause(attempt, None).min(LONGEST_PAUSE)).await;
            attempt += 1;
        }
    }
}

fn count(outcomes: &[TaskOutcome], status: TaskStatus) -> usize {
    outcomes.iter().filter(|outcome| outcome.status == status).count()
}
