//! Task status in Redis: hash `hauld:task:<id>` with the columns of the backend's table as fields.

use std::collections::HashMap;

use ::redis::{RedisError, Script};
use async_trait::async_trait;

use super::{FinalStatus, Findings, Records, TaskRecord, TaskStore, completed, failure_in, read_one, together};
use crate::failure::{Failure, FailureKind, Result};
use crate::job::{JobSpec, TaskId};
use crate::redis_client::Commands;

/// Writes the end of a task that exists. `error_log` goes when there is none.
const FINISH: &str = "
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if ARGV[1] == 'failed' and redis.call('HGET', KEYS[1], 'status') == 'completed' then return 0 end
redis.call('HDEL', KEYS[1], 'error_log')
redis.call('HSET', KEYS[1], 'status', ARGV[1], 'updated_at', ARGV[2])
if ARGV[3] then redis.call('HSET', KEYS[1], 'error_log', ARGV[3]) end
return 1";

/// Writes `enrolled`, unless the task is completed and ARGV[1] is not `force`.
const ENROLL: &str = "
if ARGV[1] ~= 'force' and redis.call('HGET', KEYS[1], 'status') == 'completed' then return 0 end
redis.call('HDEL', KEYS[1], 'error_log')
for at = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1]) end
return 1";

/// A task store in Redis.
pub struct RedisStore {
    connection: Commands,
    finish: Script,
    enroll: Script,
}

impl RedisStore {
    /// Keeps the tasks where `connection` leads.
    pub fn new(connection: Commands) -> Self {
        RedisStore { connection, finish: Script::new(FINISH), enroll: Script::new(ENROLL) }
    }

    /// Asks for all in one round trip. A key that is no hash spoils no other.
    async fn records(&self, task_ids: &[TaskId]) -> Result<Vec<Result<Option<TaskRecord>>>> {
        let mut pipe = ::redis::pipe();
        for task_id in task_ids {
            pipe.hgetall(key(*task_id));
        }
        let hashes: Result<Vec<Result<Hash, RedisError>>, _> =
            pipe.ignore_errors().query_async(&mut self.connection.clone()).await;
        let hashes = hashes.map_err(|error| unavailable(&error))?.into_iter();
        Ok(hashes.map(|hash| hash.map(|hash| record(&hash)).map_err(|error| unavailable(&error))).collect())
    }
}

/// As it stands there: others may have put anything into it.
type Hash = HashMap<Vec<u8>, Vec<u8>>;

/// `None` of a hash without a field: it does not exist.
fn record(hash: &Hash) -> Option<TaskRecord> {
    let text = |column: &str| hash.get(column.as_bytes()).map(|value| String::from_utf8_lossy(value).into_owned());
    (!hash.is_empty()).then(|| TaskRecord {
        status: text("status").unwrap_or_default(),
        order_id: text("order_id").and_then(|id| id.parse().ok()),
        email: text("email"),
        course_url: text("course_url"),
        failure: text("error_log").as_deref().and_then(failure_in),
    })
}

fn key(task_id: TaskId) -> String {
    format!("hauld:task:{task_id}")
}

/// When a row was written, as text.
fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

fn failure(doing: &str, task_id: TaskId, error: &RedisError) -> Failure {
    unavailable(error).at(format!("{doing} of task {task_id}"))
}

fn unavailable(error: &RedisError) -> Failure {
    Failure::new(FailureKind::TaskStoreUnavailable, format!("Redis: {error}"))
}

#[async_trait]
impl TaskStore for RedisStore {
    async fn read(&self, task_id: TaskId) -> Result<Option<TaskRecord>> {
        read_one(self, task_id).await
    }

    fn read_many<'a>(&'a self, task_ids: &'a [TaskId]) -> Records<'a> {
        together(task_ids, self.records(task_ids))
    }

    async fn finish(&self, task_id: TaskId, status: FinalStatus, error_log: Option<&str>) -> Result<()> {
        let mut call = self.finish.key(key(task_id));
        call.arg(status.name()).arg(now());
        if let Some(error_log) = error_log {
            call.arg(error_log);
        }
        let written: Result<i64, _> = call.invoke_async(&mut self.connection.clone()).await;
        written.map(drop).map_err(|error| failure("writing the status", task_id, &error))
    }

    async fn enroll(&self, spec: &JobSpec, order_id: Option<u64>) -> Result<()> {
        let mut fields = vec![
            ("status", "enrolled".to_owned()),
            ("email", spec.email.clone()),
            ("course_url", spec.course_url.to_string()),
            ("updated_at", now()),
        ];
        fields.extend(order_id.map(|id| ("order_id", id.to_string())));
        let mut call = self.enroll.key(key(spec.task_id));
        call.arg(if spec.force { "force" } else { "" });
        for (column, value) in &fields {
            call.arg(column).arg(value);
        }
        let written: Result<u8, _> = call.invoke_async(&mut self.connection.clone()).await;
        match written.map_err(|error| failure("writing the enrollment", spec.task_id, &error))? {
            1 => Ok(()),
            _ => Err(completed(spec.task_id)),
        }
    }

    async fn examine(&self) -> Result<Findings> {
        self.ping().await.map(|()| Findings { place: "hashes hauld:task:<id> in Redis".into(), ..Findings::default() })
    }

    async fn ping(&self) -> Result<()> {
        let answer: Result<(), _> = ::redis::cmd("PING").query_async(&mut self.connection.clone()).await;
        answer.map_err(|error| unavailable(&error).at("the task store"))
    }
}
