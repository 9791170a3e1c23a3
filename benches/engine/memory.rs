//! Peak memory of a whole process, whatever the stream and however many downloads. The first segment
//! of each stream comes late, so that the buffer fills.

use std::process::Stdio;

use super::child::measure;
use super::library::{self, Order};
use super::material::Material;
use super::origin::{Manner, Origin};
use super::support::print_table;

/// How late the first segment is: loopback fills the buffer in a tenth of that.
const STALL: Manner = Manner { stall_milliseconds: 1000, round_trip_milliseconds: 0, megabytes_per_second: 0 };
/// Goal for the process without its buffer, and the default of `hls.buffer_bytes`.
const PROGRAM_MIB: f64 = 24.0;
const BUFFER_MIB: f64 = 64.0;

pub fn run(origin: &Origin) {
    let mut rows = Vec::new();
    let mut row = |what: String, peak_rss_bytes: u64| {
        let mebibytes = peak_rss_bytes as f64 / f64::from(1 << 20);
        let share = mebibytes / (PROGRAM_MIB + BUFFER_MIB);
        rows.push(vec![what, format!("{mebibytes:.1}"), format!("{share:.2}")]);
    };
    let streams = [
        ("100 × 200 KB", 100, 200_000),
        ("10,000 × 200 KB", 10_000, 200_000),
        ("10,000 × 20 KB", 10_000, 20_000),
        ("100,000 × 20 KB", 100_000, 20_000),
        ("100 × 20 MB", 100, 20_000_000),
        ("10 × 200 MB", 10, 200_000_000),
    ];
    for (what, segments, bytes) in streams {
        let url = origin.publish(Material::new(segments, bytes), STALL);
        let directory = super::scratch();
        let mut command = super::hauld();
        command.args(["fetch", url.as_str(), "--container", "ts", "-o"]).arg(directory.path().join("out.ts"));
        row(format!("`hauld fetch`, {what}"), measure(command.stdout(Stdio::null())).peak_rss_bytes);
    }
    let url = origin.publish(Material::new(60, 2_500_000), STALL);
    for jobs in [1, 4, 16] {
        let directory = super::scratch();
        let order = Order { url: &url, jobs, seconds: 0, directory: directory.path(), settings: &[] };
        let (_, usage) = library::measure(&order);
        row(format!("downloads of 60 × 2.5 MB at once in one engine: {jobs}"), usage.peak_rss_bytes);
    }
    print_table(
        "Peak memory, the first segment a second late",
        &["stream", "peak RSS MiB", "of 24 MiB + 64 MiB buffer"],
        &rows,
    );
}
