//! Waiting for facts.

use std::time::{Duration, Instant};

/// How often a fact is looked at.
const STEP: Duration = Duration::from_millis(20);

/// Asks `fact` every 20 ms until it gives something.
///
/// # Panics
/// With `what` when nothing came within `limit`.
pub async fn until<T>(what: &str, limit: Duration, mut fact: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = fact() {
            return value;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} in vain until {what}");
        tokio::time::sleep(STEP).await;
    }
}

/// As [`until`], for a fact that takes an `.await` to look at.
///
/// # Panics
/// With `what` when nothing came within `limit`.
pub async fn until_async<T, F: Future<Output = Option<T>>>(
    what: &str,
    limit: Duration,
    mut fact: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = fact().await {
            return value;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} in vain until {what}");
        tokio::time::sleep(STEP).await;
    }
}

/// As [`until`], where there is no runtime: it blocks the thread.
///
/// # Panics
/// With `what` when nothing came within `limit`.
pub fn until_blocking<T>(what: &str, limit: Duration, mut fact: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = fact() {
            return value;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} in vain until {what}");
        std::thread::sleep(STEP);
    }
}
