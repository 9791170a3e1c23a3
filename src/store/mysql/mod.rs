//! Task status in the backend's table, in MySQL or MariaDB.
//!
//! Read are the columns `id`, `status`, `order_id`, `email`, `course_url` and `error_log`; written are
//! `status`, `error_log` and `updated_at`. No row is ever made.

mod error_log;
mod pool;
mod schema;
mod select;

use async_trait::async_trait;
use mysql_async::prelude::Queryable;
use mysql_async::{Error, Value};

use self::pool::{Lease, Pool};
use self::schema::ErrorLog;
use super::{FinalStatus, Findings, Records, TaskRecord, TaskStore, completed, read_one, together};
use crate::config::MysqlSettings;
use crate::failure::{Context, Failure, FailureKind, Result};
use crate::job::{JobSpec, TaskId};

/// Somebody who is late must not take back that the customer has the course.
const NOT_COMPLETED: &str = " AND NOT (status <=> 'completed')";

/// A task store in a table.
pub struct MysqlStore {
    pool: Pool,
    settings: MysqlSettings,
}

impl MysqlStore {
    /// Keeps the tasks where the settings say. Connects to nothing yet.
    ///
    /// # Errors
    /// The certificates to trust cannot be read.
    pub fn new(settings: &MysqlSettings) -> Result<MysqlStore> {
        Ok(MysqlStore { pool: Pool::new(settings)?, settings: settings.clone() })
    }

    /// Ends `work` when its time is over, and says what failed and where.
    async fn bounded<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T> {
        let limit = self.settings.timeout;
        let reason = match tokio::time::timeout(limit, work).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => pool::shown(&error),
            Err(_) => format!("no answer within {} s", limit.as_secs()),
        };
        let message = format!("{}: {reason}", self.settings.shown());
        Err(Failure::new(FailureKind::TaskStoreUnavailable, message))
    }

    async fn records(&self, task_ids: &[TaskId]) -> Result<Vec<Result<Option<TaskRecord>>>> {
        let work = async {
            let mut lease = self.pool.lease().await?;
            let rows = select::rows(&mut lease.session, &self.settings.table, task_ids).await;
            self.pool.keep(lease, rows)
        };
        let mut found = self.bounded(work).await?;
        Ok(task_ids.iter().map(|task_id| Ok(found.remove(task_id))).collect())
    }

    /// Runs a statement that changes rows. Returns how many there were to change.
    async fn change(&self, mut lease: Lease, statement: String, params: Vec<Value>) -> Result<u64, Error> {
        let changed = lease.session.conn.exec_drop(statement, params).await;
        let found = lease.session.conn.affected_rows();
        self.pool.keep(lease, changed.map(|()| found))
    }

    /// `UPDATE` of the one row to this status.
    fn update(&self, error_log: ErrorLog) -> String {
        let error_log = match error_log {
            ErrorLog::Missing => "",
            ErrorLog::Holds(_) => " error_log = ?,",
        };
        format!("UPDATE `{}` SET status = ?,{error_log} updated_at = NOW() WHERE id = ?", self.settings.table)
    }
}

#[async_trait]
impl TaskStore for MysqlStore {
    async fn read(&self, task_id: TaskId) -> Result<Option<TaskRecord>> {
        read_one(self, task_id).await
    }

    fn read_many<'a>(&'a self, task_ids: &'a [TaskId]) -> Records<'a> {
        together(task_ids, self.records(task_ids))
    }

    async fn finish(&self, task_id: TaskId, status: FinalStatus, report: Option<&str>) -> Result<()> {
        let work = async {
            let lease = self.pool.lease().await?;
            let error_log = lease.session.error_log;
            let mut statement = self.update(error_log);
            let mut params = vec![Value::from(status.name())];
            if let ErrorLog::Holds(limit) = error_log {
                params.push(report.map(|report| error_log::fit(report, limit)).into());
            }
            params.push(task_id.get().into());
            if status == FinalStatus::Failed {
                statement.push_str(NOT_COMPLETED);
            }
            self.change(lease, statement, params).await
        };
        self.bounded(work).await.map(drop).at(|| format!("writing the status of task {task_id}"))
    }

    async fn enroll(&self, spec: &JobSpec, _: Option<u64>) -> Result<()> {
        let task_id = spec.task_id;
        let work = async {
            let lease = self.pool.lease().await?;
            let error_log = lease.session.error_log;
            let mut statement = self.update(error_log);
            let mut params = vec![Value::from("enrolled")];
            if error_log != ErrorLog::Missing {
                params.push(Value::NULL);
            }
            params.push(task_id.get().into());
            if !spec.force {
                statement.push_str(NOT_COMPLETED);
            }
            self.change(lease, statement, params).await
        };
        let found = self.bounded(work).await.at(|| format!("writing the enrollment of task {task_id}"))?;
        match found {
            0 => match self.read(task_id).await? {
                Some(_) => Err(completed(task_id)),
                None => {
                    let message = format!("task {task_id} is not in {}", self.settings.shown());
                    Err(Failure::new(FailureKind::TaskNotFound, message))
                }
            },
            _ => Ok(()),
        }
    }

    async fn ping(&self) -> Result<()> {
        let work = async {
            let lease = self.pool.lease().await?;
            self.pool.keep(lease, Ok(()))
        };
        self.bounded(work).await
    }

    async fn examine(&self) -> Result<Findings> {
        let work = async {
            let mut lease = self.pool.lease().await?;
            let error_log = lease.session.error_log;
            let findings = schema::examine(&mut lease.session.conn, &self.settings.table, error_log).await;
            self.pool.keep(lease, findings)
        };
        let found = self.bounded(work).await?;
        Ok(Findings { place: format!("{}, {}", found.place, self.settings.shown()), ..found })
    }
}
