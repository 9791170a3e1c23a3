//! The real loop of the daemon with jobs that do nothing: pool, lease, sweep, log and all.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hauld::config::Config;
use hauld::job::Outcome;
use hauld::metrics::Metrics;
use hauld::queue::{Leased, Queue};
use hauld::worker::{self, JobRunner};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::ready::Clock;

struct Nothing {
    count: usize,
    state: Mutex<State>,
    stop: CancellationToken,
}

#[derive(Default)]
struct State {
    clock: Option<Clock>,
    latencies: Vec<f64>,
    settled: usize,
}

#[async_trait]
impl JobRunner for Nothing {
    async fn run(&self, job: Arc<Leased>, _: CancellationToken) -> Outcome {
        let now = super::now();
        let pushed = job.spec.email.split('@').next().and_then(|text| text.parse::<u128>().ok());
        let mut state = self.state.lock().expect("the state");
        state.clock.get_or_insert_with(Clock::start);
        let latency = now.saturating_sub(pushed.expect("when it was pushed"));
        state.latencies.push(latency as f64 / 1e9);
        Outcome::Done
    }

    async fn settled(&self, _: &Leased) {
        let mut state = self.state.lock().expect("the state");
        state.settled += 1;
        if state.settled == self.count {
            let latencies = std::mem::take(&mut state.latencies);
            state.clock.take().expect("it has begun").done(latencies).print();
            self.stop.cancel();
        }
    }
}

/// Works until so many jobs are settled.
pub fn run(url: &str, jobs: usize, count: usize) {
    let mut config = Config::load(None, Default::default(), Default::default()).expect("the defaults are valid");
    hauld::logging::init(&config.log, None).expect("a log");
    config.redis.url = url.to_owned().into();
    config.worker.jobs = jobs;
    // As the program builds it.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let metrics = Metrics::new();
        let outcomes = Path::new(env!("CARGO_TARGET_TMPDIR")).join("outcomes");
        let queue = Queue::connect(&config.redis, &config.queue, "0", outcomes, metrics.clone());
        let queue = queue.await.expect("a queue");
        let stop = CancellationToken::new();
        let runner = Arc::new(Nothing { count, state: Mutex::default(), stop: stop.clone() });
        println!("ready");
        let limit = Duration::from_secs(600);
        let working = worker::run(
            queue,
            worker::Limits::new(&config.worker),
            runner,
            metrics,
            watch::channel(None).1,
            stop,
            CancellationToken::new(),
        );
        tokio::time::timeout(limit, working).await.expect("within its time").expect("no panic");
    });
}
