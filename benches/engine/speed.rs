//! Wall and processor time of one download, everybody in turn, several rounds.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};
use url::Url;

use super::child::{Usage, measure};
use super::material::Material;
use super::origin::{Manner, Origin};
use super::support::{median, print_table};

/// On loopback, where a run takes a fraction of a second and others disturb it easily.
const NEAR_ROUNDS: usize = 7;
const FAR_ROUNDS: usize = 3;
const ROUND_TRIP_MILLISECONDS: u64 = 40;
const GIB: f64 = (1u64 << 30) as f64;
const MIB: f64 = (1u64 << 20) as f64;

/// A program that downloads `url` to `output`.
struct Client {
    name: &'static str,
    command: fn(url: &Url, output: &Path) -> Command,
    /// Which row it is compared with.
    floor: &'static str,
}

const FLOOR_8: &str = "floor, 8 connections";
const FLOOR_16: &str = "floor, 16 connections";
const CLIENTS: [Client; 5] = [
    Client { name: FLOOR_8, command: |url, output| floor("floor", url, output, "8"), floor: FLOOR_8 },
    // What it costs that the file is on the disk and not only on its way: hauld says so before it renames.
    Client {
        name: "floor, 8, and fsync",
        command: |url, output| floor("synced-floor", url, output, "8"),
        floor: FLOOR_8,
    },
    Client { name: "**hauld fetch**, 8", command: |url, output| fetch(url, output, "8"), floor: FLOOR_8 },
    Client { name: FLOOR_16, command: |url, output| floor("floor", url, output, "16"), floor: FLOOR_16 },
    Client { name: "**hauld fetch**, 16", command: |url, output| fetch(url, output, "16"), floor: FLOOR_16 },
];

/// What users would pick instead, where it is installed. They are slow: one run each, on loopback.
const PEERS: [(&str, Client); 2] = [
    ("ffmpeg", Client { name: "ffmpeg -c copy", command: ffmpeg, floor: FLOOR_8 }),
    ("yt-dlp", Client { name: "yt-dlp -N 8", command: yt_dlp, floor: FLOOR_8 }),
];

fn floor(role: &str, url: &Url, output: &Path, connections: &str) -> Command {
    let mut command = super::role(role);
    command.arg(url.as_str()).arg(output).arg(connections);
    command
}

fn fetch(url: &Url, output: &Path, connections: &str) -> Command {
    let mut command = super::hauld();
    command.args(["fetch", url.as_str(), "--container", "ts", "--concurrency", connections, "-o"]).arg(output);
    command.stdout(Stdio::null());
    command
}

fn ffmpeg(url: &Url, output: &Path) -> Command {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-nostdin", "-loglevel", "quiet", "-y", "-i", url.as_str(), "-c", "copy", "-f", "mpegts"])
        .arg(output);
    command
}

fn yt_dlp(url: &Url, output: &Path) -> Command {
    let mut command = Command::new("yt-dlp");
    command.args(["--ignore-config", "--no-cache-dir", "--quiet", "--hls-use-mpegts", "--fixup", "never", "-N", "8"]);
    command.arg("-o").arg(output).arg(url.as_str());
    command
}

pub fn run(origin: &Origin) {
    let mut peers = Vec::new();
    for (program, client) in &PEERS {
        if is_on_path(program) {
            peers.push(client);
        } else {
            eprintln!("{program} is not installed and is left out of the comparison");
        }
    }
    let far = Manner { round_trip_milliseconds: ROUND_TRIP_MILLISECONDS, ..Manner::default() };
    let materials = [("120 × 2.5 MB", Material::new(120, 2_500_000)), ("1,500 × 200 KB", Material::new(1500, 200_000))];
    let mut rows = Vec::new();
    for (what, material) in materials {
        rows.extend(compare(origin, what, material, Manner::default(), &peers));
    }
    for (what, material) in materials {
        rows.extend(compare(origin, &format!("{what}, {ROUND_TRIP_MILLISECONDS} ms"), material, far, &[]));
    }
    let head = [
        "AES-128 segments, loopback or round trip",
        "client",
        "wall s",
        "× floor",
        "CPU-s/GiB",
        "× floor",
        "peak RSS MiB",
        "written × stream",
        "requests / connections",
    ];
    print_table("One download", &head, &rows);
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Everybody downloads the same in turn, several rounds; a row for each.
fn compare(origin: &Origin, what: &str, material: Material, manner: Manner, peers: &[&Client]) -> Vec<Vec<String>> {
    let url = origin.publish(material, manner);
    let rounds = if manner.round_trip_milliseconds == 0 { NEAR_ROUNDS } else { FAR_ROUNDS };
    let mut usages: HashMap<&str, Vec<Usage>> = HashMap::new();
    let mut counts: HashMap<&str, (u64, u64)> = HashMap::new();
    let mut truth = None;
    for round in 0..rounds {
        // Nobody always comes after the same one: the state of the page cache is inherited.
        let (later, first) = CLIENTS.split_at(round % CLIENTS.len());
        let slow = if round == 0 { peers } else { &[] };
        for client in first.iter().chain(later).chain(slow.iter().copied()) {
            let directory = super::scratch();
            let output = directory.path().join("out.ts");
            usages.entry(client.name).or_default().push(measure(&mut (client.command)(&url, &output)));
            counts.insert(client.name, origin.counts());
            // ffmpeg makes another file of the same pictures.
            if round == 0 && !client.name.starts_with("ffmpeg") {
                let sum = sha256(&output);
                assert!(*truth.get_or_insert(sum) == sum, "{}: the file is wrong", client.name);
            }
        }
    }
    let middle = |name: &str, figure: fn(&Usage) -> f64| median(usages[name].iter().map(figure));
    // In each round for itself: what disturbs a round disturbs both.
    let ratio = |name: &str, floor: &str, figure: fn(&Usage) -> f64| {
        median(usages[name].iter().zip(&usages[floor]).map(|(usage, floor)| figure(usage) / figure(floor)))
    };
    let bytes = material.bytes() as f64;
    let row = |Client { name, floor, .. }: &Client| {
        let (requests, connections) = counts[name];
        vec![
            what.to_owned(),
            (*name).to_owned(),
            format!("{:.2}", middle(name, |usage| usage.wall_seconds)),
            format!("{:.2}", ratio(name, floor, |usage| usage.wall_seconds)),
            format!("{:.2}", middle(name, |usage| usage.cpu_seconds) / bytes * GIB),
            format!("{:.2}", ratio(name, floor, |usage| usage.cpu_seconds)),
            format!("{:.0}", middle(name, |usage| usage.peak_rss_bytes as f64) / MIB),
            format!("{:.2}", middle(name, |usage| usage.written_bytes as f64) / bytes),
            format!("{requests} / {connections}"),
        ]
    };
    CLIENTS.iter().chain(peers.iter().copied()).map(row).collect()
}

fn sha256(path: &Path) -> [u8; 32] {
    // Some programs choose the extension themselves.
    let directory = path.parent().expect("a directory");
    let files = fs::read_dir(directory).expect("a directory").flatten().map(|entry| entry.path());
    let file = files.into_iter().find(|file| file.file_stem() == Some(OsStr::new("out"))).expect("a file was written");
    let mut hasher = Sha256::new();
    let mut file = fs::File::open(file).expect("a readable file");
    let mut buffer = vec![0; 1 << 20];
    loop {
        match std::io::Read::read(&mut file, &mut buffer).expect("a readable file") {
            0 => return hasher.finalize().into(),
            count => hasher.update(&buffer[..count]),
        }
    }
}
