//! No descriptors left.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::support::daemon::HOOK_TOKEN;
use crate::support::{Daemon, http_client, wait};
use crate::world::{World, complaints, lecture_path, small};

const LIMIT: Duration = Duration::from_secs(20);

/// Lets its descriptors have numbers below this from now on; those that are open stay.
fn limit(daemon: &Daemon, number: u64) {
    let pid = Pid::from_raw(daemon.pid().try_into().unwrap());
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(number), maximum }).unwrap();
}

/// Processor time that it has used, in ticks of 10 ms.
fn ticks(daemon: &Daemon) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
    let fields: Vec<u64> =
        stat.rsplit(") ").next().unwrap().split(' ').skip(11).take(2).map(|n| n.parse().unwrap()).collect();
    fields.iter().sum()
}

#[tokio::test]
async fn without_descriptors_callers_and_jobs_wait() {
    let world = World::new();
    let settings = world.daemon().hook().set("queue.retry_delay_seconds", 1).set("queue.max_attempts", 1);
    let daemon = settings.start().await;
    // From the first job on its connections to Redis are open.
    for task_id in [5500, 5501] {
        world.publish(task_id, &small());
    }
    world.push(5500);
    world.redis.wait_for_task(5500, "completed").await;
    world.settled(5500).await;
    daemon.wait_for_log(&["job settled"]).await;
    limit(&daemon, 3);
    let callers = [(); 10].map(|()| TcpStream::connect(("127.0.0.1", daemon.hook_port().unwrap())).unwrap());
    let line = daemon.wait_for_log(&["connections cannot be accepted"]).await;
    assert!(line["error"].as_str().unwrap().contains("os error 24"), "{line}");
    world.push(5501);
    let told = || complaints(&daemon, 5501).into_iter().filter(|line| line["kind"] == "host_exhausted").count();
    let (begin, before) = (Instant::now(), ticks(&daemon));
    wait::until("the job was tried twice", LIMIT, || (told() >= 2).then_some(())).await;
    let used = Duration::from_millis(10) * u32::try_from(ticks(&daemon) - before).unwrap();
    assert!(used < begin.elapsed() / 2, "it turns round and round: {used:?} of {:?}", begin.elapsed());
    let said = daemon.log_text().matches("connections cannot be accepted").count();
    assert_eq!(said, 1, "it is said once, however often it is tried");

    drop(callers);
    limit(&daemon, 1000);
    world.redis.wait_for_task(5501, "completed").await;
    assert!(std::fs::read(lecture_path(&daemon, 5501)).unwrap() == small().truth());
    let tasks = daemon.hook_url("/api/v1/tasks/5501");
    assert_eq!(http_client().get(tasks).bearer_auth(HOOK_TOKEN).send().await.unwrap().status(), 200);
    assert_eq!(daemon.exited(), None);
}
