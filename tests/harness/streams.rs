//! Streams and their publication, judged by ffmpeg and openssl.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use crate::support::media::{self, Container, duration_seconds, hashes, hashes_of};
use crate::support::publish::{every_shape, publish_master, publish_separate_audio};
use crate::support::{Origin, Publish};

#[test]
fn ffmpeg_plays_every_shape_as_the_truth() {
    let origin = Origin::start();
    // Most shapes are made of the same stream.
    let mut truths = HashMap::new();
    for (number, (name, shape)) in every_shape().into_iter().enumerate() {
        let published = shape.at(&origin, &format!("/shape/{number}"));
        let truth = truths.entry(published.truth.clone()).or_insert_with_key(|truth| hashes_of(truth));
        assert_eq!(hashes(&published.url), *truth, "{name}:\n{}", published.playlist);
        for path in published.segment_paths.iter().chain(&published.key_paths).chain(&published.init_path) {
            assert!(origin.count(path) > 0, "{name}: {path} was not asked for\n{}", published.playlist);
        }
    }
}

#[test]
fn openssl_decrypts_what_we_encrypt() {
    let origin = Origin::start();
    let stream = media::synthetic(3, 1000);
    assert_ne!(stream.segments[0].len() % 16, 0, "padding is tested, too");
    let published = Publish::of(&stream).encrypted_by_sequence().media_sequence(7).at(&origin, "/x");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("segment");
    for (index, wire) in published.wire_segments.iter().enumerate() {
        std::fs::write(&file, wire).unwrap();
        let clear = openssl(&file, &key_of(0), &format!("{:032x}", 7 + index));
        assert_eq!(clear, stream.segments[index], "segment {index}");
    }
}

/// The first key of every publication, as hex.
fn key_of(number: usize) -> String {
    (0..16).map(|place| format!("{:02x}", number * 29 + place * 7 + 3)).collect()
}

fn openssl(file: &Path, key: &str, iv: &str) -> Vec<u8> {
    let output =
        Command::new("openssl").args(["enc", "-d", "-aes-128-cbc", "-K", key, "-iv", iv, "-in"]).arg(file).output();
    let output = output.expect("openssl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn synthetic_segments_are_transport_stream_packets() {
    let stream = media::synthetic(40, 10_000);
    let truth = stream.truth();
    assert_eq!(truth.len(), 40 * 54 * 188);
    for (number, packet) in truth.chunks(188).enumerate() {
        assert_eq!((packet[0], packet[1] & 0x1f, packet[2]), (0x47, 0x01, 0x00), "packet {number}");
        assert_eq!(packet[3], 0x10 | (number % 16) as u8, "packet {number}");
    }
    let mut segments = stream.segments.clone();
    segments.sort();
    segments.dedup();
    assert_eq!(segments.len(), 40);
    assert_eq!(media::synthetic(40, 10_000).truth(), truth);
}

#[test]
fn hashes_survive_a_remux_and_tell_streams_apart() {
    let directory = tempfile::tempdir().unwrap();
    let (before, after) = (directory.path().join("a.ts"), directory.path().join("a.mp4"));
    std::fs::write(&before, media::ts().truth()).unwrap();
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-nostdin", "-i"]).arg(&before).args(["-map", "0:v?", "-map", "0:a?", "-c", "copy"]);
    assert!(ffmpeg.args(["-movflags", "+faststart"]).arg(&after).status().unwrap().success());
    let truth = hashes(&before);
    assert_eq!((truth.picture.len(), truth.sound.len()), (32, 32), "{truth:?}");
    assert_eq!(hashes(&after), truth);
    let seconds = (duration_seconds(&after) - 8.0).abs();
    assert!(seconds < 0.2, "{seconds}");
    assert_eq!(media::track_kinds(&after), ["video", "audio"]);
    let other = hashes_of(&media::other_ts().truth());
    assert!(other.picture != truth.picture && other.sound != truth.sound, "{other:?}");
}

#[test]
fn a_master_playlist_offers_every_height() {
    let origin = Origin::start();
    let master = publish_master(&origin, "/course/1", &media::ladder(), |stream| Publish::of(stream).encrypted());
    let sizes = [(640, 360), (1280, 720), (1920, 1080)];
    assert_eq!(media::picture_sizes(&master.url), sizes);
    for (variant, size) in master.variants.iter().zip(sizes) {
        assert_eq!(media::picture_sizes(&variant.url), [size]);
        assert_eq!(hashes(&variant.url), hashes_of(&variant.truth));
    }
}

#[test]
fn separate_audio_plays_with_its_picture() {
    let origin = Origin::start();
    for (base, container) in [("/ts", Container::Ts), ("/fmp4", Container::Fmp4)] {
        let video = Publish::of(media::video_only(container)).encrypted();
        let audio = Publish::of(media::audio_only(container)).encrypted_by_sequence();
        let both = publish_separate_audio(&origin, base, &video, &audio);
        let mut kinds = media::track_kinds(&both.url);
        kinds.sort();
        assert_eq!(kinds, ["audio", "video"], "{base}");
        let [picture, sound] = [&both.video, &both.audio].map(|published| hashes_of(&published.truth));
        assert_eq!(hashes(&both.url), media::Hashes { picture: picture.picture, sound: sound.sound }, "{base}");
    }
}
