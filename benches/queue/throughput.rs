//! How many jobs a second one instance gets through when there is always one more, and what it costs.

use super::ready::{Done, Worker, role};
use super::support::{median, print_table};
use super::world::RedisServer;
use super::{fill, peers};

const ROUNDS: usize = 5;
const JOBS: usize = 30_000;
/// RQ is slow.
const SIMPLE_JOBS: usize = 1_500;
const FORKED_JOBS: usize = 100;

pub fn run(redis: &RedisServer) {
    let url = redis.url();
    let hauld = |jobs: &'static str| {
        let url = url.clone();
        move |count: usize| role(&["worker", &url, jobs, &count.to_string()])
    };
    let python = |kind: &'static str| {
        let url = url.clone();
        move |count: usize| peers::command(&[kind, &url, &count.to_string(), "0"])
    };
    let reference = |count: usize| role(&["reference", &url, &count.to_string()]);
    type Start<'a> = Box<dyn Fn(usize) -> std::process::Command + 'a>;
    let workers: Vec<(&str, usize, Start)> = vec![
        ("reference: `BLMOVE`, `LREM`, one connection", JOBS, Box::new(reference)),
        ("**hauld**, worker.jobs = 1", JOBS, Box::new(hauld("1"))),
        ("**hauld**, worker.jobs = 4", JOBS, Box::new(hauld("4"))),
        ("**hauld**, worker.jobs = 16", JOBS, Box::new(hauld("16"))),
        ("**hauld**, worker.jobs = 64", JOBS, Box::new(hauld("64"))),
        ("Python, `BRPOP` (loses what it holds)", JOBS, Box::new(python("brpop"))),
        ("RQ 3.0 SimpleWorker", SIMPLE_JOBS, Box::new(python("simple"))),
        ("RQ 3.0 `rq worker`", FORKED_JOBS, Box::new(python("worker"))),
    ];
    let mut rounds: Vec<Vec<Done>> = vec![Vec::new(); workers.len()];
    for round in 0..ROUNDS {
        // Nobody always comes after the same one.
        for index in (0..workers.len()).map(|index| (index + round) % workers.len()) {
            let (_, count, start) = &workers[index];
            fill(redis, *count);
            rounds[index].push(Worker::start(start(*count)).wait());
        }
    }
    let per_second = |done: &Done| done.jobs as f64 / done.seconds;
    let reference = median(rounds[0].iter().map(per_second));
    let rows = workers.iter().zip(&rounds).map(|((name, ..), rounds)| {
        let speed = median(rounds.iter().map(per_second));
        let cpu = median(rounds.iter().map(|done| done.cpu_seconds * 1e6 / done.jobs as f64));
        vec![(*name).to_owned(), format!("{speed:.0}"), format!("{:.2}", speed / reference), format!("{cpu:.0}")]
    });
    let head = ["worker", "jobs/s", "× reference", "CPU of the worker per job, µs"];
    print_table("Jobs that do nothing, one instance, loopback", &head, &rows.collect::<Vec<_>>());
}
