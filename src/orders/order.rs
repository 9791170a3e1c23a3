//! An order and how far it is, as it is stored and as it is told.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use url::Url;

use crate::failure::Failure;
use crate::job::{JobSpec, TaskId};
use crate::traces::TraceContext;

/// Enroll these, then enqueue those that are enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The backend's number for it.
    pub order_id: u64,
    /// At least one; no task twice.
    pub tasks: Vec<JobSpec>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredTask {
    task_id: TaskId,
    email: String,
    course_url: Url,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    trace: Option<TraceContext>,
}

impl Order {
    /// The tasks, as they are stored.
    pub(super) fn body(&self) -> String {
        stored(&self.tasks)
    }

    /// What makes two orders the same: their tasks, in any sequence.
    pub(super) fn digest(&self) -> String {
        let mut tasks = self.tasks.clone();
        // Every request is in a trace of its own.
        tasks.iter_mut().for_each(|task| task.trace = None);
        tasks.sort_unstable_by_key(|task| task.task_id);
        hex::encode(Sha256::digest(stored(&tasks)))
    }

    /// Reads what [`Order::body`] has written. `None` for anything else.
    pub(super) fn parse(order_id: u64, body: &str) -> Option<Order> {
        let tasks: Vec<StoredTask> = serde_json::from_str(body).ok()?;
        let tasks = tasks.into_iter().map(|StoredTask { task_id, email, course_url, trace }| JobSpec {
            task_id,
            email,
            course_url,
            force: false,
            trace,
        });
        Some(Order { order_id, tasks: tasks.collect() })
    }
}

fn stored(tasks: &[JobSpec]) -> String {
    let tasks = tasks.iter().map(|task| StoredTask {
        task_id: task.task_id,
        email: task.email.clone(),
        course_url: task.course_url.clone(),
        trace: task.trace.clone(),
    });
    // cannot fail: numbers and texts only
    serde_json::to_string(&tasks.collect::<Vec<_>>()).unwrap_or_default()
}

/// How far one task of an order is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    /// To be enrolled.
    Waiting,
    /// Enrolled, and to be pushed.
    Enrolled,
    /// Pushed: the workers have it.
    Queued,
    /// Not enrolled: the order can be retried.
    EnrollmentFailed,
    /// Enrolled and not pushed: the order can be retried.
    QueueFailed,
}

impl TaskStatus {
    /// Whether nothing more happens to it by itself.
    pub(super) fn has_ended(self) -> bool {
        !matches!(self, TaskStatus::Waiting | TaskStatus::Enrolled)
    }
}

/// What became of one task so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskOutcome {
    pub status: TaskStatus,
    /// The failure's name.
    pub kind: Option<String>,
    pub message: Option<String>,
    /// As the enrollment service gave it.
    pub course_id: Option<Value>,
    pub title: Option<String>,
}

impl TaskOutcome {
    pub(super) const WAITING: TaskOutcome =
        TaskOutcome { status: TaskStatus::Waiting, kind: None, message: None, course_id: None, title: None };

    /// The same course with another status.
    pub(super) fn then(&self, status: TaskStatus, failure: Option<&Failure>) -> TaskOutcome {
        let (kind, message) = failure.map(|failure| (failure.kind.name().into(), failure.message.clone())).unzip();
        TaskOutcome { status, kind, message, ..self.clone() }
    }

    /// As it is stored; nothing for a task that waits.
    pub(super) fn stored(&self) -> String {
        match self.status {
            TaskStatus::Waiting => String::new(),
            // cannot fail: texts and numbers only
            _ => serde_json::to_string(self).unwrap_or_default(),
        }
    }

    /// Reads what [`TaskOutcome::stored`] has written; what it has not is a task that waits.
    pub(super) fn parse(stored: &str) -> TaskOutcome {
        serde_json::from_str(stored).unwrap_or(TaskOutcome::WAITING)
    }
}

/// Where an order is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In Redis: every instance can finish it.
    Redis,
    /// On the disk of this host, since Redis is away; it goes on when Redis is back.
    Disk,
}

/// An order as it is told.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderState {
    pub order_id: u64,
    /// `open` as long as something is still done about it, then `done`.
    pub state: &'static str,
    pub stored: Place,
    /// Tasks.
    pub total: usize,
    /// Tasks that are enrolled, whatever became of them then.
    pub enrolled: usize,
    /// Tasks that could not be enrolled.
    pub failed: usize,
    /// Tasks that were pushed.
    pub queued: usize,
    /// Tasks that are enrolled and could not be pushed.
    pub queue_failures: usize,
    /// When it was taken in.
    pub created_at: jiff::Timestamp,
    /// When its last task ended.
    pub ended_at: Option<jiff::Timestamp>,
    pub tasks: Vec<OrderedTask>,
}

/// One task as it is told.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderedTask {
    pub task_id: TaskId,
    #[serde(flatten)]
    pub outcome: TaskOutcome,
}

impl OrderState {
    pub(super) fn new(
        order: &Order,
        outcomes: Vec<TaskOutcome>,
        stored: Place,
        created_at: jiff::Timestamp,
        ended_at: Option<jiff::Timestamp>,
    ) -> OrderState {
        let count = |wanted: &[TaskStatus]| outcomes.iter().filter(|outcome| wanted.contains(&outcome.status)).count();
        use TaskStatus::*;
        OrderState {
            order_id: order.order_id,
            state: if outcomes.iter().all(|outcome| outcome.status.has_ended()) { "done" } else { "open" },
            stored,
            total: outcomes.len(),
            enrolled: count(&[Enrolled, Queued, QueueFailed]),
            failed: count(&[EnrollmentFailed]),
            queued: count(&[Queued]),
            queue_failures: count(&[QueueFailed]),
            created_at,
            ended_at,
            tasks: order
                .tasks
                .iter()
                .zip(outcomes)
                .map(|(task, outcome)| OrderedTask { task_id: task.task_id, outcome })
                .collect(),
        }
    }

    /// Whether nothing more is done about it by itself.
    pub fn is_done(&self) -> bool {
        self.state == "done"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: u64) -> JobSpec {
        let url = format!("https://learn.example.com/course/{id}/");
        let (task_id, email) = (TaskId::new(id).unwrap(), "user@example.com".into());
        JobSpec { task_id, email, course_url: url.parse().unwrap(), force: false, trace: None }
    }

    #[test]
    fn an_order_survives_its_storage_and_its_digest_knows_no_sequence() {
        let order = Order { order_id: 41, tasks: vec![task(43), task(44)] };
        assert_eq!(Order::parse(41, &order.body()), Some(order.clone()));
        assert_eq!(Order::parse(41, "[{}]"), None);
        let turned = Order { order_id: 41, tasks: vec![task(44), task(43)] };
        assert_eq!(turned.digest(), order.digest());
        let mut other = order.clone();
        other.tasks[0].email = "x@example.com".into();
        assert_ne!(other.digest(), order.digest());
    }

    #[test]
    fn what_is_stored_of_a_task_is_read_again() {
        let failure = Failure::new(crate::failure::FailureKind::EnrollmentRefused, "no \"seat\"");
        let enrolled = TaskOutcome {
            status: TaskStatus::Enrolled,
            course_id: Some(12345.into()),
            title: Some("Course".into()),
            ..TaskOutcome::WAITING
        };
        for outcome in [TaskOutcome::WAITING, enrolled.clone(), enrolled.then(TaskStatus::QueueFailed, Some(&failure))]
        {
            assert_eq!(TaskOutcome::parse(&outcome.stored()), outcome);
        }
    }
}
