//! Cancelling a task: nothing of it is started any more, and what runs is stopped.

use redis::{AsyncCommands, RedisError};
use tracing::info;

use super::record::Record;
use super::task::element_of;
use super::{DeadEnvelope, Places, QueueView};
use crate::failure::{Failure, FailureKind, Result};
use crate::job::{Element, TaskId};
use crate::redis_client;

/// How long a cancelled task is not started: until what one instance had in hand has gone round once.
const MARK_MILLISECONDS: f64 = 600_000.0;

/// What was found of a cancelled task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cancelled {
    /// Elements that waited and are on the dead list now.
    pub withdrawn: usize,
    /// The instance that runs it and stops it with its next sweep.
    pub running: Option<String>,
}

impl QueueView {
    /// Cancels the task: what waits goes to the dead list, what runs is stopped by its instance
    /// within `queue.sweep_seconds`.
    ///
    /// # Errors
    /// `queue_unavailable`.
    pub async fn cancel(&self, task_id: TaskId) -> Result<Cancelled> {
        let failed = |error: RedisError| redis_client::failure("cancelling the task", &error);
        // The mark first: what is taken from the list meanwhile is not started.
        let until = self.server_time().await.map_err(failed)? + MARK_MILLISECONDS;
        let marked: Result<(), _> = self.commands.clone().zadd(&self.keys.cancelled, task_id.get(), until).await;
        marked.map_err(failed)?;
        let places = self.places_of_task(task_id).await?;
        let cancelled = self.withdraw_all(task_id, places).await.map_err(failed)?;
        if cancelled.running.is_none() {
            self.let_run(task_id).await?;
        }
        Ok(cancelled)
    }

    /// Ends the cancelling of a task: it may be started again.
    ///
    /// # Errors
    /// `queue_unavailable`.
    pub async fn let_run(&self, task_id: TaskId) -> Result<()> {
        let removed: Result<(), _> = self.commands.clone().zrem(&self.keys.cancelled, task_id.get()).await;
        removed.map_err(|error| redis_client::failure("letting the task run", &error))
    }

    async fn withdraw_all(&self, task_id: TaskId, places: Places) -> Result<Cancelled, RedisError> {
        let mut withdrawn = 0;
        for element in &places.waiting {
            withdrawn += self.withdraw(task_id, &self.keys.list, "waiting", &element.0, element).await?;
        }
        for (member, _) in &places.delayed {
            withdrawn += self.withdraw(task_id, &self.keys.delayed, "delayed", member, &element_of(member)).await?;
        }
        info!(task_id = task_id.get(), withdrawn, running = places.running, "the task was cancelled");
        Ok(Cancelled { withdrawn, running: places.running })
    }

    async fn withdraw(
        &self,
        task_id: TaskId,
        place: &str,
        word: &str,
        stands_there: &[u8],
        element: &Element,
    ) -> Result<usize, RedisError> {
        let failure = Failure::new(FailureKind::JobStopped, "the task was cancelled");
        let record: Option<Vec<u8>> = self.commands.clone().hget(&self.keys.records, element.id()).await?;
        let record = Record::parse(&record.unwrap_or_default());
        let mut envelope = DeadEnvelope::new(element, &failure, &record, "");
        envelope.task_id = Some(task_id);
        let mut call = self.scripts.withdraw.key(place);
        call.key(&self.keys.dead).key(&self.keys.counts).key(&self.keys.guards).key(&self.keys.records);
        call.arg(stands_there).arg(word).arg(envelope.to_json()).arg(task_id.get()).arg(element.id());
        call.invoke_async(&mut self.commands.clone()).await
    }
}
