//! The sweep, made by every instance: renew the own lease, bring back delayed elements that are
//! due, take back what dead instances held, count.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use redis::{AsyncCommands, RedisError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::keys::TOMBSTONE;
use super::lease::Lease;
use super::link::Backoff;
use super::{Crashed, DeadEnvelope, Queue};
use crate::failure::{Failure, FailureKind, Result};
use crate::job::{Element, JobSpec};
use crate::metrics::StateLabel;
use crate::redis_client;

/// Elements that one call of the promotion script moves at most: it blocks the server meanwhile.
const PROMOTED_AT_ONCE: usize = 100;

impl Queue {
    /// Sweeps every `queue.sweep`, promotes when an element becomes due, and registers anew after
    /// a lost lease, until told to end. Never ends by itself.
    pub async fn keep_sweeping(&self, end: CancellationToken) {
        let sweep = self.shared.settings.sweep;
        let mut next_sweep = Instant::now();
        let mut due_in = None;
        let mut backoff = Backoff::new();
        loop {
            *self.shared.last_round.lock().unwrap_or_else(PoisonError::into_inner) = std::time::Instant::now();
            let due = due_in.map_or(next_sweep, |wait| next_sweep.min(Instant::now() + wait));
            let lease = self.lease();
            tokio::select! {
                biased;
                () = end.cancelled() => return,
                () = lease.lost.cancelled() => next_sweep = Instant::now(),
                () = self.shared.delayed.notified() => {}
                () = tokio::time::sleep_until(due) => {}
            }
            let swept = if Instant::now() >= next_sweep {
                next_sweep = Instant::now() + sweep;
                self.try_sweep().await
            } else {
                self.promote().await
            };
            match swept {
                Ok(next_due) => {
                    self.shared.link.answered();
                    backoff.reset();
                    due_in = next_due;
                }
                Err(error) => {
                    self.shared.link.failed(&error);
                    let pause = backoff.next();
                    due_in = None;
                    next_sweep = Instant::now() + pause;
                    // A lost lease would end the wait above at once, again and again.
                    tokio::select! {
                        () = end.cancelled() => return,
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
    }

    /// One sweep, now.
    ///
    /// # Errors
    /// `queue_unavailable`; what was not done is done by the next sweep.
    pub async fn sweep(&self) -> Result<()> {
        let swept = self.try_sweep().await;
        swept.map(drop).map_err(|error| redis_client::failure("sweeping the queue", &error))
    }

    /// Returns the time until the next delayed element is due, if there is one.
    async fn try_sweep(&self) -> Result<Option<Duration>, RedisError> {
        let lease = self.lease();
        let renewal = match lease.lost.is_cancelled() {
            true => None,
            false => self.renew(&lease).await?,
        };
        let Some(renewal) = renewal else {
            lease.lose();
            self.register_anew().await?;
            return Ok(None);
        };
        if renewal.claimed > lease.held() {
            lease.reread.store(true, Relaxed);
        }
        let due = self.promote().await?;
        for instance in renewal.expired {
            self.reap(&lease, &instance).await?;
        }
        self.measure().await?;
        Ok(due)
    }

    /// Brings back what is due. Returns the time until the next element is.
    async fn promote(&self) -> Result<Option<Duration>, RedisError> {
        let shared = &self.shared;
        loop {
            let (moved, next_due): (usize, i64) = shared
                .scripts
                .promote
                .key(&shared.keys.delayed)
                .key(&shared.keys.list)
                .arg(PROMOTED_AT_ONCE)
                .invoke_async(&mut shared.commands.clone())
                .await?;
            if moved < PROMOTED_AT_ONCE {
                return Ok(u64::try_from(next_due).ok().map(Duration::from_millis));
            }
        }
    }

    /// Takes back what a dead instance held.
    async fn reap(&self, own: &Lease, instance: &str) -> Result<(), RedisError> {
        let shared = &self.shared;
        let keys = &shared.keys;
        let mut commands = shared.commands.clone();
        let claimed = keys.claimed(instance);
        let elements: Vec<Vec<u8>> = commands.lrange(&claimed, 0, -1).await?;
        let mut call = shared.scripts.reap.prepare_invoke();
        call.key(&keys.leases)
            .key(&claimed)
            .key(keys.receipts(instance))
            .key(&keys.list)
            .key(&keys.dead)
            .key(&keys.attempts)
            .key(&keys.crashes)
            .key(&keys.counts)
            .key(&keys.instances)
            .key(&keys.sweeps)
            .arg(instance)
            .arg(shared.settings.max_crashes)
            .arg(TOMBSTONE.as_secs());
        let crashed = Failure::new(
            FailureKind::WorkerCrashed,
            format!(
                "{} instances died while they held this element, the last was {instance}",
                shared.settings.max_crashes
            ),
        );
        let mut attempts_of = HashMap::new();
        for element in elements {
            let element = Element(element);
            let task_id = JobSpec::task_id_of(&element).map(|id| id.to_string()).unwrap_or_default();
            let attempts: Option<u32> = commands.hget(&keys.attempts, &task_id).await?;
            let envelope = DeadEnvelope::new(&element, &crashed, attempts.unwrap_or(0), &own.instance);
            call.arg(&element.0).arg(task_id).arg(envelope.to_json());
            attempts_of.insert(element.0, attempts.unwrap_or(0));
        }
        let (returned, killed): (i64, Vec<Vec<u8>>) = call.invoke_async(&mut commands).await?;
        let Ok(returned) = u64::try_from(returned) else { return Ok(()) };
        shared.metrics.reaped.inc_by(returned + killed.len() as u64);
        warn!(dead_instance = instance, returned, killed = killed.len(), "took back what a dead instance held");
        for element in killed {
            let attempts = attempts_of.get(&element).copied().unwrap_or(0);
            // Only jobs run, so only jobs kill; and without a pool nobody wants to know.
            if let Ok(spec) = JobSpec::parse(&Element(element)) {
                let _ = shared.crashed.send(Crashed { spec, attempts, failure: crashed.clone() });
            }
        }
        Ok(())
    }

    /// Sets the gauges.
    async fn measure(&self) -> Result<(), RedisError> {
        let depths = self.shared.view.read_depths().await?;
        let gauges = [
            ("waiting", depths.waiting),
            ("running", depths.running),
            ("delayed", depths.delayed),
            ("dead", depths.dead),
        ];
        for (state, count) in gauges {
            self.shared.metrics.queue_elements.get_or_create(&StateLabel { state }).set(count as i64);
        }
        Ok(())
    }
}
