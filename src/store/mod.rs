//! Task stores: the backend's view of a task, status in and status out.

mod http;
mod mysql;
mod redis;
mod telling;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

pub use self::http::HttpStore;
pub(crate) use self::http::record;
pub use self::mysql::MysqlStore;
pub use self::redis::RedisStore;
use self::telling::Telling;
pub(crate) use self::telling::enrolled_channel;
use crate::config::{Config, StoreKind};
use crate::failure::{Context, Failure, FailureKind, Result};
use crate::job::{JobSpec, TaskId};
use crate::redis_client;

/// How long to wait between two tries to reach the store at start.
const GREET_PAUSE: Duration = Duration::from_secs(5);
/// Tasks that are read side by side where each is a question of its own.
const READS_AT_ONCE: usize = 16;

/// What a look at a store has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Which server, and where it is.
    pub place: String,
    /// What an operator should mend, a sentence each.
    pub warnings: Vec<String>,
}

/// What the store knows of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskRecord {
    /// The status as stored; the gate judges it.
    pub status: String,
    /// The order it belongs to, for the order's progress channels.
    pub order_id: Option<u64>,
    /// The customer, where the store knows.
    pub email: Option<String>,
    /// The course, where the store knows.
    pub course_url: Option<String>,
    /// What `error_log` says of a task that failed.
    pub failure: Option<StoredFailure>,
}

/// Why a task failed, as it stands in its `error_log`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct StoredFailure {
    /// The failure's name.
    pub kind: String,
    /// Whether the gate had let the job pass; `None` when whoever wrote it did not say.
    pub enrolled: Option<bool>,
}

impl TaskRecord {
    /// Whether the customer has the course.
    pub fn is_completed(&self) -> bool {
        self.status == FinalStatus::Completed.name()
    }

    /// Whether the customer was enrolled when the task failed: then nobody has to enroll again. `kind`
    /// is what the dead list says, if the task is on it.
    pub fn failed_after_enrollment(&self, kind: Option<FailureKind>) -> bool {
        let stored = self.failure.as_ref();
        let kind = kind.or_else(|| FailureKind::named(&stored?.kind));
        match stored.and_then(|failure| failure.enrolled) {
            Some(enrolled) => enrolled,
            None => kind.is_some_and(FailureKind::comes_after_the_gate),
        }
    }
}

/// The statuses that are written at the end of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinalStatus {
    /// Delivered and reported.
    Completed,
    /// Given up.
    Failed,
}

impl FinalStatus {
    /// The word in the table.
    pub fn name(self) -> &'static str {
        match self {
            FinalStatus::Completed => "completed",
            FinalStatus::Failed => "failed",
        }
    }
}

/// The store that is configured. Whoever waits at a gate is told over Redis of what is enrolled in it.
///
/// # Errors
/// When what is configured cannot be used at all; a server that is away is no error here.
pub fn open(config: &Config) -> Result<Arc<dyn TaskStore>> {
    let commands = redis_client::commands(&config.redis)?;
    Ok(match config.store.kind {
        StoreKind::Redis => Arc::new(Telling::new(RedisStore::new(commands.clone()), commands)),
        StoreKind::Http => Arc::new(Telling::new(HttpStore::new(&config.store.http, &config.http)?, commands)),
        StoreKind::Mysql => Arc::new(Telling::new(MysqlStore::new(&config.store.mysql)?, commands)),
    })
}

/// Says once whether the store can be used; goes on until it can. For the start of a daemon, which
/// does not wait for its store: jobs wait at the gate.
pub async fn greet(store: Arc<dyn TaskStore>) {
    let mut told = false;
    loop {
        match store.examine().await {
            Ok(Findings { place, warnings }) => {
                tracing::info!("the task store can be used: {place}");
                for warning in warnings {
                    tracing::warn!("{warning}");
                }
                return;
            }
            Err(failure) if !std::mem::replace(&mut told, true) => {
                tracing::error!(kind = failure.kind.name(), "{failure}; trying until it can be used");
            }
            Err(_) => {}
        }
        tokio::time::sleep(GREET_PAUSE).await;
    }
}

/// [`TaskStore::read`] of a store that asks for any number of tasks by one question.
async fn read_one(store: &impl TaskStore, task_id: TaskId) -> Result<Option<TaskRecord>> {
    // There is an answer for each task.
    store.read_many(&[task_id]).next().await.map_or(Ok(None), |(_, answer)| answer)
}

/// [`TaskStore::read_many`] of a store that finds them all at once, in the sequence of `task_ids`.
fn together<'a>(
    task_ids: &'a [TaskId],
    finding: impl Future<Output = Result<Vec<Result<Option<TaskRecord>>>>> + Send + 'a,
) -> Records<'a> {
    let answers = async move {
        let found = finding.await.unwrap_or_else(|failure| vec![Err(failure); task_ids.len()]);
        let of_task = |(task_id, answer): (&TaskId, Result<_>)| {
            (*task_id, answer.at(|| format!("reading the status of task {task_id}")))
        };
        stream::iter(task_ids.iter().zip(found).map(of_task))
    };
    stream::once(answers).flatten().boxed()
}

/// What an `error_log` of ours says.
fn failure_in(error_log: &str) -> Option<StoredFailure> {
    serde_json::from_str(error_log).ok()
}

/// Why a task is not enrolled again.
fn completed(task_id: TaskId) -> Failure {
    Failure::new(FailureKind::UnexpectedStatus, format!("task {task_id} is completed already"))
}

/// What is found of several tasks, each as soon as it is known.
pub type Records<'a> = BoxStream<'a, (TaskId, Result<Option<TaskRecord>>)>;

/// Where the status of tasks lives. A failure is `task_store_unavailable` unless a method says more.
#[async_trait]
pub trait TaskStore: Send + Sync {
    /// Reads a task; `None` when there is none.
    async fn read(&self, task_id: TaskId) -> Result<Option<TaskRecord>>;

    /// Reads several different tasks, by one question where the store can do that. There is an answer
    /// for each of them, in any order.
    fn read_many<'a>(&'a self, task_ids: &'a [TaskId]) -> Records<'a> {
        let reads = stream::iter(task_ids).map(async |task_id| (*task_id, self.read(*task_id).await));
        reads.buffer_unordered(READS_AT_ONCE).boxed()
    }

    /// Writes the end of a task, with `error_log` (JSON) when it failed. A task that does not exist
    /// is not created, and one that is `completed` does not become `failed`.
    async fn finish(&self, task_id: TaskId, status: FinalStatus, error_log: Option<&str>) -> Result<()>;

    /// Writes `enrolled`, creating the task where the store keeps its own. A task that is `completed`
    /// stays so, unless the spec says `force`. Besides `task_store_unavailable` this may fail with
    /// `unexpected_status` (it is completed) and `task_not_found` (there is no row, and none is made).
    async fn enroll(&self, spec: &JobSpec, order_id: Option<u64>) -> Result<()>;

    /// Whether the store answers.
    async fn ping(&self) -> Result<()>;

    /// Whether everything that is asked of it can be had. Changes nothing.
    async fn examine(&self) -> Result<Findings> {
        self.ping().await.map(|()| Findings::default())
    }
}
