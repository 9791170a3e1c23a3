//! What is known about the end of a job survives whoever knew it.

use std::time::Duration;

use hauld::failure::FailureKind;
use hauld::job::Outcome;
use hauld::queue::Verdict;
use redis::AsyncCommands;

use crate::support::redis::RedisServer;
use crate::world::{World, element, eventually, failure, key, next};

fn delivered() -> Verdict {
    Verdict::told("Course Name")
}

#[tokio::test]
async fn the_next_instance_knows_how_the_job_has_ended() {
    let mut world = World::new().await;
    world.settings.max_crashes = 1;
    let (dead, living) = (world.queue("0").await, world.queue("1").await);
    world.push(element(1)).await;
    let leased = next(&mut dead.taker()).await;
    dead.conclude(&leased, delivered()).await.unwrap();
    world.expire(&dead.instance()).await;
    living.sweep().await.unwrap();
    let again = next(&mut living.taker()).await;
    assert_eq!(again.record.verdict, Some(delivered()));
    assert!(again.record.crashes.is_empty(), "a job that had ended has killed nobody");
    living.settle(&again, Outcome::Done).await.unwrap();
    assert!(!world.redis.exists::<_, bool>(key("records")).await.unwrap());

    let refused = dead.conclude(&leased, delivered()).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::LeaseLost);
    assert!(!world.redis.exists::<_, bool>(key("records")).await.unwrap());
}

#[tokio::test]
async fn a_job_that_a_failover_took_away_is_neither_confirmed_nor_concluded() {
    let mut world = World::new().await;
    let queue = world.queue("0").await;
    world.push(element(1)).await;
    let leased = next(&mut queue.taker()).await;
    queue.confirm(&leased).await.unwrap();
    // The new primary never heard that the job was started.
    let _: u64 = world.redis.del(key(&format!("running:{}", queue.instance()))).await.unwrap();
    for refused in [queue.confirm(&leased).await, queue.conclude(&leased, delivered()).await] {
        assert_eq!(refused.unwrap_err().kind, FailureKind::LeaseLost);
    }
    assert!(!leased.lost().is_cancelled(), "only this job is gone");
}

#[tokio::test]
async fn an_outcome_that_redis_could_not_hear_is_told_by_the_next_process() {
    for outcome in ["conclude", "retry", "done"] {
        let mut world = World::on(RedisServer::start_durable()).await;
        let dying = world.queue("0").await;
        world.push(element(1)).await;
        let leased = next(&mut dying.taker()).await;
        world.server.kill9();
        let telling = tokio::spawn(async move {
            match outcome {
                "conclude" => dying.conclude(&leased, delivered()).await,
                "retry" => dying.settle(&leased, Outcome::Retry(failure())).await,
                _ => dying.settle(&leased, Outcome::Done).await,
            }
        });
        let kept = world.outcomes.path().join("outcomes");
        let files = || {
            std::fs::read_dir(&kept).map_or(0, |files| {
                files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|end| end == "json")).count()
            })
        };
        eventually("it is kept on disk", async || files() == 1).await;
        let directory = std::fs::metadata(&kept).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&directory.permissions()) & 0o077, 0, "a customer's name");
        // The process dies, and only then is Redis back.
        telling.abort();
        let _ = telling.await;
        world.server.restart();
        world.redis = world.server.connection().await;

        let next_process = world.queue("0").await;
        next_process.sweep().await.unwrap();
        assert_eq!(files(), 1, "the lease of the dead one still stands");
        let dead_instance: Vec<String> = world.redis.zrange(key("leases"), 0, 0).await.unwrap();
        world.expire(&dead_instance[0]).await;
        next_process.sweep().await.unwrap();
        assert_eq!(files(), 0);
        let again = next(&mut next_process.taker()).await;
        match outcome {
            "conclude" => assert_eq!(again.record.verdict, Some(delivered())),
            "retry" => assert_eq!((again.attempt, again.record.history[0].kind.as_str()), (2, "server_error")),
            _ => assert!(matches!(again.record.verdict, Some(Verdict::Delivered { .. }))),
        }
    }
}

#[tokio::test]
async fn an_outcome_that_comes_too_late_changes_nothing() {
    let mut world = World::on(RedisServer::start_durable()).await;
    let (dying, living) = (world.queue("0").await, world.queue("1").await);
    world.push(element(1)).await;
    let leased = next(&mut dying.taker()).await;
    world.expire(&dying.instance()).await;
    living.sweep().await.unwrap();
    let again = next(&mut living.taker()).await;
    // Written by the dying process before it knew.
    let kept = world.outcomes.path().join("outcomes");
    std::fs::create_dir_all(&kept).unwrap();
    let entry = serde_json::json!({
        "instance": leased.instance(), "claim": 1, "id": leased.id, "element_base64": "",
        "record": {"verdict": {"delivered": {"folder": "x"}}},
    });
    std::fs::write(kept.join("late.1.json"), entry.to_string()).unwrap();
    std::fs::write(kept.join("damaged.1.json"), "{").unwrap();
    living.sweep().await.unwrap();
    assert!(!kept.join("late.1.json").exists());
    assert!(kept.join("damaged.1.json").exists(), "left for a look");
    let record: String = world.redis.hget(key("records"), &again.id).await.unwrap();
    assert!(!record.contains("delivered"), "{record}");
    assert!(again.record.verdict.is_none());
    tokio::time::timeout(Duration::from_secs(5), living.settle(&again, Outcome::Done)).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_outcome_kept_on_disk_is_known_after_others_have_taken_the_job_back_and_is_no_other_orders() {
    let mut world = World::new().await;
    let (dying, living) = (world.queue("0").await, world.queue("1").await);
    let kept = world.outcomes.path().join("outcomes");
    std::fs::create_dir_all(&kept).unwrap();
    world.push(element(1)).await;
    let leased = next(&mut dying.taker()).await;
    let entry = serde_json::json!({
        "instance": leased.instance(), "claim": 1, "id": leased.id,
        "element_base64": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, element(1)),
        "record": {"verdict": {"delivered": {"folder": "Course Name"}}},
    });
    // Another host has taken it back before this one could look.
    world.expire(&dying.instance()).await;
    living.sweep().await.unwrap();
    std::fs::write(kept.join("a.json"), entry.to_string()).unwrap();
    living.sweep().await.unwrap();
    let again = next(&mut living.taker()).await;
    assert_eq!((again.record.verdict.clone(), again.record.crashes.len()), (Some(delivered()), 1));
    living.settle(&again, Outcome::Done).await.unwrap();

    // It was settled after all, and an equal element waits: that is another order.
    world.push(element(1)).await;
    std::fs::write(kept.join("b.json"), entry.to_string()).unwrap();
    living.sweep().await.unwrap();
    assert!(!kept.join("b.json").exists());
    assert!(!world.redis.exists::<_, bool>(key("records")).await.unwrap());
    assert!(next(&mut living.taker()).await.record.verdict.is_none());
}
