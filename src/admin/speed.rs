//! How fast this instance has received bytes in the last minutes: counted in the process, so it is there before
//! anybody looks.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;

/// Between two samples.
pub(super) const SAMPLE_EVERY: Duration = Duration::from_secs(2);
/// Ten minutes.
const SAMPLES: usize = 300;

/// One stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Sample {
    /// Its end, Unix milliseconds.
    pub at: i64,
    /// Bytes per second.
    pub speed: u64,
}

/// The last minutes.
pub(super) struct Speed(Mutex<State>);

struct State {
    samples: VecDeque<Sample>,
    /// The counter at the last look.
    before: (Instant, u64),
}

impl Speed {
    /// From this count of bytes on.
    pub(super) fn new(bytes: u64) -> Speed {
        Speed(Mutex::new(State { samples: VecDeque::new(), before: (Instant::now(), bytes) }))
    }

    /// The counter is here now.
    pub(super) fn count(&self, bytes: u64) {
        let mut state = self.state();
        let (now, (then, before)) = (Instant::now(), state.before);
        let seconds = now.duration_since(then).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        state.before = (now, bytes);
        let speed = (bytes.saturating_sub(before) as f64 / seconds) as u64;
        if state.samples.len() == SAMPLES {
            state.samples.pop_front();
        }
        state.samples.push_back(Sample { at: Timestamp::now().as_millisecond(), speed });
    }

    /// The samples that have ended after `at`, the oldest first.
    pub(super) fn since(&self, at: i64) -> Vec<Sample> {
        self.state().samples.iter().filter(|sample| sample.at > at).copied().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked under it has left numbers, which are shown and nothing else.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_last_ten_minutes_are_known() {
        let speed = Speed::new(1000);
        for number in 1..=400 {
            tokio::time::advance(SAMPLE_EVERY).await;
            speed.count(1000 + number * number);
        }
        let samples = speed.since(0);
        assert_eq!(samples.len(), 300);
        // 400² - 399² in two seconds.
        assert_eq!(samples.last().unwrap().speed, 399);
        assert_eq!(speed.since(samples.last().unwrap().at), []);
    }
}
