//! Segments that look right from the outside: damaged, dressed up or different inside.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::run::{Workspace, run};
use crate::support::media::{self, Recipe, Stream, hashes, hashes_of};
use crate::support::publish::Offsets;
use crate::support::{Fault, Origin, Publish, Reply};

const PACKET: usize = 188;
/// The segment that is broken.
const BROKEN: usize = 3;
/// A PNG of one pixel.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89\
    \0\0\0\x0bIDATx\x9cc`\0\x02\0\0\x05\0\x01z^\xab?\0\0\0\0IEND\xaeB`\x82";

fn gzip(clear: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(clear).unwrap();
    encoder.finish().unwrap().into()
}

/// The stream with each segment changed, by its number.
fn changed(stream: &Stream, change: impl Fn(usize, &Bytes) -> Bytes) -> Stream {
    let segments = stream.segments.iter().enumerate().map(|(index, segment)| change(index, segment));
    Stream { segments: segments.collect(), ..stream.clone() }
}

/// Without forty packets in the middle.
fn with_a_hole(segment: &Bytes) -> Bytes {
    [&segment[..20 * PACKET], &segment[60 * PACKET..]].concat().into()
}

#[test]
fn line_29_a_hole_inside_a_segment_is_never_silent() {
    let origin = Origin::start();
    let published = Publish::of(media::ts()).at(&origin, "/x");
    let broken = &published.segment_paths[BROKEN];
    let hole = with_a_hole(&published.wire_segments[BROKEN]);
    let space = Workspace::new();
    origin.fault(broken, Fault::Body(hole.clone()).times(1));
    run(&mut space.fetch(&published.url, "once.ts", &[])).made("once", &space.path("once.ts"));
    assert!(space.read("once.ts") == published.truth, "what was lost once is fetched again");
    assert_eq!(origin.count(broken), 2);
    origin.heal(broken);

    let space = Workspace::new();
    origin.fault(broken, Fault::Body(hole.clone()));
    origin.forget_requests();
    for output in ["out.ts", "out.mp4"] {
        let ended = run(&mut space.fetch(&published.url, output, &[]));
        ended.failed(output, "packets_missing", &["segment 3 ", &origin.url(broken), "PID 0x100", "at byte 3760"]);
        space.has_only_partial_files(output);
    }
    assert_eq!(origin.count(broken), 4, "twice for each command");
    let allowed = run(&mut space.fetch(&published.url, "out.ts", &["--set", "hls.allow_gaps=true"]));
    assert!(allowed.status.success() && allowed.stderr.contains("1 segment with lost packets"), "{allowed:?}");
    let truth = changed(media::ts(), |index, segment| if index == BROKEN { hole.clone() } else { segment.clone() });
    assert!(space.read("out.ts") == truth.truth(), "what was allowed is what came");
}

#[test]
fn line_27_segments_that_are_not_what_they_seem_fail() {
    // Null packets, which say nothing but are right.
    let bomb = [&[0x47, 0x1f, 0xff, 0x10][..], &[0; PACKET - 4]].concat().repeat(50_000);
    let encoded = |encoding: &str, body: Bytes| Reply::ok("video/mp2t", body).with_header("Content-Encoding", encoding);
    let origin = Origin::start();
    let published = Publish::of(media::ts()).at(&origin, "/x");
    let broken = &published.segment_paths[BROKEN];
    let clear = &published.wire_segments[BROKEN];
    let zipped = gzip(clear);
    let mut shifted = clear.to_vec();
    shifted.remove(40 * PACKET + 100);
    for (name, fault, kind, says) in [
        ("no length, cut in a packet", Fault::CloseAt(50 * PACKET + 60), "segment_invalid", "60 of 188 bytes"),
        ("a byte lost", Fault::Body(shifted.into()), "segment_invalid", "at byte 7708"),
        ("a bomb", Fault::Instead(encoded("gzip", gzip(&bomb))), "body_too_large", "grew"),
        ("an encoding nobody asked for", Fault::Instead(encoded("br", zipped.clone())), "http_rejected", "\"br\""),
        ("gzip cut", Fault::Instead(encoded("gzip", zipped.slice(..5000))), "body_truncated", "gzip"),
        ("gzip twice", Fault::Instead(encoded("gzip, gzip", gzip(&zipped))), "http_rejected", "gzip"),
        ("gzip in gzip", Fault::Instead(encoded("gzip", gzip(&zipped))), "segment_invalid", "0x1f8b08"),
        ("a picture alone", Fault::Body(PNG.into()), "segment_invalid", "0x89504e47"),
    ] {
        let space = Workspace::new();
        origin.fault(broken, fault);
        let ended = run(&mut space.fetch(&published.url, "out.ts", &["--set", "hls.segment_attempts=2"]));
        ended.failed(name, kind, &["segment 3 ", &origin.url(broken), says]);
        space.has_only_partial_files(name);
        origin.heal(broken);
    }
}

#[test]
fn line_29_scrambled_packets_are_protected_ones() {
    let (origin, space) = (Origin::start(), Workspace::new());
    let published = Publish::of(media::ts()).at(&origin, "/x");
    let broken = &published.segment_paths[BROKEN];
    let mut scrambled = published.wire_segments[BROKEN].to_vec();
    scrambled[30 * PACKET + 3] |= 0x80;
    origin.fault(broken, Fault::Body(scrambled.into()));
    let ended = run(&mut space.fetch(&published.url, "out.ts", &[]));
    ended.failed("scrambled", "drm_protected", &["segment 3 ", &origin.url(broken), "scrambled"]);
    assert_eq!(origin.count(broken), 1, "another try does not help");
    space.has_only_partial_files("scrambled");
}

#[test]
fn a_cut_fragment_is_seen_without_a_length() {
    let origin = Origin::start();
    let published = Publish::of(media::fmp4()).at(&origin, "/x");
    let broken = &published.segment_paths[BROKEN];
    let space = Workspace::new();
    origin.fault(broken, Fault::CloseAt(published.wire_segments[BROKEN].len() - 1));
    let ended = run(&mut space.fetch(&published.url, "out.mp4", &[]));
    ended.failed("cut", "segment_invalid", &["segment 3 ", "middle of a box"]);
    space.has_only_partial_files("cut");
}

#[test]
fn line_28_pictures_and_gzip_round_segments_are_taken_off() {
    let origin = Origin::start();
    let truth = media::ts().truth();
    let stream_length = media::ts().segments.len();
    let behind_pictures = changed(media::ts(), |_, segment| [PNG, segment].concat().into());
    let zipped = changed(media::ts(), |_, segment| gzip(segment));
    let pictures = Publish::of(&behind_pictures);
    for (name, publish, header) in [
        ("pictures", pictures.clone(), false),
        ("pictures, encrypted", pictures.clone().encrypted(), false),
        ("pictures, as byte ranges", pictures.in_one_file(Offsets::Explicit), false),
        ("gzip without a header", Publish::of(&zipped), false),
        ("everything gzip'd", Publish::of(media::ts()).encrypted(), true),
    ] {
        let published = publish.at(&origin, "/x");
        if header {
            let bodies = [(&published.playlist_path, published.playlist.clone().into())]
                .into_iter()
                .chain(published.segment_paths.iter().zip(published.wire_segments.iter().cloned()))
                .chain([(&published.key_paths[0], Bytes::from_iter((0..16).map(|place| place * 7 + 3)))]);
            for (path, body) in bodies {
                origin.put_reply(path, Reply::of(path, gzip(&body)).with_header("Content-Encoding", "gzip"));
            }
        }
        let space = Workspace::new();
        let ended = run(&mut space.fetch(&published.url, "out.ts", &[]));
        assert!(ended.status.success(), "{name}: {ended:?}");
        assert!(space.read("out.ts") == truth, "{name}");
        let told = format!("{} segments with other bytes", stream_length);
        assert_eq!(ended.stderr.contains(&told), name.starts_with("pictures"), "{name}: {}", ended.stderr);
    }
}

#[test]
fn line_28_other_bytes_in_front_are_left_out_only_where_that_is_allowed() {
    let origin = Origin::start();
    let late = changed(media::ts(), |index, segment| match index {
        BROKEN => [&[0x13; 100][..], segment].concat().into(),
        _ => segment.clone(),
    });
    let published = Publish::of(&late).at(&origin, "/x");
    let broken = &published.segment_paths[BROKEN];
    let space = Workspace::new();
    let ended = run(&mut space.fetch(&published.url, "out.ts", &[]));
    let says = ["segment 3 ", &origin.url(broken), "100 bytes", "(hls.allow_leading_bytes)"];
    ended.failed("refused", "segment_invalid", &says);
    space.has_only_partial_files("refused");
    let allowed = run(&mut space.fetch(&published.url, "out.ts", &["--set", "hls.allow_leading_bytes=true"]));
    assert!(allowed.status.success(), "{allowed:?}");
    assert!(space.read("out.ts") == media::ts().truth());
    assert!(allowed.stderr.contains("1 segment with other bytes"), "{}", allowed.stderr);
    // What is no media to its end is none with any setting.
    origin.fault(broken, Fault::Body(vec![0xaa; 100_000].into()));
    let space = Workspace::new();
    let ended = run(&mut space.fetch(&published.url, "out.ts", &["--set", "hls.allow_leading_bytes=true"]));
    ended.failed("rubbish", "segment_invalid", &["is not media"]);
}

#[test]
fn a_change_on_the_way_does_not_fit_into_one_mp4() {
    let origin = Origin::start();
    let larger = media::make(Recipe { width: 640, height: 360, seconds: 4, ..Recipe::default() });
    let stream = media::ts().first(4).then(larger);
    let published = Publish::of(&stream).at(&origin, "/x");
    let space = Workspace::new();
    // The second time the first segments are not fetched: what they hold is found in the part.
    for name in ["fresh", "resumed"] {
        let ended = run(&mut space.fetch(&published.url, "out.mp4", &[]));
        ended.failed(
            name,
            "codec_changed",
            &["segment 4", "the picture changes from H.264 320x180", "to H.264 640x360"],
        );
        space.has_only_partial_files(name);
    }
    assert_eq!(origin.count(&published.segment_paths[0]), 1);
    let space = Workspace::new();
    run(&mut space.fetch(&published.url, "out.ts", &[])).made("ts", &space.path("out.ts"));
    assert!(space.read("out.ts") == published.truth, "a transport stream may hold it");
}

#[test]
fn line_29_counters_that_begin_anew_with_each_segment_are_no_hole() {
    let origin = Origin::start();
    let stream = changed(media::ts(), |index, segment| {
        let mut bytes = segment.to_vec();
        for packet in bytes.chunks_mut(PACKET) {
            packet[3] = packet[3] & 0xf0 | (packet[3] + index as u8 * 5) & 0x0f;
        }
        bytes.into()
    });
    let published = Publish::of(&stream).at(&origin, "/x");
    let space = Workspace::new();
    run(&mut space.fetch(&published.url, "out.ts", &[])).made("ts", &space.path("out.ts"));
    assert!(space.read("out.ts") == published.truth);
    run(&mut space.fetch(&published.url, "out.mp4", &[])).made("mp4", &space.path("out.mp4"));
    assert_eq!(hashes(space.path("out.mp4")).picture, hashes_of(&media::ts().truth()).picture);
}
