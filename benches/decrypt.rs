//! How fast the engine decrypts on one core, beside `openssl speed` in the same minute.

mod support;

use std::process::Command;
use std::time::Duration;

use criterion::Throughput;
use hauld::hls::Decryptor;
use support::criterion::{criterion, median_seconds};
use support::median;

const GROUP: &str = "AES-128-CBC decryption";
/// A small read from a socket, and a whole block of the engine's buffer.
const SIZES: [usize; 2] = [16 << 10, 256 << 10];

fn main() {
    support::print_machine();
    let mut criterion = criterion();
    let mut rows = Vec::new();
    for bytes in SIZES {
        let floor_before = openssl_speed(bytes);
        let buffer: Vec<u8> = (0..bytes).map(|index| index as u8).collect();
        let mut clear = vec![0; buffer.len()];
        let mut decryptor = Decryptor::new(&[3; 16], &[5; 16]);
        let mut group = criterion.benchmark_group(GROUP);
        group.throughput(Throughput::BytesDecimal(bytes as u64));
        group.sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
        let name = format!("{} KiB at once", bytes >> 10);
        group.bench_function(&name, |bencher| bencher.iter(|| decryptor.decrypt(&buffer, &mut clear)));
        group.finish();
        let Some(seconds) = median_seconds(GROUP, &name) else { continue };
        let ours = bytes as f64 / seconds;
        let floor = median([floor_before, openssl_speed(bytes)].into_iter().flatten().chain([f64::NAN]));
        let (floor, ratio) = if floor.is_nan() {
            ("no openssl".into(), String::new())
        } else {
            (format!("{:.1}", floor / 1e9), format!("{:.2}", ours / floor))
        };
        rows.push(vec![name, format!("{:.1}", ours / 1e9), floor, ratio]);
    }
    support::print_table(GROUP, &["one core", "hauld, GB/s", "openssl speed, GB/s", "ratio"], &rows);
}

/// Bytes per second of OpenSSL's own benchmark; nothing when the program is not there.
fn openssl_speed(bytes: usize) -> Option<f64> {
    let mut command = Command::new("openssl");
    command.args(["speed", "-mr", "-elapsed", "-seconds", "1", "-evp", "aes-128-cbc", "-decrypt", "-bytes"]);
    let output = command.arg(bytes.to_string()).output().ok().filter(|output| output.status.success())?;
    // "+F:25:AES-128-CBC:13140754432.00"
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find(|line| line.starts_with("+F:"))?.rsplit(':').next()?.trim().parse().ok()
}
