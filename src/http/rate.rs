//! A limit of bytes per second.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
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
    /// 0: no limit.
    bytes_per_second: AtomicU64,
    /// When all bytes that have been counted will be due.
    due: Mutex<Instant>,
}

impl RateLimit {
    /// 0 bytes per second means no limit.
    pub fn new(bytes_per_second: u64) -> RateLimit {
        RateLimit { bytes_per_second: AtomicU64::new(bytes_per_second), due: Mutex::new(Instant::now()) }
    }

    /// Another limit for the bytes that arrive from now on.
    pub fn change(&self, bytes_per_second: u64) {
        if self.bytes_per_second.swap(bytes_per_second, Relaxed) != bytes_per_second {
            *self.due.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    }

    /// Whether there is a limit.
    pub fn is_limited(&self) -> bool {
        self.bytes_per_second.load(Relaxed) > 0
    }

    /// Counts bytes that have arrived, and waits until they are due. Dropping the future leaves
    /// them counted.
    pub async fn pass(&self, bytes: usize) {
        let bytes_per_second = self.bytes_per_second.load(Relaxed);
        if bytes_per_second == 0 {
            return;
        }
        let due = {
            let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            let earliest = Instant::now().checked_sub(SLACK).unwrap_or(*due);
            *due = earliest.max(*due) + Duration::from_secs_f64(bytes as f64 / bytes_per_second as f64);
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
        let limit = Arc::new(RateLimit::new(1_000_000));
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
        let limit = RateLimit::new(1000);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let start = Instant::now();
        limit.pass(1000).await;
        assert!(start.elapsed() >= Duration::from_millis(950));
        for (limit_of, bytes, at_most) in [(100_000, 100_000, 1.0), (0, 1 << 30, 0.0)] {
            limit.change(limit_of);
            let start = Instant::now();
            limit.pass(bytes).await;
            assert!(start.elapsed().as_secs_f64() <= at_most, "{limit_of}: {:?}", start.elapsed());
        }
    }
}
