//! Task stores: the backend's view of a task, status in and status out.

mod redis;

use async_trait::async_trait;

pub use self::redis::RedisStore;
use crate::failure::Result;
use crate::job::{JobSpec, TaskId};

/// What the store knows of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRecord {
    /// The status as stored; the gate judges it.
    pub status: String,
    /// The order it belongs to, for the order's progress channels.
    pub order_id: Option<u64>,
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

/// Where the status of tasks lives. Every failure is `task_store_unavailable`.
#[async_trait]
pub trait TaskStore: Send + Sync {
    /// Reads a task; `None` when there is none.
    async fn read(&self, task_id: TaskId) -> Result<Option<TaskRecord>>;

    /// Writes the end of a task, with `error_log` (JSON) when it failed. A task that does not exist
    /// is not created.
    async fn finish(&self, task_id: TaskId, status: FinalStatus, error_log: Option<&str>) -> Result<()>;

    /// Writes `enrolled`, creating the task where the store keeps its own.
    async fn enroll(&self, spec: &JobSpec, order_id: Option<u64>) -> Result<()>;

    /// Whether the store answers.
    async fn ping(&self) -> Result<()>;
}
