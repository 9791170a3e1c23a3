use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hauld::config::WorkerSettings;
use hauld::failure::Result;
use hauld::job::Outcome;
use hauld::queue::{Leased, Queue};
use hauld::worker::JobRunner;
use redis::AsyncCommands;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::pool;
use crate::support::redis::RedisServer;
use crate::world::{LIST, World, element, eventually, next, within};

struct Finish;

#[async_trait]
impl JobRunner for Finish {
    async fn run(&self, _: Arc<Leased>, _: CancellationToken) -> Outcome {
        Outcome::Done
    }
}

/// A pool of so many jobs at once.
fn start(
    world: &World,
    queue: Queue,
    jobs: usize,
    stop: CancellationToken,
    stop_now: CancellationToken,
) -> JoinHandle<Result<()>> {
    let (drain, job_timeout) = (Duration::from_secs(10), Duration::from_secs(600));
    let settings = WorkerSettings { jobs, instance: "0".into(), drain, job_timeout };
    tokio::spawn(pool::run(queue, settings, Arc::new(Finish), world.metrics.clone(), stop, stop_now))
}

#[tokio::test]
async fn a_settle_waits_for_a_server_that_is_away() {
    let mut world = World::on(RedisServer::start_durable()).await;
    let queue = world.queue("0").await;
    world.push(element(1)).await;
    let leased = next(&mut queue.taker()).await;
    world.server.kill9();
    let settled = tokio::spawn(async move { queue.settle(&leased, Outcome::Done).await });
    eventually("it is noticed", async || world.metrics.redis_up.get() == 0).await;
    assert!(!settled.is_finished());
    world.server.restart();
    within(settled).await.unwrap().unwrap();
    world.redis = world.server.connection().await;
    assert_eq!(world.count("done").await, 1);
    assert_eq!(world.metrics.redis_up.get(), 1);
}

#[tokio::test]
async fn the_pool_goes_on_by_itself_after_every_restart_of_the_server() {
    let mut world = World::on(RedisServer::start_durable()).await;
    let queue = world.queue("0").await;
    let stop = CancellationToken::new();
    let pool = start(&world, queue.clone(), 4, stop.clone(), CancellationToken::new());
    let mut pushed = 0;
    for _ in 0..4 {
        for _ in 0..50 {
            pushed += 1;
            world.push(element(pushed)).await;
        }
        // In the middle of the work.
        world.server.kill9();
        world.server.restart();
        world.redis = world.server.connection().await;
    }
    eventually("all are done", async || world.count("done").await == pushed).await;
    let depths = queue.depths().await.unwrap();
    assert_eq!((depths.waiting, depths.running, depths.delayed, depths.dead), (0, 0, 0, 0));
    stop.cancel();
    within(pool).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_that_freezes_and_awakes_loses_nothing() {
    let mut world = World::new().await;
    let queue = world.queue("0").await;
    let mut taker = queue.taker();
    let stop = CancellationToken::new();
    world.push(element(1)).await;
    next(&mut taker).await;
    let (leased, ()) = tokio::join!(within(taker.next(1, &stop)), async {
        world.server.pause();
        eventually("the answer is missed", async || world.metrics.redis_up.get() == 0).await;
        world.server.resume();
        let _: u64 = world.redis.clone().lpush(LIST, element(2)).await.unwrap();
    });
    assert_eq!(leased.unwrap()[0].spec.task_id.get(), 2);
    assert_eq!(world.held(&queue).await, [element(2), element(1)]);
}

#[tokio::test]
async fn a_replica_and_a_wrong_password_are_waited_for() {
    let world = World::new().await;
    let queue = world.queue("0").await;
    let mut taker = queue.taker();
    let stop = CancellationToken::new();
    let mut redis = world.redis.clone();
    let (leased, ()) = tokio::join!(within(taker.next(1, &stop)), async {
        let _: () = redis::cmd("REPLICAOF").arg("127.0.0.1").arg(1).query_async(&mut redis).await.unwrap();
        eventually("READONLY is noticed", async || world.metrics.redis_up.get() == 0).await;
        let _: () = redis::cmd("REPLICAOF").arg("NO").arg("ONE").query_async(&mut redis).await.unwrap();
        eventually("Redis is back", async || world.metrics.redis_up.get() == 1).await;

        // From the next connection on; the ones that stand are cut.
        let set = |value: &'static str| redis::cmd("CONFIG").arg("SET").arg("requirepass").arg(value).clone();
        let _: () = set("secret").query_async(&mut redis).await.unwrap();
        let _: u64 = redis::cmd("CLIENT").arg("KILL").arg("SKIPME").arg("yes").query_async(&mut redis).await.unwrap();
        eventually("NOAUTH is noticed", async || world.metrics.redis_up.get() == 0).await;
        let _: () = set("").query_async(&mut redis).await.unwrap();
        let _: u64 = redis.lpush(LIST, element(1)).await.unwrap();
    });
    assert_eq!(leased.unwrap()[0].spec.task_id.get(), 1);
}

#[tokio::test]
async fn a_stop_while_the_server_is_away_ends_in_time() {
    let mut world = World::new().await;
    let queue = world.queue("0").await;
    let (stop, stop_now) = (CancellationToken::new(), CancellationToken::new());
    let pool = start(&world, queue, 1, stop.clone(), stop_now);
    world.push(element(1)).await;
    eventually("it works", async || world.count("done").await == 1).await;
    world.server.kill9();
    eventually("it is noticed", async || world.metrics.redis_up.get() == 0).await;
    stop.cancel();
    within(pool).await.unwrap().unwrap();
}
