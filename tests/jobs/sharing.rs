//! Several daemons on one list.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::daemon::tree;
use crate::support::wait;
use crate::world::{LIST, World, folder, small};

#[tokio::test]
async fn two_daemons_share_the_jobs_and_none_is_done_twice() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let (staging, delivered) = (directory.path().join("staging"), directory.path().join("delivered"));
    let start = |instance: &str| {
        let daemon = world.daemon().staging(&staging).delivered(&delivered);
        daemon.set("worker.jobs", 2).set("worker.instance", instance).start()
    };
    let daemons = [start("0").await, start("1").await];
    let tasks = 4001..=4012;
    let paths: Vec<String> = tasks.clone().flat_map(|task_id| world.publish(task_id, &small())).collect();
    // Held until each has as many as it can run, and no more.
    let hold = world.origin.hold("/40*");
    tasks.clone().for_each(|task_id| drop(world.push(task_id)));
    hold.wait_for(4).await;
    for daemon in &daemons {
        assert_eq!(daemon.metric("hauld_jobs_running"), Some(2.0));
    }
    assert_eq!(world.redis.cli(&["LLEN", LIST]), "8");
    let depths = || daemons[0].metric("hauld_queue_elements{state=\"running\"}") == Some(4.0);
    wait::until("the gauges know", Duration::from_secs(10), || depths().then_some(())).await;
    hold.release();
    for task_id in tasks.clone() {
        world.redis.wait_for_task(task_id, "completed").await;
        world.settled(task_id).await;
    }
    let mut calls = BTreeMap::new();
    for call in world.backend.finalize_calls() {
        *calls.entry(call.json()["task_id"].as_u64().unwrap()).or_insert(0) += 1;
    }
    assert_eq!(calls, tasks.clone().map(|task_id| (task_id, 1)).collect());
    assert!(paths.iter().all(|path| world.origin.count(path) == 1), "{:?}", world.origin.counts());
    let names: Vec<String> = tasks.map(|task_id| format!("{}/01 Start/001 Only.ts", folder(task_id))).collect();
    assert_eq!(tree(&delivered), names);
    let done = daemons.each_ref().map(|daemon| daemon.metric("hauld_jobs_total{outcome=\"done\"}").unwrap());
    assert!(done[0] + done[1] == 12.0 && done[0] >= 2.0 && done[1] >= 2.0, "{done:?}");
}

#[tokio::test]
async fn a_daemon_that_hangs_loses_its_job_and_notices() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let (staging, delivered) = (directory.path().join("staging"), directory.path().join("delivered"));
    let start = || world.daemon().staging(&staging).delivered(&delivered).start();
    let hanging = start().await;
    let paths = world.publish(4101, &small());
    let hold = world.origin.hold(&paths[1]);
    world.push(4101);
    hold.wait_for(1).await;
    hanging.sigstop();
    let other = start().await;
    other.wait_for_log(&["took back what a dead instance held"]).await;
    // Both have the same staging: the second waits until the first lets go of the file.
    hanging.sigcont();
    hanging.wait_for_log(&["the lease is gone"]).await;
    hanging.wait_for_log(&["\"outcome\":\"abandoned\"", "\"task_id\":4101,"]).await;
    hold.wait_for(2).await;
    hold.release();
    world.redis.wait_for_task(4101, "completed").await;
    world.settled(4101).await;
    assert_eq!(world.backend.finalize_calls().len(), 1);
    assert_eq!(tree(&delivered), [format!("{}/01 Start/001 Only.ts", folder(4101))]);
    let path = delivered.join(folder(4101)).join("01 Start/001 Only.ts");
    assert!(std::fs::read(path).unwrap() == small().truth());
    // Under a new name it works again.
    other.sigterm();
    assert!(other.wait_exit(Duration::from_secs(10)).await.success());
    world.publish(4102, &small());
    world.push(4102);
    world.redis.wait_for_task(4102, "completed").await;
    assert_eq!(hanging.metric("hauld_jobs_total{outcome=\"done\"}"), Some(1.0));
}
