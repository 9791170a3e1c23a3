//! What systemd sees: the notify protocol of the real binary, the units, and the package on a host.

mod host;
mod package;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use support::{Daemon, RedisServer, wait};

const UNITS: [&str; 2] = [
    concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/hauld.service"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/hauld@.service"),
];

/// Receives what the daemon tells its service manager.
struct Manager {
    socket: UnixDatagram,
    directory: tempfile::TempDir,
}

impl Manager {
    fn start() -> Manager {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Manager { socket, directory }
    }

    fn path(&self) -> String {
        self.directory.path().join("notify").display().to_string()
    }

    fn received(&self) -> Option<String> {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    async fn wait_for(&self, word: &str) {
        let received = || self.received().filter(|message| message.lines().any(|line| line == word));
        wait::until(word, Duration::from_secs(20), received).await;
    }
}

fn daemon(manager: &Manager, redis: &RedisServer) -> Daemon {
    let builder = Daemon::builder().redis(redis).env("NOTIFY_SOCKET", &manager.path());
    builder.env("WATCHDOG_USEC", "600000").launch()
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_watchdog_and_stop_are_told() {
    let (manager, redis) = (Manager::start(), RedisServer::start());
    let daemon = daemon(&manager, &redis);
    manager.wait_for("READY=1").await;
    manager.wait_for("WATCHDOG=1").await;
    manager.wait_for("WATCHDOG=1").await;
    daemon.sigterm();
    manager.wait_for("STOPPING=1").await;
    assert!(daemon.wait_exit(Duration::from_secs(20)).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_not_ready_before_redis_is() {
    let (manager, mut redis) = (Manager::start(), RedisServer::start());
    redis.kill9();
    let daemon = daemon(&manager, &redis);
    daemon.wait_for_log(&["trying until it is there"]).await;
    assert_eq!(manager.received(), None);
    assert!(!daemon.is_ready());
    redis.restart();
    manager.wait_for("READY=1").await;
}

/// On Debian systemd-analyze comes with systemd; without it there is nothing that could read the
/// unit either.
fn analyze(arguments: &[&str]) -> Option<std::process::Output> {
    Command::new("systemd-analyze").args(arguments).output().ok()
}

#[test]
fn the_units_are_valid() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd");
    for unit in ["hauld.service", "hauld@1.service", "hauld.target"] {
        let path = format!("{directory}/{unit}");
        let Some(output) = analyze(&["verify", "--man=no", &path]) else { return };
        let said = String::from_utf8_lossy(&output.stderr);
        // The program is not installed where the tests run.
        let complaints: Vec<&str> =
            said.lines().filter(|line| !line.contains("/usr/bin/hauld is not executable")).collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}

#[test]
fn the_units_are_sandboxed() {
    for unit in UNITS {
        let Some(output) = analyze(&["security", "--offline=true", "--threshold=13", unit]) else { return };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

/// The template is the unit, but for what a number changes.
#[test]
fn the_units_differ_in_the_number_alone() {
    let [one, template] = UNITS.map(|unit| std::fs::read_to_string(unit).unwrap());
    let lines = |text: &str| -> BTreeSet<String> {
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    };
    let (one, template) = (lines(&one), lines(&template));
    let mut differing: Vec<&str> =
        one.symmetric_difference(&template).map(|line| line.split_once('=').map_or("", |(name, _)| name)).collect();
    differing.dedup();
    assert_eq!(differing, ["Conflicts", "Description", "Environment", "PartOf", "WantedBy"]);
}

/// The system calls of a filter's group, with those of the groups in it.
fn system_calls(group: &str) -> BTreeSet<String> {
    let output = Command::new("systemd-analyze").args(["syscall-filter", group]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut calls = BTreeSet::new();
    for name in text.lines().skip(1).map(str::trim).filter(|name| !name.is_empty() && !name.starts_with('#')) {
        match name.starts_with('@') {
            true => calls.append(&mut system_calls(name)),
            false => drop(calls.insert(name.to_owned())),
        }
    }
    calls
}

#[test]
fn the_unit_allows_what_rclone_asks_the_kernel_for() {
    let place = tempfile::tempdir().unwrap();
    let (trace, source) = (place.path().join("trace"), place.path().join("source"));
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("film.mp4"), [7; 100_000]).unwrap();
    let mut copy = Command::new("strace");
    copy.args(["-f", "-o"]).arg(&trace).args(["rclone", "copy", "--checksum"]).arg(&source);
    copy.arg(place.path().join("target")).env("RCLONE_CONFIG", place.path().join("rclone.conf"));
    // As above: both are on few hosts, and where they are not there is nothing to compare.
    if analyze(&["--version"]).is_none() || !copy.output().is_ok_and(|output| output.status.success()) {
        return;
    }
    let unit = std::fs::read_to_string(UNITS[0]).unwrap();
    let mut allowed = BTreeSet::new();
    for filter in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        match filter.strip_prefix('~') {
            Some(groups) => allowed = groups.split(' ').fold(allowed, |left, group| &left - &system_calls(group)),
            None => filter.split(' ').for_each(|group| allowed.append(&mut system_calls(group))),
        }
    }
    let trace = std::fs::read_to_string(trace).unwrap();
    // `1234  openat(AT_FDCWD, …`
    let call = |line: &str| line.split_whitespace().nth(1)?.split_once('(').map(|(name, _)| name.to_owned());
    let asked: BTreeSet<String> = trace.lines().filter_map(call).collect();
    assert!(asked.contains("openat") && allowed.contains("openat"), "{asked:?}");
    assert!(asked.is_subset(&allowed), "{:?}", &asked - &allowed);
}

#[test]
fn the_unit_waits_longer_than_the_drain() {
    let unit = std::fs::read_to_string(UNITS[0]).unwrap();
    let stop = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")?.strip_suffix('s')).unwrap();
    let settings = hauld::config::Config::settings();
    let drain = settings.iter().find(|setting| setting.name == "worker.drain_seconds").unwrap();
    assert!(stop.parse::<u64>().unwrap() >= drain.default.parse::<u64>().unwrap() + 30);
}
