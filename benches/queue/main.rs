//! The queue with jobs that do nothing, beside the least that a worker on Redis can cost and beside
//! RQ, on a redis-server of the benchmark's own.
//!
//! `cargo bench --bench queue -- throughput latency commands idle` runs the sections that are named,
//! or all. Every worker that is measured is a process of its own: this program in another role, a
//! Python program, or the real binary.

mod commands;
mod idle;
mod latency;
mod peers;
mod ready;
mod reference;
mod worker;

#[path = "../support/mod.rs"]
mod support;
mod throughput;
#[path = "../../tests/support/mod.rs"]
mod world;

const SECTIONS: [&str; 4] = ["throughput", "latency", "commands", "idle"];
const LIST: &str = "rq:queue:downloads";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match &words[..] {
        ["worker", url, jobs, count] => worker::run(url, number(jobs), number(count)),
        ["reference", url, count] => reference::run(url, number(count)),
        sections => run(sections),
    }
}

fn number(text: &str) -> usize {
    text.parse().expect("a number")
}

fn run(sections: &[&str]) {
    if let Some(unknown) = sections.iter().find(|section| !SECTIONS.contains(section)) {
        panic!("there is no section {unknown}, only {SECTIONS:?}");
    }
    support::print_machine();
    let is_wanted = |section| sections.is_empty() || sections.contains(&section);
    let redis = world::RedisServer::start();
    if is_wanted("throughput") {
        throughput::run(&redis);
    }
    if is_wanted("latency") {
        latency::run(&redis);
    }
    if is_wanted("commands") {
        commands::run(&redis);
    }
    if is_wanted("idle") {
        idle::run(&redis);
    }
}

/// An element as the Node backend writes it. The customer's address says when it was pushed.
fn element(task: usize) -> String {
    let now = now();
    format!(
        r#"{{"taskId":{task},"email":"{now}@example.com","courseUrl":"https://learn.example.com/course/{task}/","timestamp":"2026-01-13T02:00:00.000Z","jobId":"task-{task}"}}"#
    )
}

/// Nanoseconds since 1970.
fn now() -> u128 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("after 1970").as_nanos()
}

/// Empties the server and fills the list.
fn fill(redis: &world::RedisServer, count: usize) {
    let mut connection = connect(&redis.url());
    let _: () = redis::cmd("FLUSHALL").query(&mut connection).expect("FLUSHALL");
    let mut task = 0;
    while task < count {
        let mut pipe = redis::pipe();
        for _ in 0..1000.min(count - task) {
            task += 1;
            pipe.lpush(LIST, element(task)).ignore();
        }
        pipe.query::<()>(&mut connection).expect("LPUSH");
    }
}

fn connect(url: &str) -> redis::Connection {
    let client = redis::Client::open(url).expect("a URL of Redis");
    client.get_connection().expect("the server answers")
}
