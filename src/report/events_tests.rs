use futures_util::StreamExt;
use redis::AsyncCommands;
use serde_json::{Value, json};

use super::*;
use crate::report::test_redis::RedisServer;

const PATIENCE: Duration = Duration::from_secs(20);

fn task() -> TaskId {
    TaskId::new(43).unwrap()
}

/// What is heard on one pattern of channels.
struct Listener(redis::aio::PubSub);

impl Listener {
    async fn new(server: &RedisServer, pattern: &str) -> Listener {
        let client = redis::Client::open(server.url()).unwrap();
        let mut subscription = client.get_async_pubsub().await.unwrap();
        subscription.psubscribe(pattern).await.unwrap();
        Listener(subscription)
    }

    async fn next(&mut self) -> (String, String) {
        let message = tokio::time::timeout(PATIENCE, self.0.on_message().next()).await.unwrap().unwrap();
        (message.get_channel_name().to_owned(), message.get_payload().unwrap())
    }
}

/// The text up to the timestamp, which is checked on the way.
fn without_timestamp(json: &str) -> &str {
    let value: Value = serde_json::from_str(json).unwrap();
    let age = now_milliseconds() - value["timestamp"].as_i64().unwrap();
    assert!((0..20_000).contains(&age), "{json}");
    json.split(",\"timestamp\"").next().unwrap()
}

#[tokio::test]
async fn a_status_goes_to_the_task_and_its_order() {
    let server = RedisServer::start().await;
    let mut listener = Listener::new(&server, "*:status").await;
    let events = Events::new(server.connection());
    let fence = Fence::for_test(&mut server.connection()).await;
    events.status(&fence, task(), Some(41), "downloading", "enrolled", "12 lectures").await;
    events.status(&fence, task(), None, "completed", "uploading", "").await;
    let text =
        r#"{"taskId":43,"orderId":41,"newStatus":"downloading","previousStatus":"enrolled","message":"12 lectures""#;
    for channel in ["task:43:status", "order:41:status"] {
        let (heard, json) = listener.next().await;
        assert_eq!((heard.as_str(), without_timestamp(&json)), (channel, text));
    }
    let (channel, json) = listener.next().await;
    assert_eq!(channel, "task:43:status");
    assert_eq!(
        without_timestamp(&json),
        r#"{"taskId":43,"orderId":null,"newStatus":"completed","previousStatus":"uploading","message":"""#
    );
}

#[tokio::test]
async fn progress_is_published_when_it_changed_and_kept_for_an_hour() {
    let server = RedisServer::start().await;
    let mut listener = Listener::new(&server, "*:progress").await;
    let progress = Arc::new(Progress::default());
    let fence = Fence::for_test(&mut server.connection()).await;
    let watch = Events::new(server.connection()).watch_progress(fence.clone(), task(), Some(41), progress.clone());

    let unknown = r#"{"taskId":43,"orderId":41,"percent":0,"currentFile":null,"speed":null,"eta":null,"bytesDownloaded":0,"totalBytes":null"#;
    for channel in ["task:43:progress", "order:41:progress"] {
        let (heard, json) = listener.next().await;
        assert_eq!((heard.as_str(), without_timestamp(&json)), (channel, unknown));
    }
    progress.set_items(3);
    progress.start_item("03 Loops.mp4");
    progress.add_track(10, 0, None);
    progress.segments_done(1);
    progress.add_bytes(123);
    let mut last = Value::Null;
    while last["bytesDownloaded"] != 123 || last["percent"] != 3.33 {
        last = serde_json::from_str(&listener.next().await.1).unwrap();
    }
    assert_eq!(last["currentFile"], "03 Loops.mp4");
    // All is downloaded, not delivered.
    progress.set_items(1);
    progress.finish_item();
    while last["percent"] != 99.99 {
        last = serde_json::from_str(&listener.next().await.1).unwrap();
    }
    watch.finish().await;
    while last["percent"] != 100 {
        last = serde_json::from_str(&listener.next().await.1).unwrap();
    }
    assert_eq!(last["eta"], "00:00:00");

    let mut connection = server.connection();
    let kept: String = connection.get("progress:task:43").await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&kept).unwrap(), last);
    let ttl: u64 = connection.ttl("progress:task:43").await.unwrap();
    assert!((3590..=3600).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn a_busy_job_publishes_at_most_four_times_a_second() {
    let server = RedisServer::start().await;
    let mut listener = Listener::new(&server, "task:*:progress").await;
    let progress = Arc::new(Progress::default());
    let events = Events::new(server.connection());
    let fence = Fence::for_test(&mut server.connection()).await;
    let watch = events.watch_progress(fence.clone(), task(), None, progress.clone());
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(1600) {
        progress.add_bytes(1000);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let allowed = begin.elapsed().as_millis() / INTERVAL.as_millis() + 1;
    drop(watch);
    // The status is heard after everything that went before it.
    let mut end = Listener::new(&server, "task:*:status").await;
    events.status(&fence, task(), None, "failed", "downloading", "").await;
    end.next().await;
    let mut heard = Vec::new();
    while let Ok(message) = tokio::time::timeout(Duration::from_millis(200), listener.next()).await {
        heard.push(serde_json::from_str::<Value>(&message.1).unwrap());
    }
    assert!((2..=allowed as usize).contains(&heard.len()), "{} of {allowed}", heard.len());
    assert!(heard.last().unwrap()["speed"].as_u64().unwrap() > 0);
    assert_eq!(heard.last().unwrap()["percent"], 0, "a dropped guard publishes nothing");
}

#[tokio::test]
async fn a_job_that_stands_still_publishes_nothing() {
    let server = RedisServer::start().await;
    let mut listener = Listener::new(&server, "task:*:progress").await;
    let fence = Fence::for_test(&mut server.connection()).await;
    let watch = Events::new(server.connection()).watch_progress(fence.clone(), task(), None, Arc::default());
    listener.next().await;
    let second = tokio::time::timeout(INTERVAL * 3, listener.next()).await;
    assert!(second.is_err(), "{second:?}");
    watch.finish().await;
    assert_eq!(serde_json::from_str::<Value>(&listener.next().await.1).unwrap()["percent"], 100);
}

#[tokio::test]
async fn a_dead_server_delays_nothing() {
    let mut server = RedisServer::start().await;
    let events = Events::new(server.connection());
    let fence = Fence::for_test(&mut server.connection()).await;
    events.status(&fence, task(), None, "downloading", "enrolled", "").await;
    server.kill();
    let begin = Instant::now();
    let watch = events.watch_progress(fence.clone(), task(), None, Arc::new(Progress::default()));
    events.status(&fence, task(), None, "failed", "downloading", "").await;
    watch.finish().await;
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn who_has_lost_the_lease_is_not_heard_any_more() {
    let server = RedisServer::start().await;
    let mut listener = Listener::new(&server, "task:*").await;
    let events = Events::new(server.connection());
    let fence = Fence::for_test(&mut server.connection()).await;
    let mut connection = server.connection();
    events.status(&fence, task(), None, "downloading", "enrolled", "").await;
    assert_eq!(listener.next().await.0, "task:43:status");
    let _: u64 = connection.del("leases").await.unwrap();
    events.status(&fence, task(), None, "completed", "downloading", "").await;
    events.watch_progress(fence.clone(), task(), None, Arc::default()).finish().await;
    let _: u64 = connection.publish("task:43:end", "").await.unwrap();
    assert_eq!(listener.next().await.0, "task:43:end");
    assert!(!connection.exists::<_, bool>("progress:task:43").await.unwrap());
}

fn snapshot(percent: f64, bytes: u64) -> Snapshot {
    let current_file = String::new();
    Snapshot { percent, current_file, bytes_downloaded: bytes, bytes_moved: bytes, ..Snapshot::default() }
}

#[test]
fn speed_is_of_the_last_seconds_and_the_rest_takes_as_long_as_what_was_done() {
    let mut pace = Pace::default();
    let begin = Instant::now();
    let mut look =
        |seconds: u64, percent, bytes| pace.look(begin + Duration::from_secs(seconds), &snapshot(percent, bytes));
    let estimate = |speed, seconds: Option<u64>| Estimate { speed, remaining: seconds.map(Duration::from_secs) };
    assert_eq!(look(0, 0.0, 0), estimate(None, None));
    // Half of it was there before: that says nothing about the pace.
    assert_eq!(look(10, 50.0, 1000), estimate(Some(100), None));
    assert_eq!(look(20, 60.0, 6000), estimate(Some(500), Some(40)));
    assert_eq!(look(25, 60.0, 6000), estimate(Some(0), Some(60)));
    assert_eq!(look(30, 100.0, 7000), estimate(Some(200), Some(0)));
}

#[test]
fn numbers_look_as_the_contract_says() {
    assert_eq!(json!(rounded(37.5)).to_string(), "37.5");
    assert_eq!(json!(rounded(100.0 / 3.0)).to_string(), "33.33");
    assert_eq!(json!(rounded(100.0)).to_string(), "100");
    assert_eq!(clock(Duration::from_secs(192)).as_deref(), Some("00:03:12"));
    assert_eq!(clock(Duration::from_secs(359_999)).as_deref(), Some("99:59:59"));
    assert_eq!(clock(Duration::from_secs(360_000)), None);
}
