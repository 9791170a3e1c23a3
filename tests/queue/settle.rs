use std::time::Duration;

use hauld::failure::FailureKind;
use hauld::job::Outcome;
use redis::AsyncCommands;

use crate::world::{World, element, eventually, failure, key, next};

/// Spacing, escapes, order and unknown fields as no serializer would write them.
const ODD: &str = "{ \"x\" : {\"y\":[1 , 2.50e0]},\t\"taskId\":\"7\",\n \"email\":\"\\u0061@b\" ,\"courseUrl\":\"https:\\/\\/h/c\", \"email2\":\"\u{e9}\"} ";

#[tokio::test]
async fn done_leaves_nothing_but_a_count() {
    let mut world = World::new().await;
    let queue = world.queue("0").await;
    world.push(element(1)).await;
    let leased = next(&mut queue.taker()).await;
    queue.settle(&leased, Outcome::Done).await.unwrap();
    let depths = queue.depths().await.unwrap();
    assert_eq!((depths.waiting, depths.running, depths.delayed, depths.dead, depths.done), (0, 0, 0, 0, 1));
    assert!(world.held(&queue).await.is_empty());
}

#[tokio::test]
async fn an_element_comes_back_byte_for_byte() {
    let mut world = World::new().await;
    let queue = world.queue("0").await;
    let mut taker = queue.taker();
    world.push(ODD).await;
    world.push(element(8)).await;

    let leased = next(&mut taker).await;
    queue.settle(&leased, Outcome::HandBack).await.unwrap();
    assert_eq!(world.waiting().await, [ODD.to_owned(), element(8)], "at the take end");

    let leased = next(&mut taker).await;
    assert_eq!(leased.attempt, 1, "a hand-back costs no attempt");
    queue.settle(&leased, Outcome::Retry(failure())).await.unwrap();
    assert_eq!(queue.depths().await.unwrap().delayed, 1);
    queue.sweep().await.unwrap();
    assert_eq!(world.waiting().await, [ODD.to_owned(), element(8)]);

    let leased = next(&mut taker).await;
    assert_eq!(leased.attempt, 2);
    queue.settle(&leased, Outcome::Dead(failure())).await.unwrap();
    let dead = queue.dead(10).await.unwrap();
    assert_eq!(dead[0].element.as_deref(), Some(ODD));
    assert_eq!((dead[0].kind.as_str(), dead[0].attempts), ("server_error", 2));
    assert_eq!(dead[0].task_id.unwrap().get(), 7);
    assert_eq!(dead[0].instance, queue.instance());
    assert!(dead[0].message.contains("503"));
    let history: Vec<_> = dead[0].history.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(history, ["server_error", "server_error"]);
    assert!(!world.redis.exists::<_, bool>(key("records")).await.unwrap(), "forgotten with the job");
}

#[tokio::test]
async fn a_retry_waits_for_its_time() {
    let mut world = World::new().await;
    world.settings.retry_delay = Duration::from_secs(20);
    let queue = world.queue("0").await;
    world.push(element(1)).await;
    let leased = next(&mut queue.taker()).await;
    let (seconds, _): (u64, u64) = redis::cmd("TIME").query_async(&mut world.redis).await.unwrap();
    queue.settle(&leased, Outcome::Retry(failure())).await.unwrap();
    queue.sweep().await.unwrap();
    assert!(world.waiting().await.is_empty());
    let due: Vec<(String, f64)> = world.redis.zrange_withscores(key("delayed"), 0, -1).await.unwrap();
    let wait = due[0].1 / 1000.0 - seconds as f64;
    assert!((20.0..26.0).contains(&wait), "{wait}");

    world.push(element(2)).await;
    let leased = next(&mut queue.taker()).await;
    let mut limited = failure();
    limited.retry_after = Some(Duration::from_secs(300));
    queue.settle(&leased, Outcome::Retry(limited)).await.unwrap();
    let due: Vec<(String, f64)> = world.redis.zrange_withscores(key("delayed"), -1, -1).await.unwrap();
    let wait = due[0].1 / 1000.0 - seconds as f64;
    assert!((300.0..370.0).contains(&wait), "the server asked for more: {wait}");
}

#[tokio::test]
async fn the_pause_grows_where_somebody_is_overloaded_and_only_there() {
    let mut world = World::new().await;
    world.settings.retry_delay = Duration::from_secs(20);
    world.settings.max_retry_delay = Duration::from_secs(60);
    let queue = world.queue("0").await;
    let mut taker = queue.taker();
    let mut broken = failure();
    broken.kind = FailureKind::RemuxFailed;
    for (task, failure, pauses) in [(1, failure(), [20.0, 40.0, 60.0, 60.0]), (2, broken, [20.0; 4])] {
        world.push(element(task)).await;
        let mut waits = Vec::new();
        for pause in pauses {
            let leased = next(&mut taker).await;
            let (seconds, microseconds): (f64, f64) = redis::cmd("TIME").query_async(&mut world.redis).await.unwrap();
            queue.settle(&leased, Outcome::Retry(failure.clone())).await.unwrap();
            let due: Vec<(String, f64)> = world.redis.zrange_withscores(key("delayed"), 0, -1).await.unwrap();
            let wait = due[0].1 / 1000.0 - seconds - microseconds / 1e6;
            // A fifth longer at most, by chance, and the time that the test takes.
            assert!((pause - 0.01..pause * 1.2 + 5.0).contains(&wait), "task {task}: {wait} and not {pause}");
            waits.push(wait - pause);
            let _: u64 = world.redis.zadd(key("delayed"), &due[0].0, 1).await.unwrap();
            queue.sweep().await.unwrap();
        }
        assert!(waits.windows(2).any(|pair| (pair[0] - pair[1]).abs() > 0.001), "by chance: {waits:?}");
        queue.settle(&next(&mut taker).await, Outcome::Done).await.unwrap();
    }
}

#[tokio::test]
async fn without_the_lease_nothing_is_written() {
    let mut world = World::new().await;
    let queue = world.queue("0").await;
    let mut taker = queue.taker();
    for task in 1..=4 {
        world.push(element(task)).await;
    }
    let leased = [next(&mut taker).await, next(&mut taker).await, next(&mut taker).await, next(&mut taker).await];
    let _: u64 = world.redis.zrem(key("leases"), queue.instance()).await.unwrap();
    let before = world.dump().await;
    let outcomes = [Outcome::Done, Outcome::Retry(failure()), Outcome::Dead(failure()), Outcome::HandBack];
    for (leased, outcome) in leased.iter().zip(outcomes) {
        let refused = queue.settle(leased, outcome).await.unwrap_err();
        assert_eq!(refused.kind, FailureKind::LeaseLost);
    }
    assert_eq!(queue.confirm(&leased[0]).await.unwrap_err().kind, FailureKind::LeaseLost);
    assert!(leased[0].lost().is_cancelled());
    assert_eq!(world.dump().await, before);
}

#[tokio::test]
async fn with_the_lease_confirm_renews_it() {
    let mut world = World::new().await;
    let queue = world.queue("0").await;
    world.push(element(1)).await;
    let leased = next(&mut queue.taker()).await;
    let _: u64 = world.redis.zadd(key("leases"), queue.instance(), 1).await.unwrap();
    queue.confirm(&leased).await.unwrap();
    let expiry: f64 = world.redis.zscore(key("leases"), queue.instance()).await.unwrap();
    assert!(expiry > 1e12, "{expiry}");
}

#[tokio::test]
async fn a_settle_whose_answer_was_lost_is_written_once() {
    let mut world = World::new().await;
    let queue = world.queue("0").await;
    let mut taker = queue.taker();
    world.push(element(1)).await;
    let leased = next(&mut taker).await;
    // The server reads the first call when the client has already asked again.
    world.server.pause();
    let (settled, ()) = tokio::join!(queue.settle(&leased, Outcome::Retry(failure())), async {
        eventually("the answer is missed", async || world.metrics.redis_up.get() == 0).await;
        world.server.resume();
    });
    settled.unwrap();
    assert_eq!(queue.depths().await.unwrap().delayed, 1);
    assert_eq!(world.count("retry").await, 1);
    assert_eq!(std::fs::read_dir(world.outcomes.path().join("outcomes")).unwrap().count(), 0, "told and forgotten");

    let refused = queue.settle(&leased, Outcome::Done).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::LeaseLost, "it is settled");
    assert_eq!((world.count("retry").await, world.count("done").await), (1, 0));
}

#[tokio::test]
async fn an_element_that_somebody_took_out_of_our_hands_is_not_settled() {
    let mut world = World::new().await;
    let queue = world.queue("0").await;
    world.push(element(1)).await;
    let leased = next(&mut queue.taker()).await;
    let _: u64 = world.redis.del(key(&format!("running:{}", queue.instance()))).await.unwrap();
    let refused = queue.settle(&leased, Outcome::Retry(failure())).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::LeaseLost);
    assert!(!leased.lost().is_cancelled(), "only this element is gone");
    assert_eq!(queue.depths().await.unwrap().delayed, 0);
}

#[tokio::test]
async fn a_full_server_can_still_be_settled() {
    let mut world = World::new().await;
    let queue = world.queue("0").await;
    let mut taker = queue.taker();
    for task in 1..=4 {
        world.push(element(task)).await;
    }
    let leased = [next(&mut taker).await, next(&mut taker).await, next(&mut taker).await, next(&mut taker).await];
    let _: () = redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(1).query_async(&mut world.redis).await.unwrap();
    let refused: Result<u64, _> = world.redis.lpush("x", "y").await;
    assert_eq!(refused.unwrap_err().code(), Some("OOM"));
    let outcomes = [Outcome::Done, Outcome::Retry(failure()), Outcome::Dead(failure()), Outcome::HandBack];
    for (leased, outcome) in leased.iter().zip(outcomes) {
        queue.settle(leased, outcome).await.unwrap();
    }
    queue.sweep().await.unwrap();
    assert_eq!(world.waiting().await, [element(2), element(4)]);
    // And drained: a wait needs memory, a look does not.
    assert_eq!(next(&mut taker).await.spec.task_id.get(), 2);
    assert_eq!(next(&mut queue.taker()).await.spec.task_id.get(), 4);
    queue.close().await;
    world.queue("1").await;
}
