//! A host without ffmpeg, and a child that must not outlive its parent.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::daemon::tree;
use crate::support::{media, wait};
use crate::world::{World, folder, lecture_path};

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn without_ffmpeg_the_ts_is_kept_and_the_log_says_so_once() {
    let world = World::new();
    let missing = world.daemon().set("remux.container", "auto").set("remux.ffmpeg", "/nonexistent/ffmpeg");
    let daemon = missing.start().await;
    for task_id in [6001, 6002] {
        world.publish(task_id, &media::ts().first(3));
        world.push(task_id);
        world.redis.wait_for_task(task_id, "completed").await;
        assert!(std::fs::read(lecture_path(&daemon, task_id)).unwrap() == media::ts().first(3).truth());
    }
    assert_eq!(tree(daemon.delivered()), [6001, 6002].map(|id| format!("{}/01 Start/001 Only.ts", folder(id))));
    let lines = daemon.log_lines();
    assert_eq!(lines.iter().filter(|line| line.to_string().contains("ffmpeg")).count(), 1);
}

/// A program that is asked for its version, and otherwise writes down its process id and never ends.
fn slow_ffmpeg(directory: &Path) -> (PathBuf, PathBuf) {
    let (program, pid) = (directory.join("ffmpeg"), directory.join("pid"));
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = -version ]; then echo 'ffmpeg version 5.1.9'; exit 0; fi\n\
         echo $$ > '{0}.new'; mv '{0}.new' '{0}'\nexec sleep 600\n",
        pid.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    (program, pid)
}

/// Whether it runs: a zombie that nobody has waited for yet does not.
fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// Runs a job until its ffmpeg is running; what `end` does to the daemon must end ffmpeg, too.
async fn ffmpeg_ends_when(task_id: u64, end: impl AsyncFnOnce(&World, &crate::support::Daemon)) {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let (program, pid) = slow_ffmpeg(directory.path());
    let settings = world.daemon().set("remux.container", "mp4").set("remux.ffmpeg", program.display().to_string());
    let daemon = settings.set("worker.drain_seconds", 1).start().await;
    world.publish(task_id, &media::ts().first(3));
    world.push(task_id);
    let pid = wait::until("ffmpeg runs", LIMIT, || std::fs::read_to_string(&pid).ok()).await;
    assert!(runs(&pid));
    end(&world, &daemon).await;
    wait::until("ffmpeg is gone", Duration::from_secs(5), || (!runs(&pid)).then_some(())).await;
    let left = tree(&daemon.task_directory(task_id));
    assert!(left.iter().all(|name| !name.ends_with(".mp4")), "{left:?}");
}

#[tokio::test]
async fn a_killed_daemon_takes_ffmpeg_with_it() {
    ffmpeg_ends_when(6101, async |_, daemon| daemon.sigkill()).await;
}

#[tokio::test]
async fn a_drain_that_is_over_ends_ffmpeg_and_hands_the_job_back() {
    ffmpeg_ends_when(6201, async |world, daemon| {
        daemon.sigterm();
        assert_eq!(daemon.wait_exit(LIMIT).await.code(), Some(0));
        assert_eq!(world.redis.list("rq:queue:downloads").len(), 1);
    })
    .await;
}
