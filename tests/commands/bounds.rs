//! Requests in flight, bytes in memory: bounded, whatever the stream.

use std::time::Duration;

use crate::run::{Workspace, run, start};
use crate::support::media::{self, Container};
use crate::support::namespace::after;
use crate::support::publish::publish_separate_audio;
use crate::support::{Fault, Origin, Publish, wait};

const LIMIT: Duration = Duration::from_secs(20);
/// For tens of thousands of segments, unoptimised.
const STREAM_LIMIT: Duration = Duration::from_secs(90);

#[test]
fn requests_in_flight_are_bounded() {
    for concurrency in [1, 3, 8] {
        let (origin, space) = (Origin::start(), Workspace::new());
        let published = Publish::of(&media::synthetic(40, 5000)).encrypted().rotating_keys(5).at(&origin, "/x");
        origin.fault("/x/seg*", Fault::Delay(Duration::from_millis(20)));
        let argument = concurrency.to_string();
        run(&mut space.fetch(&published.url, "out.ts", &["--concurrency", &argument])).succeeded("bounded");
        assert!(space.read("out.ts") == published.truth);
        // The head of the file is never kept waiting by the others: it may be one more.
        let most = origin.most_in_flight();
        assert!((concurrency..=concurrency + 1).contains(&most), "{most} requests at once with {concurrency}");
    }
}

#[test]
fn picture_and_sound_share_one_bound() {
    let (origin, space) = (Origin::start(), Workspace::new());
    let (picture, sound) = (media::video_only(Container::Ts), media::audio_only(Container::Ts));
    let published = publish_separate_audio(&origin, "/x", &Publish::of(picture), &Publish::of(sound));
    for path in ["/x/video/seg*", "/x/audio/seg*"] {
        origin.fault(path, Fault::Delay(Duration::from_millis(50)));
    }
    run(&mut space.fetch(&published.url, "out.ts", &["--concurrency", "3"])).succeeded("bounded");
    assert!(space.read("out.ts") == published.video.truth);
    // One head for each of the two files.
    assert!(origin.most_in_flight() <= 3 + 2, "{} requests at once", origin.most_in_flight());
}

#[tokio::test]
async fn a_full_buffer_stops_the_reading_and_a_late_head_ends_it() {
    const SEGMENT_BYTES: usize = 24 << 20;
    let (origin, space) = (Origin::start(), Workspace::new());
    let stream = media::synthetic(4, SEGMENT_BYTES);
    let published = Publish::of(&stream).at(&origin, "/x");
    let hold = origin.hold(&published.segment_paths[0]);
    let arguments = ["--concurrency", "4", "--set", "hls.buffer_bytes=1048576"];
    let command = start(&mut space.fetch(&published.url, "out.ts", &arguments));
    hold.wait_for(1).await;
    let stopped = until_nobody_reads(&origin).await;
    // 1 MiB of buffer; for each of the 3 connections what the two kernels' sockets take.
    assert!(stopped < (1 << 20) + 3 * (20 << 20), "{stopped} bytes were sent for {} asked", 3 * SEGMENT_BYTES);
    let memory = command.peak_memory_kib();
    assert!(memory < 40 << 10, "{memory} KiB of memory for a buffer of 1 MiB");
    assert!((4..=5).contains(&origin.in_flight()), "the requests are still open, held back by nobody reading");
    hold.release();
    command.end().made("released", &space.path("out.ts"));
    assert!(space.read("out.ts") == published.truth);
}

/// Waits until no more bytes of segments are taken, half a second long; returns how many were.
async fn until_nobody_reads(origin: &Origin) -> usize {
    let mut before = (0, std::time::Instant::now());
    let stopped = wait::until("the reading has stopped", LIMIT, || {
        let now = origin.requests_for("/x/seg*").iter().map(|request| request.bytes_sent).sum();
        if now != before.0 {
            before = (now, std::time::Instant::now());
        }
        (now > 0 && before.1.elapsed() > Duration::from_millis(500)).then_some(now)
    });
    stopped.await
}

/// Peak memory in KiB when all but the end of the last segment is downloaded, the buffer having
/// been full at the beginning.
async fn peak_memory(segments: usize, bytes: usize) -> u64 {
    let (origin, space) = (Origin::start(), Workspace::new());
    let published = Publish::of(&media::synthetic(segments, bytes)).encrypted().at(&origin, "/x");
    let first = origin.hold(&published.segment_paths[0]);
    let last = origin.hold_body(&published.segment_paths[segments - 1], bytes / 2);
    let command = start(&mut space.fetch(&published.url, "out.ts", &["--set", "hls.buffer_bytes=4194304"]));
    first.wait_for(1).await;
    until_nobody_reads(&origin).await;
    first.release();
    wait::until("the last segment is asked for", STREAM_LIMIT, || (last.held() > 0).then_some(())).await;
    wait::until("only the last request is left", LIMIT, || (origin.in_flight() == 1).then_some(())).await;
    let memory = command.peak_memory_kib();
    last.release();
    command.end().succeeded("measured");
    assert!(space.read("out.ts") == published.truth);
    memory
}

#[tokio::test]
async fn memory_does_not_grow_with_the_stream() {
    let short = peak_memory(40, 1 << 20).await;
    let long = peak_memory(150, 1 << 20).await;
    assert!(long < short + (8 << 10), "{short} KiB for 40 segments, {long} KiB for 150");
    let many = peak_memory(5_000, 1 << 10).await;
    assert!(many < short + (8 << 10), "{short} KiB for 40 segments, {many} KiB for 5,000 small ones");
    // Half of it is the program itself, unoptimised and with its symbols.
    assert!(short.max(long) < 48 << 10, "{short} and {long} KiB with a buffer of 4 MiB");
}

/// A box of MP4 that says it is so long.
fn mp4_box(length: u32, kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    [&length.to_be_bytes()[..], kind, content].concat()
}

#[test]
fn what_only_claims_to_be_large_gets_no_memory() {
    // Addresses, in KiB: the program, its threads and one buffer.
    const LIMIT: &str = "ulimit -v 700000";
    let fetch = |space: &Workspace, url: &str| {
        let mut command = space.fetch(url, "out.ts", &["--set", "hls.segment_attempts=1"]);
        command.env("MALLOC_ARENA_MAX", "2").env("TOKIO_WORKER_THREADS", "2");
        run(&mut after(LIMIT, &command))
    };
    let origin = Origin::start();
    let published = Publish::of(media::fmp4()).at(&origin, "/x");
    let init = published.init_path.clone().unwrap();
    let endless = mp4_box(1, b"moof", &(u64::MAX / 2).to_be_bytes());
    let many_samples = {
        let run = mp4_box(20, b"trun", &[0, 0, 1, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        mp4_box(36, b"moof", &mp4_box(28, b"traf", &run))
    };
    let many_tracks = {
        let descriptions = mp4_box(16, b"stsd", &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        mp4_box(0xffff_fff0, b"moov", &descriptions)
    };
    for (name, path, fault) in [
        ("tracks without end", &init, Fault::Body(many_tracks.into())),
        ("an endless box", &published.segment_paths[1], Fault::Body(endless.into())),
        ("samples without end", &published.segment_paths[1], Fault::Body(many_samples.into())),
        ("a segment of a gigabyte", &published.segment_paths[1], Fault::DeclareLength(1 << 30)),
        ("an init section of a gigabyte", &init, Fault::DeclareLength(1 << 30)),
        ("a playlist of a gigabyte", &published.playlist_path, Fault::DeclareLength(1 << 30)),
    ] {
        origin.fault(path, fault);
        let space = Workspace::new();
        let ended = fetch(&space, &published.url);
        assert!(ended.status.code().is_some_and(|status| (65..=75).contains(&status)), "{name}: {ended:?}");
        let line = ended.stderr.lines().next().unwrap_or_default();
        assert!(line.ends_with(']') && !ended.stderr.contains("allocation"), "{name}: {}", ended.stderr);
        assert_ne!(ended.status.code(), Some(70), "{name}: {}", ended.stderr);
        space.has_only_partial_files(name);
        origin.heal(path);
    }
    fetch(&Workspace::new(), &published.url).succeeded("an honest stream under the same limit");
}

#[test]
fn without_descriptors_it_says_so_wherever_it_was() {
    let (origin, space) = (Origin::start(), Workspace::new());
    let published = Publish::of(&media::synthetic(40, 5000)).encrypted().at(&origin, "/x");
    // Not enough for the start, the playlist, the file, a segment.
    for descriptors in 8..=13 {
        let command = space.fetch(&published.url, "out.ts", &["--set", "hls.segment_attempts=1"]);
        let ended = run(&mut after(&format!("ulimit -n {descriptors}"), &command));
        ended.failed(&format!("{descriptors} descriptors"), "host_exhausted", &["os error 24"]);
        space.has_only_partial_files("few descriptors");
    }
    run(&mut space.fetch(&published.url, "out.ts", &[])).succeeded("as many as it wants");
    assert!(space.read("out.ts") == published.truth);
}
