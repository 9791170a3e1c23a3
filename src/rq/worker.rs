//! This instance as a worker of RQ: how it is shown, what it runs, what it is told.
//!
//! RQ's own workers run one job each; ours has one entry for all the jobs of the instance. It is
//! busy as long as one of them is RQ's, and where RQ before 3.0 wants one current job it names the
//! oldest.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::books::{Books, Command, EXECUTION_TTL, Execution, date};

/// How long a worker that has died is still shown.
const DEATH_TTL: u64 = 60;

/// One identity of this instance, as RQ sees it.
#[derive(Debug)]
pub struct RqWorker {
    /// The name of the instance.
    pub name: String,
    queue: String,
    born: Timestamp,
    hostname: String,
    /// By the number of the claim.
    running: Mutex<BTreeMap<u64, Run>>,
    /// Something begins or ends.
    pub changed: Notify,
}

/// One job of RQ that runs.
#[derive(Debug, Clone)]
pub struct Run {
    pub execution: Arc<Execution>,
    /// Cancelled when somebody wants the job to be stopped.
    pub stop: CancellationToken,
}

/// What RQ's tools tell a worker, on the channel `rq:pubsub:<name>`.
#[derive(Debug, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
enum Order {
    StopJob { job_id: String },
    StopExecution { execution_id: String },
    KillHorse,
    Shutdown,
}

impl RqWorker {
    pub fn new(name: &str, queue: &str, hostname: &str) -> RqWorker {
        RqWorker {
            name: name.to_owned(),
            queue: queue.to_owned(),
            born: Timestamp::now(),
            hostname: hostname.to_owned(),
            running: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// The channel of [`RqWorker::obey`].
    pub fn channel(&self) -> String {
        format!("rq:pubsub:{}", self.name)
    }

    /// A job has been started. Its run ends with [`RqWorker::end`].
    pub fn begin(&self, claim: u64, execution: Execution) -> Run {
        let run = Run { execution: Arc::new(execution), stop: CancellationToken::new() };
        self.lock().insert(claim, run.clone());
        self.changed.notify_one();
        run
    }

    /// It runs no more.
    pub fn end(&self, claim: u64) {
        self.lock().remove(&claim);
        self.changed.notify_one();
    }

    /// Everything that runs, with its claim.
    pub fn running(&self) -> Vec<(u64, Arc<Execution>)> {
        self.lock().iter().map(|(claim, run)| (*claim, run.execution.clone())).collect()
    }

    /// Does what a message of the channel says. `shutdown` is cancelled when the instance is to stop
    /// in good order.
    pub fn obey(&self, message: &[u8], shutdown: &CancellationToken) {
        let order: Order = match serde_json::from_slice(message) {
            Ok(order) => order,
            Err(error) => {
                warn!(%error, "a command for this RQ worker cannot be read: ignored");
                return;
            }
        };
        let running = self.lock();
        let stopped = match &order {
            Order::StopJob { job_id } => running.values().find(|run| run.execution.job.id == *job_id),
            Order::StopExecution { execution_id } => running.values().find(|run| run.execution.id == *execution_id),
            Order::KillHorse => {
                warn!("kill-horse is ignored: jobs have no process of their own here, stop-job names one");
                return;
            }
            Order::Shutdown => {
                info!("told to stop by an RQ command");
                shutdown.cancel();
                return;
            }
        };
        match stopped {
            Some(run) => {
                info!(rq_job = run.execution.job.id, "told to stop a job by an RQ command");
                run.stop.cancel();
            }
            None => warn!(?order, "told to stop a job that does not run here: ignored"),
        }
    }

    /// What shows it as alive, and what it does. For now and the next minute.
    pub fn alive(&self, suspended: bool, now: Timestamp) -> Vec<Command> {
        let running = self.lock().values().next().map(|run| run.execution.job.id.clone());
        let mut books = Books::default();
        let own = format!("rq:worker:{}", self.name);
        let state = match &running {
            Some(_) => "busy",
            None if suspended => "suspended",
            None => "idle",
        };
        let version = concat!("hauld ", env!("CARGO_PKG_VERSION"));
        books.add([
            "HSET",
            &own,
            "birth",
            &date(self.born),
            "last_heartbeat",
            &date(now),
            "queues",
            &self.queue,
            "pid",
            &std::process::id().to_string(),
            "hostname",
            &self.hostname,
            "ip_address",
            "",
            "version",
            version,
            "python_version",
            version,
            "state",
            state,
        ]);
        match &running {
            Some(job) => books.add(["HSET", &own, "current_job", job]),
            None => books.add(["HDEL", &own, "current_job"]),
        }
        books.expire(&own, EXECUTION_TTL);
        books.add(["SADD", "rq:workers", &own]);
        books.add(["SADD", &format!("rq:workers:{}", self.queue), &own]);
        books.0
    }

    /// It is no more.
    pub fn dead(name: &str, queue: &str, now: Timestamp) -> Vec<Command> {
        let mut books = Books::default();
        let own = format!("rq:worker:{name}");
        books.add(["SREM", "rq:workers", &own]);
        books.add(["SREM", &format!("rq:workers:{queue}"), &own]);
        books.add(["HSET", &own, "death", &date(now)]);
        books.add(["HDEL", &own, "current_job"]);
        books.expire(&own, DEATH_TTL);
        books.add(["DEL", &format!("{own}:executions")]);
        books.0
    }

    /// A poisoned lock still guards whole values: only single insertions and removals happen under it.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Run>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rq::RqJob;

    #[test]
    fn commands_stop_what_they_name() {
        let worker = RqWorker::new("h-0-1-a", "downloads", "h");
        let run = |claim, id: &str| {
            let execution = Execution {
                id: format!("{id}-execution"),
                job: RqJob { id: id.to_owned(), ..RqJob::default() },
                worker: worker.name.clone(),
                started: Timestamp::now(),
            };
            worker.begin(claim, execution)
        };
        let (first, second, third) = (run(1, "a"), run(2, "b"), run(3, "c"));
        let shutdown = CancellationToken::new();
        for message in [
            &br#"{"command": "stop-job", "job_id": "b", "created_at": 1}"#[..],
            br#"{"command": "stop-execution", "job_id": "c", "execution_id": "c-execution"}"#,
            br#"{"command": "stop-job", "job_id": "other"}"#,
            br#"{"command": "kill-horse"}"#,
            br#"{"command": "dance"}"#,
            b"nonsense",
        ] {
            worker.obey(message, &shutdown);
        }
        assert_eq!([&first, &second, &third].map(|run| run.stop.is_cancelled()), [false, true, true]);
        assert!(!shutdown.is_cancelled());
        worker.obey(br#"{"command": "shutdown"}"#, &shutdown);
        assert!(shutdown.is_cancelled());
        worker.end(1);
        assert_eq!(worker.running().len(), 2);
    }
}
