//! Links and pipes that somebody plants in staging and at the destination.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::support::daemon::tree;
use crate::world::{World, complaints, course_url, folder, lectures, small};

#[tokio::test]
async fn line_36_what_is_planted_while_a_job_runs_leads_nowhere() {
    type Plant = fn(section: &Path, elsewhere: &Path);
    let cases: [(u64, Plant, &str); 4] = [
        (
            3601,
            |section, elsewhere| {
                fs::rename(section, section.with_file_name("moved")).unwrap();
                symlink(elsewhere, section).unwrap();
            },
            "a symbolic link is in the way",
        ),
        (
            3602,
            |section, elsewhere| symlink(elsewhere.join("theirs"), section.join("002 Lecture 2.part")).unwrap(),
            "a symbolic link is in the way",
        ),
        (
            3603,
            |section, elsewhere| symlink(elsewhere.join("new"), section.join("002 Lecture 2.part.journal")).unwrap(),
            "a symbolic link is in the way",
        ),
        (
            3604,
            |section, _| {
                let pipe = section.join("002 Lecture 2.part");
                mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
            },
            "it is not a file",
        ),
    ];
    let world = World::new();
    let daemon = world.daemon().start().await;
    for (task_id, plant, says) in cases {
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("theirs"), "theirs").unwrap();
        let (manifest, _) = lectures(&world, &format!("/{task_id}"), &folder(task_id), &[&small(), &small()]);
        world.catalog.course(&course_url(task_id), &manifest);
        // The first lecture is there, and the place of the second.
        let hold = world.origin.hold(&format!("/{task_id}/2/index.m3u8"));
        world.push(task_id);
        hold.wait_for(1).await;
        plant(&daemon.task_directory(task_id).join(folder(task_id)).join("01 Start"), elsewhere.path());
        hold.release();
        world.redis.wait_for_task(task_id, "completed").await;
        assert_eq!(tree(elsewhere.path()), ["theirs"], "{task_id}");
        assert_eq!(fs::read_to_string(elsewhere.path().join("theirs")).unwrap(), "theirs", "{task_id}");
        for lecture in ["001 Lecture 1.ts", "002 Lecture 2.ts"] {
            let file = daemon.delivered().join(folder(task_id)).join("01 Start").join(lecture);
            assert!(fs::read(file).unwrap() == small().truth(), "{task_id}: {lecture}");
        }
        let complaints = complaints(&daemon, task_id);
        let failed = complaints.iter().find(|line| line["kind"] == "disk_failed");
        let message = failed.unwrap_or_else(|| panic!("{task_id}: {complaints:?}"))["message"].to_string();
        assert!(message.contains(says), "{task_id}: {message}");
    }
}

#[tokio::test]
async fn line_36_a_link_at_the_destination_is_a_name_that_is_taken() {
    let world = World::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let daemon = world.daemon().start().await;
    symlink(elsewhere.path(), daemon.delivered().join(folder(3611))).unwrap();
    world.publish(3611, &small());
    world.push(3611);
    world.redis.wait_for_task(3611, "completed").await;
    assert_eq!(tree(elsewhere.path()), Vec::<String>::new());
    let own = daemon.delivered().join(format!("{} (Task 3611)", folder(3611)));
    assert!(fs::read(own.join("01 Start/001 Only.ts")).unwrap() == small().truth());
}

/// What the operator has named himself is another matter.
#[tokio::test]
async fn staging_and_destination_may_be_links_themselves() {
    let world = World::new();
    let real = tempfile::tempdir().unwrap();
    for name in ["staging", "delivered"] {
        fs::create_dir(real.path().join(name)).unwrap();
        symlink(real.path().join(name), real.path().join(format!("link-to-{name}"))).unwrap();
    }
    let (staging, delivered) = (real.path().join("link-to-staging"), real.path().join("link-to-delivered"));
    let _daemon = world.daemon().staging(&staging).delivered(&delivered).start().await;
    world.publish(3621, &small());
    world.push(3621);
    world.redis.wait_for_task(3621, "completed").await;
    let file = real.path().join("delivered").join(folder(3621)).join("01 Start/001 Only.ts");
    assert!(fs::read(file).unwrap() == small().truth());
}
