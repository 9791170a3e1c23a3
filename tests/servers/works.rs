//! An instance at work: a pool whose jobs end at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hauld::config::{QueueSettings, RedisSettings, WorkerSettings};
use hauld::job::Outcome;
use hauld::metrics::Metrics;
use hauld::queue::{Leased, Queue};
use hauld::worker::JobRunner;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{pool, wait};

pub const LIST: &str = "rq:queue:downloads";
/// How soon taking goes on once the server is back.
pub const RESUMED: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(30);

/// One of our own keys.
pub fn key(name: &str) -> String {
    format!("{{{LIST}}}:hauld:{name}")
}

/// How often each task was run.
type Runs = Arc<Mutex<BTreeMap<u64, u32>>>;

struct Count(Runs);

#[async_trait]
impl JobRunner for Count {
    async fn run(&self, job: Arc<Leased>, _: CancellationToken) -> Outcome {
        *self.0.lock().unwrap().entry(job.spec.task_id.get()).or_default() += 1;
        Outcome::Done
    }
}

pub struct Works {
    pub queue: Queue,
    pub metrics: Arc<Metrics>,
    runs: Runs,
    stop: CancellationToken,
    pool: JoinHandle<hauld::failure::Result<()>>,
    _outcomes: tempfile::TempDir,
}

impl Works {
    /// Starts an instance with the daemon's own settings, except that it sweeps every second.
    pub async fn start(redis: &RedisSettings) -> Works {
        Works::try_start(redis).await.unwrap()
    }

    pub async fn try_start(redis: &RedisSettings) -> hauld::failure::Result<Works> {
        let config = hauld::config::Config::load(None, BTreeMap::new(), BTreeMap::new()).unwrap();
        let settings = QueueSettings { sweep: Duration::from_secs(1), ..config.queue };
        let worker = WorkerSettings { jobs: 4, ..config.worker };
        let outcomes = tempfile::tempdir().unwrap();
        let metrics = Metrics::new();
        let journal = outcomes.path().join("outcomes");
        let queue = Queue::connect(redis, &settings, "0", journal, metrics.clone()).await?;
        let (stop, runs) = (CancellationToken::new(), Runs::default());
        let pool = tokio::spawn({
            let (queue, metrics, stop, runner) = (queue.clone(), metrics.clone(), stop.clone(), Count(runs.clone()));
            pool::run(queue, worker, Arc::new(runner), metrics, stop, CancellationToken::new())
        });
        Ok(Works { queue, metrics, runs, stop, pool, _outcomes: outcomes })
    }

    pub fn runs(&self, task: u64) -> u32 {
        self.runs.lock().unwrap().get(&task).copied().unwrap_or(0)
    }

    /// Waits until each of the tasks was run.
    pub async fn wait_for(&self, tasks: impl IntoIterator<Item = u64>) {
        for task in tasks {
            let run = || (self.runs(task) > 0).then_some(());
            wait::until(&format!("task {task} was run"), LIMIT, run).await;
        }
    }

    /// Waits until the task was run, which must be soon.
    pub async fn wait_for_within(&self, task: u64, limit: Duration) {
        let begin = Instant::now();
        let run = || (self.runs(task) > 0).then_some(());
        wait::until(&format!("task {task} was run"), LIMIT, run).await;
        assert!(begin.elapsed() < limit, "task {task} was run only after {:?}", begin.elapsed());
    }

    /// Waits until it is noticed that Redis is away (0) or there (1).
    pub async fn wait_for_redis(&self, up: i64) {
        let seen = || (self.metrics.redis_up.get() == up).then_some(());
        wait::until(&format!("hauld_redis_up is {up}"), LIMIT, seen).await;
    }

    /// Waits until nothing waits, runs or is delayed, and nothing is dead.
    pub async fn wait_for_empty(&self) {
        let begin = Instant::now();
        loop {
            let depths = self.queue.depths().await;
            match &depths {
                Ok(depths) if depths.waiting + depths.running + depths.delayed + depths.dead == 0 => return,
                _ => assert!(begin.elapsed() < LIMIT, "something is left: {depths:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Tells it to stop and waits for its end.
    pub async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(LIMIT, self.pool).await.expect("the pool ends").unwrap().unwrap();
    }
}
