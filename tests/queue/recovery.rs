use std::time::Duration;

use hauld::failure::FailureKind;
use hauld::job::Outcome;
use hauld::metrics::StateLabel;
use redis::AsyncCommands;
use tokio_util::sync::CancellationToken;

use crate::world::{World, element, eventually, failure, key, next, within};

fn id(task: u64) -> String {
    hauld::job::Element(element(task).into_bytes()).id()
}

#[tokio::test]
async fn what_a_dead_instance_held_comes_back_in_its_order() {
    let mut world = World::new().await;
    let (dead, living) = (world.queue("0").await, world.queue("1").await);
    let mut taker = dead.taker();
    for task in 1..=4 {
        world.push(element(task)).await;
    }
    let held = [next(&mut taker).await, next(&mut taker).await, next(&mut taker).await];
    living.sweep().await.unwrap();
    assert_eq!(world.held(&dead).await.len(), 3, "a living instance is left alone");

    world.expire(&dead.instance()).await;
    living.sweep().await.unwrap();
    assert_eq!(world.waiting().await, (1..=4).map(element).collect::<Vec<_>>());
    assert_eq!(world.metrics.reaped.get(), 3);
    assert!(!world.redis.hexists::<_, _, bool>(key("instances"), dead.instance()).await.unwrap());
    living.sweep().await.unwrap();
    assert_eq!(world.metrics.reaped.get(), 3, "once");

    let refused = dead.settle(&held[0], Outcome::Done).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::LeaseLost);
    assert_eq!(world.waiting().await.len(), 4);
}

#[tokio::test]
async fn an_element_that_three_instances_died_of_is_given_up() {
    let mut world = World::new().await;
    let living = world.queue("1").await;
    world.push(element(1)).await;
    for crash in 1..=3 {
        let victim = world.queue("0").await;
        let leased = next(&mut victim.taker()).await;
        assert_eq!(leased.attempt, 1, "a crash is no attempt");
        world.expire(&victim.instance()).await;
        living.sweep().await.unwrap();
        assert_eq!(world.waiting().await.len(), usize::from(crash < 3));
    }
    let dead = living.dead(10).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].kind, "worker_crashed");
    assert_eq!(dead[0].element, Some(element(1)));
    assert_eq!(dead[0].task_id.unwrap().get(), 1);
    let history: Vec<_> = dead[0].history.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!((history, dead[0].attempts), (vec!["worker_crashed"; 3], 0));
    assert!(!world.redis.exists::<_, bool>(key("records")).await.unwrap());
}

#[tokio::test]
async fn a_job_of_many_leases_is_never_touched_as_long_as_its_instance_renews() {
    let mut world = World::new().await;
    world.settings.lease = Duration::from_millis(500);
    let (long, other) = (world.queue("0").await, world.queue("1").await);
    world.push(element(1)).await;
    let leased = next(&mut long.taker()).await;
    let end = CancellationToken::new();
    let sweepers = [&long, &other].map(|queue| {
        let (queue, end) = (queue.clone(), end.clone());
        tokio::spawn(async move { queue.keep_sweeping(end).await })
    });
    // Thirty sweeps of each, six times as long as a lease that is not renewed lasts.
    tokio::time::sleep(world.settings.lease * 6).await;
    assert!(!leased.lost().is_cancelled());
    assert_eq!(world.metrics.reaped.get(), 0);
    long.settle(&leased, Outcome::Done).await.unwrap();
    end.cancel();
    for sweeper in sweepers {
        within(sweeper).await.unwrap();
    }
}

#[tokio::test]
async fn only_what_ran_and_only_lately_counts_as_a_crash() {
    let mut world = World::new().await;
    let living = world.queue("1").await;
    world.push(element(1)).await;
    for round in 1..=5 {
        let victim = world.queue("0").await;
        let record: Option<String> = world.redis.hget(key("records"), id(1)).await.unwrap();
        if round == 3 {
            // Both were 73 hours ago.
            let mut record: serde_json::Value = serde_json::from_str(&record.unwrap()).unwrap();
            let past = jiff::Timestamp::now() - Duration::from_secs(73 * 3600);
            record["crashes"] = serde_json::json!([past, past]);
            let _: u64 = world.redis.hset(key("records"), id(1), record.to_string()).await.unwrap();
        }
        match round {
            // Handed over and never started.
            4 | 5 => world.claim_beside_our_back(&victim).await,
            _ => drop(next(&mut victim.taker()).await),
        }
        world.expire(&victim.instance()).await;
        living.sweep().await.unwrap();
    }
    assert_eq!(world.waiting().await, [element(1)]);
    let leased = next(&mut living.taker()).await;
    assert_eq!((leased.record.crashes.len(), leased.record.history.len(), leased.attempt), (1, 3, 1));
}

#[tokio::test]
async fn a_delayed_element_that_was_put_there_by_hand_is_not_lost() {
    let mut world = World::new().await;
    let queue = world.queue("0").await;
    for member in ["by hand", "7-1:by hand", "", ":"] {
        let _: u64 = world.redis.zadd(key("delayed"), member, 1).await.unwrap();
    }
    world.push(element(1)).await;
    queue.sweep().await.unwrap();
    let mut waiting = world.waiting().await;
    waiting.sort();
    assert_eq!(waiting, ["", "7-1:by hand", ":", "by hand", &element(1)]);
    assert_eq!(next(&mut queue.taker()).await.spec.task_id.get(), 1);
    assert_eq!(queue.dead(10).await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_job_that_is_done_has_its_crashes_forgiven() {
    let mut world = World::new().await;
    let living = world.queue("1").await;
    for _ in 0..2 {
        world.push(element(1)).await;
        for _ in 0..2 {
            let victim = world.queue("0").await;
            next(&mut victim.taker()).await;
            world.expire(&victim.instance()).await;
            living.sweep().await.unwrap();
        }
        let leased = next(&mut living.taker()).await;
        living.settle(&leased, Outcome::Done).await.unwrap();
    }
    assert!(living.dead(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_late_take_of_an_instance_taken_for_dead_loses_nothing() {
    let mut world = World::new().await;
    let (zombie, living) = (world.queue("0").await, world.queue("1").await);
    // What the zombie had sent before it froze: the server still waits for an element for it.
    let claimed = key(&format!("claimed:{}", zombie.instance()));
    let mut connection = world.server.connection().await;
    connection.set_response_timeout(Duration::from_secs(20));
    let late = tokio::spawn(async move {
        let mut command = redis::cmd("BLMOVE");
        command.arg("rq:queue:downloads").arg(&claimed).arg("RIGHT").arg("LEFT").arg(10);
        command.query_async::<Option<String>>(&mut connection).await
    });
    eventually("the late take waits", async || {
        let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut world.redis).await.unwrap();
        clients.contains(" flags=b")
    })
    .await;
    world.expire(&zombie.instance()).await;
    living.sweep().await.unwrap();
    world.push(element(1)).await;
    assert_eq!(world.waiting().await, [element(1)]);
    late.abort();

    // The zombie awakes: it goes on under a new name.
    let old_name = zombie.instance();
    let (stop, end) = (CancellationToken::new(), CancellationToken::new());
    let mut taker = zombie.taker();
    let sweeper = tokio::spawn({
        let (zombie, end) = (zombie.clone(), end.clone());
        async move { zombie.keep_sweeping(end).await }
    });
    let leased = within(taker.next(1, &stop)).await.unwrap().remove(0);
    assert_eq!(leased.instance(), zombie.instance());
    assert_ne!(zombie.instance(), old_name);
    zombie.settle(&leased, Outcome::Done).await.unwrap();
    end.cancel();
    within(sweeper).await.unwrap();
}

#[tokio::test]
async fn a_job_that_a_late_command_has_started_goes_back() {
    let mut world = World::new().await;
    let queue = world.queue("0").await;
    let mut taker = queue.taker();
    world.push(element(1)).await;
    queue.settle(&next(&mut taker).await, Outcome::Retry(failure())).await.unwrap();
    queue.sweep().await.unwrap();
    world.push(element(2)).await;
    // Its start was sent twice, the first time on a connection that broke: that one arrives now.
    let late: String = world.redis.rpop("rq:queue:downloads", None).await.unwrap();
    assert_eq!(late, element(1));
    let running = key(&format!("running:{}", queue.instance()));
    let _: u64 = world.redis.hset(&running, 1, format!("{}:1:{late}", id(1))).await.unwrap();
    let _: u64 = world.redis.hset(key("guards"), 1, format!("{}/1", queue.instance())).await.unwrap();

    let other = next(&mut taker).await;
    assert_eq!(other.spec.task_id.get(), 2);
    queue.sweep().await.unwrap();
    assert_eq!(world.waiting().await, [element(1)], "and the job in hand is left alone");
    let again = next(&mut taker).await;
    assert_eq!((again.spec.task_id.get(), again.attempt), (1, 2));
    for leased in [again, other] {
        queue.settle(&leased, Outcome::Done).await.unwrap();
    }
}

#[tokio::test]
async fn a_delayed_element_is_promoted_once_by_however_many() {
    let mut world = World::new().await;
    let queue = world.queue("0").await;
    let others = [world.queue("1").await, world.queue("2").await, world.queue("3").await];
    let mut taker = queue.taker();
    for task in 1..=250 {
        world.push(element(task)).await;
    }
    for _ in 1..=250 {
        queue.settle(&next(&mut taker).await, Outcome::Retry(failure())).await.unwrap();
    }
    assert_eq!(queue.depths().await.unwrap().delayed, 250);
    tokio::join!(async { others[0].sweep().await.unwrap() }, async { others[1].sweep().await.unwrap() }, async {
        others[2].sweep().await.unwrap()
    },);
    let mut waiting = world.waiting().await;
    waiting.sort();
    let mut expected: Vec<_> = (1..=250).map(element).collect();
    expected.sort();
    assert_eq!(waiting, expected);
}

#[tokio::test]
async fn a_retry_comes_when_it_is_due_not_with_the_next_sweep() {
    let mut world = World::new().await;
    world.settings.retry_delay = Duration::from_millis(300);
    world.settings.sweep = Duration::from_secs(600);
    let queue = world.queue("0").await;
    let end = CancellationToken::new();
    let sweeper = tokio::spawn({
        let (queue, end) = (queue.clone(), end.clone());
        async move { queue.keep_sweeping(end).await }
    });
    let mut taker = queue.taker();
    world.push(element(1)).await;
    for attempt in 1..=3 {
        let leased = next(&mut taker).await;
        assert_eq!(leased.attempt, attempt);
        queue.settle(&leased, Outcome::Retry(failure())).await.unwrap();
    }
    end.cancel();
    within(sweeper).await.unwrap();
}

#[tokio::test]
async fn after_a_silence_of_the_server_nobody_is_taken_for_dead_at_once() {
    let mut world = World::new().await;
    world.settings.sweep = Duration::from_secs(1);
    let (other, living) = (world.queue("0").await, world.queue("1").await);
    world.push(element(1)).await;
    next(&mut other.taker()).await;
    living.sweep().await.unwrap();
    world.expire(&other.instance()).await;
    // Nobody has renewed for three sweeps: the server was away for all of them.
    let last: u64 = world.redis.hget(key("sweeps"), "last").await.unwrap();
    let _: () = world.redis.hset(key("sweeps"), "last", last - 3000).await.unwrap();
    living.sweep().await.unwrap();
    assert_eq!(world.held(&other).await.len(), 1);
    eventually("it did not come back in its time", async || {
        living.sweep().await.unwrap();
        !world.waiting().await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn leaving_hands_back_what_is_held_and_closes_the_door() {
    let mut world = World::new().await;
    let queue = world.queue("0").await;
    let mut taker = queue.taker();
    for task in 1..=3 {
        world.push(element(task)).await;
    }
    next(&mut taker).await;
    next(&mut taker).await;
    let claimed = key(&format!("claimed:{}", queue.instance()));
    assert_eq!(queue.close().await, 2);
    assert_eq!(world.waiting().await, [element(1), element(2), element(3)]);
    for name in ["leases", "instances", "records", "guards"] {
        assert!(!world.redis.exists::<_, bool>(key(name)).await.unwrap(), "{name}");
    }
    let late: Result<String, _> = redis::cmd("LMOVE")
        .arg("rq:queue:downloads")
        .arg(&claimed)
        .arg("RIGHT")
        .arg("LEFT")
        .query_async(&mut world.redis)
        .await;
    assert_eq!(late.unwrap_err().code(), Some("WRONGTYPE"));
    assert_eq!(world.waiting().await.len(), 3);
    let life: i64 = world.redis.ttl(&claimed).await.unwrap();
    assert!(life > 0);
}

#[tokio::test]
async fn the_sweep_sets_the_gauges_and_looking_changes_nothing() {
    let mut world = World::new().await;
    let queue = world.queue("0").await;
    let mut taker = queue.taker();
    for task in 1..=5 {
        world.push(element(task)).await;
    }
    world.settings.retry_delay = Duration::from_secs(60);
    let slow = world.queue("1").await;
    slow.settle(&next(&mut slow.taker()).await, Outcome::Retry(failure())).await.unwrap();
    queue.settle(&next(&mut taker).await, Outcome::Dead(failure())).await.unwrap();
    let _held = next(&mut taker).await;
    queue.sweep().await.unwrap();
    for (state, expected) in [("waiting", 2), ("running", 1), ("delayed", 1), ("dead", 1)] {
        assert_eq!(world.metrics.queue_elements.get_or_create(&StateLabel { state }).get(), expected, "{state}");
    }
    assert_eq!(world.metrics.redis_up.get(), 1);
    let before = world.dump().await;
    queue.depths().await.unwrap();
    queue.dead(10).await.unwrap();
    queue.ping().await.unwrap();
    queue.server_warnings().await.unwrap();
    assert_eq!(world.dump().await, before);
}

#[tokio::test]
async fn a_server_that_can_lose_jobs_is_warned_about() {
    let mut world = World::new().await;
    let queue = world.queue("0").await;
    let warnings = queue.server_warnings().await.unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("persistence"));
    for (name, value) in [("appendonly", "yes"), ("maxmemory-policy", "allkeys-lru")] {
        let _: () = redis::cmd("CONFIG").arg("SET").arg(name).arg(value).query_async(&mut world.redis).await.unwrap();
    }
    let warnings = queue.server_warnings().await.unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("allkeys-lru"));
    let _: () =
        redis::cmd("ACL").arg("SETUSER").arg("default").arg("-config").query_async(&mut world.redis).await.unwrap();
    assert!(queue.server_warnings().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_settle_that_a_failover_lost_is_noticed_and_the_job_comes_back() {
    let mut world = World::new().await;
    let queue = world.queue("0").await;
    let mut taker = queue.taker();
    for task in [1, 2] {
        world.push(element(task)).await;
    }
    let (first, second) = (next(&mut taker).await, next(&mut taker).await);
    let running = key(&format!("running:{}", queue.instance()));
    let before: Vec<u8> = redis::cmd("DUMP").arg(&running).query_async(&mut world.redis).await.unwrap();
    queue.settle(&first, Outcome::Done).await.unwrap();
    // What the replica had when it became the primary.
    let restore = redis::cmd("RESTORE").arg(&running).arg(0).arg(before).arg("REPLACE").clone();
    let _: () = restore.query_async(&mut world.redis).await.unwrap();

    queue.sweep().await.unwrap();
    assert_eq!(world.waiting().await, [element(1)]);
    assert_eq!(world.held(&queue).await, [element(2)], "what is in hand stays there");
    let again = next(&mut taker).await;
    assert_eq!(again.spec.task_id.get(), 1);
    for leased in [second, again] {
        queue.settle(&leased, Outcome::Done).await.unwrap();
    }
    queue.sweep().await.unwrap();
    assert_eq!(world.held(&queue).await, [""; 0]);
    assert_eq!(world.waiting().await, [""; 0]);
}
