//! Several downloads at once: together as fast as one, and nobody starves.

use super::library::{self, Order};
use super::material::Material;
use super::origin::{Manner, Origin};
use super::support::{median, print_table};

const JOBS: usize = 4;
const ROUNDS: usize = 5;
/// How long the shares are watched.
const SECONDS: u64 = 20;
const MEGABYTES_PER_SECOND: u64 = 60;

pub fn run(origin: &Origin) {
    throughput(origin);
    fairness(origin);
}

fn throughput(origin: &Origin) {
    let materials = [("120 × 2.5 MB", Material::new(120, 2_500_000)), ("1,500 × 200 KB", Material::new(1500, 200_000))];
    let mut rows = Vec::new();
    for (what, material) in materials {
        let url = origin.publish(material, Manner::default());
        let mut speeds = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (jobs, speeds) in [1, JOBS].into_iter().zip(&mut speeds) {
                let directory = super::scratch();
                let order = Order { url: &url, jobs, seconds: 0, directory: directory.path(), settings: &[] };
                let (_, usage) = library::measure(&order);
                speeds.push(jobs as f64 * material.bytes() as f64 / usage.wall_seconds / 1e6);
            }
        }
        let [one, four] = speeds.map(median);
        rows.push(vec![what.into(), format!("{one:.0}"), format!("{four:.0}"), format!("{:.2}", four / one)]);
    }
    let head = ["AES-128, loopback", "one download, MB/s", "four at once, MB/s", "ratio"];
    print_table("Four downloads at once", &head, &rows);
}

fn fairness(origin: &Origin) {
    let manner = Manner { megabytes_per_second: MEGABYTES_PER_SECOND, ..Manner::default() };
    let url = origin.publish(Material::new(2_000, 2_500_000), manner);
    let cases: [(&str, &[&str]); 2] = [
        ("as configured by default", &[]),
        ("8 requests and 4 MiB of buffer for all", &["hls.max_requests=8", "hls.buffer_bytes=4194304"]),
    ];
    let mut rows = Vec::new();
    for (what, settings) in cases {
        let directory = super::scratch();
        let order = Order { url: &url, jobs: JOBS, seconds: SECONDS, directory: directory.path(), settings };
        let (bytes, _) = library::measure(&order);
        let total: u64 = bytes.iter().sum();
        let mut shares: Vec<f64> = bytes.iter().map(|bytes| *bytes as f64 * JOBS as f64 / total as f64).collect();
        shares.sort_by(f64::total_cmp);
        let shares: Vec<String> = shares.iter().map(|share| format!("{share:.2}")).collect();
        rows.push(vec![what.into(), format!("{:.0}", total as f64 / 1e6 / SECONDS as f64), shares.join(" ")]);
    }
    let title = format!("Shares of four downloads after {SECONDS} s, the origin sending {MEGABYTES_PER_SECOND} MB/s");
    print_table(&title, &["limits", "MB/s together", "bytes ÷ fair share"], &rows);
}
