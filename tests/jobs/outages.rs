//! Redis goes away and comes back.

use std::time::Duration;

use crate::support::{RedisServer, wait};
use crate::world::{World, lecture_path, small};

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_job_outlives_a_restart_of_redis_and_taking_goes_on() {
    let mut world = World::on(RedisServer::start_durable());
    let daemon = world.daemon().start().await;
    let paths = world.publish(5001, &small());
    world.publish(5002, &small());
    let hold = world.origin.hold(&paths[1]);
    world.push(5001);
    hold.wait_for(1).await;

    world.redis.kill9();
    wait::until("not ready without Redis", LIMIT, || (!daemon.is_ready()).then_some(())).await;
    let (status, reason) = daemon.admin("/readyz").unwrap();
    let reason: serde_json::Value = serde_json::from_str(&reason).unwrap();
    assert_eq!((status, &reason["ready"], &reason["checks"]["redis"]["ok"]), (503, &false.into(), &false.into()));
    assert_eq!(daemon.admin("/livez").map(|(status, _)| status), Some(200));
    wait::until("the gauge knows", LIMIT, || (daemon.metric("hauld_redis_up") == Some(0.0)).then_some(())).await;

    world.redis.restart();
    wait::until("ready again", LIMIT, || daemon.is_ready().then_some(())).await;
    daemon.wait_for_log(&["Redis is back"]).await;
    hold.release();
    world.redis.wait_for_task(5001, "completed").await;
    world.settled(5001).await;
    world.push(5002);
    world.redis.wait_for_task(5002, "completed").await;
    for task_id in [5001, 5002] {
        assert!(std::fs::read(lecture_path(&daemon, task_id)).unwrap() == small().truth());
    }
    assert_eq!(world.backend.finalize_calls().len(), 2);
    assert!(paths.iter().all(|path| world.origin.count(path) == 1), "the download was not disturbed");
    assert!(world.dead().is_empty());
    assert_eq!(daemon.metric("hauld_redis_up"), Some(1.0));
    let away = daemon.log_lines().into_iter().filter(|line| line["message"] == "Redis is away").count();
    assert!((1..=2).contains(&away), "one line for each connection, not for each try: {away}");
}

#[tokio::test]
async fn a_job_that_ends_while_redis_is_away_is_settled_later() {
    let mut world = World::on(RedisServer::start_durable());
    let daemon = world.daemon().start().await;
    world.publish(5101, &small());
    let finalize = world.backend.origin.hold(crate::support::backend::FINALIZE);
    world.push(5101);
    finalize.wait_for(1).await;
    world.redis.kill9();
    finalize.release();
    wait::until("not ready without Redis", LIMIT, || (!daemon.is_ready()).then_some(())).await;
    world.redis.restart();
    world.redis.wait_for_task(5101, "completed").await;
    world.settled(5101).await;
    assert_eq!(world.backend.finalize_calls().len(), 1);
    assert_eq!(daemon.metric("hauld_jobs_total{outcome=\"done\"}"), Some(1.0));
}

#[tokio::test]
async fn a_stop_hands_back_what_is_known_of_a_job_that_ended_while_redis_was_away() {
    let mut world = World::on(RedisServer::start_durable());
    let daemon = world.daemon().set("worker.drain_seconds", 1).start().await;
    let paths = world.publish(5111, &small());
    let finalize = world.backend.origin.hold(crate::support::backend::FINALIZE);
    world.push(5111);
    finalize.wait_for(1).await;
    world.redis.kill9();
    finalize.release();
    daemon.wait_for_log(&["the outcome is kept on disk"]).await;
    daemon.sigterm();
    daemon.wait_for_log(&["the job is handed back"]).await;
    world.redis.restart();
    assert_eq!(daemon.wait_exit(Duration::from_secs(25)).await.code(), Some(0));
    // Another host: it has neither the file nor the download.
    let _other = world.daemon().start().await;
    world.redis.wait_for_task(5111, "completed").await;
    world.settled(5111).await;
    assert_eq!(world.backend.finalize_calls().len(), 1);
    assert!(paths.iter().all(|path| world.origin.count(path) == 1), "it is not downloaded again");
}

#[tokio::test]
async fn a_daemon_that_starts_before_redis_waits_for_it() {
    let mut world = World::on(RedisServer::start_durable());
    world.publish(5201, &small());
    world.push(5201);
    world.redis.kill9();
    let daemon = world.daemon().launch();
    daemon.wait_for_log(&["trying until it is there"]).await;
    assert_eq!(daemon.admin("/readyz").map(|(status, _)| status), Some(503));
    world.redis.restart();
    world.redis.wait_for_task(5201, "completed").await;
    wait::until("ready", LIMIT, || daemon.is_ready().then_some(())).await;
}

#[tokio::test]
async fn told_to_stop_while_redis_is_away_it_stops_all_the_same() {
    let mut world = World::on(RedisServer::start_durable());
    let daemon = world.daemon().set("worker.drain_seconds", 1).start().await;
    let paths = world.publish(5301, &small());
    let hold = world.origin.hold(&paths[1]);
    let element = world.push(5301);
    hold.wait_for(1).await;
    world.redis.kill9();
    daemon.sigterm();
    assert_eq!(daemon.wait_exit(Duration::from_secs(25)).await.code(), Some(0));
    hold.release();
    world.redis.restart();
    assert_eq!(world.redis.list("rq:queue:downloads"), [""; 0]);
    assert!(!world.queue_keys_with(&element).is_empty(), "still claimed, for the others to take back");
    let successor = world.daemon().start().await;
    world.redis.wait_for_task(5301, "completed").await;
    assert!(std::fs::read(lecture_path(&successor, 5301)).unwrap() == small().truth());
}
