use std::time::Duration;

use hauld::queue::QueueView;
use hauld::redis_client;
use tokio_util::sync::CancellationToken;

use crate::world::{LIST, World, element, eventually, key, next, within};

fn view(world: &World) -> QueueView {
    QueueView::new(redis_client::commands(&world.server.settings()).unwrap(), LIST)
}

#[tokio::test]
async fn nothing_starts_after_a_pause_not_even_what_a_wait_is_handed() {
    let mut world = World::new().await;
    world.settings.block = Duration::from_secs(60);
    let queue = world.queue("0").await;
    let operator = view(&world);
    let (mut taker, stop) = (queue.taker(), CancellationToken::new());
    let mut redis = world.redis.clone();
    let taking = tokio::spawn(async move { taker.next(4, &stop).await.unwrap().remove(0).spec.task_id.get() });
    eventually("a blocked client", async || {
        let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut redis).await.unwrap();
        clients.contains(" flags=b")
    })
    .await;
    operator.pause(None, "maintenance").await.unwrap();
    assert!(operator.pauses().await.unwrap()[0].note.contains("maintenance"));
    for task in 1..=3 {
        world.push(element(task)).await;
    }
    eventually("the pause is noticed", async || world.metrics.paused.get() == 1).await;
    assert_eq!(world.waiting().await, [element(1), element(2), element(3)], "in their places");
    assert!(world.held(&queue).await.is_empty());
    assert!(!taking.is_finished());

    assert!(operator.resume(None).await.unwrap());
    assert!(!operator.resume(None).await.unwrap());
    assert_eq!(within(taking).await.unwrap(), 1);
    assert_eq!(world.metrics.paused.get(), 0);
}

#[tokio::test]
async fn one_instance_is_paused_under_the_name_it_keeps() {
    let mut world = World::new().await;
    let (paused, other) = (world.queue("0").await, world.queue("1").await);
    let about: String =
        redis::AsyncCommands::hget(&mut world.redis, key("instances"), paused.instance()).await.unwrap();
    let name = serde_json::from_str::<serde_json::Value>(&about).unwrap()["name"].as_str().unwrap().to_owned();
    assert!(paused.instance().starts_with(&name) && name.ends_with("-0"), "{name}");
    view(&world).pause(Some(&name), "disk").await.unwrap();
    paused.sweep().await.unwrap();
    assert_eq!(world.metrics.paused.get(), 1, "seen by the sweep, with nothing to take");
    world.push(element(1)).await;
    assert_eq!(next(&mut other.taker()).await.spec.task_id.get(), 1);

    // A new start of the same instance is paused too.
    let again = world.queue("0").await;
    let stop = CancellationToken::new();
    world.push(element(2)).await;
    let mut taker = again.taker();
    let (taken, ()) = tokio::join!(within(taker.next(1, &stop)), async {
        eventually("it is back", async || world.held(&again).await.is_empty() && world.waiting().await.len() == 1)
            .await;
        stop.cancel();
    });
    assert!(taken.is_none());
    assert_eq!(world.waiting().await, [element(2)]);
}
