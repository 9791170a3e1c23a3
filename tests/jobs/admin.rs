//! The admin port of a running daemon.

use std::collections::HashMap;
use std::time::Duration;

use crate::support::{Fault, Publish, wait};
use crate::world::{LIST, World, course_of, course_url, small};

const LIMIT: Duration = Duration::from_secs(20);

/// Reads the text of `/metrics`: every line must be one that a scraper understands.
fn samples(text: &str) -> HashMap<String, f64> {
    let mut samples = HashMap::new();
    let mut types = HashMap::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let words: Vec<&str> = comment.splitn(3, ' ').collect();
            assert!(["HELP", "TYPE"].contains(&words[0]) && words.len() == 3, "{line}");
            if words[0] == "TYPE" {
                assert_eq!(types.insert(words[1].to_owned(), words[2].to_owned()), None, "{line}");
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        let bare = name.split('{').next().unwrap();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| bare.strip_suffix(end));
        let known = types.contains_key(bare) || family.is_some_and(|family| types.contains_key(family));
        assert!(known && (bare.starts_with("hauld_") || bare.starts_with("process_")), "{line}");
        assert_eq!(samples.insert(name.to_owned(), value), None, "{line}");
    }
    samples
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let world = World::new();
    let daemon = world.daemon().start().await;
    let before = samples(&daemon.metrics());
    assert_eq!(before["hauld_jobs_total{outcome=\"done\"}"], 0.0);
    let published = Publish::of(&small()).encrypted().at(&world.origin, "/7001");
    world.submit(7001, &course_of(7001, &published.url));
    world.redis.wait_for_task(7001, "completed").await;
    world.settled(7001).await;
    daemon.wait_for_log(&["job settled"]).await;
    let gone = || samples(&daemon.metrics())["hauld_jobs_running"] == 0.0;
    wait::until("the job is over", LIMIT, || gone().then_some(())).await;

    let after = samples(&daemon.metrics());
    let wire: usize = published.wire_segments.iter().map(|segment| segment.len()).sum();
    for (name, value) in [
        ("hauld_jobs_total{outcome=\"done\"}", 1.0),
        ("hauld_jobs_total{outcome=\"dead\"}", 0.0),
        ("hauld_segments_total", 3.0),
        ("hauld_received_bytes_total", wire as f64),
        ("hauld_written_bytes_total", published.truth.len() as f64),
        ("hauld_job_duration_seconds_count", 1.0),
        ("hauld_lecture_duration_seconds_count", 1.0),
        ("hauld_delivery_duration_seconds_count", 1.0),
        ("hauld_finalize_duration_seconds_count", 1.0),
        ("hauld_enrollment_wait_seconds_count", 1.0),
        ("hauld_pickup_latency_seconds_count", 1.0),
        ("hauld_segment_duration_seconds_count", 3.0),
        ("hauld_time_to_first_byte_seconds_count", 3.0),
        ("hauld_segment_retries_total", 0.0),
        ("hauld_leases", 1.0),
        ("hauld_oldest_waiting_age_seconds", 0.0),
        ("hauld_buffer_used_bytes", 0.0),
        ("hauld_redis_up", 1.0),
    ] {
        assert_eq!(after.get(name), Some(&value), "{name}");
    }
    let version = format!("hauld_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(after.get(&version), Some(&1.0));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((now - after["hauld_last_success_timestamp_seconds"]).abs() < 60.0);
    assert!(after["hauld_staging_free_bytes"] > 0.0);
    assert!(after["hauld_redis_round_trip_seconds_count"] > 0.0);
    assert!(after["hauld_redis_connections"] >= 2.0, "one that blocks, one for everything else");
    assert!(after["hauld_media_connections"] >= 1.0, "kept for the next request");
    assert!((now - after["process_start_time_seconds"]).abs() < 60.0);
    assert!(after["process_cpu_seconds_total"] > 0.0 && after["process_resident_memory_bytes"] > 1e6);
    assert!(after["process_open_fds"] > 3.0 && after["process_open_fds"] < after["process_max_fds"]);
    let failures = after.keys().filter(|name| name.starts_with("hauld_job_failures_total{")).count();
    assert_eq!(failures, hauld::failure::FailureKind::ALL.len(), "every kind from the start");
}

#[tokio::test]
async fn what_waits_has_an_age_and_what_is_asked_for_again_is_counted() {
    let world = World::new();
    let daemon = world.daemon().start().await;
    let pause = |word: &str| assert!(daemon.command(&[word]).output().unwrap().status.success());
    let age = || daemon.metric("hauld_oldest_waiting_age_seconds").unwrap();
    pause("pause");
    daemon.wait_for_log(&["paused: no job is started"]).await;
    let segments = world.publish(7002, &small());
    world.origin.fault(&segments[1], Fault::Status(503).times(1));
    world.redis.set_task(7002, "enrolled");
    // Without a word of when it was enqueued: since it is seen there.
    let url = course_url(7002);
    let element = format!("{{\"taskId\":7002,\"email\":\"a@b\",\"courseUrl\":\"{url}\"}}");
    world.redis.cli(&["LPUSH", LIST, &element]);
    wait::until("it has waited", LIMIT, || (age() > 0.0).then_some(())).await;
    assert!(age() < 60.0, "{}", age());
    // Behind it another one, which is taken next when that one has gone; it is from another year.
    let course = Publish::of(&small()).at(&world.origin, "/7003");
    world.submit(7003, &course_of(7003, &course.url));
    world.redis.cli(&["LREM", LIST, "0", &element]);
    wait::until("the old one is next", LIMIT, || (age() > 86_400.0).then_some(())).await;
    world.redis.cli(&["RPUSH", LIST, &element]);
    pause("resume");
    for task_id in [7002, 7003] {
        world.redis.wait_for_task(task_id, "completed").await;
        world.settled(task_id).await;
    }
    wait::until("nothing waits", LIMIT, || (age() == 0.0).then_some(())).await;
    let after = samples(&daemon.metrics());
    assert_eq!(after["hauld_segment_retries_total"], 1.0);
    assert_eq!(after["hauld_segment_duration_seconds_count"], 6.0);
    assert_eq!(after["hauld_time_to_first_byte_seconds_count"], 7.0, "the refusal has a head, too");
    assert_eq!(after["hauld_pickup_latency_seconds_count"], 1.0, "of the one that says when it was enqueued");
}

#[tokio::test]
async fn ready_as_long_as_redis_answers_and_the_disk_can_be_written() {
    let world = World::new();
    let daemon = world.daemon().start().await;
    assert_eq!(daemon.admin("/livez"), Some((200, "ok\n".into())));
    assert_eq!(daemon.admin("/readyz").unwrap().0, 200);
    world.redis.pause();
    assert_eq!(daemon.admin("/readyz").unwrap().0, 503, "silence is no answer");
    assert_eq!(daemon.admin("/livez").unwrap().0, 200);
    assert!(samples(&daemon.metrics()).len() > 50, "metrics need no Redis");
    world.redis.resume();
    wait::until("ready again", LIMIT, || daemon.is_ready().then_some(())).await;

    let aside = daemon.staging().with_extension("aside");
    std::fs::rename(daemon.staging(), &aside).unwrap();
    let (status, reason) = daemon.admin("/readyz").unwrap();
    assert!(status == 503 && reason.contains("staging"), "{reason}");
    std::fs::rename(&aside, daemon.staging()).unwrap();
    assert_eq!(daemon.admin("/readyz").unwrap().0, 200);
    assert_eq!(daemon.admin("/nothing").unwrap().0, 404);
}
