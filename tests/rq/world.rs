//! A server, instances of ours with a runner that does as a job says, and the time to wait for facts.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hauld::config::{QueueSettings, RqCompat, WorkerSettings};
use hauld::failure::{Failure, FailureKind, Result};
use hauld::job::{JobSpec, Outcome};
use hauld::metrics::Metrics;
use hauld::queue::{Leased, Queue};
use hauld::worker::{self, JobRunner};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::python::Python;
use crate::support::pool;
use crate::support::redis::RedisServer;

pub const LIST: &str = "rq:queue:downloads";

/// One of our own keys.
pub fn key(name: &str) -> String {
    format!("{{{LIST}}}:hauld:{name}")
}

pub struct World {
    pub server: RedisServer,
    pub settings: QueueSettings,
    pub runner: Arc<Runner>,
    outcomes: tempfile::TempDir,
}

/// Does what the customer's name says: finish, fail, refuse (for good), stumble (fail once), finish or
/// refuse later (when the gate is open), wait (until it is stopped).
#[derive(Default)]
pub struct Runner {
    /// (task, attempt, instance) of every attempt that was begun.
    begun: Mutex<Vec<(u64, u32, String)>>,
    gave_up: Mutex<Vec<(u64, FailureKind)>>,
    gate: watch::Sender<bool>,
}

impl Runner {
    pub fn gate(&self, open: bool) {
        self.gate.send_replace(open);
    }

    /// The attempts at a task.
    pub fn attempts(&self, task: u64) -> Vec<u32> {
        let begun = self.begun.lock().unwrap();
        begun.iter().filter(|(of, ..)| *of == task).map(|(_, attempt, _)| *attempt).collect()
    }

    pub fn gave_up_on(&self, task: u64) -> Vec<FailureKind> {
        let gave_up = self.gave_up.lock().unwrap();
        gave_up.iter().filter(|(of, _)| *of == task).map(|(_, kind)| *kind).collect()
    }
}

#[async_trait]
impl JobRunner for Runner {
    async fn run(&self, job: Arc<Leased>, cancel: CancellationToken) -> Outcome {
        let number = job.spec.task_id.get();
        self.begun.lock().unwrap().push((number, job.attempt, job.instance().to_owned()));
        let failed =
            |kind| worker::settle::outcome(Failure::new(kind, "as told"), job.attempt, job.max_attempts(2, kind));
        let conduct = job.spec.email.split('@').next().unwrap_or_default();
        if conduct.starts_with("later") {
            let _ = self.gate.subscribe().wait_for(|open| *open).await;
        }
        match conduct {
            "finish" | "later" => Outcome::Done,
            "fail" => failed(FailureKind::ServerError),
            "refuse" | "later-refuse" => failed(FailureKind::CourseNotFound),
            // Only the first attempt fails.
            "stumble" if job.attempt == 1 => failed(FailureKind::ServerError),
            "stumble" => Outcome::Done,
            _ => {
                cancel.cancelled().await;
                Outcome::HandBack
            }
        }
    }

    async fn gave_up(&self, spec: &JobSpec, _attempts: u32, failure: &Failure) {
        self.gave_up.lock().unwrap().push((spec.task_id.get(), failure.kind));
    }
}

/// An instance that works until it is told to stop, on threads of its own.
pub struct Instance {
    pub name: String,
    stop: CancellationToken,
    pool: JoinHandle<Result<()>>,
    threads: Option<Runtime>,
}

impl World {
    pub fn new() -> World {
        let settings = QueueSettings {
            list: LIST.into(),
            block: Duration::from_millis(200),
            lease: Duration::from_secs(30),
            sweep: Duration::from_millis(100),
            max_attempts: 2,
            retry_delay: Duration::ZERO,
            max_retry_delay: Duration::from_secs(1),
            max_crashes: 3,
            crash_window: Duration::from_secs(72 * 3600),
            dedupe: Duration::ZERO,
            max_dead: 100,
            max_dead_age: Duration::from_secs(86_400),
            rq: RqCompat::Worker,
        };
        let outcomes = tempfile::tempdir().unwrap();
        World { server: RedisServer::start(), settings, runner: Arc::default(), outcomes }
    }

    pub fn python(&self, version: &'static str) -> Python {
        Python::new(version, &self.server)
    }

    pub async fn instance(&self) -> Instance {
        let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (redis, settings) = (self.server.settings(), self.settings.clone());
        let (outcomes, runner) = (self.outcomes.path().to_owned(), self.runner.clone());
        let stop = CancellationToken::new();
        let (told, name) = tokio::sync::oneshot::channel();
        let pool = threads.spawn({
            let stop = stop.clone();
            async move {
                let metrics = Metrics::new();
                let queue = Queue::connect(&redis, &settings, "0", outcomes, metrics.clone()).await?;
                let _ = told.send(queue.instance());
                let settings = WorkerSettings {
                    jobs: 4,
                    instance: "0".into(),
                    drain: Duration::ZERO,
                    job_timeout: Duration::from_secs(60),
                };
                pool::run(queue, settings, runner, metrics, stop, CancellationToken::new()).await
            }
        });
        Instance { name: within(name).await.unwrap(), stop, pool, threads: Some(threads) }
    }

    /// An instance starts, and dies while it runs the job that Python calls `id`.
    pub async fn instance_dies_with(&self, python: &mut Python, task: u64) {
        let attempts = self.runner.attempts(task).len();
        let instance = self.instance().await;
        until(python, &format!("fetch(id).worker_name == '{}'", instance.name), true).await;
        eventually("the job runs", || self.runner.attempts(task).len() > attempts).await;
        instance.die();
    }

    /// Our dead list: (element, kind), the newest first.
    pub fn dead(&self) -> Vec<(String, String)> {
        let dead = self.server.list(&key("dead"));
        let field = |envelope: &Value, name: &str| envelope[name].as_str().unwrap_or_default().to_owned();
        let read = |line: &String| {
            let envelope: Value = serde_json::from_str(line).unwrap();
            (field(&envelope, "element"), field(&envelope, "kind"))
        };
        dead.iter().map(read).collect()
    }

    /// Nothing of a run is left in anybody's books, and nothing is in ours but the dead list.
    pub fn assert_nothing_is_left_running(&self) {
        for pattern in ["rq:execution:*", "rq:wip:*", "rq:worker:*:executions", "*:running:*", "*:guards"] {
            assert_eq!(self.server.cli(&["KEYS", pattern]), "", "{pattern}");
        }
        let executions = self.server.cli(&["KEYS", "rq:executions:*"]);
        assert_eq!(executions, "", "an empty sorted set is no key");
    }
}

impl Instance {
    /// SIGTERM, with no time to end what runs.
    pub async fn stop(self) {
        self.stop.cancel();
        self.ended().await;
    }

    /// Waits until it has ended.
    pub async fn ended(mut self) {
        within(&mut self.pool).await.unwrap().unwrap();
    }

    /// As SIGKILL would: from now on nothing is written.
    pub fn die(mut self) {
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // A runtime may not be dropped where others wait.
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("takes too long")
}

/// Waits for a fact.
pub async fn eventually(what: &str, mut fact: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !fact() {
        assert!(tokio::time::Instant::now() < deadline, "{what}: not within 30 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits for the value of a Python expression.
pub async fn until(python: &mut Python, code: &str, expected: impl Into<Value>) {
    let expected = expected.into();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(45);
    loop {
        let value = python.run(code);
        if value == expected {
            return;
        }
        let late = tokio::time::Instant::now() > deadline;
        assert!(!late, "rq {}: {code} is {value} and not {expected} after 45 s", python.version);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
