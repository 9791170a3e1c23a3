//! What is known about the hosts that are asked: how many requests each may have at once, and
//! until when one wants to be left alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use url::Url;

use crate::failure::{Failure, FailureKind};
use crate::http::LONGEST_PAUSE;
use crate::permits::Permits;

/// Hosts that are remembered; a playlist may name any number of them.
const MAX_HOSTS: usize = 1000;
/// After a pause that a host asked for, its requests come back spread over this time.
const SPREAD: Duration = Duration::from_millis(500);
/// Requests at once for one host where there is no limit: more than all of them together can be.
const NO_LIMIT: usize = 1 << 20;

/// All hosts, for the whole process; cheap to clone.
#[derive(Clone)]
pub struct Hosts {
    known: Arc<Mutex<Known>>,
}

struct Known {
    max_requests: usize,
    hosts: HashMap<String, Arc<Host>>,
}

/// One host and port.
pub struct Host {
    requests: Permits,
    /// Until when it wants to be left alone.
    cools_until: Mutex<Option<Instant>>,
}

impl Hosts {
    /// `max_requests` at once for one host; 0 means no limit.
    pub fn new(max_requests: usize) -> Hosts {
        let known = Known { max_requests: at_most(max_requests), hosts: HashMap::new() };
        Hosts { known: Arc::new(Mutex::new(known)) }
    }

    /// Another limit for every host, those that are being asked included.
    pub fn limit(&self, max_requests: usize) {
        let mut known = self.known();
        known.max_requests = at_most(max_requests);
        known.hosts.values().for_each(|host| host.requests.resize(known.max_requests));
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host of a URL.
    pub fn of(&self, url: &Url) -> Arc<Host> {
        let name =
            format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
        let mut known = self.known();
        let Known { max_requests, hosts } = &mut *known;
        if hosts.len() >= MAX_HOSTS && !hosts.contains_key(&name) {
            // Nobody asks those that only the map holds, and those that are not cooling have
            // nothing to remember.
            hosts.retain(|_, host| Arc::strong_count(host) > 1 || host.pause().is_some());
        }
        let new = || Arc::new(Host { requests: Permits::new(*max_requests), cools_until: Mutex::new(None) });
        hosts.entry(name).or_insert_with(new).clone()
    }
}

/// 0 means no limit.
fn at_most(max_requests: usize) -> usize {
    if max_requests == 0 { NO_LIMIT } else { max_requests }
}

impl Host {
    /// Waits until one more request may be made; it is over when the permit is dropped. Served in
    /// the order of asking.
    pub async fn admit(&self) -> Option<OwnedSemaphorePermit> {
        // Never closed.
        self.requests.semaphore().acquire_owned().await.ok()
    }

    /// Waits until the host no longer wants to be left alone.
    pub async fn cooled(&self) {
        while let Some(pause) = self.pause() {
            tokio::time::sleep(pause + SPREAD.mul_f64(fastrand::f64())).await;
        }
    }

    /// Looks at a failed request: a host that says `Retry-After` to one of them means all of them.
    /// Says whether it did.
    pub fn heed(&self, failure: &Failure) -> bool {
        let Some(asked) =
            failure.retry_after.filter(|_| matches!(failure.kind, FailureKind::RateLimited | FailureKind::ServerError))
        else {
            return false;
        };
        let until = Instant::now() + asked.min(LONGEST_PAUSE);
        let mut cools_until = self.cools_until.lock().unwrap_or_else(PoisonError::into_inner);
        *cools_until = (*cools_until).max(Some(until));
        true
    }

    fn pause(&self) -> Option<Duration> {
        let cools_until = (*self.cools_until.lock().unwrap_or_else(PoisonError::into_inner))?;
        let pause = cools_until.saturating_duration_since(Instant::now());
        (pause > Duration::ZERO).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn refused(seconds: Option<u64>, kind: FailureKind) -> Failure {
        Failure { retry_after: seconds.map(Duration::from_secs), ..Failure::new(kind, "no") }
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_asks_for_a_pause_gets_it_from_everybody() {
        let hosts = Hosts::new(0);
        let one = hosts.of(&url("https://a.example/x"));
        assert!(!one.heed(&refused(None, FailureKind::RateLimited)));
        assert!(!one.heed(&refused(Some(9), FailureKind::NotFound)));
        assert!(one.heed(&refused(Some(9), FailureKind::RateLimited)));
        assert!(one.heed(&refused(Some(2), FailureKind::ServerError)), "a shorter pause does not end a longer one");
        let start = Instant::now();
        hosts.of(&url("https://b.example/x")).cooled().await;
        hosts.of(&url("http://a.example/x")).cooled().await;
        assert_eq!(start.elapsed(), Duration::ZERO, "other hosts and ports are not asked to wait");
        hosts.of(&url("https://a.example:443/y?z")).cooled().await;
        assert!((9.0..=9.6).contains(&start.elapsed().as_secs_f64()), "{:?}", start.elapsed());
        assert!(one.heed(&refused(Some(1 << 40), FailureKind::RateLimited)));
        assert!(one.pause().unwrap() <= LONGEST_PAUSE);
    }

    #[tokio::test]
    async fn requests_of_a_host_are_bounded_and_hosts_are_forgotten() {
        let hosts = Hosts::new(1);
        let host = hosts.of(&url("https://a.example/"));
        let first = host.admit().await;
        let second = host.admit();
        tokio::pin!(second);
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        hosts.limit(0);
        let second = second.await;
        hosts.limit(1);
        drop(first);
        let third = host.admit();
        tokio::pin!(third);
        assert!(futures_util::poll!(third.as_mut()).is_pending());
        drop(second);
        tokio::task::yield_now().await;
        assert!(futures_util::poll!(third.as_mut()).is_ready());
        for number in 0..3 * MAX_HOSTS {
            hosts.of(&url(&format!("https://{number}.example/")));
        }
        assert!(hosts.known().hosts.len() <= MAX_HOSTS);
        assert!(Arc::ptr_eq(&host, &hosts.of(&url("https://a.example/"))), "one that is in use is kept");
    }
}
