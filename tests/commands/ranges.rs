//! Byte ranges of an origin that does not keep to them.

use crate::run::{Workspace, run};
use crate::support::publish::Offsets;
use crate::support::{Fault, Origin, Publish, Reply, media};

#[test]
fn line_24_a_server_that_ignores_ranges_is_cut_to_them() {
    let origin = Origin::start();
    let stream = media::synthetic(6, 300_000);
    for (name, shape) in [("clear", Publish::of(&stream)), ("encrypted", Publish::of(&stream).encrypted())] {
        let space = Workspace::new();
        let published = shape.in_one_file(Offsets::Implicit).at(&origin, &format!("/{name}"));
        origin.fault(&published.segment_paths[0], Fault::IgnoreRange);
        run(&mut space.fetch(&published.url, "out.ts", &[])).succeeded(name);
        assert!(space.read("out.ts") == published.truth, "{name}");
    }
}

#[test]
fn line_23_answers_that_are_not_what_was_asked_for_are_refused() {
    let origin = Origin::start();
    let stream = media::synthetic(6, 3000);
    let published = Publish::of(&stream).in_one_file(Offsets::Explicit).signed("sig=SECRET").at(&origin, "/x");
    let file = &published.segment_paths[0];
    let bytes = stream.segments[0].clone();
    let partial = |range: &str| {
        Fault::Instead(Reply::ok("video/mp2t", bytes.clone()).with_status(206).with_header("Content-Range", range))
    };
    let length = bytes.len();
    let whole = length * 6;
    let cases = [
        ("one byte on", Fault::WrongContentRange, "http_rejected"),
        ("another part", partial(&format!("bytes 7-{}/{whole}", length + 6)), "http_rejected"),
        ("another unit", partial(&format!("lines 0-{}/{whole}", length - 1)), "http_rejected"),
        ("no Content-Range", Fault::Instead(Reply::ok("video/mp2t", bytes.clone()).with_status(206)), "http_rejected"),
        ("416", Fault::Status(416), "http_rejected"),
        ("cut", Fault::CutAt(100), "body_truncated"),
    ];
    for (name, fault, kind) in cases {
        let space = Workspace::new();
        origin.fault(file, fault);
        let ended = run(&mut space.fetch(&published.url, "out.ts", &["--set", "hls.segment_attempts=2"]));
        ended.failed(name, kind, &["segment ", &origin.url(file)]);
        space.has_only_partial_files(name);
        origin.heal(file);
    }
}

#[test]
fn line_20_a_range_that_is_answered_with_more_or_less_is_refused() {
    let origin = Origin::start();
    let stream = media::synthetic(3, 3000);
    let published = Publish::of(&stream).in_one_file(Offsets::Explicit).at(&origin, "/x");
    let (file, length) = (&published.segment_paths[0], stream.segments[0].len());
    let range = format!("bytes 0-{}/{}", length - 1, length * 3);
    for (name, bytes, kind) in [("more", length + 188, "body_too_large"), ("less", length - 188, "body_truncated")] {
        let space = Workspace::new();
        let body = published.truth[..bytes].to_vec();
        let reply = Reply::ok("video/mp2t", body).with_status(206).with_header("Content-Range", &range);
        origin.fault(file, Fault::Instead(reply));
        let arguments = ["--concurrency", "1", "--set", "hls.segment_attempts=2"];
        let ended = run(&mut space.fetch(&published.url, "out.ts", &arguments));
        ended.failed(name, kind, &["segment 0 ", &origin.url(file)]);
        space.has_only_partial_files(name);
        origin.heal(file);
    }
}

#[test]
fn line_09_a_range_past_the_end_is_refused() {
    let origin = Origin::start();
    let space = Workspace::new();
    let stream = media::synthetic(1, 3000);
    origin.put("/all.ts", stream.segments[0].clone());
    let length = stream.segments[0].len();
    for (offset, kind) in [(length, "http_rejected"), (length - 188, "http_rejected")] {
        let text = format!("#EXTM3U\n#EXT-X-BYTERANGE:376@{offset}\n#EXTINF:4,\nall.ts\n#EXT-X-ENDLIST\n");
        origin.put("/index.m3u8", text);
        let ended = run(&mut space.fetch(&origin.url("/index.m3u8"), "out.ts", &[]));
        ended.failed(&format!("from {offset}"), kind, &["segment 0 ", "/all.ts"]);
    }
    space.has_only_partial_files("past the end");
}
