//! How fast the hook takes orders in, on loopback, with a redis-server that keeps an append-only file,
//! while the orders before are enrolled and pushed.
//!
//! The floor is the least that keeps an order: a server on the same library that writes the body into
//! Redis under the order's id, if there is none, and answers. Both are asked by the same callers in turn.

mod load;
mod servers;

#[path = "../support/mod.rs"]
mod support;
#[path = "../../tests/support/mod.rs"]
mod world;

use load::{Callers, Taken};
use servers::{Floor, Hook};
use support::{median, print_table};

/// The goal: so many orders a second, 99 of 100 answered within 20 ms.
const RATE: f64 = 2_000.0;
const SECONDS: f64 = 10.0;
const ROUNDS: usize = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match &words[..] {
        ["floor", url] => servers::run_floor(url),
        ["enrollment"] => servers::run_enrollment(),
        _ => run(),
    }
}

fn run() {
    support::print_machine();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (mut floors, mut hooks) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let floor = Floor::start();
        floors.push(runtime.block_on(round(floor.callers(), || floor.cpu_seconds())));
        drop(floor);
        let hook = runtime.block_on(Hook::start());
        hooks.push(runtime.block_on(round(hook.callers(), || hook.cpu_seconds())));
        hook.wait_until_pushed(hooks.last().map_or(0, Round::taken));
    }
    let rows = [row("floor: one `SET NX`", &floors), row("**hauld**, hook", &hooks)];
    let asked = format!("{RATE} orders a second for {SECONDS} s");
    let head = [
        "server",
        "answered 202",
        "p50, ms",
        "p99, ms",
        "longest, ms",
        "most orders/s",
        "CPU of the server per order, µs",
    ];
    print_table(&format!("Orders of one task: {asked}, then as many as it takes"), &head, &rows);
}

/// What one server has done in one round.
struct Round {
    steady: Taken,
    most: Taken,
    cpu_seconds: f64,
}

impl Round {
    fn taken(&self) -> usize {
        self.steady.count() + self.most.count()
    }
}

async fn round(callers: Callers, cpu_seconds: impl Fn() -> f64) -> Round {
    callers.at_most(SECONDS / 10.0).await;
    let before = cpu_seconds();
    let steady = callers.at_rate(RATE, SECONDS).await;
    let cpu_seconds = cpu_seconds() - before;
    let most = callers.at_most(SECONDS / 2.0).await;
    Round { steady, most, cpu_seconds }
}

fn row(name: &str, rounds: &[Round]) -> Vec<String> {
    let middle = |figure: &dyn Fn(&Round) -> f64| median(rounds.iter().map(figure));
    let milliseconds = |share: f64| format!("{:.2}", middle(&|round| round.steady.latency(share)) * 1e3);
    let least = rounds.iter().map(|round| round.steady.count()).min().unwrap_or(0);
    vec![
        name.to_owned(),
        format!("{:.1} %", least as f64 / (RATE * SECONDS) * 100.0),
        milliseconds(0.5),
        milliseconds(0.99),
        milliseconds(1.0),
        format!("{:.0}", middle(&|round| round.most.per_second())),
        format!("{:.0}", middle(&|round| round.cpu_seconds / round.steady.count() as f64) * 1e6),
    ]
}
