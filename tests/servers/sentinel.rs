//! The primary that the sentinels name.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hauld::config::{GateSettings, RedisSettings};
use hauld::gate::Gate;
use hauld::job::{Element, JobSpec};
use hauld::redis_client;
use hauld::store::RedisStore;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;

use crate::support::redis::job;
use crate::support::sentinel::Sentinels;
use crate::support::wait;
use crate::works::{LIST, RESUMED, Works};

/// Pushes tasks from 2 on, each of which the replica has before it counts, until the server dies.
async fn push_until_it_dies(mut redis: MultiplexedConnection, last: Arc<AtomicU64>) {
    for task in 2.. {
        let pushed: Result<u64, _> = redis.lpush(LIST, job(task, "https://h/c")).await;
        let copies: Result<u64, _> = redis::cmd("WAIT").arg(1).arg(200).query_async(&mut redis).await;
        if pushed.is_err() || copies != Ok(1) {
            return;
        }
        last.store(task, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_killed_is_followed_by_its_replica_and_nothing_is_lost() {
    let mut world = Sentinels::start();
    let works = Works::start(&RedisSettings::new(world.url())).await;
    let last = Arc::new(AtomicU64::new(1));
    let pushing = tokio::spawn(push_until_it_dies(world.servers[0].connection().await, last.clone()));
    works.wait_for([100]).await;
    world.servers[0].kill9();
    pushing.await.unwrap();
    let last = last.load(Ordering::Relaxed);

    world.wait_for_primary(1).await;
    world.servers[1].push_job(1_000_000, "https://h/c");
    works.wait_for_within(1_000_000, RESUMED).await;
    works.wait_for(2..=last).await;
    works.wait_for_empty().await;
    works.wait_for_redis(1).await;
    works.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_that_an_operator_asks_for_is_followed_at_once() {
    let mut world = Sentinels::start();
    // The first sentinel of the URL is not needed.
    let url = world.url();
    world.sentinels[0].kill9();
    world.sentinels.remove(0);
    let works = Works::start(&RedisSettings::new(url)).await;
    world.servers[0].push_job(1, "https://h/c");
    works.wait_for([1]).await;
    wait::until("a failover is possible", RESUMED * 4, || world.failover().then_some(())).await;
    // The old one goes on as a primary for ten seconds more.
    world.wait_for_primary(1).await;
    world.servers[1].push_job(2, "https://h/c");
    works.wait_for_within(2, RESUMED).await;
    assert_eq!([1, 2].map(|task| works.runs(task)), [1, 1]);
    works.wait_for_empty().await;
    works.stop().await;
}

#[tokio::test]
async fn a_gate_listens_to_the_primary_of_the_day() {
    let mut world = Sentinels::start();
    let commands = redis_client::commands(&RedisSettings::new(world.url())).unwrap();
    // It looks so seldom by itself that the test would not live to see it.
    let timing = GateSettings { wait: Duration::from_secs(3600), poll: Duration::from_secs(600) };
    let gate = Gate::new(Arc::new(RedisStore::new(commands.clone())), timing).told_by(commands);
    world.servers[0].set_task(43, "pending");
    let spec = JobSpec::parse(&Element(job(43, "https://h/c").into_bytes())).unwrap();
    let waiting = tokio::spawn(async move { gate.admit(&spec).await });
    for primary in [0, 1] {
        let listens = || (world.servers[primary].listeners("task:43:status") == 1).then_some(());
        wait::until("the gate listens", RESUMED, listens).await;
        if primary == 0 {
            world.wait_for_replication(1);
            world.servers[0].kill9();
            world.wait_for_primary(1).await;
        }
    }
    world.servers[1].set_task(43, "enrolled");
    world.servers[1].cli(&["PUBLISH", "task:43:status", "{}"]);
    tokio::time::timeout(RESUMED, waiting).await.expect("the gate opens").unwrap().unwrap();
}
