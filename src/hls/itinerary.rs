//! The way of one track from its first unit to its last: a plan that can be renewed while units
//! are under way, when links expire, a host fails, or the playlist still grows.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

use super::StreamRequest;
use super::load::{Loader, Source};
use super::plan::Plan;
use crate::failure::{Context, Failure, FailureKind, Result};
use crate::http::{RequestHeaders, shown};

/// Renewals in a row that brought no unit to its end. One for each place that can be asked, and
/// some more for places that come back.
const FRUITLESS_RENEWALS: u32 = 3;
/// Shortest pause between two looks at a playlist that grows.
const SHORTEST_RELOAD: Duration = Duration::from_secs(1);

/// Which track of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    Main,
    Audio,
    /// The rendition with this tag.
    Subtitles(String),
}

/// The plan as it is now.
pub struct Edition {
    /// Counts up with each renewal.
    pub number: u64,
    pub plan: Plan,
    /// What the plan's requests are made with.
    pub headers: RequestHeaders,
}

/// A plan and where to get the next edition of it.
pub struct Itinerary {
    loader: Arc<Loader>,
    role: Role,
    edition: RwLock<Arc<Edition>>,
    /// Held while the next edition is made: everybody else waits for it.
    making: Mutex<Making>,
}

struct Making {
    request: StreamRequest,
    /// Addresses of the media playlist: the chosen variant's, and of its copies.
    copies: Vec<Url>,
    /// The copy in use.
    copy: usize,
    variables: super::load::Variables,
    /// Renewals since a unit was last brought to its end, and the number of units then.
    fruitless: u32,
    done: usize,
    /// When a growing playlist must have ended.
    deadline: Instant,
    /// Whether the last look at it showed nothing new.
    stale: bool,
}

impl Itinerary {
    /// Makes the first edition.
    ///
    /// # Errors
    /// What a playlist cannot be downloaded for: see [`Plan::new`].
    pub fn new(loader: Arc<Loader>, request: StreamRequest, role: Role, source: Source) -> Result<Itinerary> {
        let Source { playlist, copies, copy, variables, .. } = source;
        let plan = Plan::new(playlist, loader.settings.allow_gaps).at(|| shown(&copies[copy]))?;
        let edition = Edition { number: 0, plan, headers: request.headers.clone() };
        let deadline = Instant::now() + loader.live.max;
        let making = Making { request, copies, copy, variables, fruitless: 0, done: 0, deadline, stale: false };
        Ok(Itinerary { loader, role, edition: RwLock::new(Arc::new(edition)), making: Mutex::new(making) })
    }

    /// The edition that holds now.
    pub fn edition(&self) -> Arc<Edition> {
        self.edition.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn adopt(&self, plan: Plan, headers: RequestHeaders) {
        let mut edition = self.edition.write().unwrap_or_else(PoisonError::into_inner);
        *edition = Arc::new(Edition { number: edition.number + 1, plan, headers });
    }

    /// Whether there is a unit `index`; waits for it while the playlist grows. `done` units have
    /// been written.
    ///
    /// # Errors
    /// `event_not_ended`, `playlist_invalid` when it changed instead of growing, or what asking
    /// failed with.
    pub async fn has_unit(&self, index: usize) -> Result<bool> {
        loop {
            let edition = self.edition();
            if index < edition.plan.len() {
                return Ok(true);
            }
            if edition.plan.is_complete() {
                return Ok(false);
            }
            self.follow(&edition).await?;
        }
    }

    /// Looks at a growing playlist again (RFC 8216 §6.3.4).
    async fn follow(&self, edition: &Edition) -> Result<()> {
        let target = Duration::try_from_secs_f64(edition.plan.target_duration_seconds()).unwrap_or_default();
        let (pause, deadline) = {
            let making = self.making.lock().await;
            (if making.stale { target / 2 } else { target }.max(SHORTEST_RELOAD), making.deadline)
        };
        // Not while others wait for the lock.
        tokio::time::sleep_until(deadline.min(Instant::now() + pause)).await;
        let mut making = self.making.lock().await;
        if self.edition().number != edition.number {
            return Ok(());
        }
        let url = making.copies[making.copy].clone();
        let playlist = match self.loader.load_media(&making.request, &url, &making.variables).await {
            Ok(playlist) => playlist,
            Err(failure) if failure.kind.may_pass_with_new_links() => {
                return self.renew_from(&mut making, edition, edition.plan.len().saturating_sub(1), failure).await;
            }
            Err(failure) => return Err(failure),
        };
        let plan = Plan::new(playlist, self.loader.settings.allow_gaps).at(|| shown(&url))?;
        // Not longer: nothing new, or an older copy out of a cache.
        let is_complete = plan.is_complete();
        making.stale = plan.len() <= edition.plan.len() && !is_complete;
        if !making.stale {
            edition.plan.continued_by(&plan, 0).at(|| shown(&url))?;
            self.adopt(plan, edition.headers.clone());
        }
        if !is_complete && Instant::now() >= deadline {
            let seconds = self.loader.live.max.as_secs();
            let message = format!("{}: the event has not ended within {seconds} s", shown(&url));
            return Err(Failure::new(FailureKind::EventNotEnded, message));
        }
        Ok(())
    }

    /// Gets another edition, because the one with this `number` failed at the unit `index` for a
    /// reason that its origin can mend: expired links are asked for anew; for anything else a copy
    /// of the stream is tried. `done` units have been written so far.
    ///
    /// # Errors
    /// `failure` itself, when there is nothing else to try.
    pub async fn renew(&self, number: u64, index: usize, done: usize, failure: Failure) -> Result<()> {
        let mut making = self.making.lock().await;
        let edition = self.edition();
        if edition.number != number {
            // Somebody else has renewed it meanwhile.
            return Ok(());
        }
        if done > making.done {
            (making.done, making.fruitless) = (done, 0);
        }
        let limit = FRUITLESS_RENEWALS + making.copies.len() as u32;
        if making.fruitless >= limit {
            return Err(failure);
        }
        making.fruitless += 1;
        self.renew_from(&mut making, &edition, index, failure).await
    }

    async fn renew_from(&self, making: &mut Making, edition: &Edition, index: usize, failure: Failure) -> Result<()> {
        let kind = failure.kind.name();
        let before = edition.plan.unit(index)?.url;
        // A link that has expired is only new when it is another one.
        let is_new = |plan: &Plan| plan.unit(index).is_ok_and(|unit| unit.url != before);
        if failure.kind.may_pass_with_new_links() {
            let url = making.copies[making.copy].clone();
            let again = self.loader.load_media(&making.request, &url, &making.variables).await;
            if let Some(plan) = self.usable(again, edition, index).filter(&is_new) {
                tracing::info!(kind, "a link has expired: going on with a new {}", shown(&url));
                self.adopt(plan, edition.headers.clone());
                return Ok(());
            }
            if let Some(url) = self.reload(making, edition, index, is_new).await {
                tracing::info!(kind, "a link has expired: going on with a new {}", shown(&url));
                return Ok(());
            }
        }
        for step in 1..making.copies.len() {
            let copy = (making.copy + step) % making.copies.len();
            let url = making.copies[copy].clone();
            let other = self.loader.load_media(&making.request, &url, &making.variables).await;
            if let Some(plan) = self.usable(other, edition, index) {
                tracing::warn!(kind, "{failure}; going on with the copy {}", shown(&url));
                making.copy = copy;
                self.adopt(plan, edition.headers.clone());
                return Ok(());
            }
        }
        Err(failure)
    }

    /// Asks for the whole stream again: the multivariant playlist first, then whoever named it.
    async fn reload(
        &self,
        making: &mut Making,
        edition: &Edition,
        index: usize,
        is_new: impl Fn(&Plan) -> bool,
    ) -> Option<Url> {
        let mut request = making.request.clone();
        let mut renewal = request.renewal.clone();
        loop {
            match self.loader.load_source(&request, &self.role).await {
                Ok(Source { playlist, copies, copy, variables, .. }) => {
                    if let Some(plan) = self.usable(Ok(playlist), edition, index).filter(&is_new) {
                        self.adopt(plan, request.headers.clone());
                        let url = request.url.clone();
                        (making.request, making.copies, making.copy) = (request, copies, copy);
                        making.variables = variables;
                        return Some(url);
                    }
                }
                Err(failure) => tracing::debug!("asking for the stream again: {failure}"),
            }
            match renewal.take()?.renew(&request).await {
                Ok(renewed) => request = renewed,
                Err(reason) => {
                    tracing::info!("a link has expired, and a new one cannot be had: {reason}");
                    return None;
                }
            }
        }
    }

    /// The plan of a playlist, if `edition` can go on with it from `index`.
    fn usable(
        &self,
        playlist: Result<super::playlist::MediaPlaylist>,
        edition: &Edition,
        index: usize,
    ) -> Option<Plan> {
        let plan = playlist.and_then(|playlist| Plan::new(playlist, self.loader.settings.allow_gaps));
        let checked = plan.and_then(|plan| edition.plan.continued_by(&plan, index).map(|()| plan));
        checked.inspect_err(|failure| tracing::debug!("not a continuation: {failure}")).ok()
    }
}
