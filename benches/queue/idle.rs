//! The real binary with nothing to do.

use std::fs;
use std::time::{Duration, Instant};

use super::fill;
use super::support::{cpu, print_table};
use super::world::{Daemon, RedisServer};

/// After the start has settled.
const BEFORE: Duration = Duration::from_secs(5);
const WATCHED: Duration = Duration::from_secs(60);

pub fn run(redis: &RedisServer) {
    fill(redis, 0);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let default = hauld::config::Config::load(None, Default::default(), Default::default()).expect("the defaults");
    let queue = default.queue;
    let daemon = runtime.block_on(
        Daemon::builder()
            .redis(redis)
            .set("queue.block_seconds", queue.block.as_secs() as i64)
            .set("queue.lease_seconds", queue.lease.as_secs() as i64)
            .set("queue.sweep_seconds", queue.sweep.as_secs() as i64)
            .set("worker.jobs", default.worker.jobs as i64)
            .start(),
    );
    std::thread::sleep(BEFORE);
    let (begin, before) = (Instant::now(), cpu(daemon.pid()));
    std::thread::sleep(WATCHED);
    let share = (cpu(daemon.pid()) - before).as_secs_f64() / begin.elapsed().as_secs_f64();
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("it runs");
    let kilobytes = |name: &str| -> f64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of status");
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number")
    };
    let row = vec![
        format!("`hauld run`, {} s", WATCHED.as_secs()),
        format!("{:.3}", share * 100.0),
        format!("{:.1}", kilobytes("VmRSS") / 1024.0),
        format!("{:.1}", kilobytes("RssAnon") / 1024.0),
    ];
    print_table("An idle instance", &["process", "% of a core", "RSS MiB", "of it its own, MiB"], &[row]);
}
