//! What watchers of a job see over Pub/Sub.

use serde_json::{Value, json};

use crate::support::publish::Offsets;
use crate::support::redis::{Message, Subscription};
use crate::support::{Lecture, Manifest, Publish, Remotes, media, wait};
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
    let events = assert_as_agreed(&world, &subscription);
    let of_lecture = events.iter().find(|event| event["percent"] == 16.67).unwrap();
    assert_eq!((&of_lecture["currentFile"], &of_lecture["totalBytes"]), (&json!("001 One.mp4"), &Value::Null));
    let wire: usize = published.iter().flat_map(|one| &one.wire_segments).map(|segment| segment.len()).sum();
    assert_eq!(events.last().unwrap()["bytesDownloaded"], wire + "WEBVTT".len());
    assert_statuses(&subscription);
    drop(daemon);
}

/// A file with a declared length, then byte ranges of one file: what is known counts by bytes, and the
/// whole is known when the last file is.
#[tokio::test]
async fn bytes_count_where_they_are_known() {
    let world = World::new();
    let subscription = world.redis.subscribe("*");
    let daemon = world.daemon().set("hls.concurrency", 1).start().await;
    let film = vec![7; 400_000];
    world.origin.put_as("/film.mp4", "video/mp4", film.clone());
    let published = Publish::of(&media::synthetic(8, 40_000)).in_one_file(Offsets::Explicit).at(&world.origin, "/2");
    let manifest = Manifest::new(&folder(TASK)).section(
        "Start",
        [Lecture::new("One").file(&world.origin.url("/film.mp4")), Lecture::new("Two").stream(&published.url)],
    );
    world.redis.cli(&["HSET", "hauld:task:43", "order_id", "41"]);
    let holds = [world.origin.hold_body("/film.mp4", 100_000), world.origin.hold(&published.segment_paths[0])];
    world.submit(TASK, &manifest);
    let wire: usize = published.wire_segments.iter().map(|segment| segment.len()).sum();
    let total = film.len() + wire;
    for (hold, (percent, known)) in holds.into_iter().zip([(12.5, Value::Null), (50.0, json!(total))]) {
        let is_it = |event: &Value| event["percent"] == percent && event["totalBytes"] == known;
        let told = || subscription.json("task:43:progress").iter().any(is_it).then_some(());
        wait::until(&format!("{percent} percent of {known} are told"), LIMIT, told).await;
        hold.release();
    }
    world.redis.wait_for_task(TASK, "completed").await;
    let last = assert_as_agreed(&world, &subscription).pop().unwrap();
    assert_eq!((&last["bytesDownloaded"], &last["totalBytes"]), (&json!(total), &json!(total)));
    drop(daemon);
}

/// With rclone each byte moves twice: the download is the first half, the upload the second.
#[tokio::test]
async fn an_upload_is_the_second_half() {
    let (world, remotes) = (World::new(), Remotes::new());
    let subscription = world.redis.subscribe("*");
    // 2 s for the upload: rclone tells how far it is every second.
    let builder = remotes.deliver_to("directory:", world.daemon()).env("RCLONE_BWLIMIT", "500k");
    let daemon = builder.env("RCLONE_BUFFER_SIZE", "0").start().await;
    world.publish(TASK, &media::synthetic(4, 300_000));
    world.redis.cli(&["HSET", "hauld:task:43", "order_id", "41"]);
    world.push(TASK);
    world.redis.wait_for_task(TASK, "completed").await;
    let events = assert_as_agreed(&world, &subscription);
    assert_statuses(&subscription);
    let uploading: Vec<&Value> =
        events.iter().filter(|event| event["percent"].as_f64().is_some_and(|it| it > 50.0 && it < 99.0)).collect();
    assert!(!uploading.is_empty(), "{events:#?}");
    for event in &uploading {
        assert_eq!((&event["currentFile"], &event["totalBytes"]), (&json!("001 Only.ts"), &event["bytesDownloaded"]));
        assert!(event["speed"].as_u64() > Some(0) && event["eta"].is_string(), "{event}");
    }
    let channel =
        |message: &Message| message.channel == "task:43:progress" && message.payload.contains("\"percent\":100,");
    let messages = subscription.messages();
    let uploading = messages.iter().position(|message| message.payload.contains("\"newStatus\":\"uploading\""));
    assert!(messages.iter().position(channel) > uploading, "nothing is whole before it is delivered");
    drop(daemon);
}

/// Every message of the task is as the contract says, from 0 to 100, and the order hears the same.
/// Returns them.
fn assert_as_agreed(world: &World, subscription: &Subscription) -> Vec<Value> {
    let told = || subscription.json("order:41:progress").iter().any(|event| event["percent"] == 100);
    wait::until_blocking("the end is told", LIMIT, || told().then_some(()));
    let events = subscription.json("task:43:progress");
    let fields =
        ["taskId", "orderId", "percent", "currentFile", "speed", "eta", "bytesDownloaded", "totalBytes", "timestamp"];
    let is_number = |value: &Value| value.is_null() || value.is_u64();
    let is_clock = |text: &str| {
        let numbers: Vec<_> =
            text.split(':').map(|part| part.parse::<u32>().ok().filter(|_| part.len() == 2)).collect();
        matches!(numbers[..], [Some(_), Some(minutes), Some(seconds)] if minutes < 60 && seconds < 60)
    };
    let mut bytes = 0;
    for event in &events {
        assert_eq!(keys(event), fields);
        assert_eq!((&event["taskId"], &event["orderId"]), (&json!(TASK), &json!(ORDER)));
        assert!(is_number(&event["totalBytes"]) && is_number(&event["speed"]), "{event}");
        assert!(event["eta"].is_null() || event["eta"].as_str().is_some_and(is_clock), "{event}");
        assert!(event["currentFile"].is_null() || event["currentFile"].is_string(), "{event}");
        assert!(event["bytesDownloaded"].as_u64().unwrap() >= bytes, "{events:#?}");
        bytes = event["bytesDownloaded"].as_u64().unwrap();
        assert_recent(event);
    }
    let percents = percents(subscription);
    assert_eq!(percents.len(), events.len(), "every message has a percentage");
    assert!(percents.is_sorted(), "{percents:?}");
    assert_eq!((percents.first(), percents.last()), (Some(&0.0), Some(&100.0)));
    assert_eq!(percents.iter().filter(|percent| **percent == 100.0).count(), 1, "{percents:?}");
    assert!(percents.iter().all(|percent| (percent * 100.0 - (percent * 100.0).round()).abs() < 1e-6), "{percents:?}");
    // A fifth message comes more than a second after the first; a clock of milliseconds may lose one.
    let times: Vec<u64> = events.iter().map(|event| event["timestamp"].as_u64().unwrap()).collect();
    assert!(times.windows(5).all(|five| five[4] - five[0] >= 999), "{times:?}");
    assert_eq!(subscription.json("order:41:progress"), events);

    let key = "progress:task:43";
    let stored: Value = serde_json::from_str(&world.redis.cli(&["GET", key])).unwrap();
    assert_eq!(Some(&stored), events.last());
    let ttl: u64 = world.redis.cli(&["TTL", key]).parse().unwrap();
    assert!((3500..=3600).contains(&ttl), "{ttl}");
    events
}

fn assert_statuses(subscription: &Subscription) {
    let completed = || subscription.json("order:41:status").iter().any(|event| event["newStatus"] == "completed");
    wait::until_blocking("completed is told", LIMIT, || completed().then_some(()));
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
