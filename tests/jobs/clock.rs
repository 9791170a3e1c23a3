//! The clock of the host jumps: that of the daemon and that of Redis, since both are there.

use std::time::Duration;

use crate::support::daemon::Builder;
use crate::support::{Clock, Fault, wait};
use crate::world::{World, lecture_path, small};

const LIMIT: Duration = Duration::from_secs(20);
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

fn world(clock: &Clock) -> (World, Builder) {
    let world = World::on(clock.redis());
    let daemon = clock.of(world.daemon());
    (world, daemon)
}

/// Waits until every lease ends within its length from what the clock shows now, renewed after the jump.
async fn renewed(world: &World, clock: &Clock) {
    wait::until("the leases are renewed", LIMIT, || {
        let leases = world.redis.cli(&["ZRANGE", "{rq:queue:downloads}:hauld:leases", "0", "-1", "WITHSCORES"]);
        let ends: Vec<i64> = leases.lines().skip(1).step_by(2).map(|score| score.parse().unwrap()).collect();
        let now = clock.now() * 1000;
        (!ends.is_empty() && ends.iter().all(|end| (now..now + 4000).contains(end))).then_some(())
    })
    .await;
}

fn delayed(world: &World) -> String {
    world.redis.cli(&["ZCARD", "{rq:queue:downloads}:hauld:delayed"])
}

#[tokio::test]
async fn a_job_that_runs_keeps_its_lease_and_a_retry_its_pause() {
    let mut clock = Clock::new();
    let (world, daemon) = world(&clock);
    let daemon = daemon.set("queue.retry_delay_seconds", 1).start().await;
    let paths = world.publish(5401, &small());
    let hold = world.origin.hold(&paths[1]);
    world.push(5401);
    hold.wait_for(1).await;
    for seconds in [DAY, -HOUR, -2 * DAY] {
        clock.jump(seconds);
        renewed(&world, &clock).await;
        assert_eq!(world.origin.count(&paths[1]), 1, "the job goes on after {seconds} s");
    }
    hold.release();
    world.redis.wait_for_task(5401, "completed").await;
    assert!(std::fs::read(lecture_path(&daemon, 5401)).unwrap() == small().truth());
    let calls = world.backend.finalize_calls();
    assert_eq!(calls.len(), 1);
    let told: i64 = calls[0].header("X-Timestamp").unwrap().parse().unwrap();
    assert!((told - clock.now()).abs() < 60, "{told}");

    // Two jobs wait for their next attempt when the clock jumps: neither stalls, each is made once.
    clock.jump(DAY);
    renewed(&world, &clock).await;
    for task_id in [5402, 5403] {
        let paths = world.publish(task_id, &small());
        world.origin.fault(&paths[0], Fault::Status(404).times(2));
        world.push(task_id);
    }
    wait::until("both wait", LIMIT, || (delayed(&world) == "2").then_some(())).await;
    clock.jump(-DAY);
    for task_id in [5402, 5403] {
        world.redis.wait_for_task(task_id, "completed").await;
    }
    assert_eq!(daemon.metric("hauld_jobs_total{outcome=\"retry\"}"), Some(2.0));
    assert_eq!(daemon.metric("hauld_jobs_total{outcome=\"abandoned\"}"), Some(0.0));
    let grave = daemon.log_lines().into_iter().filter(|line| !line.is_object() || line["level"] == "ERROR");
    assert_eq!(grave.count(), 0);
}

#[tokio::test]
async fn what_a_dead_instance_had_is_taken_back_soon_whatever_the_clock_did() {
    let mut clock = Clock::new();
    let (world, daemon) = world(&clock);
    let daemon = daemon.start().await;
    clock.jump(DAY);
    renewed(&world, &clock).await;
    let paths = world.publish(5411, &small());
    let hold = world.origin.hold(&paths[1]);
    world.push(5411);
    hold.wait_for(1).await;
    daemon.sigkill();
    clock.jump(-DAY);
    hold.release();
    let successor = clock.of(world.daemon()).start().await;
    world.redis.wait_for_task(5411, "completed").await;
    assert!(std::fs::read(lecture_path(&successor, 5411)).unwrap() == small().truth());
}
