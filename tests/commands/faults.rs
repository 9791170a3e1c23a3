//! One broken segment, or one broken key: the right file or a clear failure, never anything else.

use std::sync::Mutex;

use bytes::Bytes;

use crate::run::{Workspace, run};
use crate::support::media::{self, Stream};
use crate::support::{Fault, Origin, Publish, Published};

/// The segment that is broken.
const BROKEN: usize = 3;
/// Attempts at a segment, so that what fails always fails soon.
const ATTEMPTS: usize = 3;

/// What must come of it.
enum Then {
    /// The file is exact, after so many requests for what was broken.
    Exact(usize),
    /// A failure of this kind that says this, after so many requests.
    Fails(&'static str, &'static str, usize),
}
use Then::{Exact, Fails};

/// What is broken, and what with.
struct Case {
    name: &'static str,
    key: bool,
    fault: Box<dyn Fn(&Published) -> crate::support::origin::Plan + Send + Sync>,
    then: Then,
}

fn case(name: &'static str, fault: impl Fn(&Bytes) -> Fault + Send + Sync + 'static, then: Then) -> Case {
    let fault = move |published: &Published| fault(&published.wire_segments[BROKEN]).into();
    Case { name, key: false, fault: Box::new(fault), then }
}

fn passing(name: &'static str, times: usize, fault: impl Fn(&Bytes) -> Fault + Send + Sync + 'static) -> Case {
    let fault = move |published: &Published| fault(&published.wire_segments[BROKEN]).times(times);
    Case { name, key: false, fault: Box::new(fault), then: Exact(times + 1) }
}

fn key(name: &'static str, fault: Fault, then: Then) -> Case {
    Case { name, key: true, fault: Box::new(move |_| fault.clone().into()), then }
}

/// Faults of encrypted segments.
fn cases() -> Vec<Case> {
    let half = |wire: &Bytes| wire.len() / 2;
    let cut = |wire: &Bytes, bytes: usize| wire.slice(..wire.len() - bytes);
    vec![
        passing("503x2", 2, |_| Fault::Status(503)),
        passing("429ra", 2, |_| Fault::status_with(429, &[("Retry-After", "1")])),
        passing("trunc1", 1, move |wire| Fault::CutAt(half(wire))),
        passing("stall", 1, move |wire| Fault::StallAfter(half(wire))),
        passing("chunked body cut once", 1, move |wire| Fault::CutChunkedAt(half(wire))),
        passing("dropped before the head, once", 1, |_| Fault::DropBeforeHead),
        passing("one byte missing, once", 1, move |wire| Fault::Body(cut(wire, 1))),
        passing("another block at the end, once", 1, |wire| {
            let mut body = wire.to_vec();
            let last = body.len() - 20;
            body[last] ^= 1;
            Fault::Body(body.into())
        }),
        case("chunked body", |_| Fault::Chunked, Exact(1)),
        case("404", |_| Fault::Status(404), Fails("not_found", "404", 2)),
        case("403", |_| Fault::Status(403), Fails("link_expired", "403", 1)),
        case("500", |_| Fault::Status(500), Fails("server_error", "500", ATTEMPTS)),
        case("204", |_| Fault::Status(204), Fails("http_rejected", "204", 1)),
        case("trunc", move |wire| Fault::CutAt(half(wire)), Fails("body_truncated", "", ATTEMPTS)),
        case("cut at 0", |_| Fault::CutAt(0), Fails("body_truncated", "", ATTEMPTS)),
        case("cut chunked body", move |wire| Fault::CutChunkedAt(half(wire)), Fails("body_truncated", "", ATTEMPTS)),
        case("mod16", move |wire| Fault::Body(cut(wire, 5)), Fails("decryption_failed", "multiple of 16", 2)),
        case("two blocks short", move |wire| Fault::Body(cut(wire, 32)), Fails("decryption_failed", "padding", 2)),
        case("html", |_| Fault::Html, Fails("segment_invalid", "HTML", 2)),
        case("empty", |_| Fault::Empty, Fails("segment_invalid", "empty", 2)),
        case("stall for ever", move |wire| Fault::StallAfter(half(wire)), Fails("timed_out", "", ATTEMPTS)),
        case("no answer", |_| Fault::StallAfter(0), Fails("timed_out", "", ATTEMPTS)),
        case("dropped", |_| Fault::DropBeforeHead, Fails("connection_failed", "", ATTEMPTS)),
        case("declared longer", |wire| Fault::DeclareLength(wire.len() + 7), Fails("body_truncated", "", ATTEMPTS)),
        case(
            "declared shorter",
            |wire| Fault::DeclareLength(wire.len() - 32),
            Fails("decryption_failed", "padding", 2),
        ),
        case("206 unasked", |wire| Fault::Instead(unasked(wire)), Fails("http_rejected", "206", 1)),
        key("key404", Fault::Status(404), Fails("not_found", "404", 0)),
        key("key403", Fault::Status(403), Fails("link_expired", "403", 0)),
        key("key15", Fault::Body(Bytes::from_static(&[7; 15])), Fails("key_invalid", "15 bytes", 0)),
        key("key17", Fault::Body(Bytes::from_static(&[7; 17])), Fails("key_invalid", "17 bytes", 0)),
        key("an empty key", Fault::Empty, Fails("key_invalid", "0 bytes", 0)),
        key("a page for a key", Fault::Html, Fails("key_invalid", "bytes", 0)),
        key("another key", Fault::Body(Bytes::from_static(&[7; 16])), Fails("decryption_failed", "padding", 0)),
    ]
}

fn unasked(wire: &Bytes) -> crate::support::Reply {
    let range = format!("bytes 0-{}/{}", wire.len() - 1, wire.len());
    crate::support::Reply::ok("video/mp2t", wire.clone()).with_status(206).with_header("Content-Range", range)
}

#[test]
fn a_broken_segment_of_a_synthetic_stream() {
    with_every_fault(&media::synthetic(20, 100_000));
}

#[test]
fn a_broken_segment_of_a_real_stream() {
    with_every_fault(media::ts());
}

#[test]
fn padding_that_a_packager_leaves_out_is_not_missed() {
    let (origin, space) = (Origin::start(), Workspace::new());
    // Whole packets and whole cipher blocks: all of the padding is a block of its own.
    let published = Publish::of(&media::synthetic(4, 188 * 40)).encrypted().at(&origin, "/x");
    for (path, wire) in published.segment_paths.iter().zip(&published.wire_segments) {
        origin.put(path, wire.slice(..wire.len() - 16));
    }
    run(&mut space.fetch(&published.url, "out.ts", &[])).succeeded("no padding");
    assert!(space.read("out.ts") == published.truth);
}

fn with_every_fault(stream: &Stream) {
    let cases = cases();
    let next = &Mutex::new(cases.iter());
    // Pauses between attempts are most of the time that this takes.
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(move || {
                loop {
                    let case = next.lock().unwrap().next();
                    let Some(case) = case else { return };
                    try_case(case, stream);
                }
            });
        }
    });
}

fn try_case(case: &Case, stream: &Stream) {
    let name = case.name;
    let origin = Origin::start();
    let space = Workspace::new();
    let published = Publish::of(stream).encrypted().signed("sig=SECRET").at(&origin, "/x");
    let broken = if case.key { &published.key_paths[0] } else { &published.segment_paths[BROKEN] };
    origin.fault(broken, (case.fault)(&published));
    let url = format!("{}?token=SECRET", published.url);
    let attempts = format!("hls.segment_attempts={ATTEMPTS}");
    let arguments = ["--set", "http.idle_timeout_seconds=1", "--set", &attempts];
    let fetch = || run(&mut space.fetch(&url, "out.ts", &arguments));
    let ended = fetch();
    let expected = match case.then {
        Exact(requests) => {
            ended.made(name, &space.path("out.ts"));
            requests
        }
        Fails(kind, says, requests) => {
            let (first, place) = (origin.url(broken), format!("segment {BROKEN} "));
            // Any segment may be the first to miss the key.
            let place = if case.key { "segment " } else { &place };
            ended.failed(name, kind, &[says, place, &if name == "another key" { origin.url("/x/seg") } else { first }]);
            assert_eq!(ended.stdout, "", "{name}");
            space.has_only_partial_files(name);
            requests
        }
    };
    if !case.key {
        assert_eq!(origin.count(broken), expected, "{name}: requests for what is broken");
        if name == "429ra" {
            let requests = origin.requests_for(broken);
            let pauses = requests.windows(2).map(|pair| pair[1].at - pair[0].at);
            assert!(pauses.min().unwrap().as_millis() >= 1000, "{name}: Retry-After is respected");
        }
    }
    // The origin is mended, the same command is given again: it goes on where it was, or says that
    // the file is there.
    origin.heal(broken);
    origin.forget_requests();
    let again = fetch();
    assert!(again.status.success(), "{name}: {again:?}");
    assert!(space.read("out.ts") == published.truth, "{name}: the file");
    assert_eq!(space.files(), ["out.ts"], "{name}");
    if let Fails(..) = case.then
        && !case.key
    {
        assert_eq!(origin.count(&published.segment_paths[BROKEN - 1]), 0, "{name}: what was there was asked again");
    }
}

#[test]
fn two_keys_swapped() {
    let origin = Origin::start();
    let space = Workspace::new();
    let published = Publish::of(media::ts()).encrypted().rotating_keys(4).at(&origin, "/x");
    let [first, second] = &published.key_paths[..] else { panic!("two keys") };
    let key = |number: usize| Bytes::from_iter((0..16).map(|place| (number * 29 + place * 7 + 3) as u8));
    origin.fault(first, Fault::Body(key(1)));
    origin.fault(second, Fault::Body(key(0)));
    run(&mut space.fetch(&published.url, "out.ts", &[])).failed("swapped", "decryption_failed", &["segment 0"]);
    space.has_only_partial_files("swapped");
}

#[test]
fn segments_in_the_clear_that_are_not_media() {
    let origin = Origin::start();
    let published = Publish::of(media::ts()).at(&origin, "/x");
    let broken = &published.segment_paths[BROKEN];
    let png = Bytes::from_static(b"\x89PNG\r\n\x1a\n0000000000000000000000000000");
    let fmp4 = media::fmp4().segments[0].clone();
    for (name, body, says) in [
        ("html", None, "HTML"),
        ("png", Some(png), "0x89504e47"),
        ("fMP4 in between", Some(fmp4), "FragmentedMp4"),
        ("empty", Some(Bytes::new()), "empty"),
    ] {
        let space = Workspace::new();
        origin.fault(broken, body.map_or(Fault::Html, Fault::Body));
        let ended = run(&mut space.fetch(&published.url, "out.ts", &[]));
        ended.failed(name, "segment_invalid", &["segment 3 ", &origin.url(broken), says]);
        space.has_only_partial_files(name);
        origin.heal(broken);
    }
}
