//! What an instance asks of the server, as MONITOR sees it: for a job, and for each second of one that runs.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::time::Duration;

use serde_json::json;

use super::ready::{Worker, role};
use super::support::print_table;
use super::world::origin::Reply;
use super::world::{Daemon, Origin, RedisServer, wait};
use super::{LIST, fill};

const JOBS: usize = 2_000;
const SECONDS: u64 = 30;
const RUNNING: usize = 16;

pub fn run(redis: &RedisServer) {
    let mut rows = Vec::new();
    let row = |what: String, seen: &BTreeMap<String, usize>, share: f64| {
        let sent: usize = seen.values().sum();
        let names: Vec<String> =
            seen.iter().map(|(name, count)| format!("{name} {:.2}", *count as f64 / share)).collect();
        vec![what, format!("{:.2}", sent as f64 / share), names.join(", ")]
    };
    for jobs in ["1", "16"] {
        fill(redis, JOBS);
        let monitor = Monitor::start(redis.port());
        Worker::start(role(&["worker", &redis.url(), jobs, &JOBS.to_string()])).wait();
        let seen = monitor.stop();
        rows.push(row(format!("a job that does nothing, worker.jobs = {jobs}"), &seen, JOBS as f64));
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for running in [0, RUNNING] {
        let seen = runtime.block_on(of_an_instance(redis, running));
        rows.push(row(format!("a second of an instance with {running} jobs"), &seen, SECONDS as f64));
    }
    print_table(
        "Commands an instance sends to Redis (what a script does inside is not counted)",
        &["for", "commands", "which"],
        &rows,
    );
}

/// What the real binary sends while it runs so many downloads.
async fn of_an_instance(redis: &RedisServer, running: usize) -> BTreeMap<String, usize> {
    fill(redis, 0);
    let origin = Origin::start();
    let base = origin.url("");
    origin.answer("/catalog", move |request| {
        let task = request.target.len();
        let stream = json!({"url": format!("{base}/endless/{task}"), "type": "file"});
        Reply::json(&json!({"title": "Endless", "sections": [{"title": "Start", "lectures": [{"title": "Only", "stream": stream}]}]}))
    });
    let hold = origin.hold("/endless/*");
    let daemon = Daemon::builder()
        .redis(redis)
        .set("resolver.catalog_endpoint", origin.url("/catalog"))
        .set("queue.block_seconds", 2)
        .set("queue.lease_seconds", 15)
        .set("queue.sweep_seconds", 5)
        .set("worker.jobs", RUNNING as i64 * 2)
        .start()
        .await;
    for task in 1..=running as u64 {
        redis.set_task(task, "enrolled");
        redis.push_job(task, &format!("https://learn.example.com/course/{task}/"));
    }
    hold.wait_for(running).await;
    wait::until("the list is empty", Duration::from_secs(5), || (redis.cli(&["LLEN", LIST]) == "0").then_some(()))
        .await;
    let monitor = Monitor::start(redis.port());
    tokio::time::sleep(Duration::from_secs(SECONDS)).await;
    let seen = monitor.stop();
    daemon.sigkill();
    seen
}

/// Counts the commands of all clients by their names.
struct Monitor {
    stream: TcpStream,
    counting: std::thread::JoinHandle<BTreeMap<String, usize>>,
}

impl Monitor {
    fn start(port: u16) -> Monitor {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the server");
        stream.write_all(b"MONITOR\r\n").expect("MONITOR");
        let mut lines = BufReader::new(stream.try_clone().expect("second handle")).lines();
        assert_eq!(lines.next().expect("an answer").expect("a line"), "+OK");
        let counting = std::thread::spawn(move || {
            let mut seen = BTreeMap::new();
            // +1700000000.123456 [0 127.0.0.1:50000] "evalsha" …, or [0 lua] within a script
            for line in lines.map_while(Result::ok).filter(|line| !line.contains("[0 lua]")) {
                let Some(name) = line.split('"').nth(1) else { continue };
                *seen.entry(name.to_ascii_uppercase()).or_default() += 1;
            }
            seen
        });
        Monitor { stream, counting }
    }

    fn stop(self) -> BTreeMap<String, usize> {
        // What has been sent is read to its end.
        let _ = self.stream.shutdown(Shutdown::Both);
        self.counting.join().expect("counting")
    }
}
