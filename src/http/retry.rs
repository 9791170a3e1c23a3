//! How long to wait before the same request is made again.

use std::time::Duration;

/// First upper bound of a pause; it doubles with each attempt.
const BASE: Duration = Duration::from_millis(500);
/// Longest pause, whoever asks for it.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The pause after `attempt` (from 1) has failed: what the server asked for, else exponential with
/// full jitter, so that many clients of a recovering server do not come back at once.
pub fn pause(attempt: u32, retry_after: Option<Duration>) -> Duration {
    if let Some(asked) = retry_after {
        return asked.min(LONGEST_PAUSE);
    }
    pause_bound(attempt).mul_f64(fastrand::f64())
}

/// The longest that the pause after `attempt` (from 1) may be when the server asked for none.
pub fn pause_bound(attempt: u32) -> Duration {
    BASE.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_33_pauses_grow_are_bounded_and_obey_the_server() {
        for attempt in 1..100 {
            let bound = Duration::from_millis(500 * (1 << (attempt - 1).min(10)));
            assert!(pause(attempt, None) <= bound.min(LONGEST_PAUSE), "{attempt}");
        }
        assert_eq!(pause(1, Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(pause(1, Some(Duration::from_secs(86_400))), LONGEST_PAUSE);
    }

    #[test]
    fn line_33_pauses_are_spread() {
        let pauses: Vec<Duration> = (0..1000).map(|_| pause(1, None)).collect();
        assert!(pauses.iter().any(|pause| *pause < BASE / 4) && pauses.iter().any(|pause| *pause > BASE * 3 / 4));
    }
}
