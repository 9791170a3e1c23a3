//! Servers that keep to no rule at all, and streams that are only there to do harm. (What the other
//! numbered lines do is shown beside what it is about.)

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::run::{Ended, Workspace, run};
use crate::support::catalog::CATALOG;
use crate::support::{Catalog, Fault, Origin, Publish, Reply, media};

const PLAYLIST: &str = "/p/index.m3u8";
/// What the two kernels' sockets take of what nobody reads.
const IN_SOCKETS: usize = 16 << 20;

/// A server that has its own idea of HTTP: `answer` gets each request's first line and the connection.
/// Returns its address.
fn server(answer: impl Fn(&str, &mut Counting) + Send + Sync + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let (answer, sent) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
    let all = sent.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (answer, sent) = (answer.clone(), all.clone());
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().expect("the connection")).lines();
                let first = lines.next().and_then(Result::ok).unwrap_or_default();
                lines.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
                answer(&first, &mut Counting { stream, sent });
            });
        }
    });
    (url, sent)
}

/// Counts what a client takes.
struct Counting {
    stream: TcpStream,
    sent: Arc<AtomicUsize>,
}

impl Counting {
    /// Whether the client is still there.
    fn send(&mut self, bytes: &[u8]) -> bool {
        self.sent.fetch_add(bytes.len(), Ordering::Relaxed);
        self.stream.write_all(bytes).is_ok()
    }

    /// The same for ever, or until the client has had enough.
    fn send_without_end(&mut self, bytes: &[u8]) {
        while self.send(bytes) {}
    }
}

fn fetch(space: &Workspace, url: &str, arguments: &[&str]) -> Ended {
    run(&mut space.fetch(url, "out.ts", arguments))
}

#[test]
fn line_01_ten_million_segments_are_not_read_to_the_end() {
    let space = Workspace::new();
    let many = "#EXTINF:4,\n0.ts\n".repeat(10_000);
    let lines = many.clone();
    let (url, sent) = server(move |_, client| {
        client.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n#EXTM3U\n");
        (0..1000).all(|_| client.send(lines.as_bytes()));
    });
    fetch(&space, &url, &[]).failed("in bytes", "playlist_too_large", &["more than 16777216 bytes"]);
    assert!(sent.load(Ordering::Relaxed) < (16 << 20) + IN_SOCKETS, "{sent:?} of 160 MB were taken");
    // Fewer bytes, and still too many of them.
    let origin = Origin::start();
    origin.put(PLAYLIST, format!("#EXTM3U\n{}", "#EXTINF:1,\na\n".repeat(500_001)));
    let ended = fetch(&space, &origin.url(PLAYLIST), &[]);
    ended.failed("in number", "playlist_too_large", &["line 1000003: more than 500000 segments"]);
    assert!(space.files().is_empty());
}

#[test]
fn line_02_a_body_without_end_is_left_at_the_limit() {
    let line = format!("#{}\n", "x".repeat(9998));
    for (name, head) in [
        ("until the end", "Connection: close\r\n"),
        ("a length that cannot be", "Content-Length: 18446744073709551615\r\n"),
        ("a length that is none", "Content-Length: -1\r\n"),
        ("a chunk without end", "Transfer-Encoding: chunked\r\n\r\nffffffffff"),
    ] {
        let (head, line) = (format!("HTTP/1.1 200 OK\r\n{head}\r\n"), line.clone());
        let (url, sent) = server(move |_, client| {
            client.send(head.as_bytes());
            client.send_without_end(line.as_bytes());
        });
        let space = Workspace::new();
        let ended =
            fetch(&space, &url, &["--set", "hls.max_playlist_bytes=1000000", "--set", "hls.segment_attempts=1"]);
        let kind = if name.starts_with("a length") { "connection_failed" } else { "playlist_too_large" };
        ended.failed(name, kind, &[&url]);
        assert!(sent.load(Ordering::Relaxed) < 1_000_000 + IN_SOCKETS, "{name}: {sent:?} bytes were taken");
    }
}

#[test]
fn line_04_a_multivariant_playlist_never_leads_to_another() {
    let origin = Origin::start();
    let master = |uri: &str| format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{uri}\n");
    origin.put("/other.m3u8", master("itself.m3u8"));
    origin.fault("/back.m3u8", Fault::Redirect("/to-the-first.m3u8".into()));
    // Depth 1 needs no look at where it has been: the first one inside is one too many, and under whatever name.
    for (name, path, leads_to) in [
        ("itself", "/itself.m3u8", "itself.m3u8"),
        ("another", "/first.m3u8", "other.m3u8"),
        ("itself by a redirect", "/to-the-first.m3u8", "back.m3u8"),
    ] {
        let space = Workspace::new();
        origin.forget_requests();
        origin.put(path, master(leads_to));
        fetch(&space, &origin.url(path), &[]).failed(
            name,
            "playlist_invalid",
            &["a multivariant playlist inside another"],
        );
        // Twice, because what is wrong with a playlist may pass; the first one once.
        assert!(origin.requests().len() <= 5, "{name}: {:?}", origin.counts());
    }
}

#[test]
fn line_06_there_is_nothing_to_download() {
    let origin = Origin::start();
    let gaps = "#EXTM3U\n#EXT-X-GAP\n#EXTINF:4,\n/s/0.ts\n#EXT-X-GAP\n#EXTINF:4,\n/s/1.ts\n#EXT-X-ENDLIST\n";
    for (name, text, allow_gaps, kind, says) in [
        (
            "no segments",
            "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-ENDLIST\n",
            "false",
            "playlist_invalid",
            "no segments",
        ),
        ("gaps", gaps, "false", "segment_missing", "segment 0 is declared absent"),
        ("gaps that are allowed", gaps, "true", "playlist_invalid", "declares every segment absent"),
    ] {
        let space = Workspace::new();
        origin.put(PLAYLIST, text);
        let setting = format!("hls.allow_gaps={allow_gaps}");
        fetch(&space, &origin.url(PLAYLIST), &["--set", &setting]).failed(name, kind, &[says]);
        assert!(space.files().is_empty(), "{name}");
    }
    assert_eq!(origin.count("/s/*"), 0);
}

#[test]
fn line_07_a_page_in_place_of_a_playlist_or_a_segment_fails_after_another_try() {
    let origin = Origin::start();
    let stream = Publish::of(&media::synthetic(3, 3000)).at(&origin, "/x");
    for (path, kind) in [(&stream.playlist_path, "playlist_invalid"), (&stream.segment_paths[1], "segment_invalid")] {
        let space = Workspace::new();
        origin.forget_requests();
        origin.fault(path, Fault::Html.times(2));
        fetch(&space, &stream.url, &[]).failed(path, kind, &[&origin.url(path)]);
        space.has_only_partial_files(path);
        assert_eq!(origin.count(path), 2, "{path}");
        // One page is an accident.
        origin.heal(path);
        origin.fault(path, Fault::Html.times(1));
        fetch(&space, &stream.url, &[]).succeeded(path);
        assert!(space.read("out.ts") == stream.truth, "{path}");
        origin.heal(path);
    }
}

#[test]
fn line_09_ranges_may_overlap_and_may_not_be_negative() {
    let (origin, space) = (Origin::start(), Workspace::new());
    let all = media::synthetic(1, 188 * 30).segments[0].clone();
    origin.put("/all.ts", all.clone());
    let range = |length: &str, offset: &str| format!("#EXT-X-BYTERANGE:{length}@{offset}\n#EXTINF:4,\nall.ts\n");
    let playlist = |ranges: String| format!("#EXTM3U\n{ranges}#EXT-X-ENDLIST\n");
    origin.put("/index.m3u8", playlist(range("3760", "0") + &range("3760", "1880")));
    fetch(&space, &origin.url("/index.m3u8"), &[]).succeeded("overlapping");
    assert!(space.read("out.ts") == [&all[..3760], &all[1880..5640]].concat());
    for (length, offset) in
        [("-376", "0"), ("376", "-1"), ("18446744073709551615", "1"), ("376", "18446744073709551616")]
    {
        origin.put("/index.m3u8", playlist(range(length, offset)));
        let ended = run(&mut space.fetch(&origin.url("/index.m3u8"), "bad.ts", &[]));
        ended.failed(&format!("{length}@{offset}"), "playlist_invalid", &["line "]);
    }
}

#[test]
fn line_17_an_iv_is_16_bytes_of_hexadecimal_digits_or_less() {
    let origin = Origin::start();
    for iv in ["0x0102030405060708090a0b0c0d0e0f1011", "0xxyz", "0x", "\"\"", "12", "0x-1"] {
        let space = Workspace::new();
        let key = format!("#EXT-X-KEY:METHOD=AES-128,URI=\"/k\",IV={iv}");
        origin.put(PLAYLIST, format!("#EXTM3U\n{key}\n#EXTINF:4,\n/s/0.ts\n#EXT-X-ENDLIST\n"));
        fetch(&space, &origin.url(PLAYLIST), &[]).failed(iv, "playlist_invalid", &["line 2", "IV"]);
    }
    assert_eq!(origin.count("/s/*") + origin.count("/k"), 0);
}

/// A wrong IV spoils 16 bytes and leaves the padding right.
#[test]
fn line_18_a_wrong_iv_is_seen_by_what_comes_out() {
    let (origin, space) = (Origin::start(), Workspace::new());
    let stream = Publish::of(&media::synthetic(3, 3000)).encrypted().at(&origin, "/x");
    let (before, iv) = stream.playlist.split_once("IV=0x").unwrap();
    let other = format!("{before}IV=0x{}{}", "7".repeat(32), &iv[32..]);
    origin.put(&stream.playlist_path, other);
    let ended = fetch(&space, &stream.url, &["--concurrency", "1"]);
    ended.failed("IV", "segment_invalid", &["segment 0 ", &origin.url(&stream.segment_paths[0])]);
    assert_eq!(origin.count(&stream.segment_paths[0]), 2, "once more from its beginning");
    for file in space.files().iter().filter(|file| file.ends_with(".part")) {
        assert!(space.read(file).is_empty(), "nothing of it is kept");
    }
}

#[test]
fn line_19_padding_may_be_missing_from_whole_packets_only() {
    let origin = Origin::start();
    // Whole packets and whole cipher blocks: all of the padding is a block of its own.
    let stream = Publish::of(&media::synthetic(4, 188 * 40)).encrypted().at(&origin, "/x");
    let leave_out = |bytes: usize| {
        for (path, wire) in stream.segment_paths.iter().zip(&stream.wire_segments) {
            origin.put(path, wire.slice(..wire.len() - bytes));
        }
    };
    leave_out(16);
    let space = Workspace::new();
    let ended = fetch(&space, &stream.url, &["--set", "log.level=hauld=debug"]);
    assert!(ended.status.success() && ended.stderr.contains("without padding"), "{ended:?}");
    assert!(space.read("out.ts") == stream.truth);
    leave_out(32);
    let space = Workspace::new();
    fetch(&space, &stream.url, &[]).failed("less", "decryption_failed", &["segment ", "padding"]);
    space.has_only_partial_files("less");
}

#[test]
fn line_23_a_file_that_becomes_another_is_not_gone_on_with() {
    use crate::support::publish::Offsets;
    let (origin, space) = (Origin::start(), Workspace::new());
    let stream = media::synthetic(4, 3000);
    let published = Publish::of(&stream).in_one_file(Offsets::Explicit).at(&origin, "/x");
    let path = published.segment_paths[0].clone();
    let (segment, truth) = (stream.segments[0].len(), published.truth.clone());
    origin.remove(&path);
    let asked = AtomicUsize::new(0);
    origin.answer(&path, move |request| {
        let range = request.header("Range").unwrap().strip_prefix("bytes=").unwrap().to_owned();
        let first: usize = range.split_once('-').unwrap().0.parse().unwrap();
        // Another packet at its end, from the third range on.
        let total = truth.len() + 188 * usize::from(asked.fetch_add(1, Ordering::Relaxed) >= 2);
        let reply = Reply::ok("video/mp2t", truth[first..first + segment].to_vec()).with_status(206);
        reply.with_header("Content-Range", format!("bytes {range}/{total}"))
    });
    let ended = fetch(&space, &published.url, &["--concurrency", "1"]);
    ended.failed("grown", "http_rejected", &["segment 2 ", "the file had 12032 bytes and has 12220 now"]);
    space.has_only_partial_files("grown");
}

#[test]
fn line_24_a_range_far_behind_is_not_skipped_to() {
    let (origin, space) = (Origin::start(), Workspace::new());
    let far = (16 << 20) + 188;
    origin.put("/all.ts", vec![0x47; far + 376]);
    origin.put("/index.m3u8", format!("#EXTM3U\n#EXT-X-BYTERANGE:376@{far}\n#EXTINF:4,\nall.ts\n#EXT-X-ENDLIST\n"));
    origin.fault("/all.ts", Fault::IgnoreRange);
    let ended = fetch(&space, &origin.url("/index.m3u8"), &[]);
    ended.failed("far", "http_rejected", &["segment 0 ", "the server does not answer byte ranges"]);
    space.has_only_partial_files("far");
}

#[test]
fn line_25_a_head_that_does_not_come_and_a_connection_that_is_not_made() {
    let space = Workspace::new();
    let quick = ["--set", "http.idle_timeout_seconds=1", "--set", "hls.segment_attempts=1"];
    let (silent, _) = server(|_, _| std::thread::sleep(Duration::from_secs(20)));
    fetch(&space, &silent, &quick).failed("silent", "timed_out", &[&silent]);
    let (slow, _) = server(|_, client| {
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" {
            client.send(&[*byte]);
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    fetch(&space, &slow, &quick).failed("a head that drips", "timed_out", &[&slow]);
    assert!(space.files().is_empty());
}

#[test]
fn line_26_a_segment_without_end_is_left_at_the_limit() {
    let space = Workspace::new();
    // Null packets, which say nothing but are right.
    let packets = [&[0x47, 0x1f, 0xff, 0x10][..], &[0; 184]].concat().repeat(100);
    let (url, sent) = server(move |first, client| {
        client.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        match first.contains("m3u8") {
            true => drop(client.send(b"#EXTM3U\n#EXTINF:4,\n/0.ts\n#EXT-X-ENDLIST\n")),
            false => client.send_without_end(&packets),
        }
    });
    let ended = fetch(&space, &format!("{url}/a.m3u8"), &["--set", "hls.max_segment_bytes=1000000"]);
    ended.failed("endless", "body_too_large", &["segment 0 ", "more than 1000000 bytes"]);
    assert!(sent.load(Ordering::Relaxed) < 1_000_000 + IN_SOCKETS, "{sent:?} bytes were taken");
    space.has_only_partial_files("endless");
}

/// Without a setting of the operator, what the playlist promises is the measure.
#[test]
fn line_26_a_segment_without_end_is_left_at_many_times_what_is_promised() {
    const LEAST: usize = 64 << 20;
    let space = Workspace::new();
    let packets = [&[0x47, 0x1f, 0xff, 0x10][..], &[0; 184]].concat().repeat(5000);
    let (url, sent) = server(move |first, client| {
        client.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        match first {
            _ if first.contains("a.m3u8") => {
                client.send(b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000000\nb.m3u8\n");
            }
            _ if first.contains("b.m3u8") => {
                client.send(b"#EXTM3U\n#EXTINF:4,\n/0.ts\n#EXT-X-ENDLIST\n");
            }
            _ => client.send_without_end(&packets),
        }
    });
    let ended = fetch(&space, &format!("{url}/a.m3u8"), &[]);
    ended.failed(
        "endless",
        "body_too_large",
        &["segment 0 ", &format!("more than {LEAST} bytes (hls.bandwidth_tolerance)")],
    );
    assert!(sent.load(Ordering::Relaxed) < LEAST + IN_SOCKETS, "{sent:?} bytes were taken");
    space.has_only_partial_files("endless");
}

/// What is not UTF-8 in the end (half of a character that JSON writes in two) is no title at all.
#[test]
fn line_36_a_title_with_half_a_character_is_refused() {
    let (origin, space) = (Origin::start(), Workspace::new());
    Catalog::on(&origin);
    let text = r#"{"title":"a\ud800b","sections":[{"title":"A","lectures":[{"title":"L","assets":[]}]}]}"#;
    origin.put(CATALOG, text);
    let endpoint = format!("resolver.catalog_endpoint={}", origin.url(CATALOG));
    let ended = run(&mut space.fetch("https://learn.example/course/1", "courses", &["--set", &endpoint]));
    ended.failed("half", "manifest_invalid", &[CATALOG]);
    assert!(space.files().is_empty());
}

#[test]
fn line_43_a_storm_of_interim_answers_and_a_flood_of_cookies() {
    let space = Workspace::new();
    let quick = ["--set", "http.idle_timeout_seconds=1", "--set", "hls.segment_attempts=1"];
    let (storm, _) = server(|_, client| client.send_without_end(&b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100)));
    fetch(&space, &storm, &quick).failed("a storm", "timed_out", &[&storm]);

    let origin = Origin::start();
    let stream = Publish::of(&media::synthetic(3, 3000)).at(&origin, "/x");
    let cookies = |reply: Reply, count: usize| {
        (0..count)
            .fold(reply, |reply, number| reply.with_header("Set-Cookie", format!("n{number}={}", "v".repeat(100))))
    };
    let playlist = Reply::of(&stream.playlist_path, stream.playlist.clone());
    origin.put_reply(&stream.playlist_path, cookies(playlist, 90));
    fetch(&space, &stream.url, &[]).succeeded("a flood");
    assert!(space.read("out.ts") == stream.truth);
    for request in origin.requests_for("/x/seg*") {
        let sent = request.header("Cookie").unwrap_or_default();
        assert!((1..=50).contains(&sent.split("; ").count()), "{sent}");
    }
}

#[test]
fn line_44_odd_urls_are_cut_off_written_right_and_shown_as_they_are_asked() {
    let origin = Origin::start();
    let stream = Publish::of(&media::synthetic(2, 3000)).at(&origin, "/x");
    let space = Workspace::new();
    let long = format!("{}?{}", stream.url, "x".repeat(64 << 10));
    fetch(&space, &long, &[]).refused_usage("64 KiB", "too long");

    origin.put("/x/a%20b%C3%BC.ts", stream.wire_segments[0].clone());
    origin.put("/x/odd.m3u8", stream.playlist.replace("seg0000.ts", "a bü.ts"));
    fetch(&space, &origin.url("/x/odd.m3u8"), &[]).succeeded("a blank and an umlaut");
    assert!(space.read("out.ts") == stream.truth);

    for (name, uri, kind, says) in [
        ("64 KiB", "x".repeat(64 << 10), "playlist_too_large", "65536"),
        ("9 KiB", "x".repeat(9 << 10), "url_invalid", "too long"),
        ("a user", "http://user:SECRET@127.0.0.1/a".into(), "url_invalid", "carries credentials"),
        ("a Cyrillic а", "http://аpple.invalid/a".into(), "connection_failed", "http://xn--pple-43d.invalid/a"),
    ] {
        let space = Workspace::new();
        let tail = if name == "64 KiB" { "y" } else { "" };
        origin.put("/x/odd.m3u8", format!("#EXTM3U\n#EXTINF:4,\n{uri}{tail}\n#EXT-X-ENDLIST\n"));
        let ended = fetch(&space, &origin.url("/x/odd.m3u8"), &["--set", "hls.segment_attempts=1"]);
        ended.failed(name, kind, &[if name == "64 KiB" { "65537" } else { says }]);
    }
}

#[test]
fn line_45_a_key_for_each_segment_is_asked_for_once_and_few_at_a_time() {
    let (origin, space) = (Origin::start(), Workspace::new());
    // More than are remembered.
    let stream = Publish::of(&media::synthetic(1100, 400)).encrypted().rotating_keys(1).at(&origin, "/x");
    fetch(&space, &stream.url, &["--concurrency", "16"]).succeeded("rotating");
    assert!(space.read("out.ts") == stream.truth);
    assert!(stream.key_paths.iter().all(|path| origin.count(path) == 1), "each key once");
    // One key that is late, and many that want it.
    let (origin, space) = (Origin::start(), Workspace::new());
    let stream = Publish::of(&media::synthetic(20, 400)).encrypted().at(&origin, "/x");
    origin.fault(&stream.key_paths[0], Fault::Delay(Duration::from_millis(300)));
    fetch(&space, &stream.url, &["--concurrency", "16"]).succeeded("late");
    assert_eq!(origin.count(&stream.key_paths[0]), 1);
    // Segments of keys that are late: no more than four keys are asked for at once.
    let (origin, space) = (Origin::start(), Workspace::new());
    let stream = Publish::of(&media::synthetic(20, 400)).encrypted().rotating_keys(1).at(&origin, "/x");
    stream.key_paths.iter().for_each(|path| origin.fault(path, Fault::Delay(Duration::from_millis(30))));
    stream.segment_paths.iter().for_each(|path| origin.fault(path, Fault::Delay(Duration::ZERO)));
    fetch(&space, &stream.url, &["--concurrency", "16"]).succeeded("few at a time");
    let keys = origin.requests_for("/x/key*");
    for window in keys.windows(5) {
        assert!(window[4].at - window[0].at >= Duration::from_millis(20), "five keys at once");
    }
}
