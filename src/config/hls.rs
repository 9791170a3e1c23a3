//! The settings of the HLS engine.

use super::{HlsSettings, Source};
use crate::hls::playlist::Limits;

/// Reads `hls.*`.
pub fn read(s: &mut Source) -> HlsSettings {
    HlsSettings {
        quality: s.integer(
            "hls.quality",
            720,
            1..=16_384,
            "Preferred height in lines: the best rendition not above it is taken, else the lowest.",
        ) as u32,
        concurrency: s.reloadable().count("hls.concurrency", 8, 1..=256, "Segment requests at once for one lecture."),
        max_requests: s.reloadable().count(
            "hls.max_requests",
            32,
            1..=4096,
            "Segment requests at once for all jobs together.",
        ),
        buffer_bytes: s.reloadable().count(
            "hls.buffer_bytes",
            64 << 20,
            (1 << 20)..=(64 << 30),
            "Bytes of segments waiting in memory, for all jobs together.",
        ),
        segment_attempts: s.reloadable().integer(
            "hls.segment_attempts",
            5,
            1..=100,
            "Attempts at one segment before the lecture fails.",
        ) as u32,
        max_lecture_retries: s.reloadable().integer(
            "hls.max_lecture_retries",
            500,
            0..=1_000_000,
            "Requests in all that may be made again for one lecture.",
        ) as u32,
        max_job_retries: s.reloadable().integer(
            "hls.max_job_retries",
            2000,
            0..=1_000_000,
            "Requests in all that may be made again for one attempt at a job.",
        ) as u32,
        max_connections_per_host: s.reloadable().count(
            "hls.max_connections_per_host",
            0,
            0..=4096,
            "Segment requests at once for one host, for all jobs together; 0 means no limit.",
        ),
        max_bytes_per_second: s.reloadable().integer(
            "hls.max_bytes_per_second",
            0,
            0..=(1 << 40),
            "Bytes received per second, for all jobs together; 0 means no limit.",
        ),
        max_job_bytes_per_second: s.reloadable().integer(
            "hls.max_job_bytes_per_second",
            0,
            0..=(1 << 40),
            "Bytes received per second for each job; 0 means no limit.",
        ),
        allow_gaps: s.reloadable().boolean(
            "hls.allow_gaps",
            false,
            "Whether a lecture may lack segments that its playlist declares absent, and packets lost before they were served; both are reported.",
        ),
        allow_leading_bytes: s.reloadable().boolean(
            "hls.allow_leading_bytes",
            false,
            "Whether bytes in front of a transport stream are left out, at most 64 KiB of a segment, when they are no picture; pictures are left out in any case. Both are counted and reported.",
        ),
        playlist_limits: read_playlist_limits(s),
        max_segment_bytes: s.reloadable().integer(
            "hls.max_segment_bytes",
            2 << 30,
            1024..=(1 << 50),
            "Largest segment, on the wire and with gzip undone.",
        ),
        bandwidth_tolerance: s.reloadable().integer(
            "hls.bandwidth_tolerance",
            16,
            0..=1_000_000,
            "A segment may have so many times the bytes that the playlist's BANDWIDTH allows for its duration, but 64 MiB in any case; 0 means that only `hls.max_segment_bytes` counts.",
        ),
        max_job_bytes: s.reloadable().integer(
            "hls.max_job_bytes",
            1 << 40,
            1024..=(1 << 60),
            "Most that is received for one attempt at a job.",
        ),
    }
}

fn read_playlist_limits(s: &mut Source) -> Limits {
    let default = Limits::default();
    let mut read = |name: &str, default, range, help: &str| s.reloadable().count(name, default, range, help);
    Limits {
        max_bytes: read("hls.max_playlist_bytes", default.max_bytes, 1024..=(1 << 30), "Largest playlist."),
        max_line_bytes: read(
            "hls.max_line_bytes",
            default.max_line_bytes,
            1024..=(1 << 30),
            "Longest line of a playlist.",
        ),
        max_segments: read("hls.max_segments", default.max_segments, 1..=10_000_000, "Most segments in a playlist."),
        max_variants: read(
            "hls.max_variants",
            default.max_variants,
            1..=1_000_000,
            "Most variants, and most renditions, in a playlist.",
        ),
        max_keys: read("hls.max_keys", default.max_keys, 1..=10_000_000, "Most keys in a playlist."),
    }
}
