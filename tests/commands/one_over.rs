//! Every bound with one that fits and one that is one over.

use std::time::Duration;

use crate::run::{Ended, Workspace, run};
use crate::support::origin::Reply;
use crate::support::{Catalog, Fault, Lecture, Manifest, Origin, Publish, Published, media};

const COURSE: &str = "https://learn.example/course/1";

/// A stream, and a course of it, on an origin of its own.
struct World {
    origin: Origin,
    catalog: Catalog,
    stream: Published,
}

impl World {
    fn new() -> World {
        let origin = Origin::start();
        let catalog = Catalog::on(&origin);
        let stream = Publish::of(&media::synthetic(3, 3000)).at(&origin, "/x");
        World { origin, catalog, stream }
    }

    /// The stream with one setting.
    fn fetch(&self, space: &Workspace, setting: &str) -> Ended {
        run(&mut space.fetch(&self.stream.url, "out.ts", &["--set", setting]))
    }

    /// The course of these lectures with one setting.
    fn course(&self, space: &Workspace, lectures: Vec<Lecture>, setting: &str) -> Ended {
        self.catalog.course(COURSE, &Manifest::new("C").section("S", lectures));
        let endpoint = format!("resolver.catalog_endpoint={}", self.catalog.url());
        run(&mut space.fetch(COURSE, "courses", &["--set", &endpoint, "--set", setting, "--container", "ts"]))
    }

    fn lecture(&self) -> Lecture {
        Lecture::new("L").stream(&self.stream.url)
    }
}

#[test]
fn line_03_a_playlist_its_lines_and_what_is_in_it() {
    let world = World::new();
    let longest = world.stream.playlist.len().max(1024);
    let padded = format!("{}#{}\n", world.stream.playlist, "x".repeat(longest * 2));
    let line = longest * 2 + 1;
    let variants = format!("#EXT-X-STREAM-INF:BANDWIDTH=1\n{}\n", world.stream.url).repeat(3);
    let renditions: String =
        (0..3).map(|name| format!("#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"{name}\"\n")).collect();
    let variant = format!("#EXT-X-STREAM-INF:BANDWIDTH=1\n{}\n", world.stream.url);
    let rotating = Publish::of(&media::synthetic(3, 3000)).encrypted().rotating_keys(1).at(&world.origin, "/keys");
    let cases = [
        ("max_playlist_bytes", padded.len(), padded.clone()),
        ("max_line_bytes", line, padded.clone()),
        ("max_segments", 3, padded),
        ("max_variants", 3, format!("#EXTM3U\n{variants}")),
        ("max_variants", 3, format!("#EXTM3U\n{renditions}{variant}")),
        ("max_keys", 3, rotating.playlist.replace("URI=\"", "URI=\"/keys/").replace("\nseg", "\n/keys/seg")),
    ];
    for (setting, fits, playlist) in cases {
        let space = Workspace::new();
        world.origin.put("/x/bounded.m3u8", playlist);
        let url = world.origin.url("/x/bounded.m3u8");
        let fetch = |most: usize| run(&mut space.fetch(&url, "out.ts", &["--set", &format!("hls.{setting}={most}")]));
        fetch(fits - 1).failed(setting, "playlist_too_large", &[&(fits - 1).to_string()]);
        fetch(fits).succeeded(setting);
    }
}

/// What a body has when gzip is undone counts, not what came.
#[test]
fn line_27_what_gzip_stands_for() {
    let world = World::new();
    let padded = format!("{}#{}\n", world.stream.playlist, "x".repeat(2000));
    let segment = world.stream.wire_segments[0].clone();
    let put = |path: &str, clear: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut encoder, clear).unwrap();
        let reply = Reply::of(path, encoder.finish().unwrap()).with_header("Content-Encoding", "gzip");
        world.origin.put_reply(path, reply);
    };
    put(&world.stream.playlist_path, padded.as_bytes());
    world.stream.segment_paths.iter().zip(&world.stream.wire_segments).for_each(|(path, segment)| put(path, segment));
    for (setting, fits, kind) in [
        ("max_playlist_bytes", padded.len(), "playlist_too_large"),
        ("max_segment_bytes", segment.len(), "body_too_large"),
    ] {
        let space = Workspace::new();
        world.fetch(&space, &format!("hls.{setting}={}", fits - 1)).failed(setting, kind, &[&(fits - 1).to_string()]);
        world.fetch(&space, &format!("hls.{setting}={fits}")).succeeded(setting);
        assert!(space.read("out.ts") == world.stream.truth, "{setting}");
    }
}

#[test]
fn titles_are_cut_and_not_refused() {
    let world = World::new();
    for (most, file) in [(5, "courses/Cours/01 Secti/001 Lectu.ts"), (7, "courses/Course/01 Section/001 Lecture.ts")] {
        let space = Workspace::new();
        let lecture = Lecture::new("Lecture").stream(&world.stream.url);
        world.catalog.course(COURSE, &Manifest::new("Course").section("Section", [lecture]));
        let endpoint = format!("resolver.catalog_endpoint={}", world.catalog.url());
        let most = format!("resolver.max_title_characters={most}");
        run(&mut space.fetch(COURSE, "courses", &["--set", &endpoint, "--set", &most, "--container", "ts"]))
            .succeeded(&most);
        assert_eq!(space.files(), [file], "{most}");
    }
}

#[test]
fn line_26_a_segment_and_a_job() {
    let world = World::new();
    let segment = world.stream.wire_segments.iter().map(|segment| segment.len()).max().unwrap();
    let job: usize = world.stream.wire_segments.iter().map(|segment| segment.len()).sum();
    // Whether its length is declared or not.
    for fault in [None, Some(Fault::Chunked)] {
        world.origin.heal("/x/seg*");
        if let Some(fault) = fault {
            world.origin.fault("/x/seg*", fault);
        }
        for (setting, fits, kind) in
            [("max_segment_bytes", segment, "body_too_large"), ("max_job_bytes", job, "job_too_large")]
        {
            let space = Workspace::new();
            world.fetch(&space, &format!("hls.{setting}={}", fits - 1)).failed(setting, kind, &[setting]);
            space.has_only_partial_files(setting);
            world.fetch(&space, &format!("hls.{setting}={fits}")).succeeded(setting);
        }
    }
}

#[test]
fn a_manifest_its_lectures_and_their_files() {
    let world = World::new();
    let text = world.origin.url("/a.txt");
    world.origin.put("/a.txt", "x".repeat(2000));
    let files = || vec![world.lecture().caption("en", &text).asset("a.txt", &text)];
    let size = |lectures: Vec<Lecture>| Manifest::new("C").section("S", lectures).json().to_string().len();
    let cases = [
        ("resolver.max_manifest_bytes", size(files()), files(), "body_too_large"),
        ("resolver.max_lectures", 2, vec![world.lecture(), world.lecture()], "manifest_invalid"),
        ("resolver.max_files", 2, files(), "manifest_invalid"),
        ("files.max_caption_bytes", 2000, vec![Lecture::new("L").caption("en", &text)], "body_too_large"),
        ("files.max_asset_bytes", 2000, vec![Lecture::new("L").asset("a.txt", &text)], "body_too_large"),
        ("files.max_lecture_bytes", 2000, vec![Lecture::new("L").file(&text)], "body_too_large"),
    ];
    for (setting, fits, lectures, kind) in cases {
        let space = Workspace::new();
        let over = world.course(&space, lectures.clone(), &format!("{setting}={}", fits - 1));
        over.failed(setting, kind, &[&(fits - 1).to_string()]);
        world.course(&space, lectures, &format!("{setting}={fits}")).succeeded(setting);
    }
}

#[test]
fn line_10_redirects() {
    let world = World::new();
    world.origin.fault("/moved.m3u8", Fault::Redirect(world.stream.playlist_path.clone()));
    let moved = world.origin.url("/moved.m3u8");
    let fetch = |space: &Workspace, setting| run(&mut space.fetch(&moved, "out.ts", &["--set", setting]));
    let space = Workspace::new();
    fetch(&space, "network.max_redirects=0").failed("none", "redirect_refused", &["too many redirects"]);
    fetch(&space, "network.max_redirects=1").succeeded("one");
}

#[test]
fn line_10_redirects_of_a_key_are_fewer() {
    let origin = Origin::start();
    let stream = Publish::of(&media::synthetic(2, 1000)).encrypted().at(&origin, "/x");
    origin.put("/the.key", (0..16).map(|place| place * 7 + 3).collect::<Vec<u8>>());
    // By default three; never more than others have.
    for (hops, settings, is_followed) in [
        (3, &[][..], true),
        (4, &[], false),
        (4, &["--set", "network.max_key_redirects=4"], true),
        (3, &["--set", "network.max_redirects=2"], false),
    ] {
        let path = |hop| format!("/hop{hop}-of-{hops}.key");
        for hop in 1..=hops {
            let next = if hop == hops { "/the.key".to_owned() } else { path(hop + 1) };
            origin.fault(&path(hop), Fault::Redirect(next));
        }
        origin.put("/x/moved.m3u8", stream.playlist.replace(stream.key_paths[0].rsplit('/').next().unwrap(), &path(1)));
        let space = Workspace::new();
        let ended = run(&mut space.fetch(&origin.url("/x/moved.m3u8"), "out.ts", settings));
        match is_followed {
            true => ended.succeeded("followed"),
            false => ended.failed("not followed", "redirect_refused", &["too many redirects"]),
        }
    }
}

#[test]
fn line_25_a_body_that_is_never_silent_and_never_fast() {
    let world = World::new();
    let drip = Fault::Drip { bytes: 1, pause: Duration::from_millis(50) };
    world.origin.fault(&world.stream.segment_paths[1], drip);
    let space = Workspace::new();
    let slow = ["--set", "http.min_rate_seconds=1", "--set", "hls.segment_attempts=1"];
    let ended = run(&mut space.fetch(&world.stream.url, "out.ts", &slow));
    ended.failed("drip", "timed_out", &["bytes a second came, 1024 must"]);
    space.has_only_partial_files("drip");
}

#[test]
fn line_43_the_head_of_an_answer() {
    let world = World::new();
    let put = |count: usize, bytes: usize| {
        let playlist = Reply::of(&world.stream.playlist_path, world.stream.playlist.clone());
        let reply = (0..count).fold(playlist, |reply, number| reply.with_header(&format!("X-{number}"), "x"));
        world.origin.put_reply(&world.stream.playlist_path, reply.with_header("X-Long", "x".repeat(bytes)));
    };
    let fetch = |setting: &str| world.fetch(&Workspace::new(), setting);
    put(0, 1 << 20);
    fetch("hls.segment_attempts=1").failed("a megabyte", "connection_failed", &["/x/"]);
    put(200, 1);
    fetch("hls.segment_attempts=1").failed("many headers", "connection_failed", &["/x/"]);
    // Content-Type, Content-Length, Accept-Ranges, ETag and the long one.
    put(15, 1);
    fetch("http.max_headers=20").succeeded("20 headers");
    fetch("http.max_headers=19").failed("19 headers", "connection_failed", &["/x/"]);
    put(0, 2000);
    let over = fetch("http.max_header_bytes=1024");
    over.failed("bytes", "http_rejected", &["more than 1024 (http.max_header_bytes)"]);
    let (_, bytes) = over.stderr.split_once("the headers have ").unwrap();
    let bytes: usize = bytes.split(' ').next().unwrap().parse().unwrap();
    fetch(&format!("http.max_header_bytes={}", bytes - 1)).failed("one over", "http_rejected", &["max_header_bytes"]);
    fetch(&format!("http.max_header_bytes={bytes}")).succeeded("as many as there are");
}

#[test]
fn line_16_a_key_has_16_bytes_and_nothing_is_guessed() {
    let origin = Origin::start();
    let stream = Publish::of(&media::synthetic(2, 3000)).encrypted().at(&origin, "/x");
    let hexadecimal: &[u8] = b"000102030405060708090a0b0c0d0e0f";
    for key in
        [&b""[..], &[1; 15], &[1; 17], &[1; 32], hexadecimal, b"AAECAwQFBgcICQoLDA0ODw==", b"<html>log in</html>"]
    {
        origin.put(&stream.key_paths[0], key.to_vec());
        let space = Workspace::new();
        let ended = run(&mut space.fetch(&stream.url, "out.ts", &[]));
        ended.failed("key", "key_invalid", &[&format!("{} bytes, a key has 16", key.len())]);
        space.has_only_partial_files("key");
    }
    // 401 and 403 are about the account.
    for status in [401, 403] {
        let space = Workspace::new();
        origin.forget_requests();
        origin.fault(&stream.key_paths[0], Fault::Status(status));
        let ended = run(&mut space.fetch(&stream.url, "out.ts", &["--concurrency", "1"]));
        ended.failed("key", "link_expired", &["the key", &status.to_string(), "not entitled"]);
        origin.heal(&stream.key_paths[0]);
    }
}
