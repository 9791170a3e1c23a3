//! The stories of tasks: how much of them is kept, and when Redis does not take them.

use hauld::failure::FailureKind;
use hauld::job::TaskId;
use hauld::queue::story::Step;
use hauld::queue::{Queue, QueueView, StoryFilter};
use hauld::redis_client;
use redis::AsyncCommands;

use crate::world::{LIST, World, failure, key};

fn task(id: u64) -> TaskId {
    TaskId::new(id).unwrap()
}

fn view(world: &World) -> QueueView {
    QueueView::new(redis_client::commands(&world.server.settings()).unwrap(), LIST)
}

/// A step that can be told from others.
fn step(number: u64) -> Step {
    Step::Lecture { number, lectures: 1000, title: "A lecture".into(), seconds: 0.5 }
}

fn number(step: &Step) -> u64 {
    match step {
        Step::Lecture { number, .. } => *number,
        other => panic!("{other}"),
    }
}

async fn told(queue: &Queue, task_id: u64, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        queue.tell_of(jiff::Timestamp::now(), task(task_id), 1, step(number));
    }
    queue.flush_stories().await;
}

#[tokio::test]
async fn the_newest_lines_of_a_task_are_kept() {
    let world = World::new().await;
    let (queue, view) = (world.queue("a").await, view(&world));
    told(&queue, 43, 1..=200).await;
    told(&queue, 43, 201..=600).await;
    let lines = view.story(task(43)).await.unwrap();
    let numbers: Vec<u64> = lines.iter().map(|line| number(&line.step)).collect();
    assert_eq!(numbers, (345..=600).collect::<Vec<_>>());
    assert!(lines.iter().all(|line| line.instance == queue.instance() && line.attempt == 1));
    assert_eq!(view.story(task(44)).await.unwrap(), []);
}

#[tokio::test]
async fn the_stories_of_tasks_that_nothing_happens_to_go() {
    let mut world = World::new().await;
    let (queue, view) = (world.queue("a").await, view(&world));
    told(&queue, 43, 1..=1).await;
    // As if it was long ago, and ten thousand others since.
    const FILL: &str = "local time = redis.call('TIME')
        redis.call('ZADD', KEYS[1], time[1] * 1000 - 1000, 43)
        for id = 1001, 11000 do redis.call('ZADD', KEYS[1], time[1] * 1000, id) end";
    let _: () = redis::Script::new(FILL).key(key("stories")).invoke_async(&mut world.redis).await.unwrap();
    assert_eq!(world.redis.exists::<_, u8>(key("story:43")).await.unwrap(), 1);
    told(&queue, 44, 1..=1).await;
    assert_eq!(world.redis.zcard::<_, u64>(key("stories")).await.unwrap(), 10_000);
    assert_eq!(world.redis.exists::<_, u8>(key("story:43")).await.unwrap(), 0);
    let recent = view.recent_tasks(&StoryFilter::default(), 5).await.unwrap();
    assert_eq!(recent.iter().map(|line| line.task_id.get()).collect::<Vec<_>>(), [44]);
}

#[tokio::test]
async fn tasks_are_found_by_how_they_are_now() {
    let world = World::new().await;
    let (queue, view) = (world.queue("a").await, view(&world));
    for id in 1..=300 {
        queue.tell_of(jiff::Timestamp::now(), task(id), 2, Step::dead(&failure()));
        queue.tell_of(jiff::Timestamp::now(), task(id), 3, Step::Taken { waited_seconds: None });
    }
    queue.flush_stories().await;
    let dead = StoryFilter { kinds: vec![FailureKind::ServerError], ..StoryFilter::default() };
    assert_eq!(view.recent_tasks(&dead, 5).await.unwrap(), [], "they were taken again since");
    assert_eq!(view.recent_tasks(&StoryFilter::default(), 300).await.unwrap().len(), 300, "over several pages");
}

#[tokio::test]
async fn what_redis_does_not_take_is_told_later() {
    let world = World::new().await;
    let (queue, view) = (world.queue("a").await, view(&world));
    world.server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    told(&queue, 43, 1..=2).await;
    assert_eq!(view.story(task(43)).await.unwrap(), []);
    world.server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    told(&queue, 43, 3..=3).await;
    let lines = view.story(task(43)).await.unwrap();
    assert_eq!(lines.iter().map(|line| number(&line.step)).collect::<Vec<_>>(), [1, 2, 3]);
}
