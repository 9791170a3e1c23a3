//! How long an element waits for its next instance after `kill -9` of the one that ran it, with the settings
//! that are the default.

use std::fmt;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;

use crate::support::origin::Reply;
use crate::support::{Daemon, Origin, RedisServer, wait};

const INSTANCES: usize = 5;
const JOBS: u64 = 12;
const MEASUREMENTS: usize = 100;
/// With this probability in a hundred it has to be good.
const PERCENTILE: usize = 99;
const LIMIT: Duration = Duration::from_secs(30);

/// Sorted.
pub struct Recovery(Vec<Duration>);

/// Kills instances that run jobs without an end, one every few seconds, and watches when the catalogue is asked
/// for their courses again.
pub async fn measure(seed: u64) -> Recovery {
    let mut rng = fastrand::Rng::with_seed(seed);
    let redis = RedisServer::start();
    let origin = Origin::start();
    let base = origin.url("");
    origin.answer("/catalog/*", move |_| {
        Reply::json(&json!({"title": "Endless", "sections": [{"title": "Start",
        "lectures": [{"title": "Only", "stream": {"url": format!("{base}/endless"), "type": "file"}}]}]}))
    });
    let _hold = origin.hold("/endless");
    let directory = tempfile::tempdir().expect("temporary directory");
    let default = hauld::config::Config::load(None, Default::default(), Default::default()).expect("the defaults");
    let (queue, mut started) = (default.queue, 0);
    let mut start = || {
        started += 1;
        let who = format!("g{started}");
        let daemon = Daemon::builder()
            .redis(&redis)
            .set("resolver.catalog_endpoint", origin.url(&format!("/catalog/{who}")))
            .set("queue.block_seconds", queue.block.as_secs() as i64)
            .set("queue.lease_seconds", queue.lease.as_secs() as i64)
            .set("queue.sweep_seconds", queue.sweep.as_secs() as i64)
            .set("queue.max_crashes", 100)
            .set("worker.jobs", 8)
            .staging(&directory.path().join("staging"))
            .delivered(&directory.path().join("delivered"))
            .launch();
        (who, daemon)
    };
    let mut fleet: Vec<(String, Daemon)> = (0..INSTANCES).map(|_| start()).collect();
    for task in 1..=JOBS {
        redis.set_task(task, "enrolled");
        redis.push_job(task, &format!("https://learn.example.com/course/{task}/"));
    }
    // Who was asked last by whom, for each task.
    let holders = || {
        let mut holders = std::collections::BTreeMap::new();
        for request in origin.requests_for("/catalog/*") {
            let url = request.query("url").unwrap_or_default();
            let task = url.trim_end_matches('/').rsplit('/').next().and_then(|text| text.parse::<u64>().ok());
            let who = request.path.rsplit('/').next().unwrap_or_default().to_owned();
            holders.insert(task.expect("a task"), (who, request.at));
        }
        holders
    };
    wait::until("all jobs run", LIMIT, || (holders().len() == JOBS as usize).then_some(())).await;
    let mut waiting: Vec<(u64, Instant)> = Vec::new();
    let mut measured = Vec::new();
    while measured.len() < MEASUREMENTS {
        sleep(Duration::from_millis(rng.u64(1_000..7_000))).await;
        let now = holders();
        waiting.retain(|(task, killed)| {
            let (_, taken) = now[task];
            if taken > *killed {
                measured.push(taken - *killed);
            }
            assert!(killed.elapsed() < LIMIT * 3, "task {task} was not taken again in {:?}", LIMIT * 3);
            taken <= *killed
        });
        // Enough must be alive to take what the dead held.
        let holding: Vec<usize> = (0..INSTANCES)
            .filter(|index| {
                now.iter()
                    .any(|(task, (who, _))| *who == fleet[*index].0 && waiting.iter().all(|(other, _)| other != task))
            })
            .collect();
        let Some(victim) = rng.choice(&holding) else { continue };
        let (who, daemon) = &fleet[*victim];
        daemon.sigkill();
        let killed = Instant::now();
        waiting.extend(now.iter().filter(|(_, (holder, _))| holder == who).map(|(task, _)| (*task, killed)));
        fleet[*victim] = start();
    }
    measured.sort();
    Recovery(measured)
}

impl Recovery {
    fn percentile(&self, percentile: usize) -> Duration {
        self.0[(self.0.len() * percentile).div_ceil(100) - 1]
    }

    /// # Panics
    /// When it takes too long.
    pub fn assert_within_limit(&self) {
        assert!(self.percentile(PERCENTILE) <= LIMIT, "{self}");
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [half, most, all] = [50, PERCENTILE, 100].map(|percentile| self.percentile(percentile).as_secs_f64());
        write!(
            f,
            "kill -9 to taken again with default settings: p50 {half:.1} s, p99 {most:.1} s, longest {all:.1} s, of {}",
            self.0.len()
        )
    }
}
