//! A server that says nothing, or not now.

use hauld::config::RedisSettings;

use crate::support::proxy::Proxy;
use crate::support::redis::RedisServer;
use crate::support::wait;
use crate::works::{RESUMED, Works};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_fell_silent_are_given_up_in_time() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let works = Works::start(&RedisSettings::new(format!("redis://127.0.0.1:{}", proxy.port()))).await;
    for task in 1..=3 {
        server.push_job(task, "https://h/c");
        works.wait_for_within(task, RESUMED).await;
        proxy.fall_silent();
        server.push_job(task + 100, "https://h/c");
        works.wait_for_within(task + 100, RESUMED).await;
    }
    works.wait_for_empty().await;
    assert!([1, 2, 3, 101, 102, 103].into_iter().all(|task| works.runs(task) == 1));
    works.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_freezes_loads_or_is_a_replica_is_waited_for() {
    let mut server = RedisServer::start_with(&["--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
    let works = Works::start(&server.settings()).await;
    server.push_job(1, "https://h/c");
    works.wait_for([1]).await;

    server.pause();
    works.wait_for_redis(0).await;
    server.resume();
    server.push_job(2, "https://h/c");
    works.wait_for_within(2, RESUMED).await;

    // 2,000 keys, 1 ms each: it answers LOADING for two seconds.
    server.cli(&["EVAL", "for i = 1, 2000 do redis.call('SET', 'key:' .. i, i) end", "0"]);
    server.cli(&["BGREWRITEAOF"]);
    let rewritten = || server.cli(&["INFO", "persistence"]).contains("aof_rewrite_in_progress:0\r").then_some(());
    wait::until("the keys are in a snapshot", RESUMED * 4, rewritten).await;
    server.add_arguments(&["--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"]);
    tokio::task::block_in_place(|| server.restart());
    assert!(server.cli(&["INFO", "errorstats"]).contains("errorstat_LOADING"), "nobody was told LOADING");
    server.push_job(3, "https://h/c");
    works.wait_for_within(3, RESUMED).await;

    server.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    works.wait_for_redis(0).await;
    server.cli(&["REPLICAOF", "NO", "ONE"]);
    server.push_job(4, "https://h/c");
    works.wait_for_within(4, RESUMED).await;

    server.cli(&["SCRIPT", "FLUSH"]);
    server.push_job(5, "https://h/c");
    works.wait_for_within(5, RESUMED).await;
    works.wait_for_empty().await;
    assert!((1..=5).all(|task| works.runs(task) == 1));
    works.stop().await;
}
