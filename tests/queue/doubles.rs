//! Two elements for one task.

use std::time::Duration;

use hauld::job::Outcome;
use hauld::queue::Queue;
use redis::AsyncCommands;

use crate::world::{World, element, failure, key, next};

/// Another element of the same task, as a second click on "pay" makes it.
fn second(task: u64) -> String {
    element(task).replace("02:00:00.000", "02:00:07.500")
}

async fn reasons(queue: &Queue) -> Vec<(String, String)> {
    let dead = queue.dead(10).await.unwrap();
    dead.into_iter().map(|envelope| (envelope.element.unwrap(), envelope.message)).collect()
}

#[tokio::test]
async fn a_second_element_of_a_task_is_set_aside_whatever_the_first_is_doing() {
    let mut world = World::new().await;
    world.settings.dedupe = Duration::from_secs(300);
    world.settings.retry_delay = Duration::from_secs(600);
    let (first, other) = (world.queue("0").await, world.queue("1").await);
    // The next task shows that the second element has been dealt with.
    let mut other_taker = other.taker();
    for (step, twin) in [second(1), element(1)].into_iter().enumerate() {
        world.push(element(1)).await;
        let leased = next(&mut first.taker()).await;
        world.push(&twin).await;
        world.push(element(10 + step as u64)).await;
        next(&mut other_taker).await;
        let dead = reasons(&other).await;
        assert_eq!(dead.len(), 1);
        assert_eq!(dead[0].0, twin);
        assert!(dead[0].1.contains(&format!("runs on {}", first.instance())), "{dead:?}");
        let _: u64 = world.redis.del(key("dead")).await.unwrap();

        first.settle(&leased, Outcome::Retry(failure())).await.unwrap();
        world.push(&twin).await;
        world.push(element(20 + step as u64)).await;
        next(&mut other_taker).await;
        assert!(reasons(&other).await[0].1.contains("waits for its next attempt"));
        let _: u64 = world.redis.del(&[key("dead"), key("delayed"), key("guards")]).await.unwrap();
    }

    world.push(element(1)).await;
    first.settle(&next(&mut first.taker()).await, Outcome::Done).await.unwrap();
    world.push(second(1)).await;
    world.push(element(30)).await;
    next(&mut other_taker).await;
    assert!(reasons(&other).await[0].1.contains("done less than 300 s ago"));
    assert_eq!(other.dead(1).await.unwrap()[0].kind, "duplicate_job");

    // What an operator wants all the same, runs; so does what comes later.
    let forced = second(1).replace("\"jobId\"", "\"force\":true,\"jobId\"");
    world.push(&forced).await;
    let leased = next(&mut other_taker).await;
    assert_eq!(leased.spec.task_id.get(), 1);
    other.settle(&leased, Outcome::Done).await.unwrap();
    let _: u64 = world.redis.zadd(key("recent"), 1, 1).await.unwrap();
    world.push(second(1)).await;
    assert_eq!(next(&mut other_taker).await.spec.task_id.get(), 1);
    other.sweep().await.unwrap();
    assert!(!world.redis.exists::<_, bool>(key("recent")).await.unwrap(), "what is over is forgotten");
}

#[tokio::test]
async fn two_that_are_started_in_one_call_are_one_too() {
    let mut world = World::new().await;
    let queue = world.queue("0").await;
    for element in [element(1), second(1), element(2), element(1)] {
        world.push(element).await;
    }
    let stop = Default::default();
    let jobs = queue.taker().next(10, &stop).await.unwrap();
    let tasks: Vec<_> = jobs.iter().map(|job| job.spec.task_id.get()).collect();
    assert_eq!(tasks, [1, 2]);
    assert_eq!(reasons(&queue).await.len(), 2);
}

#[tokio::test]
async fn a_guard_without_its_element_keeps_nothing_from_running_and_a_lost_guard_loses_nothing() {
    let mut world = World::new().await;
    world.settings.retry_delay = Duration::from_secs(600);
    let queue = world.queue("0").await;
    let mut taker = queue.taker();

    // Running, and somebody took it away by hand.
    world.push(element(1)).await;
    next(&mut taker).await;
    let _: u64 = world.redis.del(key(&format!("running:{}", queue.instance()))).await.unwrap();
    world.push(second(1)).await;
    let leased = next(&mut taker).await;
    assert_eq!(leased.spec.task_id.get(), 1);

    // Waiting for its next attempt, and somebody took it away.
    queue.settle(&leased, Outcome::Retry(failure())).await.unwrap();
    let _: u64 = world.redis.del(key("delayed")).await.unwrap();
    world.push(second(1)).await;
    let leased = next(&mut taker).await;
    assert_eq!(leased.spec.task_id.get(), 1);

    // The guard is lost: both run, none vanishes.
    let _: u64 = world.redis.del(key("guards")).await.unwrap();
    world.push(element(1)).await;
    let both = [leased, next(&mut taker).await];
    for leased in &both {
        queue.settle(leased, Outcome::Done).await.unwrap();
    }
    // Handed back: whichever is taken first, runs.
    world.push(element(3)).await;
    queue.settle(&next(&mut taker).await, Outcome::HandBack).await.unwrap();
    let _: u64 = world.redis.rpush(crate::world::LIST, second(3)).await.unwrap();
    assert_eq!(next(&mut taker).await.element.0, second(3).into_bytes());
    assert!(queue.dead(10).await.unwrap().is_empty());
    assert_eq!(world.count("done").await, 2);
}

#[tokio::test]
async fn what_is_remembered_of_an_element_goes_with_it_when_it_is_set_aside() {
    let mut world = World::new().await;
    world.settings.dedupe = Duration::from_secs(300);
    let queue = world.queue("0").await;
    let mut taker = queue.taker();
    // Failed once, and back in the list; meanwhile the task is done by another element.
    world.push(element(1)).await;
    queue.settle(&next(&mut taker).await, Outcome::Retry(failure())).await.unwrap();
    queue.sweep().await.unwrap();
    let _: u64 = world.redis.rpush(crate::world::LIST, second(1)).await.unwrap();
    queue.settle(&next(&mut taker).await, Outcome::Done).await.unwrap();
    world.push(element(2)).await;
    assert_eq!(next(&mut taker).await.spec.task_id.get(), 2);
    let dead = queue.dead(10).await.unwrap();
    assert_eq!((dead[0].kind.as_str(), dead[0].attempts, dead[0].history.len()), ("duplicate_job", 1, 1));
    assert!(!world.redis.exists::<_, bool>(key("records")).await.unwrap());

    // An equal one that is under way keeps its memory.
    world.push(element(3)).await;
    queue.settle(&next(&mut taker).await, Outcome::Retry(failure())).await.unwrap();
    queue.sweep().await.unwrap();
    world.push(element(3)).await;
    let again = next(&mut taker).await;
    assert_eq!(again.attempt, 2);
    world.push(element(4)).await;
    assert_eq!(next(&mut taker).await.spec.task_id.get(), 4);
    assert_eq!(queue.dead(10).await.unwrap().len(), 2);
    assert!(world.redis.exists::<_, bool>(key("records")).await.unwrap());
    queue.settle(&again, Outcome::Done).await.unwrap();
    assert!(!world.redis.exists::<_, bool>(key("records")).await.unwrap());
}
