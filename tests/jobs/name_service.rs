//! The name service is down, or hangs.

use std::path::Path;
use std::time::Duration;

use crate::support::Publish;
use crate::support::daemon::Builder;
use crate::support::namespace::may_mount;
use crate::world::{World, complaints, course_of, lecture_path, small};

const LIMIT: Duration = Duration::from_secs(20);
const HOSTS: &str = "127.0.0.1 media.test\n";

/// A daemon that looks names up in the file `hosts` of this directory, then at a server that is not there.
fn daemon(world: &World, directory: &Path) -> Builder {
    let (hosts, nobody) = (directory.join("hosts"), directory.join("resolv.conf"));
    std::fs::write(&nobody, "nameserver 127.66.66.66\noptions timeout:1 attempts:1\n").unwrap();
    let bind = |file: &Path, over: &str| format!("mount --bind '{}' {over}\n", file.display());
    let settings = world.daemon().set("network.allow", vec!["127.0.0.1", "media.test"]);
    settings
        .set("queue.retry_delay_seconds", 1)
        .set("queue.max_attempts", 100)
        .set("hls.segment_attempts", 1)
        .set("http.connect_timeout_seconds", 1)
        .mounting(&(bind(&hosts, "/etc/hosts") + &bind(&nobody, "/etc/resolv.conf")))
}

/// A course of one lecture at a name.
fn submit(world: &World, task_id: u64) {
    let published = Publish::of(&small()).encrypted().at(&world.origin, &format!("/{task_id}"));
    world.submit(task_id, &course_of(task_id, &published.url.replace("127.0.0.1", "media.test")));
}

#[tokio::test]
async fn a_name_service_that_is_down_is_waited_for() {
    if !may_mount("a name service that is down") {
        return;
    }
    let (world, directory) = (World::new(), tempfile::tempdir().unwrap());
    std::fs::write(directory.path().join("hosts"), "").unwrap();
    let daemon = daemon(&world, directory.path()).start().await;
    submit(&world, 5701);
    let line = daemon.wait_for_log(&["lookup", "trying again", "\"task_id\":5701,"]).await;
    assert_eq!(line["kind"], "connection_failed", "{line}");
    std::fs::write(directory.path().join("hosts"), HOSTS).unwrap();
    world.redis.wait_for_task(5701, "completed").await;
    assert!(std::fs::read(lecture_path(&daemon, 5701)).unwrap() == small().truth());
}

#[tokio::test]
async fn a_name_service_that_hangs_holds_up_nobody_else() {
    if !may_mount("a name service that hangs") {
        return;
    }
    let (world, directory) = (World::new(), tempfile::tempdir().unwrap());
    let hosts = directory.path().join("hosts");
    // Whoever opens it waits until somebody writes.
    rustix::fs::mkfifoat(rustix::fs::CWD, &hosts, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    let daemon = daemon(&world, directory.path()).start().await;
    submit(&world, 5711);
    let line = daemon.wait_for_log(&["looking up the name took too long", "\"task_id\":5711,"]).await;
    assert_eq!(line["kind"], "timed_out", "{line}");
    world.publish(5712, &small());
    world.push(5712);
    world.redis.wait_for_task(5712, "completed").await;
    assert!(complaints(&daemon, 5712).is_empty());

    let answering = directory.path().join("answering");
    std::fs::write(&answering, HOSTS).unwrap();
    daemon.inside(&format!("umount --lazy /etc/hosts; mount --bind '{}' /etc/hosts", answering.display()));
    world.redis.wait_for_task(5711, "completed").await;
    assert!(std::fs::read(lecture_path(&daemon, 5711)).unwrap() == small().truth());
    // What hangs still holds up the end no more than a job.
    daemon.sigterm();
    assert_eq!(daemon.wait_exit(LIMIT).await.code(), Some(0));
}
