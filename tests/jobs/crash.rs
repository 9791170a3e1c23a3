//! `kill -9` in the middle of a lecture.

use std::time::Duration;

use crate::support::daemon::tree;
use crate::support::{Daemon, media, wait};
use crate::world::{World, folder, lectures};

const TASK: u64 = 701;
const CONCURRENCY: usize = 3;
/// Segments of each lecture, and the one at which the daemon is killed.
const SEGMENTS: usize = 20;
const STUCK: usize = 6;
const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn line_39_after_a_kill_only_what_was_in_flight_is_asked_for_again() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let (staging, delivered) = (directory.path().join("staging"), directory.path().join("delivered"));
    let start = || {
        let daemon = world.daemon().staging(&staging).delivered(&delivered);
        daemon.set("hls.concurrency", CONCURRENCY as i64).start()
    };
    // Segments of many blocks: the kill comes with one half written.
    let stream = media::synthetic(SEGMENTS, 300_000);
    let (manifest, paths) = lectures(&world, "/c", &folder(TASK), &[&stream, &stream, &stream]);
    let hold = world.origin.hold_body(&paths[1][STUCK], 150_000);
    let daemon = start().await;
    let element = world.submit(TASK, &manifest);
    hold.wait_for(1).await;
    let written = || daemon.metric("hauld_segments_total") == Some((SEGMENTS + STUCK) as f64);
    wait::until("all before the stuck segment is written", LIMIT, || written().then_some(())).await;
    wait::until("nothing else is under way", LIMIT, || (world.origin.in_flight() == 1).then_some(())).await;
    daemon.sigkill();
    hold.release();
    world.origin.wait_until_idle().await;
    let before = world.origin.counts();
    assert!(tree(&delivered).is_empty(), "{:?}", tree(&delivered));
    assert_eq!(world.redis.list("rq:queue:downloads"), [""; 0]);
    assert!(!world.queue_keys_with(&element).is_empty(), "the dead daemon still holds it");
    world.origin.forget_requests();

    let successor: Daemon = start().await;
    world.redis.wait_for_task(TASK, "completed").await;
    world.settled(TASK).await;
    let after = world.origin.counts();
    let times = |path: &String| (before.get(path).copied().unwrap_or(0), after.get(path).copied().unwrap_or(0));
    for path in &paths[0] {
        assert_eq!(times(path), (1, 0), "{path} is of a finished lecture");
    }
    assert_eq!(after.get("/c/1/index.m3u8"), None);
    for path in &paths[1][..STUCK] {
        assert_eq!(times(path), (1, 0), "{path} was written");
    }
    let twice = paths[1][STUCK..].iter().filter(|path| times(path) == (1, 1)).count();
    assert!((1..=CONCURRENCY * 2).contains(&twice), "{twice} segments were fetched twice");
    for path in paths[1][STUCK..].iter().chain(&paths[2]) {
        assert!(times(path).1 == 1 && times(path).0 <= 1, "{path}: {:?}", times(path));
    }
    for number in 1..=3 {
        let path = delivered.join(folder(TASK)).join(format!("01 Start/{number:03} Lecture {number}.ts"));
        assert!(std::fs::read(path).unwrap() == stream.truth(), "lecture {number}");
    }
    assert_eq!(tree(&delivered).len(), 3);
    assert!(tree(&staging).is_empty(), "{:?}", tree(&staging));
    assert_eq!(world.backend.finalize_calls().len(), 1);
    // Nobody's fault: the attempt is not counted.
    assert_eq!(successor.wait_for_log(&["task completed"]).await["attempt"], 1);
    assert_eq!(successor.metric("hauld_reaped_elements_total"), Some(1.0));
}

#[tokio::test]
async fn an_element_that_takes_its_worker_down_three_times_is_given_up() {
    let world = World::new();
    let paths = world.publish(702, &crate::world::small());
    let subscription = world.redis.subscribe("task:702:status");
    let hold = world.origin.hold(&paths[0]);
    let element = world.push(702);
    for life in 1..=3 {
        let daemon = world.daemon().start().await;
        hold.wait_for(life).await;
        daemon.sigkill();
    }
    let daemon = world.daemon().start().await;
    let envelope = world.dead_of(702).await;
    assert_eq!((&envelope["kind"], &envelope["element"]), (&"worker_crashed".into(), &element.into()));
    assert_eq!(world.origin.count(&paths[0]), 3);
    // Told like any other failure.
    world.redis.wait_for_task(702, "failed").await;
    let error_log = world.error_log(702);
    assert_eq!((&error_log["kind"], &error_log["message"]), (&"worker_crashed".into(), &envelope["message"]));
    let line = daemon.wait_for_log(&["\"level\":\"ERROR\"", "\"task_id\":702"]).await;
    assert_eq!(line["kind"], "worker_crashed");
    let told = || subscription.json("task:702:status").into_iter().any(|event| event["newStatus"] == "failed");
    wait::until("the watchers are told", LIMIT, || told().then_some(())).await;
    assert_eq!(daemon.metric("hauld_job_failures_total{kind=\"worker_crashed\"}"), Some(1.0));
    assert_eq!(daemon.metric("hauld_jobs_total{outcome=\"dead\"}"), Some(1.0));
    drop(hold);
}
