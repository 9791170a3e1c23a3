//! Whether Redis is there: one log line for each change, and the pause between two tries.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use redis::RedisError;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Queue;
use super::lease::Lease;
use crate::metrics::Metrics;

/// What is known about one connection.
pub(super) struct Link {
    /// Which one, for the log.
    connection: &'static str,
    up: AtomicBool,
    metrics: Arc<Metrics>,
}

impl Link {
    pub(super) fn new(connection: &'static str, metrics: Arc<Metrics>) -> Link {
        Link { connection, up: AtomicBool::new(true), metrics }
    }

    /// A command was answered.
    pub(super) fn answered(&self) {
        self.metrics.redis_up.set(1);
        if !self.up.swap(true, Relaxed) {
            info!(connection = self.connection, "Redis is back");
        }
    }

    /// A command failed: not reachable, refused, loading, read-only, out of memory.
    pub(super) fn failed(&self, error: &RedisError) {
        self.metrics.redis_up.set(0);
        if self.up.swap(false, Relaxed) {
            warn!(connection = self.connection, %error, "Redis is away");
        }
    }
}

impl Queue {
    /// Asks until Redis answers. `None` after `stop`, or when the lease is gone.
    pub(super) async fn ask<T, F>(&self, lease: &Lease, stop: &CancellationToken, question: impl Fn() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        let mut backoff = Backoff::new();
        loop {
            match question().await {
                Ok(answer) => {
                    self.shared.link.answered();
                    return Some(answer);
                }
                Err(error) => {
                    self.shared.link.failed(&error);
                    tokio::select! {
                        () = stop.cancelled() => return None,
                        () = lease.lost.cancelled() => return None,
                        () = tokio::time::sleep(backoff.next()) => {}
                    }
                }
            }
        }
    }
}

/// Pauses of 0.1 s, doubled up to 2 s.
pub(super) struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(2);

    pub(super) fn new() -> Backoff {
        Backoff(Backoff::FIRST)
    }

    /// The next pause.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(Backoff::LONGEST);
        pause
    }

    pub(super) fn reset(&mut self) {
        self.0 = Backoff::FIRST;
    }
}
