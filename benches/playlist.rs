//! How fast a playlist of 100,000 segments is parsed, beside m3u8-rs on the same text.

mod support;

use std::fmt::Write;
use std::hint::black_box;
use std::time::Duration;

use criterion::Throughput;
use hauld::hls::playlist::{self, Limits, Playlist};
use support::criterion::{criterion, median_seconds};
use url::Url;

const SEGMENTS: usize = 100_000;

fn main() {
    support::print_machine();
    let base = Url::parse("https://media.example/course/lecture/index.m3u8").expect("a URL");
    let mut criterion = criterion();
    let shapes = [("one key", one_key()), ("rotating keys and byte ranges", rotating_keys_and_ranges())];
    let mut rows = Vec::new();
    for (shape, text) in &shapes {
        let text = text.as_bytes();
        let ours = || playlist::parse(text, &base, &Limits::default());
        let theirs = || m3u8_rs::parse_media_playlist_res(text);
        let Ok(Playlist::Media(media)) = ours() else { panic!("{shape}: not a media playlist") };
        assert_eq!(media.segments.len(), SEGMENTS);
        assert_eq!(theirs().expect("m3u8-rs reads it").segments.len(), SEGMENTS);

        let mut group = criterion.benchmark_group(*shape);
        group.throughput(Throughput::BytesDecimal(text.len() as u64));
        group.sample_size(20).warm_up_time(Duration::from_secs(1));
        group.bench_function("hauld", |bencher| bencher.iter_with_large_drop(|| black_box(ours())));
        group.bench_function("m3u8-rs", |bencher| bencher.iter_with_large_drop(|| black_box(theirs())));
        group.finish();
        let (Some(ours), Some(theirs)) = (median_seconds(shape, "hauld"), median_seconds(shape, "m3u8-rs")) else {
            continue;
        };
        let megabytes = text.len() as f64 / 1e6;
        rows.push(vec![
            format!("{shape} ({megabytes:.1} MB)"),
            format!("{:.1}", ours * 1e3),
            format!("{:.2}", megabytes / ours / 1e3),
            format!("{:.2}", megabytes / theirs / 1e3),
            format!("{:.1}", theirs / ours),
        ]);
    }
    let head = ["100,000 segments", "hauld, ms", "hauld, GB/s", "m3u8-rs, GB/s", "times as fast"];
    support::print_table("Playlist parsing", &head, &rows);
}

/// What most packagers write.
fn one_key() -> String {
    let mut text = String::from(
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:VOD\n\
         #EXT-X-KEY:METHOD=AES-128,URI=\"https://keys.example/lecture/key.bin\"\n",
    );
    for index in 0..SEGMENTS {
        write!(text, "#EXTINF:6.006,\nsegment_{index:06}.ts\n").expect("a String takes everything");
    }
    text + "#EXT-X-ENDLIST\n"
}

/// A new key and IV for every ten segments, ten files of which the segments are ranges.
fn rotating_keys_and_ranges() -> String {
    let mut text = String::from(
        "#EXTM3U\n#EXT-X-VERSION:4\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:1\n#EXT-X-PLAYLIST-TYPE:VOD\n",
    );
    for index in 0..SEGMENTS {
        if index % 10 == 0 {
            let key = index / 10;
            writeln!(text, "#EXT-X-KEY:METHOD=AES-128,URI=\"https://keys.example/lecture/{key}.bin\",IV=0x{key:032x}")
                .expect("a String takes everything");
        }
        let (file, offset) = (index / 10_000, index % 10_000 * 204_800);
        write!(text, "#EXTINF:6.006,\n#EXT-X-BYTERANGE:204800@{offset}\nfile_{file}.ts\n")
            .expect("a String takes everything");
    }
    text + "#EXT-X-ENDLIST\n"
}
