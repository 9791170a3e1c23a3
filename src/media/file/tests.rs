//! Against a server that misbehaves on the wire.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::config::HttpSettings;

/// What the server does with its n-th request (from 1): the bytes to send before it closes.
type Script = fn(n: usize, request: &str) -> Vec<u8>;

struct World {
    url: Url,
    requests: Arc<Mutex<Vec<String>>>,
    folder: tempfile::TempDir,
    client: MediaClient,
    progress: Progress,
    metrics: Arc<Metrics>,
    cancel: CancellationToken,
    limits: FileLimits,
}

impl World {
    async fn new(script: Script) -> World {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/a/file.pdf?sig=SECRET", listener.local_addr().unwrap())).unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(serve(listener, requests.clone(), script));
        World {
            url,
            requests,
            folder: tempfile::tempdir().unwrap(),
            client: MediaClient::new(&HttpSettings::loopback()).unwrap(),
            progress: Progress::default(),
            metrics: Metrics::new(),
            cancel: CancellationToken::new(),
            limits: FileLimits { max_bytes: 1 << 20, attempts: 3, may_be_empty: true },
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("001 A - file.pdf")
    }

    async fn fetch(&self) -> Result<u64> {
        self.fetch_to(&self.path()).await
    }

    async fn fetch_to(&self, path: &Path) -> Result<u64> {
        let pairs = [("x-token".to_owned(), "t".to_owned())];
        let headers = RequestHeaders::new(&self.url, &pairs, Arc::default()).unwrap();
        let fetch = FileFetch {
            client: &self.client,
            headers: &headers,
            limits: self.limits,
            allowance: &JobAllowance::unlimited(0),
            progress: &self.progress,
            metrics: &self.metrics,
            cancel: &self.cancel,
        };
        fetch.fetch(&self.url, path).await
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// What is in the folder.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

async fn serve(listener: TcpListener, requests: Arc<Mutex<Vec<String>>>, script: Script) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream, requests.clone(), script));
    }
}

async fn answer(mut stream: TcpStream, requests: Arc<Mutex<Vec<String>>>, script: Script) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let request = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let n = {
        let mut requests = requests.lock().unwrap();
        requests.push(request.clone());
        requests.len()
    };
    let bytes = script(n, &request);
    let hold = bytes.ends_with(HOLD);
    let _ = stream.write_all(bytes.strip_suffix(HOLD).unwrap_or(&bytes)).await;
    if hold {
        // Stays open and silent until the client goes.
        let _ = stream.read_u8().await;
    }
}

/// At the end of a script's bytes: keep the connection open.
const HOLD: &[u8] = b"<hold>";
const BODY: &str = "0123456789";

fn reply(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n\r\n{body}").into_bytes()
}

fn whole() -> Vec<u8> {
    reply("200 OK", "etag: \"v1\"\r\ncontent-length: 10", BODY)
}

fn cut_after_four() -> Vec<u8> {
    reply("200 OK", "etag: \"v1\"\r\ncontent-length: 10", &BODY[..4])
}

#[tokio::test]
async fn a_file_is_fetched_counted_and_published() {
    let world = World::new(|_, _| whole()).await;
    assert_eq!(world.fetch().await.unwrap(), 10);
    assert_eq!(std::fs::read_to_string(world.path()).unwrap(), BODY);
    assert_eq!(world.names(), ["001 A - file.pdf"]);
    assert_eq!(world.progress.snapshot().bytes_downloaded, 10);
    assert_eq!(world.metrics.received_bytes.get(), 10);
    assert!(world.requests()[0].contains("x-token: t") && world.requests()[0].contains("accept-encoding: identity"));
    // A second call finds it done and asks nobody.
    assert_eq!(world.fetch().await.unwrap(), 10);
    assert_eq!(world.requests().len(), 1);
}

#[tokio::test]
async fn line_21_a_cut_body_is_continued_where_it_ended() {
    let world = World::new(|n, _| match n {
        1 => cut_after_four(),
        _ => {
            reply("206 Partial Content", "etag: \"v1\"\r\ncontent-range: bytes 4-9/10\r\ncontent-length: 6", &BODY[4..])
        }
    })
    .await;
    assert_eq!(world.fetch().await.unwrap(), 10);
    assert_eq!(std::fs::read_to_string(world.path()).unwrap(), BODY);
    let requests = world.requests();
    assert!(!requests[0].contains("range:"));
    assert!(requests[1].contains("\r\nrange: bytes=4-\r\n") && requests[1].contains("\r\nif-range: \"v1\"\r\n"));
    assert_eq!(world.progress.snapshot().bytes_downloaded, 10);
}

#[tokio::test]
async fn the_next_call_continues_what_an_interrupted_one_left() {
    let mut world = World::new(|n, _| match n {
        1 => [cut_after_four(), HOLD.to_vec()].concat(),
        _ => reply("206 Partial Content", "content-range: bytes 4-9/10\r\ncontent-length: 6", &BODY[4..]),
    })
    .await;
    let cancel = world.cancel.clone();
    let interrupt = async {
        while world.progress.snapshot().bytes_downloaded < 4 {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(world.fetch(), interrupt);
    assert_eq!(result.unwrap_err().kind, FailureKind::Interrupted);
    assert_eq!(world.names(), ["001 A - file.pdf.part", "001 A - file.pdf.part.meta"]);
    let meta = std::fs::read_to_string(world.folder.path().join("001 A - file.pdf.part.meta")).unwrap();
    assert!(!meta.contains("SECRET"), "{meta}");

    world.cancel = CancellationToken::new();
    assert_eq!(world.fetch().await.unwrap(), 10);
    assert_eq!(std::fs::read_to_string(world.path()).unwrap(), BODY);
    assert_eq!(world.names(), ["001 A - file.pdf"]);
    assert_eq!(world.progress.snapshot().bytes_downloaded, 10);
}

#[tokio::test]
async fn line_23_a_changed_resource_starts_over() {
    // The server ignores the range; continues another version; continues elsewhere; has become shorter.
    let second: [Script; 5] = [
        |_, _| reply("200 OK", "etag: \"v2\"\r\ncontent-length: 3", "new"),
        |_, _| {
            reply("206 Partial Content", "etag: \"v2\"\r\ncontent-range: bytes 4-9/10\r\ncontent-length: 6", "xxxxxx")
        },
        |_, _| reply("206 Partial Content", "content-range: bytes 0-9/10\r\ncontent-length: 10", "xxxxxxxxxx"),
        |_, _| reply("206 Partial Content", "content-range: bytes 4-9/10\r\ncontent-length: 5", "xxxxx"),
        |_, _| reply("416 Range Not Satisfiable", "content-range: bytes */3\r\ncontent-length: 0", ""),
    ];
    for (case, second) in second.into_iter().enumerate() {
        let mut once = World::new(|_, _| cut_after_four()).await;
        once.limits.attempts = 1;
        assert_eq!(once.fetch().await.unwrap_err().kind, FailureKind::BodyTruncated);
        // What was left is carried over to the second server, which has another port.
        let mut next = World::new(second).await;
        for name in once.names() {
            let text = std::fs::read_to_string(once.folder.path().join(&name)).unwrap();
            let (from, to) = (once.url.port().unwrap().to_string(), next.url.port().unwrap().to_string());
            std::fs::write(next.folder.path().join(&name), text.replace(&from, &to)).unwrap();
        }
        next.limits.attempts = 1;
        let result = next.fetch().await;
        assert!(next.requests()[0].contains("range: bytes=4-"), "case {case}");
        if case == 0 {
            assert_eq!(result.unwrap(), 3);
            assert_eq!(std::fs::read_to_string(next.path()).unwrap(), "new");
        } else {
            assert_eq!(result.unwrap_err().kind, FailureKind::BodyTruncated, "case {case}");
            assert!(!next.path().exists());
            // Nothing of it is continued.
            let _ = next.fetch().await;
            assert!(!next.requests()[1].contains("range:"), "case {case}");
        }
    }
}

#[tokio::test]
async fn without_a_strong_validator_nothing_is_continued() {
    let world = World::new(|n, _| match n {
        1 => reply("200 OK", "etag: W/\"v1\"\r\ncontent-length: 10", &BODY[..4]),
        _ => whole(),
    })
    .await;
    assert_eq!(world.fetch().await.unwrap(), 10);
    assert!(!world.requests()[1].contains("range:"));
    assert_eq!(world.progress.snapshot().bytes_downloaded, 10);
}

#[tokio::test]
async fn trouble_is_tried_again_and_refusals_are_not() {
    let world = World::new(|n, _| match n {
        1 => reply("503 Service Unavailable", "retry-after: 0\r\ncontent-length: 0", ""),
        2 => Vec::new(),
        _ => whole(),
    })
    .await;
    assert_eq!(world.fetch().await.unwrap(), 10);
    assert_eq!(world.requests().len(), 3);

    // What seldom passes by itself gets a second request.
    let world = World::new(|_, _| reply("404 Not Found", "content-length: 0", "")).await;
    assert_eq!(world.fetch().await.unwrap_err().kind, FailureKind::NotFound);
    assert_eq!(world.requests().len(), 2);

    let once: [(Script, FailureKind); 5] = [
        (|_, _| reply("403 Forbidden", "content-length: 0", ""), FailureKind::LinkExpired),
        (|_, _| reply("204 No Content", "x: y", ""), FailureKind::HttpRejected),
        (
            |_, _| reply("206 Partial Content", "content-range: bytes 0-3/10\r\ncontent-length: 4", "0123"),
            FailureKind::HttpRejected,
        ),
        (
            |_, _| reply("200 OK", "content-type: text/html; charset=utf-8\r\ncontent-length: 6", "<form>"),
            FailureKind::HttpRejected,
        ),
        (|_, _| reply("200 OK", "content-encoding: br\r\ncontent-length: 1", "x"), FailureKind::HttpRejected),
    ];
    for (script, kind) in once {
        let world = World::new(script).await;
        let failure = world.fetch().await.unwrap_err();
        assert_eq!((failure.kind, world.requests().len()), (kind, 1), "{failure}");
        assert!(!failure.message.contains("SECRET"), "{failure}");
        assert!(!world.path().exists());
    }
    // The same page under the name of a page is the file itself.
    let world = World::new(once[3].0).await;
    assert_eq!(world.fetch_to(&world.folder.path().join("001 A - page.HTML")).await.unwrap(), 6);

    // What seldom passes by itself gets a second request.
    let world = World::new(|_, _| reply("404 Not Found", "content-length: 0", "")).await;
    assert_eq!(world.fetch().await.unwrap_err().kind, FailureKind::NotFound);
    assert_eq!(world.requests().len(), 2);
    let world = World::new(|_, _| reply("500 Oops", "content-length: 0", "")).await;
    assert_eq!(world.fetch().await.unwrap_err().kind, FailureKind::ServerError);
    assert_eq!(world.requests().len(), 3);
    let world = World::new(|_, _| reply("429 Slow Down", "retry-after: 3600\r\ncontent-length: 0", "")).await;
    let failure = world.fetch().await.unwrap_err();
    assert_eq!((failure.kind, failure.retry_after), (FailureKind::RateLimited, Some(Duration::from_secs(3600))));
    assert_eq!(world.requests().len(), 1);
}

#[tokio::test]
async fn sizes_are_bounded_and_an_empty_stream_is_none() {
    let scripts: [Script; 2] =
        [|_, _| whole(), |_, _| reply("200 OK", "transfer-encoding: chunked", "a\r\n0123456789\r\n0\r\n\r\n")];
    for script in scripts {
        let mut world = World::new(script).await;
        world.limits.max_bytes = 9;
        let failure = world.fetch().await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::BodyTooLarge);
        assert!(!world.path().exists());
        world.limits.max_bytes = 10;
        assert_eq!(world.fetch().await.unwrap(), 10);
    }
    let mut world = World::new(|_, _| reply("200 OK", "content-length: 0", "")).await;
    world.limits = FileLimits { max_bytes: 1 << 20, attempts: 1, may_be_empty: false };
    assert_eq!(world.fetch().await.unwrap_err().kind, FailureKind::SegmentInvalid);
    world.limits.may_be_empty = true;
    assert_eq!(world.fetch().await.unwrap(), 0);
}

#[tokio::test]
async fn line_21_a_chunked_body_without_its_end_is_not_a_file() {
    let world = World::new(|_, _| reply("200 OK", "transfer-encoding: chunked", "5\r\n01234\r\n")).await;
    let failure = world.fetch().await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::BodyTruncated, "{failure}");
    assert_eq!(world.requests().len(), 3);
    assert!(!world.path().exists());
}

#[tokio::test]
async fn a_whole_part_needs_no_request() {
    let world = World::new(|_, _| Vec::new()).await;
    let part = beside(&world.path(), ".part");
    let headers = [("etag".parse().unwrap(), "\"v1\"".parse().unwrap())].into_iter().collect();
    std::fs::write(&part, BODY).unwrap();
    Meta::of(&world.url, &headers, Some(10)).store(&beside(&world.path(), ".part.meta")).await.unwrap();
    assert_eq!(world.fetch().await.unwrap(), 10);
    assert_eq!(world.names(), ["001 A - file.pdf"]);
    assert!(world.requests().is_empty());
}

#[tokio::test]
async fn two_downloads_of_one_file_make_one_file() {
    let world = World::new(|_, _| whole()).await;
    let (first, second) = tokio::join!(world.fetch(), world.fetch());
    assert_eq!((first.unwrap(), second.unwrap()), (10, 10));
    assert_eq!(std::fs::read(world.path()).unwrap(), BODY.as_bytes());
    assert_eq!(world.names(), ["001 A - file.pdf"]);
    assert_eq!(world.requests().len(), 1);
}
