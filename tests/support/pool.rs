//! A worker pool in the process of the test.

use std::sync::Arc;

use hauld::config::WorkerSettings;
use hauld::failure::Result;
use hauld::metrics::Metrics;
use hauld::queue::Queue;
use hauld::worker::{self, JobRunner};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Runs a pool that nothing keeps from taking jobs, until `stop`, and hands back at once on `stop_now`.
pub async fn run(
    queue: Queue,
    settings: WorkerSettings,
    runner: Arc<dyn JobRunner>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    stop_now: CancellationToken,
) -> Result<()> {
    let (limits, hindered) = (worker::Limits::new(&settings), watch::channel(None).1);
    worker::run(queue, limits, runner, metrics, hindered, stop, stop_now).await
}
