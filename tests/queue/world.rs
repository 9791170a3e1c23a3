//! A server, its queue, and looks at it from outside.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hauld::config::{QueueSettings, RqCompat};
use hauld::failure::{Failure, FailureKind};
use hauld::metrics::Metrics;
use hauld::queue::{Leased, Queue, Taker};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use tokio_util::sync::CancellationToken;

use crate::support::redis::RedisServer;

pub const LIST: &str = "rq:queue:downloads";

/// One of our own keys.
pub fn key(name: &str) -> String {
    format!("{{{LIST}}}:hauld:{name}")
}

pub struct World {
    pub server: RedisServer,
    pub redis: MultiplexedConnection,
    pub settings: QueueSettings,
    pub metrics: Arc<Metrics>,
    /// Where outcomes are kept while Redis is away.
    pub outcomes: tempfile::TempDir,
}

impl World {
    pub async fn new() -> World {
        World::on(RedisServer::start()).await
    }

    pub async fn on(server: RedisServer) -> World {
        let redis = server.connection().await;
        let settings = QueueSettings {
            list: LIST.into(),
            block: Duration::from_millis(200),
            lease: Duration::from_secs(30),
            sweep: Duration::from_millis(100),
            max_attempts: 3,
            retry_delay: Duration::ZERO,
            max_retry_delay: Duration::from_secs(1800),
            max_crashes: 3,
            crash_window: Duration::from_secs(72 * 3600),
            dedupe: Duration::ZERO,
            max_dead: 10_000,
            max_dead_age: Duration::from_secs(90 * 86_400),
            rq: RqCompat::Off,
        };
        let outcomes = tempfile::tempdir().unwrap();
        World { server, redis, settings, metrics: Metrics::new(), outcomes }
    }

    pub async fn queue(&self, instance: &str) -> Queue {
        let (server, outcomes) = (self.server.settings(), self.outcomes.path().join("outcomes"));
        Queue::connect(&server, &self.settings, instance, outcomes, self.metrics.clone()).await.unwrap()
    }

    /// As the producers do.
    pub async fn push(&mut self, element: impl AsRef<[u8]>) {
        let _: u64 = self.redis.lpush(LIST, element.as_ref()).await.unwrap();
    }

    /// From the take end on.
    pub async fn waiting(&mut self) -> Vec<String> {
        let mut elements: Vec<String> = self.redis.lrange(LIST, 0, -1).await.unwrap();
        elements.reverse();
        elements
    }

    /// What the instance has, started or not; the newest first.
    pub async fn held(&mut self, queue: &Queue) -> Vec<String> {
        let claimed = key(&format!("claimed:{}", queue.instance()));
        let mut held: Vec<String> = self.redis.lrange(claimed, 0, -1).await.unwrap();
        let running = key(&format!("running:{}", queue.instance()));
        let running: BTreeMap<u64, String> = self.redis.hgetall(running).await.unwrap();
        held.extend(running.into_values().rev().map(|job| job.splitn(3, ':').nth(2).unwrap().to_owned()));
        held
    }

    pub async fn count(&mut self, name: &str) -> u64 {
        self.redis.hget::<_, _, Option<u64>>(key("counts"), name).await.unwrap().unwrap_or(0)
    }

    /// Every key with its content, except the clocks and the stories of tasks, which are written behind
    /// everybody's back.
    pub async fn dump(&mut self) -> BTreeMap<String, Vec<u8>> {
        let mut dump = BTreeMap::new();
        let keys: Vec<String> = self.redis.keys("*").await.unwrap();
        let is_told = |name: &String| ["stories", "story:"].iter().any(|part| name.contains(part));
        for key in keys.into_iter().filter(|name| !is_told(name)) {
            let content: Vec<u8> = redis::cmd("DUMP").arg(&key).query_async(&mut self.redis).await.unwrap();
            dump.insert(key, content);
        }
        dump
    }

    /// As if the instance had been silent for the length of its lease, while others were not.
    pub async fn expire(&mut self, instance: &str) {
        let (seconds, _): (u64, u64) = redis::cmd("TIME").query_async(&mut self.redis).await.unwrap();
        let now = seconds * 1000 + 999;
        let _: u64 = self.redis.zadd(key("leases"), instance, 1).await.unwrap();
        let _: () = self.redis.hset_multiple(key("sweeps"), &[("grace", 0), ("last", now)]).await.unwrap();
    }

    pub async fn claim_beside_our_back(&mut self, queue: &Queue) {
        let claimed = key(&format!("claimed:{}", queue.instance()));
        let moved: Option<String> = redis::cmd("LMOVE")
            .arg(LIST)
            .arg(claimed)
            .arg("RIGHT")
            .arg("LEFT")
            .query_async(&mut self.redis)
            .await
            .unwrap();
        assert!(moved.is_some());
    }
}

/// As the Node backend writes it.
pub fn element(task: u64) -> String {
    format!(
        r#"{{"taskId":{task},"email":"user@example.com","courseUrl":"https://learn.example.com/course/{task}/","timestamp":"2026-01-13T02:00:00.000Z","jobId":"task-{task}"}}"#
    )
}

pub fn failure() -> Failure {
    Failure::new(FailureKind::ServerError, "the server answered 503")
}

/// The next job, which is there or comes soon.
pub async fn next(taker: &mut Taker) -> Leased {
    let stop = CancellationToken::new();
    let mut jobs = within(taker.next(1, &stop)).await.expect("not stopped");
    assert_eq!(jobs.len(), 1);
    jobs.remove(0)
}

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("takes too long")
}

/// Waits for a fact.
pub async fn eventually(what: &str, mut fact: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !fact().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}: not within 30 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
