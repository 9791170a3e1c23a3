//! What a person is shown of the whole.

use std::time::Duration;

use hauld::failure::{Failure, FailureKind};
use hauld::job::Outcome;
use hauld::overview::{Overview, Overviews};
use hauld::queue::{JobProgress, QueueView};
use hauld::redis_client::{self, Commands};
use redis::AsyncCommands;

use crate::world::{LIST, World, element, failure, key, next};

fn commands(world: &World) -> Commands {
    redis_client::commands(&world.server.settings()).unwrap()
}

fn half_way() -> JobProgress {
    JobProgress {
        delivering: false,
        course: "<b>Loops</b>".into(),
        percent: 37.5,
        lecture: 2,
        lectures: 4,
        file: "002 Loops.mp4".into(),
        file_percent: 50.0,
        bytes: 1000,
        total_bytes: None,
        speed: Some(250),
        remaining_seconds: Some(7),
    }
}

/// Commands that the server has run, those of scripts not among them.
async fn commands_run(world: &mut World) -> u64 {
    let info: String = redis::cmd("INFO").arg("stats").query_async(&mut world.redis).await.unwrap();
    info.lines().find_map(|line| line.strip_prefix("total_commands_processed:")?.trim().parse().ok()).unwrap()
}

fn failures(overview: &Overview) -> Vec<(u64, &str, bool)> {
    let shown = |failure: &hauld::overview::RecentFailure| failure.task_id.unwrap().get();
    overview.failures.iter().map(|one| (shown(one), one.kind.as_str(), one.retry_at.is_some())).collect()
}

#[tokio::test]
async fn everything_is_there_and_no_address_of_a_customer() {
    let mut world = World::new().await;
    world.settings.dedupe = Duration::from_secs(600);
    world.settings.retry_delay = Duration::from_secs(600);
    let queue = world.queue("0").await;
    let other = world.queue("1").await;
    let mut taker = queue.taker();
    for (task, outcome) in [
        (1, Outcome::Done),
        (2, Outcome::Dead(Failure::new(FailureKind::DrmProtected, "protected"))),
        (3, Outcome::Retry(failure())),
    ] {
        world.push(element(task)).await;
        let leased = next(&mut taker).await;
        queue.settle(&leased, outcome).await.unwrap();
    }
    world.push(element(4)).await;
    let four = next(&mut taker).await;
    world.push(element(5)).await;
    let five = next(&mut taker).await;
    let fence = queue.fence(&four);
    assert!(fence.publish_progress(&mut commands(&world), &["a".into()], "{}", half_way()).await.unwrap());
    // What an earlier attempt has left says nothing about this one.
    let note: String = world.redis.get(key("progress:4")).await.unwrap();
    let _: () = world.redis.set(key("progress:5"), note).await.unwrap();
    let ttl: i64 = world.redis.ttl(key("progress:4")).await.unwrap();
    assert!((3500..=3600).contains(&ttl), "{ttl}");
    world.push(element(6)).await;
    let view = QueueView::new(commands(&world), LIST);
    view.pause(None, "disk is full").await.unwrap();

    let overviews = Overviews::new(commands(&world), &world.settings);
    let overview = overviews.look().await.unwrap();
    let depths = overview.depths;
    assert_eq!((depths.waiting, depths.running, depths.delayed, depths.dead, depths.done), (1, 2, 1, 1, 1));
    assert!(overview.oldest_waiting_seconds > Some(86_400), "{:?}", overview.oldest_waiting_seconds);
    let done = overview.last_done.as_ref().unwrap();
    assert!(done.task_id.get() == 1 && overview.at.duration_since(done.at).as_secs().abs() < 30, "{done:?}");
    assert_eq!(overview.pause.as_ref().unwrap().reason, "disk is full");
    assert_eq!(failures(&overview), [(3, "server_error", true), (2, "drm_protected", false)]);
    let (meaning, remedy) = (FailureKind::DrmProtected.meaning(), FailureKind::DrmProtected.remedy());
    assert_eq!((overview.failures[1].meaning, overview.failures[1].remedy), (Some(meaning), Some(remedy)));
    let dead = &overview.dead[0];
    assert_eq!(dead.course_url.as_deref(), Some("https://learn.example.com/course/2/"));
    assert_eq!((dead.attempts, dead.message.as_str(), dead.id.len()), (1, "protected", 12));

    assert_eq!(overview.instances.iter().map(|instance| instance.running).collect::<Vec<_>>(), [2, 0]);
    let instance = &overview.instances[0];
    assert!(instance.name.ends_with("-0") && instance.identity == queue.instance(), "{instance:?}");
    assert!((1..=30).contains(&instance.lease_seconds) && instance.pause.is_none(), "{instance:?}");
    assert!(overview.running[0].still_since.is_none() && overview.running[0].speed == Some(250));
    let [running, starting] = &overview.running[..] else { panic!("{:?}", overview.running) };
    assert_eq!((running.task_id, running.status, running.attempt), (Some(four.spec.task_id), "downloading", Some(1)));
    assert_eq!((running.course.as_deref(), running.percent), (Some("<b>Loops</b>"), Some(37.5)));
    assert_eq!((running.lecture, running.lectures, running.file_percent), (Some(2), Some(4), Some(50.0)));
    assert_eq!((starting.task_id, starting.status, starting.percent), (Some(five.spec.task_id), "starting", None));
    assert_eq!(starting.course.as_deref(), Some("https://learn.example.com/course/5/"));
    let json = serde_json::to_string(&overview).unwrap();
    assert!(!json.contains("user@example.com"), "{json}");

    // It has not moved for a minute.
    let minute_ago = (overview.at - Duration::from_secs(60)).to_string();
    let mut note: serde_json::Value =
        serde_json::from_str(&world.redis.get::<_, String>(key("progress:4")).await.unwrap()).unwrap();
    note["at"] = minute_ago.into();
    let _: () = world.redis.set(key("progress:4"), note.to_string()).await.unwrap();
    let still = overviews.look().await.unwrap().running.remove(0);
    assert!(still.still_since.is_some() && still.remaining_seconds.is_none(), "{still:?}");
    assert_eq!((still.percent, still.speed), (Some(37.5), Some(0)));

    // What has changed is seen, and what has not is not read again.
    queue.settle(&four, Outcome::Dead(failure())).await.unwrap();
    view.pause(Some(&overview.instances[1].name), "quiet").await.unwrap();
    let overview = overviews.look().await.unwrap();
    assert_eq!(failures(&overview)[0], (4, "server_error", false));
    assert_eq!(overview.instances[1].pause.as_ref().unwrap().reason, "quiet");
    let before = commands_run(&mut world).await;
    overviews.look().await.unwrap();
    let run = commands_run(&mut world).await - before;
    // Twelve, three for each instance, the notes; INFO itself, and sweeps that nobody makes here.
    assert!(run <= 22, "{run} commands for one look");
    drop(other);
}

#[tokio::test]
async fn of_a_long_dead_list_only_the_newest_are_read() {
    let mut world = World::new().await;
    let entries: Vec<String> = (0..400).map(|number| format!("{number} by hand")).collect();
    let _: u64 = world.redis.lpush(key("dead"), entries).await.unwrap();
    world.push("rubbish").await;
    let before = bytes_sent(&mut world).await;
    let overview = Overviews::new(commands(&world), &world.settings).look().await.unwrap();
    let sent = bytes_sent(&mut world).await - before;
    assert_eq!((overview.depths.dead, overview.dead.len(), overview.failures.len()), (400, 50, 50));
    assert!(sent < 10_000, "{sent} bytes");
    assert_eq!((overview.oldest_waiting_seconds, overview.last_done), (None, None));
    assert!(overview.instances.is_empty() && overview.running.is_empty());
}

async fn bytes_sent(world: &mut World) -> u64 {
    let info: String = redis::cmd("INFO").arg("stats").query_async(&mut world.redis).await.unwrap();
    info.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:")?.trim().parse().ok()).unwrap()
}
