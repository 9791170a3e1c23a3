//! Disks that are full or cannot be written to, at every place where something is written.

use std::time::Duration;

use serde_json::json;

use crate::support::backend::FINALIZE;
use crate::support::daemon::{Builder, HOOK_TOKEN};
use crate::support::namespace::may_mount;
use crate::support::{Daemon, RedisServer, Stream, http_client, media, wait};
use crate::world::{World, complaints, course_url, folder};

const LIMIT: Duration = Duration::from_secs(30);

/// Two megabytes.
fn stream() -> Stream {
    media::synthetic(20, 100_000)
}

/// A daemon whose jobs have one attempt, which is never used up.
fn daemon(world: &World, mounts: &str) -> Builder {
    world.daemon().set("queue.max_attempts", 1).mounting(mounts)
}

/// The lecture of a task is delivered, whole.
fn assert_delivered(daemon: &Daemon, task_id: u64) {
    let sum = daemon.inside(&format!("sha256sum <\"$DELIVERED/{}/01 Start/001 Only.ts\"", folder(task_id)));
    let truth = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(stream().truth()));
    assert_eq!(sum.split_whitespace().next(), Some(truth.as_str()));
}

/// Why it is not ready.
fn hindrance(daemon: &Daemon) -> String {
    let (status, answer) = daemon.admin("/readyz").unwrap();
    assert_eq!(status, 503, "{answer}");
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    answer["checks"]["taking"]["reason"].as_str().unwrap_or_default().to_owned()
}

/// Fills staging while a job runs, then makes room.
async fn fills_and_goes_on(first: u64, full: &str, room: &str, says: &str) {
    let world = World::new();
    let daemon = daemon(&world, &format!("mount -t tmpfs -o {full} none \"$STAGING\"")).start().await;
    world.publish(first, &stream());
    let second = first + 1;
    let later = world.publish(second, &stream());
    world.push(first);
    let line = daemon.wait_for_log(&["no jobs are taken until that has passed"]).await;
    assert_eq!((line["kind"].as_str(), line["level"].as_str()), (Some("disk_full"), Some("ERROR")), "{line}");
    assert!(hindrance(&daemon).contains(says), "{}", hindrance(&daemon));
    assert_eq!(daemon.metric("hauld_hindered"), Some(1.0));
    world.push(second);
    assert_eq!(daemon.inside("ls -A \"$DELIVERED\""), "", "nothing is published");

    daemon.inside(&format!("mount -o remount,{room} \"$STAGING\""));
    for task_id in [first, second] {
        world.redis.wait_for_task(task_id, "completed").await;
        assert_delivered(&daemon, task_id);
    }
    assert!(complaints(&daemon, first).iter().all(|line| line["kind"] == "disk_full"));
    assert!(complaints(&daemon, second).is_empty(), "it was not begun before there was room");
    assert!(later.iter().all(|path| world.origin.count(path) == 1));
    assert!(daemon.is_ready());
}

#[tokio::test]
async fn line_38_a_full_staging_disk_holds_up_jobs_and_costs_them_nothing() {
    if may_mount("a full disk of staging") {
        fills_and_goes_on(5601, "size=1m", "size=32m", "os error 28").await;
    }
}

#[tokio::test]
async fn line_38_a_disk_without_inodes_is_full() {
    if may_mount("a disk without inodes") {
        fills_and_goes_on(5611, "nr_inodes=4", "nr_inodes=1000", "inodes").await;
    }
}

#[tokio::test]
async fn line_38_a_full_destination_gets_nothing_until_there_is_room() {
    if !may_mount("a full destination") {
        return;
    }
    let world = World::new();
    let mounts = "mount -t tmpfs -o size=1m none \"$DELIVERED\"";
    let daemon = daemon(&world, mounts).set("queue.retry_delay_seconds", 1).start().await;
    let paths = world.publish(5621, &stream());
    world.push(5621);
    let full = || complaints(&daemon, 5621).into_iter().filter(|line| line["kind"] == "disk_full").count();
    wait::until("it was tried twice", LIMIT, || (full() >= 2).then_some(())).await;
    assert_eq!(daemon.inside("ls \"$DELIVERED\""), "");
    assert_eq!(world.backend.finalize_calls().len(), 0);
    daemon.inside("mount -o remount,size=32m \"$DELIVERED\"");
    world.redis.wait_for_task(5621, "completed").await;
    assert_delivered(&daemon, 5621);
    assert!(paths.iter().all(|path| world.origin.count(path) == 1), "the download is kept");
}

#[tokio::test]
async fn line_38_what_cannot_be_written_to_is_waited_for_and_said() {
    if !may_mount("a read-only disk") {
        return;
    }
    let world = World::new();
    for (task_id, place) in [(5631, "STAGING"), (5633, "DELIVERED")] {
        let mounts = format!("mount -t tmpfs -o ro none \"${place}\"");
        let daemon = daemon(&world, &mounts).set("queue.max_attempts", 3).launch();
        let line = daemon.wait_for_log(&["no jobs are taken until that has passed"]).await;
        assert_eq!(line["kind"], "disk_failed", "{line}");
        assert!(hindrance(&daemon).contains("Read-only file system"), "{}", hindrance(&daemon));
        world.publish(task_id, &stream());
        world.push(task_id);
        daemon.inside(&format!("mount -o remount,rw \"${place}\""));
        world.redis.wait_for_task(task_id, "completed").await;
        assert_delivered(&daemon, task_id);

        // As after an error that the kernel found.
        daemon.inside(&format!("mount -o remount,ro \"${place}\""));
        let said = || daemon.log_text().matches("no jobs are taken until that has passed").count();
        wait::until("it is said again", LIMIT, || (said() == 2).then_some(())).await;
        world.publish(task_id + 1, &stream());
        world.push(task_id + 1);
        daemon.inside(&format!("mount -o remount,rw \"${place}\""));
        world.redis.wait_for_task(task_id + 1, "completed").await;
        assert_delivered(&daemon, task_id + 1);
        assert_eq!(daemon.exited(), None);
    }
}

#[tokio::test]
async fn line_38_an_order_that_neither_redis_nor_a_full_disk_takes_is_refused_until_one_does() {
    if !may_mount("a full disk of orders") {
        return;
    }
    let mut world = World::on(RedisServer::start_durable());
    let mounts = "mount -t tmpfs -o size=1m none \"$STAGING\"; mount -t tmpfs -o size=32m none \"$DELIVERED\"";
    let daemon = daemon(&world, mounts).hook().start().await;
    world.publish(5641, &media::synthetic(3, 1000));
    daemon.inside("dd if=/dev/zero of=\"$STAGING/filling\" bs=4k 2>/dev/null || true");
    world.redis.kill9();
    let task = json!({"taskId": 5641, "email": "user@example.com", "courseUrl": course_url(5641)});
    let order = json!({"orderId": 56, "tasks": [task]});
    let post = async || {
        let request = http_client().post(daemon.hook_url("/api/v1/orders")).bearer_auth(HOOK_TOKEN).json(&order);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(post().await, 503);
    let line = daemon.wait_for_log(&["the order is NOT taken in"]).await;
    assert_eq!(line["kind"], "disk_full", "{line}");
    assert_eq!(daemon.inside("ls -A \"$STAGING/.orders\""), "", "half of an order is none");
    daemon.inside("rm \"$STAGING/filling\"");
    assert_eq!(post().await, 202);
    let modes = daemon.inside("stat -c %a \"$STAGING/.orders\" \"$STAGING\"/.orders/*.json");
    assert_eq!(modes.split_whitespace().collect::<Vec<_>>(), ["700", "600"], "it names a customer");
    world.redis.restart();
    world.redis.wait_for_task(5641, "completed").await;
}

#[tokio::test]
async fn line_38_an_outcome_that_neither_redis_nor_a_full_disk_takes_is_kept_and_written_when_there_is_room() {
    if !may_mount("a full disk of outcomes") {
        return;
    }
    let mut world = World::on(RedisServer::start_durable());
    let mounts = "mount -t tmpfs -o size=8m none \"$STAGING\"";
    let first = daemon(&world, mounts).set("staging.min_free_bytes", 0).start().await;
    world.publish(5651, &stream());
    let finalize = world.backend.origin.hold(FINALIZE);
    world.push(5651);
    finalize.wait_for(1).await;
    first.inside("dd if=/dev/zero of=\"$STAGING/filling\" bs=4k 2>/dev/null || true");
    world.redis.kill9();
    finalize.release();
    let line = first.wait_for_log(&["the outcome cannot be kept on disk"]).await;
    assert_eq!((line["kind"].as_str(), line["task_id"].as_u64()), (Some("disk_full"), Some(5651)), "{line}");
    assert_eq!(first.inside("ls -A \"$STAGING/.outcomes\""), "", "half of an outcome is none");
    first.inside("rm \"$STAGING/filling\"");
    first.wait_for_log(&["the outcome is kept on disk until it is back"]).await;
    assert_eq!(first.inside("ls -A \"$STAGING/.outcomes\"").lines().count(), 1);
    world.redis.restart();
    world.redis.wait_for_task(5651, "completed").await;
    world.settled(5651).await;
    assert_eq!(world.backend.finalize_calls().len(), 1);
    wait::until("nothing is kept any more", LIMIT, || {
        first.inside("ls -A \"$STAGING/.outcomes\"").is_empty().then_some(())
    })
    .await;
    let told = first.log_lines().iter().filter(|line| line.to_string().contains("cannot be kept on disk")).count();
    assert_eq!(told, 1, "said once, however often it was tried");
}

#[tokio::test]
async fn directories_that_are_missing_are_made() {
    let world = World::new();
    let place = tempfile::tempdir().unwrap();
    let (staging, delivered) = (place.path().join("a/staging"), place.path().join("b/delivered"));
    let daemon = world
        .daemon()
        .set("staging.directory", staging.display().to_string())
        .set("delivery.directory", delivered.display().to_string());
    let _daemon = daemon.start().await;
    world.publish(6990, &stream());
    world.push(6990);
    world.redis.wait_for_task(6990, "completed").await;
    let lecture = delivered.join(folder(6990)).join("01 Start/001 Only.ts");
    assert!(std::fs::read(lecture).unwrap() == stream().truth());
    assert!(staging.is_dir());
}
