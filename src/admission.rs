//! Callers of our own ports who show a bearer token: what they show, and how often it may be wrong.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{NotUntil, Quota, RateLimiter};

/// Wrong tries that one address has in a second, and at once.
// Neither can fail: both are computed when this is compiled.
const FAILURES_PER_SECOND: NonZeroU32 = NonZeroU32::new(5).unwrap();
const FAILURES_AT_ONCE: NonZeroU32 = NonZeroU32::new(30).unwrap();

/// So much of everybody.
pub(crate) type Limiter<K> = RateLimiter<K, HashMapStateStore<K>, DefaultClock>;

/// The token of the `Authorization` header.
///
/// # Errors
/// Why there is none, for the log.
pub(crate) fn bearer_token(headers: &HeaderMap) -> Result<&[u8], &'static str> {
    let value = headers.get(header::AUTHORIZATION).ok_or("no Authorization header")?;
    let (scheme, token) = value.as_bytes().split_at_checked(7).ok_or("not a bearer token")?;
    if !scheme.eq_ignore_ascii_case(b"Bearer ") {
        return Err("not a bearer token");
    }
    Ok(token.trim_ascii_start())
}

/// Counts the wrong tries of each address.
pub(crate) struct Attempts(Limiter<IpAddr>);

impl Attempts {
    pub(crate) fn new() -> Attempts {
        let quota = Quota::per_second(FAILURES_PER_SECOND).allow_burst(FAILURES_AT_ONCE);
        Attempts(RateLimiter::hashmap(quota))
    }

    /// Somebody at this address was wrong.
    ///
    /// # Errors
    /// It was wrong too often: how long it is to wait.
    pub(crate) fn failed(&self, address: IpAddr) -> Result<(), Duration> {
        self.0.check_key(&address).map_err(|until| wait(&until))
    }

    /// Forgets addresses that have been quiet.
    pub(crate) fn forget_the_quiet(&self) {
        self.0.retain_recent();
    }
}

/// How long it is until then.
pub(crate) fn wait(until: &NotUntil<<DefaultClock as Clock>::Instant>) -> Duration {
    until.wait_time_from(DefaultClock::default().now())
}
