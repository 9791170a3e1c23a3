//! Jobs that are delivered and whose finalize call was not accepted yet; and notices of failures.

use std::time::Duration;

use hauld::job::{Outcome, TaskId};
use hauld::queue::{Leased, Notice, Queue, QueueView, Verdict};
use jiff::Timestamp;
use redis::AsyncCommands;
use tokio_util::sync::CancellationToken;

use crate::world::{LIST, World, element, eventually, failure, key, next, within};

fn untold(after: Duration) -> Outcome {
    Outcome::Untold { folder: "Course".into(), since: Some(since()), after, failure: failure() }
}

fn since() -> Timestamp {
    Timestamp::from_second(1_768_262_400).unwrap()
}

async fn next_untold(queue: &Queue) -> Leased {
    within(queue.next_untold(&CancellationToken::new())).await.expect("not stopped")
}

async fn findings(world: &World) -> usize {
    let view = QueueView::new(hauld::redis_client::commands(&world.server.settings()).unwrap(), LIST);
    view.account().await.unwrap().findings.len()
}

#[tokio::test]
async fn an_untold_job_waits_beside_the_list_and_is_in_one_hand_at_a_time() {
    let mut world = World::new().await;
    let (one, two) = (world.queue("0").await, world.queue("1").await);
    let mut taker = one.taker();
    world.push(element(1)).await;
    one.settle(&next(&mut taker).await, untold(Duration::from_secs(3600))).await.unwrap();
    let depths = one.depths().await.unwrap();
    assert_eq!((depths.waiting, depths.running, depths.delayed, depths.untold, depths.done), (0, 0, 0, 1, 0));
    let due: Vec<(String, f64)> = world.redis.zrange_withscores(key("untold"), 0, -1).await.unwrap();
    let now: (f64, u64) = redis::cmd("TIME").query_async(&mut world.redis).await.unwrap();
    let wait = due[0].1 / 1000.0 - now.0;
    assert!((3590.0..3600.0 * 1.2 + 1.0).contains(&wait), "{wait}");
    assert_eq!(findings(&world).await, 0);

    // A double of it is one, as of any job under way.
    let double = element(1).replace("02:00:00", "02:00:01");
    world.push(&double).await;
    world.push(element(2)).await;
    assert_eq!(next(&mut taker).await.spec.task_id.get(), 2);
    let dead = one.dead(1).await.unwrap();
    assert!(dead[0].message.contains("the backend is still to be told"), "{}", dead[0].message);

    let _: u64 = world.redis.zadd(key("untold"), &due[0].0, 1).await.unwrap();
    let stop = CancellationToken::new();
    let both = tokio::select! {
        first = one.next_untold(&stop) => (first, two.clone()),
        first = two.next_untold(&stop) => (first, one.clone()),
    };
    let (Some(job), other) = both else { panic!("nobody has it") };
    assert_eq!((job.attempt, &job.record.verdict), (1, &Some(Verdict::untold("Course", since()))));
    assert_eq!(job.record.history.last().unwrap().kind, "server_error");
    let nobody = tokio::time::timeout(Duration::from_millis(300), other.next_untold(&stop)).await;
    assert!(nobody.is_err(), "it is in one hand");
    assert_eq!(findings(&world).await, 0);
    let holder = if job.instance() == one.instance() { &one } else { &two };
    holder.settle(&job, untold(Duration::ZERO)).await.unwrap();
    let again = next_untold(&other).await;
    other.settle(&again, Outcome::Done).await.unwrap();
    assert_eq!(findings(&world).await, 0);
    assert!(!world.redis.exists::<_, bool>(key("records")).await.unwrap());
}

#[tokio::test]
async fn an_untold_job_of_a_dead_instance_comes_back_with_what_is_known_of_it() {
    let mut world = World::new().await;
    world.settings.max_crashes = 1;
    let (dead, living) = (world.queue("0").await, world.queue("1").await);
    world.push(element(1)).await;
    dead.settle(&next(&mut dead.taker()).await, untold(Duration::ZERO)).await.unwrap();
    let job = next_untold(&dead).await;
    world.expire(&dead.instance()).await;
    living.sweep().await.unwrap();
    assert!(dead.settle(&job, Outcome::Done).await.is_err(), "it is not the dead one's any more");
    let again = next(&mut living.taker()).await;
    assert_eq!(again.record.verdict, Some(Verdict::untold("Course", since())));
    living.settle(&again, Outcome::HandBack).await.unwrap();
    let again = next(&mut living.taker()).await;
    assert!(again.record.verdict.is_some(), "a hand-back forgets nothing");
    living.settle(&again, untold(Duration::ZERO)).await.unwrap();

    // What somebody has put there is not lost.
    let _: u64 = world.redis.zadd(key("untold"), "by hand", 1).await.unwrap();
    let job = next_untold(&living).await;
    assert_eq!(job.spec.task_id.get(), 1);
    living.sweep().await.unwrap();
    assert_eq!(world.waiting().await, ["by hand"]);
}

#[tokio::test]
async fn a_notice_is_in_one_hand_until_its_hold_ends() {
    let mut world = World::new().await;
    let (one, two) = (world.queue("0").await, world.queue("1").await);
    let notice = Notice {
        task_id: TaskId::new(7).unwrap(),
        kind: "not_found".into(),
        message: "gone".into(),
        failed_at: since(),
    };
    let (hold, stop) = (Duration::from_secs(60), CancellationToken::new());
    // Twice the same is once.
    one.keep_notice(&notice).await.unwrap();
    two.keep_notice(&notice).await.unwrap();
    assert_eq!(within(one.next_notice(hold, &stop)).await, Some(notice.clone()));
    let nobody = tokio::time::timeout(Duration::from_millis(300), two.next_notice(hold, &stop)).await;
    assert!(nobody.is_err(), "the other one has it");
    // Its holder is gone.
    let member: Vec<String> = world.redis.zrange(key("notices"), 0, -1).await.unwrap();
    let _: u64 = world.redis.zadd(key("notices"), &member[0], 1).await.unwrap();
    assert_eq!(within(two.next_notice(hold, &stop)).await, Some(notice.clone()));
    two.settle_notice(&notice, Some(Duration::ZERO)).await;
    assert_eq!(within(one.next_notice(hold, &stop)).await, Some(notice.clone()));
    one.settle_notice(&notice, None).await;
    // What the late one says about it does not bring it back.
    two.settle_notice(&notice, Some(Duration::ZERO)).await;
    eventually("it is gone", async || !world.redis.exists::<_, bool>(key("notices")).await.unwrap()).await;
}
