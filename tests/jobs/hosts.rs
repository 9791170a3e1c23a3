//! Hosts that have too much to do, or are down, while several jobs want something from them.

use std::time::Duration;

use crate::support::{Fault, media};
use crate::world::{World, lecture_path, small};

#[tokio::test]
async fn line_33_jobs_together_settle_at_what_a_host_bears() {
    let world = World::new();
    let stream = media::synthetic(60, 2000);
    let tasks = 3301..=3304;
    for task_id in tasks.clone() {
        world.publish(task_id, &stream);
        world.push(task_id);
        let crowded = Fault::Crowded { most: 4, delay: Duration::from_millis(20) };
        world.origin.fault(&format!("/{task_id}/seg*"), crowded);
    }
    let daemon = world.daemon().start().await;
    for task_id in tasks.clone() {
        world.redis.wait_for_task(task_id, "completed").await;
        assert!(std::fs::read(lecture_path(&daemon, task_id)).unwrap() == stream.truth());
    }
    let statuses: Vec<Option<u16>> = world.origin.requests_for("/33*").iter().map(|request| request.status).collect();
    let refused = |statuses: &[Option<u16>]| statuses.iter().filter(|status| **status == Some(429)).count();
    // Up to 32 at once, and far too many of them; then seldom one too many.
    let (first, rest) = statuses.split_at(60);
    assert!(refused(first) >= 4, "{statuses:?}");
    assert!(refused(rest) * 10 < rest.len(), "{} of {}: {statuses:?}", refused(rest), rest.len());
    assert!(daemon.metric("hauld_host_slowdowns_total") >= Some(2.0));
}

#[tokio::test]
async fn line_34_a_host_that_is_down_is_asked_little_by_all_jobs_together() {
    const JOBS: u32 = 16;
    let world = World::new();
    let tasks = 3401..=3400 + u64::from(JOBS);
    for task_id in tasks.clone() {
        world.publish(task_id, &small());
        world.origin.fault(&format!("/{task_id}/*"), Fault::Status(500));
        world.push(task_id);
    }
    let daemon = world.daemon().set("worker.jobs", JOBS).set("hls.segment_attempts", 4);
    let daemon = daemon.set("queue.max_attempts", 1).start().await;
    let mut told = 0;
    for task_id in tasks.clone() {
        let envelope = world.dead_of(task_id).await;
        assert_eq!(envelope["kind"], "server_error", "{envelope}");
        told += usize::from(envelope["message"].as_str().unwrap().contains("requests in a row have failed"));
    }
    assert!(told >= 8, "most of them do not ask themselves in the end: {told}");
    // Each of those that were under way once, and a few that went ahead; 64 without.
    let asked: usize = tasks.map(|task_id| world.origin.count(&format!("/{task_id}/*"))).sum();
    assert!((16..32).contains(&asked), "{asked}");
    assert_eq!(daemon.metric("hauld_host_outages_total"), Some(1.0));

    world.publish(3420, &small());
    world.push(3420);
    world.redis.wait_for_task(3420, "completed").await;
    daemon.wait_for_log(&["answers again"]).await;
}
