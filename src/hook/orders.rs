//! Enroll, then enqueue, as the payment backend used to do by itself: nothing that fails here undoes the payment.

use std::sync::Arc;

use futures_util::future::join_all;
use serde::Serialize;
use serde_json::Value;

use super::Hook;
use super::request::Order;
use crate::enroll::EnrollmentResult;
use crate::failure::{Failure, Result};
use crate::job::{JobSpec, TaskId};

/// The answer to an order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    order_id: u64,
    total: usize,
    enrolled: usize,
    failed: usize,
    queued: usize,
    queue_failures: usize,
    tasks: Vec<TaskOutcome>,
}

/// What became of one task.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TaskOutcome {
    task_id: TaskId,
    status: TaskStatus,
    /// The failure's name.
    kind: Option<&'static str>,
    message: Option<String>,
    course_id: Option<Value>,
    title: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum TaskStatus {
    Queued,
    /// Can be re-enrolled by hand.
    EnrollmentFailed,
    /// Enrolled, and can be requeued by hand.
    QueueFailed,
}

/// Enrolls for every task, then pushes those that are enrolled, in the order of the request.
pub(super) async fn enroll_then_enqueue(hook: Arc<Hook>, order: Order) -> Summary {
    let Order { order_id, tasks } = order;
    let enrollments = join_all(tasks.iter().map(|spec| enroll(&hook, order_id, spec))).await;
    let total = tasks.len();
    let enrolled = enrollments.iter().filter(|enrollment| enrollment.is_ok()).count();
    let failed = total - enrolled;
    tracing::info!(order_id, total, enrolled, failed, "order: enrollment is done");

    let outcomes = tasks.iter().zip(enrollments).map(async |(spec, enrollment)| match enrollment {
        Ok(result) => {
            let queued = enqueue(&hook, order_id, spec).await;
            let status = if queued.is_ok() { TaskStatus::Queued } else { TaskStatus::QueueFailed };
            TaskOutcome {
                course_id: result.course_id,
                title: result.title,
                ..TaskOutcome::new(spec.task_id, status, queued.err())
            }
        }
        Err(failure) => TaskOutcome::new(spec.task_id, TaskStatus::EnrollmentFailed, Some(failure)),
    });
    let outcomes = join_all(outcomes).await;
    let queued = outcomes.iter().filter(|outcome| outcome.status == TaskStatus::Queued).count();
    let queue_failures = enrolled - queued;
    tracing::info!(order_id, enrolled, queued, queue_failures, "order: queueing is done");
    Summary { order_id, total, enrolled, failed, queued, queue_failures, tasks: outcomes }
}

impl TaskOutcome {
    fn new(task_id: TaskId, status: TaskStatus, failure: Option<Failure>) -> TaskOutcome {
        let (kind, message) = failure.map(|failure| (failure.kind.name(), failure.message)).unzip();
        TaskOutcome { task_id, status, kind, message, course_id: None, title: None }
    }
}

async fn enroll(hook: &Hook, order_id: u64, spec: &JobSpec) -> Result<EnrollmentResult> {
    let (task_id, course) = (spec.task_id.get(), crate::http::shown(&spec.course_url));
    let enrollment = hook.enroll(&spec.email, &spec.course_url, Some(order_id)).await;
    let enrollment = enrollment.and_then(EnrollmentResult::into_enrolled);
    match &enrollment {
        Ok(result) => {
            let course_id = result.course_id.as_ref().map(ToString::to_string);
            tracing::info!(task_id, order_id, course, course_id, "enrolled");
        }
        Err(failure) => {
            tracing::warn!(task_id, order_id, course, kind = failure.kind.name(), %failure, "enrollment failed");
        }
    }
    enrollment
}

/// The status first: the gate must see `enrolled` as soon as a worker can have the element.
async fn enqueue(hook: &Hook, order_id: u64, spec: &JobSpec) -> Result<()> {
    let task_id = spec.task_id.get();
    let pushed = async {
        hook.store.enroll(spec, Some(order_id)).await?;
        hook.producer.push(&spec.to_element(jiff::Timestamp::now())).await
    };
    match pushed.await {
        Ok(length) => {
            tracing::info!(task_id, order_id, queue_length = length, "queued");
            Ok(())
        }
        Err(failure) => {
            let kind = failure.kind.name();
            tracing::error!(task_id, order_id, kind, %failure, "enrolled but not queued: requeue it by hand");
            Err(failure)
        }
    }
}
