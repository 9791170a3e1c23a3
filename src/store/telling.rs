//! A store that tells the gates of all processes when a task has become enrolled.

use std::time::Duration;

use async_trait::async_trait;
use redis::AsyncCommands;

use super::{FinalStatus, Findings, Records, TaskRecord, TaskStore};
use crate::failure::Result;
use crate::job::{JobSpec, TaskId};
use crate::redis_client::Commands;

/// How long telling may take: whoever waits looks by himself soon.
const LIMIT: Duration = Duration::from_millis(500);

/// Where it is told that a task is `enrolled`: a channel of ours, since `task:<id>:status` is for the
/// words that the backend's pages know.
pub(crate) fn enrolled_channel(task_id: TaskId) -> String {
    format!("hauld:task:{task_id}:enrolled")
}

/// What `store` is, and whoever waits for an enrollment is told of it.
pub(super) struct Telling<S> {
    store: S,
    commands: Commands,
}

impl<S> Telling<S> {
    pub(super) fn new(store: S, commands: Commands) -> Self {
        Telling { store, commands }
    }

    async fn tell(&self, task_id: TaskId) {
        let mut commands = self.commands.clone();
        let publishing = commands.publish::<_, _, ()>(enrolled_channel(task_id), "enrolled");
        let told = tokio::time::timeout(LIMIT, publishing).await;
        let reason = match told {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        let task_id = task_id.get();
        tracing::debug!(task_id, reason, "nobody is told of the enrollment: the gate sees it when it looks again");
    }
}

#[async_trait]
impl<S: TaskStore> TaskStore for Telling<S> {
    async fn read(&self, task_id: TaskId) -> Result<Option<TaskRecord>> {
        self.store.read(task_id).await
    }

    fn read_many<'a>(&'a self, task_ids: &'a [TaskId]) -> Records<'a> {
        self.store.read_many(task_ids)
    }

    async fn finish(&self, task_id: TaskId, status: FinalStatus, error_log: Option<&str>) -> Result<()> {
        self.store.finish(task_id, status, error_log).await
    }

    async fn enroll(&self, spec: &JobSpec, order_id: Option<u64>) -> Result<()> {
        self.store.enroll(spec, order_id).await?;
        self.tell(spec.task_id).await;
        Ok(())
    }

    async fn ping(&self) -> Result<()> {
        self.store.ping().await
    }

    async fn examine(&self) -> Result<Findings> {
        self.store.examine().await
    }
}
