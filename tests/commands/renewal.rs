//! Streams that change under a download: links that expire, copies that take over, events that grow.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde_json::json;

use crate::run::{Workspace, run};
use crate::support::origin::Request;
use crate::support::{Fault, Origin, Publish, Published, Reply, media};

const SEGMENTS: usize = 24;
/// Segments that are served with one signature.
const USES: usize = 7;

/// What has to be asked for again to get links that work.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Renewed {
    Playlist,
    Multivariant,
    Manifest,
}

/// An origin whose signatures expire.
struct Expiring {
    renewed: Renewed,
    playlist: String,
    bodies: HashMap<String, Bytes>,
    signature: usize,
    uses: usize,
}

impl Expiring {
    fn start(origin: &Origin, renewed: Renewed, published: &Published) -> Arc<Mutex<Expiring>> {
        let bodies = published.segment_paths.iter().cloned().zip(published.wire_segments.iter().cloned()).collect();
        let playlist = published.playlist.clone();
        let state = Arc::new(Mutex::new(Expiring { renewed, playlist, bodies, signature: 1, uses: 0 }));
        // What was put there would be answered whatever the signature is.
        for path in published.segment_paths.iter().chain([&published.playlist_path]) {
            origin.remove(path);
            origin.remove(&format!("{path}?sig=1"));
        }
        for path in ["/catalog", "/x/master.m3u8", "/x/index.m3u8", "/x/seg*"] {
            let state = state.clone();
            origin.answer(path, move |request| state.lock().unwrap().answer(request));
        }
        state
    }

    fn answer(&mut self, request: &Request) -> Reply {
        let is_valid = request.query("sig") == Some(self.signature.to_string());
        let refused = || Reply::status(403).with_body("expired");
        match request.path.as_str() {
            "/catalog" => {
                let host = request.header("Host").unwrap();
                let url = format!("http://{host}/x/master.m3u8?sig={}", self.signature);
                let lecture = json!({"title": "One", "stream": {"url": url}});
                Reply::json(&json!({"title": "Course", "sections": [{"title": "A", "lectures": [lecture]}]}))
            }
            "/x/master.m3u8" if self.renewed == Renewed::Manifest && !is_valid => refused(),
            "/x/master.m3u8" => {
                let text = format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nindex.m3u8?sig={}\n", self.signature);
                Reply::of(&request.path, text)
            }
            "/x/index.m3u8" if self.renewed != Renewed::Playlist && !is_valid => refused(),
            "/x/index.m3u8" => {
                Reply::of(&request.path, self.playlist.replace("sig=1", &format!("sig={}", self.signature)))
            }
            _ if !is_valid => refused(),
            path => {
                self.uses += 1;
                if self.uses == USES {
                    (self.uses, self.signature) = (0, self.signature + 1);
                }
                Reply::of(path, self.bodies[path].clone())
            }
        }
    }
}

#[test]
fn line_31_links_that_expire_are_asked_for_again_and_the_download_goes_on() {
    for renewed in [Renewed::Playlist, Renewed::Multivariant, Renewed::Manifest] {
        let (origin, space) = (Origin::start(), Workspace::new());
        let name = format!("{renewed:?}");
        let stream = media::synthetic(SEGMENTS, 3000);
        let published = Publish::of(&stream).encrypted().signed("sig=1").at(&origin, "/x");
        let state = Expiring::start(&origin, renewed, &published);
        let catalog = format!("resolver.catalog_endpoint={}", origin.url("/catalog"));
        let (url, arguments) = match renewed {
            Renewed::Playlist => (origin.url("/x/index.m3u8"), vec![]),
            Renewed::Multivariant => (origin.url("/x/master.m3u8"), vec![]),
            Renewed::Manifest => (origin.url("/course"), vec!["--set", &catalog]),
        };
        let output = if renewed == Renewed::Manifest { "courses" } else { "out.ts" };
        let arguments = [&arguments[..], &["--concurrency", "4", "--container", "ts"]].concat();
        run(&mut space.fetch(&url, output, &arguments)).succeeded(&name);
        let file = if renewed == Renewed::Manifest { "courses/Course/01 A/001 One.ts" } else { "out.ts" };
        assert!(space.read(file) == published.truth, "{name}");
        assert!(state.lock().unwrap().signature > SEGMENTS / USES, "{name}: signatures did expire");
        let requests = origin.requests_for("/x/seg*");
        let served = requests.iter().filter(|request| request.status == Some(200)).count();
        assert_eq!(served, SEGMENTS, "{name}: what was there was not asked for again");
    }
}

#[test]
fn line_31_links_that_stay_expired_end_the_download() {
    let (origin, space) = (Origin::start(), Workspace::new());
    let published = Publish::of(&media::synthetic(6, 3000)).signed("sig=SECRET").at(&origin, "/x");
    origin.fault(&published.segment_paths[3], Fault::Status(403));
    let ended = run(&mut space.fetch(&published.url, "out.ts", &[]));
    ended.failed("403", "link_expired", &["segment 3 ", &origin.url(&published.segment_paths[3])]);
    assert!(origin.count(&published.playlist_path) <= 3, "{:?}", origin.counts());
}

/// Two copies of a stream and a multivariant playlist of both.
fn copies(origin: &Origin, second: &str) -> (String, Published, Published) {
    let stream = media::synthetic(SEGMENTS, 3000);
    let shape = Publish::of(&stream).encrypted_by_sequence();
    let (a, b) = (shape.at(origin, "/a"), shape.at(origin, "/b"));
    let line = "#EXT-X-STREAM-INF:BANDWIDTH=1000,RESOLUTION=1280x720";
    let text = format!("#EXTM3U\n{line}\n{}\n{line},PATHWAY-ID=\"b\"\n{second}\n", a.playlist_path);
    origin.put("/master.m3u8", text);
    (origin.url("/master.m3u8"), a, b)
}

#[test]
fn line_34_a_copy_takes_over_from_a_host_that_keeps_failing() {
    type Break = fn(&Origin, &Published);
    let cases: [(&str, Break, usize); 4] = [
        ("404 from the tenth on", |origin, a| a.segment_paths[10..].iter().for_each(|path| origin.remove(path)), 10),
        ("503 for one", |origin, a| origin.fault(&a.segment_paths[12], Fault::Status(503)), 12),
        ("never the right bytes", |origin, a| origin.fault(&a.segment_paths[5], Fault::Html), 5),
        ("no playlist", |origin, a| origin.remove(&a.playlist_path), 0),
    ];
    for (name, break_it, from) in cases {
        let (origin, space) = (Origin::start(), Workspace::new());
        let (url, a, b) = copies(&origin, "/b/index.m3u8");
        assert_eq!(b.playlist_path, "/b/index.m3u8");
        break_it(&origin, &a);
        let arguments = ["--set", "hls.segment_attempts=2", "--concurrency", "2"];
        let ended = run(&mut space.fetch(&url, "out.ts", &arguments));
        assert!(ended.status.success() && ended.stderr.contains("copy"), "{name}: {ended:?}");
        assert!(space.read("out.ts") == a.truth, "{name}");
        for path in b.segment_paths.iter().take(from.saturating_sub(1)) {
            assert_eq!(origin.count(path), 0, "{name}: {path} was there already");
        }
        assert!(origin.count(&b.segment_paths[from]) > 0, "{name}");
    }
}

#[test]
fn line_32_what_is_no_copy_is_never_spliced_in() {
    let (origin, space) = (Origin::start(), Workspace::new());
    let (url, a, _) = copies(&origin, "/c/index.m3u8");
    Publish::of(&media::synthetic(SEGMENTS - 1, 3000)).at(&origin, "/c");
    origin.remove(&a.segment_paths[10]);
    let ended = run(&mut space.fetch(&url, "out.ts", &[]));
    ended.failed("another stream", "not_found", &["segment 10 ", &origin.url(&a.segment_paths[10])]);
    space.has_only_partial_files("another stream");
    assert_eq!(origin.count("/c/seg*"), 0);
}

/// The first `count` segments of a stream as an event.
fn event(published: &Published, count: usize, end: bool) -> String {
    let lines: String = published.segment_paths[..count].iter().map(|path| format!("#EXTINF:1,\n{path}\n")).collect();
    let end = if end { "#EXT-X-ENDLIST\n" } else { "" };
    format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-PLAYLIST-TYPE:EVENT\n{lines}{end}")
}

#[test]
fn an_event_is_followed_until_it_ends() {
    let (origin, space) = (Origin::start(), Workspace::new());
    let published = Publish::of(&media::synthetic(8, 3000)).at(&origin, "/x");
    let looks = Mutex::new(0);
    let growing = published.clone();
    origin.answer("/x/event.m3u8", move |request| {
        let mut looks = looks.lock().unwrap();
        *looks += 1;
        // The third answer is an older copy out of a cache.
        let count = [2, 5, 4, 8][(*looks - 1).min(3)];
        Reply::of(&request.path, event(&growing, count, *looks >= 4))
    });
    run(&mut space.fetch(&origin.url("/x/event.m3u8"), "out.ts", &[])).succeeded("event");
    assert!(space.read("out.ts") == published.truth);
}

#[test]
fn an_event_that_does_not_end_is_gone_on_with_later() {
    let (origin, space) = (Origin::start(), Workspace::new());
    let published = Publish::of(&media::synthetic(4, 3000)).at(&origin, "/x");
    origin.put("/x/event.m3u8", event(&published, 3, false));
    let url = origin.url("/x/event.m3u8");
    let fetch = || run(&mut space.fetch(&url, "out.ts", &["--set", "live.max_seconds=1"]));
    fetch().failed("not ended", "event_not_ended", &["within 1 s", &url]);
    space.has_only_partial_files("not ended");
    origin.forget_requests();
    origin.put("/x/event.m3u8", event(&published, 4, true));
    fetch().succeeded("ended");
    assert!(space.read("out.ts") == published.truth);
    assert_eq!(origin.count("/x/seg*"), 1, "only what was new was asked for");
}

#[test]
fn an_event_that_still_grows_is_not_followed_for_ever() {
    let (origin, space) = (Origin::start(), Workspace::new());
    let published = Publish::of(&media::synthetic(30, 3000)).at(&origin, "/x");
    let looks = Mutex::new(1);
    origin.answer("/x/event.m3u8", move |request| {
        let mut looks = looks.lock().unwrap();
        *looks += 1;
        Reply::of(&request.path, event(&published, (*looks).min(30), false))
    });
    let url = origin.url("/x/event.m3u8");
    let ended = run(&mut space.fetch(&url, "out.ts", &["--set", "live.max_seconds=1"]));
    ended.failed("growing", "event_not_ended", &["within 1 s", &url]);
    assert!(origin.count("/x/event.m3u8") <= 4, "{} looks in a second", origin.count("/x/event.m3u8"));
}

#[test]
fn line_42_an_event_that_changes_is_no_event() {
    type Change = fn(&Published) -> String;
    let numbered = |text: String, first: u64| {
        text.replace("PLAYLIST-TYPE:EVENT", &format!("PLAYLIST-TYPE:EVENT\n#EXT-X-MEDIA-SEQUENCE:{first}"))
    };
    let cases: [(&str, u64, Change); 3] = [
        ("begins later", 1, |published| event(published, 4, true)),
        ("jumps back", 3, |published| event(published, 4, true)),
        ("has another segment", 5, |published| {
            let line = |seconds: u32| format!("#EXTINF:{seconds},\n{}", published.segment_paths[1]);
            event(published, 4, true).replace(&line(1), &line(2))
        }),
    ];
    for (name, first, change) in cases {
        let (origin, space) = (Origin::start(), Workspace::new());
        let published = Publish::of(&media::synthetic(4, 3000)).at(&origin, "/x");
        let (before, after) = (numbered(event(&published, 2, false), 5), numbered(change(&published), first));
        let looks = Mutex::new(0);
        origin.answer("/x/event.m3u8", move |request| {
            *looks.lock().unwrap() += 1;
            let text = if *looks.lock().unwrap() == 1 { &before } else { &after };
            Reply::of(&request.path, text.clone())
        });
        let ended = run(&mut space.fetch(&origin.url("/x/event.m3u8"), "out.ts", &[]));
        ended.failed(name, "playlist_invalid", &["has changed"]);
        space.has_only_partial_files(name);
    }
}

/// It may be an older copy out of a cache: what has been seen stays, and no segment is taken twice.
#[test]
fn line_42_an_event_that_shrinks_for_good_does_not_end() {
    let (origin, space) = (Origin::start(), Workspace::new());
    let published = Publish::of(&media::synthetic(4, 3000)).at(&origin, "/x");
    let (before, after) = (event(&published, 3, false), event(&published, 1, false));
    let looks = Mutex::new(0);
    origin.answer("/x/event.m3u8", move |request| {
        *looks.lock().unwrap() += 1;
        let text = if *looks.lock().unwrap() == 1 { &before } else { &after };
        Reply::of(&request.path, text.clone())
    });
    let ended = run(&mut space.fetch(&origin.url("/x/event.m3u8"), "out.ts", &["--set", "live.max_seconds=2"]));
    ended.failed("shrinks", "event_not_ended", &["within 2 s"]);
    space.has_only_partial_files("shrinks");
    assert!(published.segment_paths.iter().all(|path| origin.count(path) <= 1), "{:?}", origin.counts());
}
