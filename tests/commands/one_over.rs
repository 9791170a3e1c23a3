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
fn line_2_and_3_a_playlist_its_lines_and_its_segments() {
    let world = World::new();
    let longest = world.stream.playlist.len().max(1024);
    let padded = format!("{}#{}\n", world.stream.playlist, "x".repeat(longest * 2));
    world.origin.put(&world.stream.playlist_path, padded.clone());
    let line = longest * 2 + 1;
    for (setting, fits) in [("max_playlist_bytes", padded.len()), ("max_line_bytes", line), ("max_segments", 3)] {
        let space = Workspace::new();
        let over = world.fetch(&space, &format!("hls.{setting}={}", fits - 1));
        over.failed(setting, "playlist_too_large", &[&(fits - 1).to_string()]);
        world.fetch(&space, &format!("hls.{setting}={fits}")).succeeded(setting);
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
    for (hops, is_followed) in [(3, true), (4, false)] {
        let path = |hop| format!("/hop{hop}-of-{hops}.key");
        for hop in 1..=hops {
            let next = if hop == hops { "/the.key".to_owned() } else { path(hop + 1) };
            origin.fault(&path(hop), Fault::Redirect(next));
        }
        origin.put("/x/moved.m3u8", stream.playlist.replace(stream.key_paths[0].rsplit('/').next().unwrap(), &path(1)));
        let space = Workspace::new();
        let ended = run(&mut space.fetch(&origin.url("/x/moved.m3u8"), "out.ts", &[]));
        match is_followed {
            true => ended.succeeded("three"),
            false => ended.failed("four", "redirect_refused", &["too many redirects"]),
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
    let body = world.stream.playlist.clone();
    let playlist = || Reply::ok("application/vnd.apple.mpegurl", body.clone());
    let many = (0..200).fold(playlist(), |reply, number| reply.with_header(&format!("X-{number}"), "x"));
    let heads = [("a megabyte", playlist().with_header("X-Long", "x".repeat(1 << 20))), ("many headers", many)];
    for (name, reply) in heads {
        world.origin.put_reply(&world.stream.playlist_path, reply);
        let space = Workspace::new();
        world.fetch(&space, "hls.segment_attempts=1").failed(name, "connection_failed", &["/x/"]);
    }
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
}
