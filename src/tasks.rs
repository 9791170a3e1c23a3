//! What is done with one task from outside: look at it, requeue it, cancel it. The hook and the
//! command line do the same.

use std::sync::Arc;

use jiff::Timestamp;
use redis::AsyncCommands;
use serde::Serialize;
use serde_json::Value;

use crate::failure::{Failure, FailureKind, Result};
use crate::http;
use crate::job::{JobSpec, TaskId};
use crate::queue::{Places, Producer, QueueView};
use crate::redis_client::{self, Commands};
use crate::store::{FinalStatus, TaskRecord, TaskStore};

/// The tasks, as the store and the queue know them.
#[derive(Clone)]
pub struct Tasks {
    store: Arc<dyn TaskStore>,
    view: QueueView,
    producer: Producer,
    commands: Commands,
}

/// A task as it is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskState {
    pub task_id: TaskId,
    /// In the task store; `null` when it has no such task.
    pub status: Option<String>,
    pub order_id: Option<u64>,
    /// Without credentials and query.
    pub course_url: Option<String>,
    /// Where its element is: `waiting`, `running`, `delayed`, `untold`, `dead`; `null` when nowhere.
    pub place: Option<&'static str>,
    /// Who runs it.
    pub instance: Option<String>,
    /// When its next attempt is due.
    pub due_at: Option<Timestamp>,
    /// Why it was given up last.
    pub failure: Option<TaskFailure>,
    /// The last progress event of the last hour.
    pub progress: Option<Value>,
}

/// Why a task was given up.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskFailure {
    /// The failure's name.
    pub kind: String,
    pub message: Option<String>,
    pub attempts: Option<u32>,
    pub failed_at: Option<Timestamp>,
}

impl Tasks {
    /// Tasks of `store` in the queue of `list`.
    pub fn new(store: Arc<dyn TaskStore>, commands: Commands, list: &str) -> Tasks {
        let view = QueueView::new(commands.clone(), list);
        Tasks { store, view, producer: Producer::new(commands.clone(), list.to_owned()), commands }
    }

    /// How a task is; `None` when nobody knows it.
    ///
    /// # Errors
    /// `task_store_unavailable`, `queue_unavailable`.
    pub async fn look(&self, task_id: TaskId) -> Result<Option<TaskState>> {
        let record = self.store.read(task_id).await?;
        let places = self.view.places_of_task(task_id).await?;
        if record.is_none() && places.word().is_none() {
            return Ok(None);
        }
        let progress = self.commands.clone().get(format!("progress:task:{task_id}")).await;
        let progress: Option<String> =
            progress.map_err(|error| redis_client::failure("reading the progress", &error))?;
        let spec = self.spec(task_id, record.as_ref(), &places).ok();
        let dead = places.dead.first().map(|entry| &entry.envelope);
        let failure = match (
            dead,
            record.as_ref().and_then(|record| record.failure.as_ref().map(|failure| failure.kind.clone())),
        ) {
            (Some(envelope), _) => Some(TaskFailure {
                kind: envelope.kind.clone(),
                message: Some(envelope.message.clone()),
                attempts: Some(envelope.attempts),
                failed_at: Some(envelope.failed_at),
            }),
            (None, Some(kind)) => Some(TaskFailure { kind, message: None, attempts: None, failed_at: None }),
            (None, None) => None,
        };
        Ok(Some(TaskState {
            task_id,
            order_id: record.as_ref().and_then(|record| record.order_id),
            status: record.map(|record| record.status),
            course_url: spec.map(|spec| http::shown(&spec.course_url)),
            place: places.word(),
            instance: places.running.clone(),
            due_at: places.due(),
            failure,
            progress: progress.and_then(|json| serde_json::from_str(&json).ok()),
        }))
    }

    /// Puts a task into the queue once more: one that is enrolled and not under way, or that failed
    /// after its enrollment; with `force` any. Says what was done.
    ///
    /// # Errors
    /// `task_not_found`, `duplicate_job` (it is under way), `enrollment_failed` (it is not enrolled),
    /// `unexpected_status` (it is completed), `malformed_job` (nobody knows its course);
    /// `task_store_unavailable`, `queue_unavailable`.
    pub async fn requeue(&self, task_id: TaskId, force: bool) -> Result<String> {
        let record = self.store.read(task_id).await?;
        let record =
            record.ok_or_else(|| Failure::new(FailureKind::TaskNotFound, format!("task {task_id}: not found")))?;
        let places = self.view.places_of_task(task_id).await?;
        if !force {
            may_requeue(task_id, &record, &places)?;
        }
        let spec = JobSpec { force, ..self.spec(task_id, Some(&record), &places)? };
        let status = record.status.as_str();
        self.view.let_run(task_id).await?;
        // Where the gate would not let it pass. With force, one that is not enrolled yet may become so.
        if status == "failed" || status == "completed" {
            self.store.enroll(&spec, record.order_id).await?;
        }
        let said = match places.dead.first() {
            Some(entry) if self.view.revive(entry, force).await? => {
                let failure = &entry.envelope.kind;
                format!("task {task_id} ({status}, given up as {failure}) is back in the queue, from the dead list")
            }
            _ => {
                let length = self.producer.push(&spec.to_element(Timestamp::now())).await?;
                format!("task {task_id} ({status}) is in the queue; {length} waiting")
            }
        };
        tracing::info!(task_id = task_id.get(), force, "requeued: {said}");
        Ok(said)
    }

    /// Stops a task: what waits goes to the dead list, what runs is stopped. Says what was done.
    ///
    /// # Errors
    /// `task_not_found` when nothing of it waits or runs; `task_store_unavailable`,
    /// `queue_unavailable`.
    pub async fn cancel(&self, task_id: TaskId) -> Result<String> {
        let cancelled = self.view.cancel(task_id).await?;
        if let Some(instance) = cancelled.running {
            return Ok(format!("task {task_id} is being stopped on {instance}"));
        }
        if cancelled.withdrawn == 0 {
            let message = format!("task {task_id}: nothing of it waits or runs");
            return Err(Failure::new(FailureKind::TaskNotFound, message));
        }
        let enrolled = self.store.read(task_id).await?.is_some_and(|record| record.status == "enrolled");
        let error_log = serde_json::json!({
            "kind": FailureKind::JobStopped.name(),
            "message": "the task was cancelled",
            "enrolled": enrolled,
            "failedAt": Timestamp::now(),
        });
        self.store.finish(task_id, FinalStatus::Failed, Some(&error_log.to_string())).await?;
        Ok(format!("task {task_id} was waiting and is on the dead list now, as {}", FailureKind::JobStopped))
    }

    /// What it is about: from the store, else from its elements.
    fn spec(&self, task_id: TaskId, record: Option<&TaskRecord>, places: &Places) -> Result<JobSpec> {
        let stored = record.and_then(|record| Some((record.email.clone()?, record.course_url.as_deref()?)));
        if let Some((email, course_url)) = stored {
            let course_url = http::parse_url(course_url)?;
            return Ok(JobSpec { task_id, email, course_url, force: false, trace: None });
        }
        let dead = places.dead.iter().filter_map(|entry| entry.envelope.element());
        let mut elements = places.waiting.iter().cloned().chain(dead);
        elements.find_map(|element| JobSpec::parse(&element).ok()).ok_or_else(|| {
            Failure::new(FailureKind::MalformedJob, format!("task {task_id}: nobody knows its customer and course"))
        })
    }
}

/// Whether a task may be requeued as it is.
fn may_requeue(task_id: TaskId, record: &TaskRecord, places: &Places) -> Result<()> {
    let refused =
        |kind, why: &str| Err(Failure::new(kind, format!("task {task_id} {why}; force does it all the same")));
    if places.will_run() {
        return refused(FailureKind::DuplicateJob, "is under way already");
    }
    let kind = places.dead.first().and_then(|entry| FailureKind::named(&entry.envelope.kind));
    match record.status.as_str() {
        "enrolled" => Ok(()),
        "failed" if record.failed_after_enrollment(kind) => Ok(()),
        "failed" => refused(
            FailureKind::EnrollmentFailed,
            "failed, maybe before the customer was enrolled: order or enroll again first",
        ),
        "completed" => refused(FailureKind::UnexpectedStatus, "is completed"),
        status => refused(FailureKind::EnrollmentFailed, &format!("is not enrolled (it is {status})")),
    }
}
