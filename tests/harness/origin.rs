//! The origin's faults, as an HTTP client sees them.

use std::time::{Duration, Instant};

use reqwest::{Client, Response};

use crate::support::{Fault, Origin, Reply, http_client, wait};

const BODY: &[u8] = b"0123456789abcdefghij";

/// An origin with one file, and a client that never gives up.
fn start() -> (Origin, Client) {
    let origin = Origin::start();
    origin.put("/a/seg1.ts", BODY);
    // The provider of TLS is installed by the first client of the crate.
    drop(http_client());
    let client = Client::builder().no_proxy().build().unwrap();
    (origin, client)
}

async fn get(client: &Client, origin: &Origin) -> reqwest::Result<Response> {
    client.get(origin.url("/a/seg1.ts")).send().await
}

async fn ranged(client: &Client, origin: &Origin, range: &str) -> Response {
    client.get(origin.url("/a/seg1.ts")).header("Range", range).send().await.unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn serves_files_over_one_connection_and_records_requests() {
    let (origin, client) = start();
    for _ in 0..3 {
        let response = client.get(origin.url("/a/seg1.ts?sig=a%2Bb")).header("X-Name", "value").send().await.unwrap();
        assert_eq!(header(&response, "content-type"), "video/mp2t");
        assert_eq!(response.bytes().await.unwrap(), BODY);
    }
    assert_eq!(client.get(origin.url("/nothing")).send().await.unwrap().status(), 404);
    origin.wait_until_idle().await;
    let requests = origin.requests_for("/a/seg1.ts");
    assert_eq!(requests.len(), 3);
    assert_eq!(origin.count("/a/*"), 3);
    assert_eq!(origin.count("/a/seg1.ts?sig=a%2Bb"), 3);
    assert_eq!(origin.count("/a/seg1.ts?sig=other"), 0);
    assert_eq!(origin.counts()["/nothing"], 1);
    assert_eq!(requests[0].query("sig").as_deref(), Some("a+b"));
    assert_eq!(requests[0].header("x-name"), Some("value"));
    assert_eq!((requests[1].order, requests[1].status, requests[1].bytes_sent), (1, Some(200), BODY.len()));
    assert_eq!(origin.connections(), 1);
    origin.forget_requests();
    assert_eq!(origin.requests().len(), 0);
}

#[tokio::test]
async fn serves_a_directory_and_nothing_outside_it() {
    let (origin, client) = start();
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("inside")).unwrap();
    std::fs::write(directory.path().join("inside/a b.vtt"), "WEBVTT").unwrap();
    std::fs::write(directory.path().join("secret"), "x").unwrap();
    origin.serve_directory("/files", directory.path().join("inside"));
    let response = client.get(origin.url("/files/a%20b.vtt")).send().await.unwrap();
    assert_eq!(header(&response, "content-type"), "text/vtt");
    assert_eq!(response.text().await.unwrap(), "WEBVTT");
    assert_eq!(client.get(origin.url("/files/%2e%2e%2fsecret")).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn ranges_are_answered_with_206_or_416() {
    let (origin, client) = start();
    for (range, status, content_range, body) in [
        ("bytes=2-4", 206, "bytes 2-4/20", &BODY[2..5]),
        ("bytes=15-", 206, "bytes 15-19/20", &BODY[15..]),
        ("bytes=15-99", 206, "bytes 15-19/20", &BODY[15..]),
        ("bytes=-3", 206, "bytes 17-19/20", &BODY[17..]),
        ("bytes=20-", 416, "bytes */20", b""),
        ("bytes=4-2", 200, "", BODY),
    ] {
        let response = ranged(&client, &origin, range).await;
        assert_eq!(response.status(), status, "{range}");
        assert_eq!(header(&response, "content-range"), content_range, "{range}");
        assert_eq!(response.bytes().await.unwrap(), body, "{range}");
    }
    let tag = header(&get(&client, &origin).await.unwrap(), "etag").to_owned();
    let conditional =
        |tag: String| client.get(origin.url("/a/seg1.ts")).header("Range", "bytes=1-1").header("If-Range", tag);
    assert_eq!(conditional(tag.clone()).send().await.unwrap().status(), 206);
    origin.put("/a/seg1.ts", "something else");
    assert_eq!(conditional(tag).send().await.unwrap().status(), 200);

    origin.fault("/a/seg1.ts", Fault::IgnoreRange.times(1));
    assert_eq!(ranged(&client, &origin, "bytes=2-4").await.status(), 200);
    origin.fault("/a/seg1.ts", Fault::WrongContentRange.times(1));
    let response = ranged(&client, &origin, "bytes=2-4").await;
    assert_eq!((response.status().as_u16(), header(&response, "content-range")), (206, "bytes 3-5/14"));
}

#[tokio::test]
async fn statuses_come_so_often_and_then_all_is_well() {
    let (origin, client) = start();
    origin.put("/a/seg2.ts", BODY);
    origin.fault("/a/*", Fault::status_with(503, &[("Retry-After", "7")]).times(2));
    origin.fault("/a/seg1.ts", Fault::Status(403).after(1).times(1));
    let mut seen = Vec::new();
    for _ in 0..5 {
        let response = get(&client, &origin).await.unwrap();
        seen.push((response.status().as_u16(), header(&response, "retry-after").to_owned()));
    }
    let seen: Vec<(u16, &str)> = seen.iter().map(|(status, after)| (*status, after.as_str())).collect();
    assert_eq!(seen, [(503, "7"), (503, "7"), (200, ""), (403, ""), (200, "")]);
    // Each path is counted for itself.
    assert_eq!(client.get(origin.url("/a/seg2.ts")).send().await.unwrap().status(), 503);
    origin.heal("/a/*");
    assert_eq!(client.get(origin.url("/a/seg2.ts")).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_mood_comes_before_the_faults_of_a_path() {
    let (origin, client) = start();
    origin.fault("/a/*", Fault::Status(500).times(1));
    origin.misbehave(|request| request.query("sick").map(|_| Fault::Status(503)));
    let mut seen = Vec::new();
    for target in ["/a/seg1.ts?sick=1", "/a/seg1.ts", "/a/seg1.ts?sick=1", "/a/seg1.ts"] {
        seen.push(client.get(origin.url(target)).send().await.unwrap().status().as_u16());
    }
    assert_eq!(seen, [503, 500, 503, 200]);
    assert_eq!(origin.served("/a/seg1.ts").unwrap().body, BODY);
    assert!(origin.served("/nothing").is_none());
}

#[tokio::test]
async fn other_answers_in_place_of_the_file() {
    let (origin, client) = start();
    origin.put("/b/moved.ts", "moved");
    for (fault, status, content_type, body) in [
        (Fault::Redirect("/b/moved.ts".into()), 200, "video/mp2t", "moved"),
        (Fault::Redirect(origin.url("/b/moved.ts")), 200, "video/mp2t", "moved"),
        (Fault::Instead(Reply::ok("text/x", "y").with_status(201)), 201, "text/x", "y"),
        (Fault::Body("15 bytes, a key".into()), 200, "video/mp2t", "15 bytes, a key"),
        (Fault::Empty, 200, "video/mp2t", ""),
        (Fault::Chunked, 200, "video/mp2t", "0123456789abcdefghij"),
        (Fault::DeclareLength(5), 200, "video/mp2t", "01234"),
    ] {
        origin.fault("/a/seg1.ts", fault.clone().times(1));
        let response = get(&client, &origin).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), header(&response, "content-type")),
            (status, content_type),
            "{fault:?}"
        );
        assert_eq!(header(&response, "content-length").is_empty(), matches!(fault, Fault::Chunked));
        assert_eq!(response.text().await.unwrap(), body, "{fault:?}");
    }
    origin.fault("/a/seg1.ts", Fault::Html.times(1));
    let response = get(&client, &origin).await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "content-type")), (200, "text/html; charset=utf-8"));
    assert!(response.text().await.unwrap().starts_with("<!DOCTYPE html>"));
}

#[tokio::test]
async fn connections_are_cut_where_the_test_says() {
    let (origin, client) = start();
    origin.fault("/a/seg1.ts", Fault::DropBeforeHead.times(1));
    // reqwest asks once more by itself when a connection that it had kept is closed; this is a new one.
    assert!(get(&client, &origin).await.unwrap_err().is_request());
    for fault in [Fault::CutAt(7), Fault::CutChunkedAt(7), Fault::DeclareLength(27)] {
        origin.fault("/a/seg1.ts", fault.clone().times(1));
        let mut response = get(&client, &origin).await.unwrap();
        let mut body = Vec::new();
        let error = loop {
            match response.chunk().await {
                Ok(Some(chunk)) => body.extend(chunk),
                Ok(None) => panic!("{fault:?} was not seen"),
                Err(error) => break error,
            }
        };
        assert!(error.is_body() || error.is_decode(), "{fault:?}: {error:?}");
        let expected = if matches!(fault, Fault::DeclareLength(_)) { BODY } else { &BODY[..7] };
        assert_eq!(body, expected, "{fault:?}");
    }
    assert_eq!(get(&client, &origin).await.unwrap().bytes().await.unwrap(), BODY);
}

#[tokio::test]
async fn answers_stall_drip_and_come_late() {
    let (origin, client) = start();
    origin.fault("/a/seg1.ts", Fault::StallAfter(7).times(1));
    let mut response = get(&client, &origin).await.unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), BODY[..7]);
    assert!(tokio::time::timeout(Duration::from_millis(300), response.chunk()).await.is_err());
    assert_eq!(origin.in_flight(), 1);
    drop(response);
    origin.wait_until_idle().await;

    let start = Instant::now();
    origin.fault("/a/seg1.ts", Fault::Drip { bytes: 5, pause: Duration::from_millis(50) }.times(1));
    assert_eq!(get(&client, &origin).await.unwrap().bytes().await.unwrap(), BODY);
    origin.fault("/a/seg1.ts", Fault::Delay(Duration::from_millis(50)).times(1));
    assert_eq!(get(&client, &origin).await.unwrap().bytes().await.unwrap(), BODY);
    assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
}

#[tokio::test]
async fn held_requests_wait_until_they_are_released() {
    let (origin, client) = start();
    let hold = origin.hold("/a/*");
    let url = origin.url("/a/seg1.ts");
    let ask = || tokio::spawn(client.get(&url).send());
    let waiting = [ask(), ask()];
    hold.wait_for(2).await;
    assert_eq!((origin.in_flight(), origin.most_in_flight(), hold.held()), (2, 2, 2));
    assert!(origin.requests().iter().all(|request| request.status.is_none() && !request.finished));
    // One client leaves: its request is over.
    let [first, second] = waiting;
    first.abort();
    wait::until("one request is left", Duration::from_secs(5), || (origin.in_flight() == 1).then_some(())).await;
    hold.release();
    assert_eq!(second.await.unwrap().unwrap().bytes().await.unwrap(), BODY);
    assert_eq!(get(&client, &origin).await.unwrap().bytes().await.unwrap(), BODY);

    let hold = origin.hold_body("/a/seg1.ts", 7);
    let mut response = get(&client, &origin).await.unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), BODY[..7]);
    hold.wait_for(1).await;
    assert_eq!(origin.requests().last().unwrap().bytes_sent, 7);
    drop(hold);
    assert_eq!(response.bytes().await.unwrap(), BODY[7..]);
}

#[tokio::test]
async fn a_dropped_origin_is_gone() {
    let (origin, client) = start();
    let url = origin.url("/a/seg1.ts");
    let hold = origin.hold("/a/seg1.ts");
    let pending = tokio::spawn(client.get(&url).send());
    hold.wait_for(1).await;
    drop(origin);
    assert!(pending.await.unwrap().unwrap_err().is_request());
    assert!(client.get(&url).send().await.unwrap_err().is_connect());
}
