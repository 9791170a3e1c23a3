//! How long the segments of a track take, and from when on one is late: then it is asked for a second
//! time, and what is whole first is taken.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// No segment is late before: a second request would cost more than it could save.
const LEAST_PATIENCE: Duration = Duration::from_secs(3);
/// A segment is late when the file has waited for it so many times as long as its like took.
const LATE: u32 = 4;
/// Segments that must have come before it is known how long one takes.
const ENOUGH: u32 = 4;
/// A new one counts for one part in so many of the average.
const WEIGHT: u64 = 8;

/// The pace of one track.
#[derive(Debug, Default)]
pub struct Pace {
    average_micros: AtomicU64,
    segments: AtomicU32,
}

impl Pace {
    /// A segment took so long, from its request to its last byte.
    pub fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let first = self.segments.fetch_add(1, Relaxed) == 0;
        // Two at the same time: one of them may go uncounted, which changes little.
        let average = self.average_micros.load(Relaxed);
        let next = if first { micros } else { average - average / WEIGHT + micros / WEIGHT };
        self.average_micros.store(next, Relaxed);
    }

    /// How long the file waits for a segment before it is late; `None` while that is not known.
    pub fn patience(&self) -> Option<Duration> {
        let average = Duration::from_micros(self.average_micros.load(Relaxed));
        (self.segments.load(Relaxed) >= ENOUGH).then(|| LEAST_PATIENCE.max(average.saturating_mul(LATE)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_25_late_is_what_takes_far_longer_than_the_others() {
        let pace = Pace::default();
        for _ in 0..ENOUGH {
            assert_eq!(pace.patience(), None);
            pace.observe(Duration::from_millis(100));
        }
        assert_eq!(pace.patience(), Some(LEAST_PATIENCE), "quick ones give no reason to hurry");
        for _ in 0..100 {
            pace.observe(Duration::from_secs(10));
        }
        let patience = pace.patience().unwrap();
        assert!(patience > Duration::from_secs(39) && patience <= Duration::from_secs(40), "{patience:?}");
        pace.observe(Duration::MAX);
        assert!(pace.patience().unwrap() > patience);
    }
}
