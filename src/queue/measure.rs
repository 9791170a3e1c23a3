//! The gauges of the queue, set with each sweep.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use redis::{AsyncCommands, RedisError};

use super::Queue;
use super::classify::{self, Reading};
use super::keys::rq_job;
use crate::job::Element;
use crate::metrics::StateLabel;

/// How long ago that was; no time at all when it is yet to come: clocks differ.
pub(super) fn age(at: Timestamp) -> Duration {
    Timestamp::now().duration_since(at).try_into().unwrap_or_default()
}

impl Queue {
    pub(super) async fn measure(&self) -> Result<(), RedisError> {
        let metrics = &self.shared.metrics;
        let oldest = self.oldest_waiting().await?;
        metrics.oldest_waiting.set(oldest.as_secs_f64());
        let totals = self.shared.view.totals(redis::pipe()).await?;
        let depths = totals.depths;
        let gauges = [
            ("waiting", depths.waiting),
            ("running", depths.running),
            ("delayed", depths.delayed),
            ("untold", depths.untold),
            ("dead", depths.dead),
        ];
        for (state, count) in gauges {
            metrics.queue_elements.get_or_create(&StateLabel { state }).set(count as i64);
        }
        metrics.leases.set(totals.instances as i64);
        Ok(())
    }

    /// Age of the element that is taken next. Its look at the list is what the round trip is measured by.
    async fn oldest_waiting(&self) -> Result<Duration, RedisError> {
        let shared = &self.shared;
        let asked = Instant::now();
        let next: Option<Vec<u8>> = shared.commands.clone().lindex(&shared.keys.list, -1).await?;
        shared.metrics.redis_round_trip_seconds.observe(asked.elapsed().as_secs_f64());
        let seen = self.seen_in_line(next.as_deref());
        let Some(element) = next.map(Element) else { return Ok(Duration::ZERO) };
        let enqueued_at = match classify::read(&element) {
            Reading::Id(id) if self.runs_rq() => {
                let written: Option<String> = shared.commands.clone().hget(rq_job(id), "enqueued_at").await?;
                written.and_then(|written| written.parse().ok())
            }
            _ => element.enqueued_at(),
        };
        Ok(enqueued_at.map_or(seen, age))
    }

    /// How long this instance has seen this element in its place.
    fn seen_in_line(&self, next: Option<&[u8]>) -> Duration {
        // A poisoned lock still guards a whole value: it is only replaced.
        let mut line = self.shared.next_in_line.lock().unwrap_or_else(PoisonError::into_inner);
        if line.as_ref().map(|(element, _)| element.as_slice()) != next {
            *line = next.map(|element| (element.to_vec(), Instant::now()));
        }
        line.as_ref().map_or(Duration::ZERO, |(_, since)| since.elapsed())
    }
}
