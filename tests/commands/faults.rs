//! One broken segment, or one broken key: the right file or a clear failure, never anything else.

use std::sync::Mutex;
use std::time::Duration;

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
    /// Of the hostile things, which are numbered (see `lines`); 0 for others.
    line: u8,
    name: &'static str,
    key: bool,
    fault: Box<dyn Fn(&Published) -> crate::support::origin::Plan + Send + Sync>,
    then: Then,
}

fn case(line: u8, name: &'static str, fault: impl Fn(&Bytes) -> Fault + Send + Sync + 'static, then: Then) -> Case {
    let fault = move |published: &Published| fault(&published.wire_segments[BROKEN]).into();
    Case { line, name, key: false, fault: Box::new(fault), then }
}

fn passing(
    line: u8,
    name: &'static str,
    times: usize,
    fault: impl Fn(&Bytes) -> Fault + Send + Sync + 'static,
) -> Case {
    let fault = move |published: &Published| fault(&published.wire_segments[BROKEN]).times(times);
    Case { line, name, key: false, fault: Box::new(fault), then: Exact(times + 1) }
}

fn key(line: u8, name: &'static str, fault: Fault, then: Then) -> Case {
    Case { line, name, key: true, fault: Box::new(move |_| fault.clone().into()), then }
}

/// Faults of encrypted segments.
fn cases() -> Vec<Case> {
    let half = |wire: &Bytes| wire.len() / 2;
    let cut = |wire: &Bytes, bytes: usize| wire.slice(..wire.len() - bytes);
    vec![
        passing(34, "503x2", 2, |_| Fault::Status(503)),
        passing(33, "429ra", 2, |_| Fault::status_with(429, &[("Retry-After", "1")])),
        passing(21, "trunc1", 1, move |wire| Fault::CutAt(half(wire))),
        passing(25, "stall", 1, move |wire| Fault::StallAfter(half(wire))),
        passing(21, "chunked body cut once", 1, move |wire| Fault::CutChunkedAt(half(wire))),
        passing(21, "dropped before the head, once", 1, |_| Fault::DropBeforeHead),
        passing(18, "one byte missing, once", 1, move |wire| Fault::Body(cut(wire, 1))),
        passing(18, "another block at the end, once", 1, |wire| {
            let mut body = wire.to_vec();
            let last = body.len() - 20;
            body[last] ^= 1;
            Fault::Body(body.into())
        }),
        case(0, "chunked body", |_| Fault::Chunked, Exact(1)),
        case(34, "404", |_| Fault::Status(404), Fails("not_found", "404", 2)),
        case(31, "403", |_| Fault::Status(403), Fails("link_expired", "403", 1)),
        case(34, "500", |_| Fault::Status(500), Fails("server_error", "500", ATTEMPTS)),
        case(0, "204", |_| Fault::Status(204), Fails("http_rejected", "204", 1)),
        case(21, "trunc", move |wire| Fault::CutAt(half(wire)), Fails("body_truncated", "", ATTEMPTS)),
        case(21, "cut at 0", |_| Fault::CutAt(0), Fails("body_truncated", "", ATTEMPTS)),
        case(
            21,
            "cut chunked body",
            move |wire| Fault::CutChunkedAt(half(wire)),
            Fails("body_truncated", "", ATTEMPTS),
        ),
        case(18, "mod16", move |wire| Fault::Body(cut(wire, 5)), Fails("decryption_failed", "multiple of 16", 2)),
        case(18, "two blocks short", move |wire| Fault::Body(cut(wire, 32)), Fails("decryption_failed", "padding", 2)),
        case(7, "html", |_| Fault::Html, Fails("segment_invalid", "HTML", 2)),
        case(22, "empty", |_| Fault::Empty, Fails("segment_invalid", "empty", 2)),
        case(25, "stall for ever", move |wire| Fault::StallAfter(half(wire)), Fails("timed_out", "", ATTEMPTS)),
        case(25, "no answer", |_| Fault::StallAfter(0), Fails("timed_out", "", ATTEMPTS)),
        case(21, "dropped", |_| Fault::DropBeforeHead, Fails("connection_failed", "", ATTEMPTS)),
        case(21, "declared longer", |wire| Fault::DeclareLength(wire.len() + 7), Fails("body_truncated", "", ATTEMPTS)),
        case(
            20,
            "declared shorter",
            |wire| Fault::DeclareLength(wire.len() - 32),
            Fails("decryption_failed", "padding", 2),
        ),
        case(23, "206 unasked", |wire| Fault::Instead(unasked(wire)), Fails("http_rejected", "206", 1)),
        key(34, "key404", Fault::Status(404), Fails("not_found", "404", 0)),
        key(16, "key403", Fault::Status(403), Fails("link_expired", "403", 0)),
        key(16, "key15", Fault::Body(Bytes::from_static(&[7; 15])), Fails("key_invalid", "15 bytes", 0)),
        key(16, "key17", Fault::Body(Bytes::from_static(&[7; 17])), Fails("key_invalid", "17 bytes", 0)),
        key(16, "an empty key", Fault::Empty, Fails("key_invalid", "0 bytes", 0)),
        key(16, "a page for a key", Fault::Html, Fails("key_invalid", "bytes", 0)),
        key(18, "another key", Fault::Body(Bytes::from_static(&[7; 16])), Fails("decryption_failed", "padding", 0)),
    ]
}

fn unasked(wire: &Bytes) -> crate::support::Reply {
    let range = format!("bytes 0-{}/{}", wire.len() - 1, wire.len());
    crate::support::Reply::ok("video/mp2t", wire.clone()).with_status(206).with_header("Content-Range", range)
}

#[test]
fn what_is_usual_and_what_is_merely_odd() {
    with_faults_of(0);
}

#[test]
fn line_07_a_page_for_a_segment() {
    with_faults_of(7);
}

#[test]
fn line_16_keys_that_are_none() {
    with_faults_of(16);
}

#[test]
fn line_18_ciphertext_that_is_damaged() {
    with_faults_of(18);
}

#[test]
fn line_20_more_than_was_declared() {
    with_faults_of(20);
}

#[test]
fn line_21_less_than_was_declared() {
    with_faults_of(21);
}

#[test]
fn line_22_an_empty_segment() {
    with_faults_of(22);
}

#[test]
fn line_23_a_part_that_nobody_asked_for() {
    with_faults_of(23);
}

#[test]
fn line_25_a_body_that_stops() {
    with_faults_of(25);
}

/// The first request for a segment in the middle stops, and would be waited for without end.
#[test]
fn line_25_a_late_segment_is_asked_for_a_second_time() {
    let patient = ["--set", "http.idle_timeout_seconds=600", "--set", "http.min_rate_seconds=3600"];
    for (name, stall, encrypted) in [
        ("before its first byte", Fault::Delay(Duration::from_secs(3600)), false),
        ("in the middle", Fault::StallAfter(40_000), false),
        ("in the middle of what is written already", Fault::StallAfter(900_000), true),
    ] {
        let (origin, space) = (Origin::start(), Workspace::new());
        let publish = Publish::of(&media::synthetic(20, 1_000_000));
        let publish = if encrypted { publish.encrypted() } else { publish };
        let published = publish.at(&origin, "/x");
        let late = &published.segment_paths[12];
        origin.fault(late, stall.times(1));
        let ended = run(&mut space.fetch(&published.url, "out.ts", &patient));
        ended.made(name, &space.path("out.ts"));
        assert!(space.read("out.ts") == published.truth, "{name}");
        assert_eq!(origin.count(late), 2, "{name}");
        assert_eq!(origin.count(&published.segment_paths[11]), 1, "{name}: the others came in time");
    }
    // Where nothing may be asked for again, nothing is.
    let (origin, space) = (Origin::start(), Workspace::new());
    let published = Publish::of(&media::synthetic(20, 100_000)).at(&origin, "/x");
    let late = &published.segment_paths[12];
    origin.fault(late, Fault::Delay(Duration::from_secs(3600)));
    let never = ["--set", "hls.max_job_retries=0", "--set", "http.idle_timeout_seconds=8"];
    run(&mut space.fetch(&published.url, "out.ts", &never)).failed("none left", "timed_out", &["are used up"]);
    assert_eq!(origin.count(late), 1);
}

#[test]
fn line_31_a_link_that_is_refused() {
    with_faults_of(31);
}

#[test]
fn line_33_a_server_that_says_when_to_come_back() {
    with_faults_of(33);
}

#[test]
fn line_34_errors_that_pass_and_errors_that_do_not() {
    with_faults_of(34);
}

/// Each fault of a line, in a stream that is made up and in a real one.
fn with_faults_of(line: u8) {
    let cases = cases();
    let cases: Vec<&Case> = cases.iter().filter(|case| case.line == line).collect();
    assert!(!cases.is_empty(), "no fault of line {line}");
    let synthetic = media::synthetic(20, 100_000);
    let streams = [&synthetic, media::ts()];
    let next = &Mutex::new(cases.iter().flat_map(|case| streams.iter().map(move |stream| (case, stream))));
    // Pauses between attempts are most of the time that this takes.
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(move || {
                loop {
                    let case = next.lock().unwrap().next();
                    let Some((case, stream)) = case else { return };
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
