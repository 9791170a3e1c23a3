//! The README's way from the old worker and back, with the commands that it names.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::producers::OldWorker;
use crate::support::{Daemon, Fault, wait};
use crate::world::{LIST, World, course_url, small};

const LIMIT: Duration = Duration::from_secs(30);

fn run(daemon: &Daemon, arguments: &[&str]) -> (Option<i32>, String) {
    let output = daemon.command(arguments).output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// How many elements `hauld queue verify` finds waiting for another attempt.
fn delayed(daemon: &Daemon) -> serde_json::Value {
    let account: serde_json::Value = serde_json::from_str(&run(daemon, &["queue", "verify", "--json"]).1).unwrap();
    account["depths"]["delayed"].clone()
}

#[tokio::test]
async fn a_job_that_the_old_worker_took_with_it_is_requeued() {
    let world = World::new();
    let daemon = world.daemon().start().await;
    let (status, said) = run(&daemon, &["check"]);
    assert_eq!(status, Some(0), "{said}");
    run(&daemon, &["pause"]);
    world.publish(71, &small());
    world.push(71);
    // As a row of the backend's table has them.
    let row = ["HSET", "hauld:task:71", "email", "user@example.com", "course_url", &course_url(71)];
    world.redis.cli(&row);
    let old = OldWorker::start(world.redis.port());
    wait::until("the old worker has it", LIMIT, || (old.taken().len() == 1).then_some(())).await;
    // It is killed here, and nobody knows of the job any more but the table.
    drop(old);
    let (status, said) = run(&daemon, &["requeue", "71"]);
    assert!(status == Some(0) && world.redis.list(LIST).len() == 1, "{said}");
    run(&daemon, &["resume"]);
    world.redis.wait_for_task(71, "completed").await;
}

#[tokio::test]
async fn on_the_way_back_everything_is_on_the_list_again() {
    let world = World::new();
    let daemon = world
        .daemon()
        .set("worker.jobs", 1)
        .set("worker.drain_seconds", 0)
        .set("hls.segment_attempts", 1)
        .set("queue.retry_delay_seconds", 3)
        .start()
        .await;
    // One waits for its next attempt, one runs, one waits for a slot.
    let failing = world.publish(81, &small());
    world.origin.fault(&failing[0], Fault::Status(500));
    let mut elements = BTreeSet::from([world.push(81)]);
    wait::until("the first one waits for its next attempt", LIMIT, || (delayed(&daemon) == 1).then_some(())).await;
    let paths = world.publish(82, &small());
    let hold = world.origin.hold(&paths[1]);
    elements.insert(world.push(82));
    hold.wait_for(1).await;
    world.publish(83, &small());
    elements.insert(world.push(83));

    let (status, said) = run(&daemon, &["pause"]);
    assert_eq!(status, Some(0), "{said}");
    wait::until("no attempt waits any more", LIMIT, || (delayed(&daemon) == 0).then_some(())).await;
    daemon.sigterm();
    wait::until("it has stopped", LIMIT, || daemon.exited()).await;
    let old = OldWorker::start(world.redis.port());
    let taken = || (old.taken().len() == elements.len()).then(|| old.taken());
    let taken = wait::until("the old worker has everything", LIMIT, taken).await;
    assert_eq!(taken.into_iter().collect::<BTreeSet<_>>(), elements, "byte for byte");
}
