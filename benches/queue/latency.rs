//! From the push to the start of the job, when jobs come one by one and the worker waits for them.

use std::time::Duration;

use redis::Commands;

use super::ready::{Done, Worker, role};
use super::support::print_table;
use super::world::RedisServer;
use super::{LIST, element, fill, peers};

const JOBS: usize = 3_000;
/// A worker that forks for each job is not quicker.
const FORKED_JOBS: usize = 200;
/// Mean; the pauses are random, as if many customers ordered.
const PAUSE: Duration = Duration::from_millis(4);

pub fn run(redis: &RedisServer) {
    let url = redis.url();
    let count = JOBS.to_string();
    let ours = [
        ("reference: `BLMOVE`", role(&["reference", &url, &count])),
        ("**hauld**, worker.jobs = 4", role(&["worker", &url, "4", &count])),
        ("Python, `BRPOP`", peers::command(&["brpop", &url, &count])),
    ];
    let mut rows = Vec::new();
    for (name, command) in ours {
        fill(redis, 0);
        let worker = Worker::start(command);
        push(redis);
        rows.push(row(name, worker.wait()));
    }
    for (name, kind, count, pause) in
        [("RQ 3.0 SimpleWorker", "simple", JOBS, PAUSE), ("RQ 3.0 `rq worker`", "worker", FORKED_JOBS, PAUSE * 10)]
    {
        fill(redis, 0);
        let pause = pause.as_secs_f64().to_string();
        let worker = Worker::start(peers::command(&[kind, &url, &count.to_string(), &pause]));
        rows.push(row(name, worker.wait()));
    }
    let title = format!("From push to start, a push every {} ms on average", PAUSE.as_millis());
    print_table(&title, &["worker", "p50, ms", "p99, ms", "longest, ms"], &rows);
}

fn push(redis: &RedisServer) {
    let mut connection = super::connect(&redis.url());
    for task in 1..=JOBS {
        std::thread::sleep(PAUSE.mul_f64(-(1.0 - fastrand::f64()).ln()));
        let _: usize = connection.lpush(LIST, element(task)).expect("LPUSH");
    }
}

fn row(name: &str, done: Done) -> Vec<String> {
    let mut latencies = done.latencies;
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = (latencies.len() as f64 * share).ceil() as usize;
        format!("{:.2}", latencies[index.clamp(1, latencies.len()) - 1] * 1e3)
    };
    vec![name.to_owned(), at(0.5), at(0.99), at(1.0)]
}
