//! `staging.share_downloads`: several customers of one course at one time, one download.

use std::path::Path;
use std::time::Duration;

use crate::support::daemon::{Builder, tree};
use crate::support::{Daemon, Publish, wait};
use crate::world::{World, course_of, course_url, small};

const LIMIT: Duration = Duration::from_secs(30);
/// The course that everybody wants.
const COURSE: u64 = 91;

/// A daemon with the staging and the delivery directory of others.
fn daemon(world: &World, instance: &str, directory: &Path) -> Builder {
    world
        .daemon()
        .set("worker.instance", instance)
        .staging(&directory.join("staging"))
        .delivered(&directory.join("delivered"))
        .set("staging.share_downloads", true)
}

/// A customer of the course, whose task has this status.
fn order(world: &World, task_id: u64, status: &str) {
    world.redis.set_task(task_id, status);
    world.redis.push_job(task_id, &course_url(COURSE));
}

async fn waiting(daemon: &Daemon, count: usize) {
    let waiting = || daemon.log_text().matches("DOWNLOAD waiting").count() == count;
    wait::until("the others wait for the download", LIMIT, || waiting().then_some(())).await;
}

fn shared(directory: &Path) -> usize {
    std::fs::read_dir(directory.join("staging/.shared")).map_or(0, Iterator::count)
}

#[tokio::test]
async fn a_course_is_downloaded_once_for_all_who_may_have_it() {
    let (world, directory) = (World::new(), tempfile::tempdir().unwrap());
    let paths = world.publish(COURSE, &small());
    let hold = world.origin.hold(&paths[1]);
    let first = daemon(&world, "0", directory.path()).start().await;
    order(&world, 91, "enrolled");
    hold.wait_for(1).await;
    // Another one of this instance, one of another instance, and one whose customer is not enrolled.
    order(&world, 92, "enrolled");
    waiting(&first, 1).await;
    let second = daemon(&world, "1", directory.path()).start().await;
    order(&world, 93, "failed");
    assert_eq!(world.dead_of(93).await["kind"], "enrollment_failed");
    order(&world, 94, "enrolled");
    waiting(&second, 1).await;
    hold.release();
    for task_id in [91, 92, 94] {
        world.redis.wait_for_task(task_id, "completed").await;
        world.settled(task_id).await;
    }
    for path in &paths {
        assert_eq!(world.origin.requests_for(path).len(), 1, "{path}");
    }
    let delivered = tree(&directory.path().join("delivered"));
    assert_eq!(delivered.len(), 3, "{delivered:?}");
    for file in &delivered {
        assert!(std::fs::read(directory.path().join("delivered").join(file)).unwrap() == small().truth(), "{file}");
    }
    let counted = [&first, &second].map(|daemon| daemon.metric("hauld_shared_downloads_total").unwrap());
    assert_eq!(counted, [1.0, 1.0]);
    assert_eq!(shared(directory.path()), 0, "nothing of it stays");
}

#[tokio::test]
async fn who_waits_goes_on_where_a_killed_one_was() {
    let (world, directory) = (World::new(), tempfile::tempdir().unwrap());
    let stream = crate::support::media::synthetic(8, 40_000);
    let published = Publish::of(&stream).encrypted().at(&world.origin, "/91");
    world.catalog.course(&course_url(COURSE), &course_of(COURSE, &published.url));
    let paths = published.segment_paths;
    let hold = world.origin.hold(&paths[4]);
    let first = daemon(&world, "0", directory.path()).set("hls.concurrency", 1).set("worker.jobs", 1).start().await;
    order(&world, 91, "enrolled");
    hold.wait_for(1).await;
    let second = daemon(&world, "1", directory.path()).start().await;
    order(&world, 92, "enrolled");
    order(&world, 93, "enrolled");
    // Whoever has room takes them.
    let all =
        || [&first, &second].map(|daemon| daemon.log_text().matches("DOWNLOAD waiting").count()).iter().sum::<usize>();
    wait::until("the others wait", LIMIT, || (all() == 2).then_some(())).await;
    // What the killed one had is not started meanwhile.
    assert!(second.command(&["pause"]).output().unwrap().status.success());
    first.sigkill();
    hold.release();
    let completed = || {
        let tasks = [91, 92, 93].into_iter();
        (tasks.filter(|task_id| world.redis.task_field(*task_id, "status") == "completed").count() == 2).then_some(())
    };
    wait::until("who waited has the course", LIMIT, completed).await;
    assert_eq!(world.origin.requests_for(&paths[0]).len(), 1, "what was there was not fetched again");
    assert!(second.command(&["resume"]).output().unwrap().status.success());
    for task_id in [91, 92, 93] {
        world.redis.wait_for_task(task_id, "completed").await;
        world.settled(task_id).await;
    }
    assert_eq!(tree(&directory.path().join("delivered")).len(), 3);
    assert_eq!(shared(directory.path()), 0);
}

#[tokio::test]
async fn a_delivery_that_failed_costs_no_second_download() {
    let (world, directory) = (World::new(), tempfile::tempdir().unwrap());
    let paths = world.publish(COURSE, &small());
    let daemon = daemon(&world, "0", directory.path()).set("queue.retry_delay_seconds", 2).start().await;
    let delivered = directory.path().join("delivered");
    std::fs::remove_dir(&delivered).unwrap();
    std::fs::write(&delivered, "in the way").unwrap();
    order(&world, 91, "enrolled");
    daemon.wait_for_log(&["\"task_id\":91", "delivery_failed", "attempt 1"]).await;
    std::fs::remove_file(&delivered).unwrap();
    world.redis.wait_for_task(91, "completed").await;
    assert_eq!(world.origin.requests_for(&paths[0]).len(), 1);
    assert_eq!(tree(&delivered).len(), 1);
}
