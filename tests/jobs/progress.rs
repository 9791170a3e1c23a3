//! What watchers of a job see over Pub/Sub.

use serde_json::{Value, json};

use crate::support::redis::Subscription;
use crate::support::{Lecture, Manifest, Publish, media, wait};
use crate::world::{World, folder};

use std::time::Duration;

const TASK: u64 = 43;
const ORDER: u64 = 41;
const LIMIT: Duration = Duration::from_secs(20);

fn keys(event: &Value) -> Vec<&str> {
    event.as_object().unwrap().keys().map(String::as_str).collect()
}

fn assert_recent(event: &Value) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let timestamp = event["timestamp"].as_u64().unwrap();
    assert!(now.abs_diff(timestamp) < 120_000, "{timestamp} is not now, in ms");
}

fn percents(subscription: &Subscription) -> Vec<f64> {
    let events = subscription.json("task:43:progress");
    events.iter().filter_map(|event| event["percent"].as_f64()).collect()
}

#[tokio::test]
async fn every_field_on_both_channels_and_percent_never_falls() {
    let world = World::new();
    let subscription = world.redis.subscribe("*");
    let daemon = world.daemon().set("hls.concurrency", 1).start().await;
    let published = [1, 2]
        .map(|number| Publish::of(&media::synthetic(8, 40_000)).encrypted().at(&world.origin, &format!("/{number}")));
    world.origin.put("/en.vtt", "WEBVTT");
    let manifest = Manifest::new(&folder(TASK)).section(
        "Start",
        [
            Lecture::new("One").stream(&published[0].url).caption("en", &world.origin.url("/en.vtt")),
            Lecture::new("Two").stream(&published[1].url),
        ],
    );
    world.redis.cli(&["HSET", "hauld:task:43", "order_id", "41"]);
    // Three files; stuck after 4 of the 8 segments of the first and of the last.
    let holds = [&published[0], &published[1]].map(|one| world.origin.hold(&one.segment_paths[4]));
    world.submit(TASK, &manifest);
    for (hold, percent) in holds.into_iter().zip([16.67, 83.33]) {
        let what = format!("{percent} percent are told");
        wait::until(&what, LIMIT, || percents(&subscription).contains(&percent).then_some(())).await;
        hold.release();
    }
    world.redis.wait_for_task(TASK, "completed").await;
    let completed = || subscription.json("order:41:status").iter().any(|event| event["newStatus"] == "completed");
    wait::until("completed is told", LIMIT, || completed().then_some(())).await;

    let events = subscription.json("task:43:progress");
    let fields =
        ["taskId", "orderId", "percent", "currentFile", "speed", "eta", "bytesDownloaded", "totalBytes", "timestamp"];
    let mut bytes = 0;
    for event in &events {
        assert_eq!(keys(event), fields);
        assert_eq!((&event["taskId"], &event["orderId"]), (&json!(TASK), &json!(ORDER)));
        assert!(event["totalBytes"].is_null() && (event["speed"].is_null() || event["speed"].is_u64()), "{event}");
        let eta = &event["eta"];
        assert!(eta.is_null() || eta.as_str().is_some_and(|eta| eta.len() == 8 && eta.matches(':').count() == 2));
        assert!(event["bytesDownloaded"].as_u64().unwrap() >= bytes, "{events:#?}");
        bytes = event["bytesDownloaded"].as_u64().unwrap();
        assert_recent(event);
    }
    let percents = percents(&subscription);
    assert!(percents.is_sorted(), "{percents:?}");
    assert_eq!(percents.last(), Some(&100.0));
    assert!(percents.iter().all(|percent| (percent * 100.0 - (percent * 100.0).round()).abs() < 1e-6), "{percents:?}");
    let of_lecture = events.iter().find(|event| event["percent"] == 16.67).unwrap();
    assert_eq!(of_lecture["currentFile"], "001 One.mp4");
    let wire: usize = published.iter().flat_map(|one| &one.wire_segments).map(|segment| segment.len()).sum();
    assert_eq!(bytes, (wire + "WEBVTT".len()) as u64);

    let key = "progress:task:43";
    let stored: Value = serde_json::from_str(&world.redis.cli(&["GET", key])).unwrap();
    assert_eq!(Some(&stored), events.last());
    let ttl: u64 = world.redis.cli(&["TTL", key]).parse().unwrap();
    assert!((3500..=3600).contains(&ttl), "{ttl}");
    assert_statuses(&subscription);
    assert_eq!(subscription.json("order:41:progress"), events);
    drop(daemon);
}

fn assert_statuses(subscription: &Subscription) {
    let events = subscription.json("task:43:status");
    for event in &events {
        assert_eq!(keys(event), ["taskId", "orderId", "newStatus", "previousStatus", "message", "timestamp"]);
        assert_eq!((&event["taskId"], &event["orderId"]), (&json!(TASK), &json!(ORDER)));
        assert!(event["message"].as_str().is_some_and(|message| !message.is_empty()), "{event}");
        assert_recent(event);
    }
    let steps: Vec<_> = events.iter().map(|event| (&event["previousStatus"], &event["newStatus"])).collect();
    let expected = [("enrolled", "downloading"), ("downloading", "uploading"), ("uploading", "completed")];
    assert_eq!(steps, expected.map(|(previous, new)| (json!(previous), json!(new))).each_ref().map(|(a, b)| (a, b)));
    assert_eq!(subscription.json("order:41:status"), events);
}
