//! A limit of bytes per second.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How much may be caught up with after a pause: longer than a timer is late, too short to be seen
/// as a burst.
const SLACK: Duration = Duration::from_millis(50);

/// Spreads bytes evenly over time: whoever has received some waits until they were due. Waiters are
/// served in the order in which they came.
#[derive(Debug)]
pub struct RateLimit {
    bytes_per_second: u64,
    /// When all bytes that have been counted will be due.
    due: Mutex<Instant>,
}

impl RateLimit {
    /// `None` for 0 bytes per second, which means no limit.
    pub fn new(bytes_per_second: u64) -> Option<RateLimit> {
        (bytes_per_second > 0).then(|| RateLimit { bytes_per_second, due: Mutex::new(Instant::now()) })
    }

    /// Counts bytes that have arrived, and waits until they are due. Dropping the future leaves
    /// them counted.
    pub async fn pass(&self, bytes: usize) {
        let due = {
            let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            let earliest = Instant::now().checked_sub(SLACK).unwrap_or(*due);
            *due = earliest.max(*due) + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
            *due
        };
        tokio::time::sleep_until(due).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_evenly_whoever_takes_them() {
        let limit = Arc::new(RateLimit::new(1_000_000).unwrap());
        let start = Instant::now();
        let takers: Vec<_> = (1..=4)
            .map(|taker| {
                let limit = limit.clone();
                tokio::spawn(async move {
                    for _ in 0..100 * taker {
                        limit.pass(1000 * (5 - taker)).await;
                    }
                })
            })
            .collect();
        for taker in takers {
            taker.await.unwrap();
        }
        // 100 × 4000 + 200 × 3000 + 300 × 2000 + 400 × 1000 bytes.
        let seconds = start.elapsed().as_secs_f64();
        assert!((1.9..=2.05).contains(&seconds), "{seconds} s for 2 s of bytes");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_not_caught_up_with() {
        let limit = RateLimit::new(1000).unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        let start = Instant::now();
        limit.pass(1000).await;
        assert!(start.elapsed() >= Duration::from_millis(950));
        assert!(RateLimit::new(0).is_none());
    }
}
