//! What is known about the hosts that are asked, by all jobs together: how many requests each may have
//! at once, until when one wants to be left alone, and whether it answers at all.

mod breaker;
mod throttle;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Instant;
use url::Url;

use self::breaker::{Breaker, Way};
use self::throttle::Throttle;
use crate::failure::{Failure, FailureKind, Result};
use crate::http::LONGEST_PAUSE;
use crate::metrics::Metrics;
use crate::permits::Permits;

/// Hosts that are remembered; a playlist may name any number of them.
const MAX_HOSTS: usize = 1000;
/// After a pause that a host asked for, its requests come back spread over this time.
const SPREAD: Duration = Duration::from_millis(500);

/// All hosts, for the whole process; cheap to clone.
#[derive(Clone)]
pub struct Hosts {
    known: Arc<Mutex<Known>>,
    metrics: Arc<Metrics>,
}

struct Known {
    most: usize,
    hosts: HashMap<String, Arc<Host>>,
}

/// One host and port.
pub struct Host {
    name: String,
    requests: Permits,
    /// Permits that are out: for a while more than the limit after it has become smaller.
    under_way: AtomicUsize,
    state: Mutex<State>,
    /// Whether an answer would change the state: most never do.
    is_troubled: AtomicBool,
    /// Wakes those who wait for what becomes of the request that has gone ahead.
    told: Notify,
    metrics: Arc<Metrics>,
}

struct State {
    throttle: Throttle,
    breaker: Breaker,
    /// Until when the host wants to be left alone.
    cools_until: Option<Instant>,
}

/// A place among the requests of a host, until it is dropped.
pub struct Place {
    host: Arc<Host>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.host.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One request that may be made now. When it is dropped before it is told what became of it, the
/// request was stopped.
struct Asking<'a> {
    host: &'a Host,
    round: u64,
    /// Others wait for what becomes of it.
    ahead: bool,
}

impl Hosts {
    /// `max_requests` at once for one host, 0 means no limit; `in_all` for all of them together.
    pub fn new(max_requests: usize, in_all: usize, metrics: Arc<Metrics>) -> Hosts {
        let known = Known { most: most(max_requests, in_all), hosts: HashMap::new() };
        Hosts { known: Arc::new(Mutex::new(known)), metrics }
    }

    /// Another limit for every host, those that are being asked included.
    pub fn limit(&self, max_requests: usize, in_all: usize) {
        let mut known = self.known();
        known.most = most(max_requests, in_all);
        known.hosts.values().for_each(|host| host.allow(known.most));
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host of a URL.
    pub fn of(&self, url: &Url) -> Arc<Host> {
        let name =
            format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
        let mut known = self.known();
        let Known { most, hosts } = &mut *known;
        if hosts.len() >= MAX_HOSTS && !hosts.contains_key(&name) {
            // Nobody asks those that only the map holds, and those that are not cooling have
            // nothing to remember that they will not tell again.
            hosts.retain(|_, host| Arc::strong_count(host) > 1 || host.state().pause().is_some());
        }
        let new = |name: &String| Arc::new(Host::new(name.clone(), *most, self.metrics.clone()));
        hosts.entry(name).or_insert_with_key(new).clone()
    }
}

/// No host gets more than all of them together.
fn most(max_requests: usize, in_all: usize) -> usize {
    if max_requests == 0 { in_all } else { max_requests.min(in_all) }
}

impl Host {
    fn new(name: String, most: usize, metrics: Arc<Metrics>) -> Host {
        let state = State { throttle: Throttle::new(most), breaker: Breaker::default(), cools_until: None };
        Host {
            name,
            requests: Permits::new(most),
            under_way: AtomicUsize::new(0),
            state: Mutex::new(state),
            is_troubled: AtomicBool::new(false),
            told: Notify::new(),
            metrics,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn allow(&self, most: usize) {
        let mut state = self.state();
        state.throttle.allow(most);
        self.requests.resize(state.throttle.limit());
    }

    /// Waits until one more request may be made. Served in the order of asking.
    pub async fn admit(self: &Arc<Host>) -> Place {
        // Never closed.
        let permit = self.requests.semaphore().acquire_owned().await.ok();
        self.under_way.fetch_add(1, Ordering::Relaxed);
        Place { host: self.clone(), _permit: permit }
    }

    /// One more request, if nobody has to be waited for.
    pub fn admit_at_once(self: &Arc<Host>) -> Option<Place> {
        let permit = self.requests.semaphore().try_acquire_owned().ok()?;
        self.under_way.fetch_add(1, Ordering::Relaxed);
        Some(Place { host: self.clone(), _permit: Some(permit) })
    }

    /// Whether the host answers, wants no pause and has not said that it has too much to do.
    pub fn is_calm(&self) -> bool {
        !self.is_troubled.load(Ordering::Relaxed) && self.state().pause().is_none()
    }

    /// Makes a request once the host may be asked: when it no longer wants to be left alone, and while it is
    /// taken for down when the request that has gone ahead is back. The head of an answer is an answer.
    ///
    /// # Errors
    /// That of the request, or of the one that has gone ahead.
    pub async fn ask<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        let asking = self.clear().await?;
        let answer = request.await;
        match &answer {
            Ok(_) => asking.answered(),
            Err(failure) => asking.failed(failure),
        }
        answer
    }

    async fn clear(&self) -> Result<Asking<'_>> {
        let mut since = None;
        loop {
            let told = self.told.notified();
            let (way, round) = self.state().look(&mut since);
            match way {
                Way::Free => return Ok(Asking { host: self, round, ahead: false }),
                Way::Ahead => return Ok(Asking { host: self, round, ahead: true }),
                Way::Pause(pause) => tokio::time::sleep(pause).await,
                Way::Behind => told.await,
                Way::Closed(kind) => {
                    let failures = self.state().breaker.failures();
                    let message = format!("{}: not asked: {failures} requests in a row have failed", self.name);
                    return Err(Failure::new(kind, message));
                }
            }
        }
    }

    fn answered(&self) {
        if !self.is_troubled.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.state();
        if state.breaker.answered() {
            tracing::info!("{} answers again", self.name);
        }
        state.throttle.answered();
        self.settle(&state);
    }

    fn failed(&self, failure: &Failure, round: u64, ahead: bool) {
        let mut state = self.state();
        if let Some(pause) = asked_pause(failure) {
            state.cools_until = state.cools_until.max(Some(Instant::now() + pause));
        }
        if failure.is_overload {
            let under_way = self.under_way.load(Ordering::Relaxed).max(1);
            if state.throttle.refused(round, under_way) {
                self.metrics.host_slowdowns.inc();
                let limit = state.throttle.limit();
                tracing::info!(limit, "{} has too much to do: it gets at most {limit} requests at once", self.name);
            }
        }
        if is_of_the_host(failure.kind) && state.breaker.failed(failure, ahead, Instant::now()) {
            self.metrics.host_outages.inc();
            let (kind, failures) = (failure.kind.name(), state.breaker.failures());
            tracing::info!(
                kind,
                "{}: {failures} requests in a row have failed: it is asked one at a time until it answers; \
                 the last: {failure}",
                self.name
            );
        }
        self.settle(&state);
    }

    /// The state has changed: whoever depends on it gets to know.
    fn settle(&self, state: &State) {
        self.requests.resize(state.throttle.limit());
        self.is_troubled.store(state.throttle.is_reduced() || state.breaker.has_failed(), Ordering::Relaxed);
        self.told.notify_waiters();
    }
}

impl State {
    fn pause(&self) -> Option<Duration> {
        let pause = self.cools_until?.saturating_duration_since(Instant::now());
        (pause > Duration::ZERO).then_some(pause)
    }

    /// What somebody may do who has waited since so many verdicts of the breaker (`None`: who begins to wait now),
    /// and the round of a request that begins now.
    fn look(&mut self, since: &mut Option<u64>) -> (Way, u64) {
        let since = *since.get_or_insert(self.breaker.verdicts());
        let way = match self.pause() {
            Some(pause) => Way::Pause(pause + SPREAD.mul_f64(fastrand::f64())),
            None => self.breaker.way(since, Instant::now()),
        };
        (way, self.throttle.round())
    }
}

impl Asking<'_> {
    fn answered(mut self) {
        self.ahead = false;
        self.host.answered();
    }

    fn failed(mut self, failure: &Failure) {
        let ahead = std::mem::take(&mut self.ahead);
        match failure.is_overload || is_of_the_host(failure.kind) {
            true => self.host.failed(failure, self.round, ahead),
            // An answer, if not the one that was hoped for.
            false => self.host.answered(),
        }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if self.ahead {
            self.host.state().breaker.gave_up();
            self.host.told.notify_waiters();
        }
    }
}

/// Whether the host, and not what it was asked for, is at fault.
fn is_of_the_host(kind: FailureKind) -> bool {
    matches!(kind, FailureKind::ServerError | FailureKind::ConnectionFailed | FailureKind::TimedOut)
}

/// How long a host that has refused a request wants to be left alone, if it says so: by all.
pub fn asked_pause(failure: &Failure) -> Option<Duration> {
    let by_the_host = matches!(failure.kind, FailureKind::RateLimited | FailureKind::ServerError);
    failure.retry_after.filter(|_| by_the_host).map(|asked| asked.min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests;
