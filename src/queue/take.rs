//! Taking: one blocking move at a time, on a connection of its own.
//!
//! The server may hand over an element at any moment between the command and its answer. So the
//! answer is always awaited (a wait that is no longer wanted is unblocked from another
//! connection), and after every error the claimed list is read again: what is there and not in
//! hand was handed over with an answer that never came.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use redis::{AsyncCommands, RedisError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::classify::{self, Reading};
use super::keys::rq_job;
use super::lease::Lease;
use super::link::{Backoff, Link};
use super::settle::Move;
use super::{DeadEnvelope, Leased, Queue};
use crate::failure::{Failure, FailureKind, Result};
use crate::job::{Element, JobSpec};
use crate::redis_client::BlockingConnection;

/// How much longer the client waits for an answer than the server for an element.
const ANSWER_MARGIN: Duration = Duration::from_secs(2);
/// Between two attempts to unblock our own wait: the first may overtake the command.
const UNBLOCK_PAUSE: Duration = Duration::from_millis(50);

/// The taking end of an instance. There is one for each [`Queue`].
pub struct Taker {
    queue: Queue,
    lease: Arc<Lease>,
    blocking: Option<BlockingConnection>,
    link: Link,
    backoff: Backoff,
    /// Claimed without our knowledge; the oldest first.
    found: VecDeque<Element>,
    /// Until then a command of a connection that broke can still claim an element.
    suspect_until: Option<Instant>,
}

impl Queue {
    /// The taking end. More than one at a time would take each other's elements for lost ones.
    pub fn taker(&self) -> Taker {
        Taker {
            queue: self.clone(),
            lease: self.lease(),
            blocking: None,
            link: Link::new("take", self.shared.metrics.clone()),
            backoff: Backoff::new(),
            found: VecDeque::new(),
            suspect_until: None,
        }
    }
}

impl Taker {
    /// The next job: waits as long as there is none, or Redis is away. What is not a job goes to
    /// the dead list on the way. `None` after `stop`: what was handed over meanwhile has been
    /// handed back, or is still claimed when Redis was away.
    ///
    /// Call it with a permit in hand. Not cancel safe: the future must not be dropped, or an
    /// element stays claimed until this instance ends.
    pub async fn next(&mut self, stop: &CancellationToken) -> Option<Leased> {
        loop {
            if stop.is_cancelled() {
                self.hand_back_found().await;
                return None;
            }
            if self.lease.lost.is_cancelled() {
                self.follow_lease(stop).await;
                continue;
            }
            match self.take(stop).await {
                Ok(None) => {}
                Ok(Some(element)) => {
                    self.backoff.reset();
                    if let Some(leased) = self.receive(element, stop).await {
                        return Some(leased);
                    }
                }
                Err(error) => self.recover(&error, stop).await,
            }
        }
    }

    /// One step: an element that was found, a look at the claimed list, or a blocking move.
    async fn take(&mut self, stop: &CancellationToken) -> Result<Option<Element>, RedisError> {
        if let Some(element) = self.found.pop_front() {
            return Ok(Some(element));
        }
        let suspect = self.suspect_until.is_some_and(|until| Instant::now() < until);
        if self.lease.reread.swap(false, Relaxed) || suspect {
            self.found = self.unknown_elements().await?;
            if !self.found.is_empty() {
                return Ok(None);
            }
        }
        let blocking = match self.blocking.take() {
            Some(blocking) => blocking,
            None => tokio::select! {
                connected = self.connect() => connected?,
                () = stop.cancelled() => return Ok(None),
            },
        };
        let blocking = self.blocking.insert(blocking);
        let taken = blocking_move(&self.queue, &self.lease, blocking, stop).await?;
        self.link.answered();
        Ok(taken.map(Element))
    }

    async fn connect(&self) -> Result<BlockingConnection, RedisError> {
        let shared = &self.queue.shared;
        shared.commands.blocking(&shared.keys.list, shared.settings.block + ANSWER_MARGIN).await
    }

    /// What is in the claimed list and not in hand, the oldest first.
    async fn unknown_elements(&self) -> Result<VecDeque<Element>, RedisError> {
        // Before the list is read: what is settled in between is then missing in the list, not
        // here. Nobody but this taker adds to what is in hand.
        let mut in_hand = self.lease.multiset();
        let claimed: Vec<Vec<u8>> = self.queue.shared.commands.clone().lrange(&self.lease.claimed, 0, -1).await?;
        let mut unknown = VecDeque::new();
        for element in claimed.into_iter().rev() {
            match in_hand.get_mut(&element) {
                Some(count) if *count > 0 => *count -= 1,
                _ => unknown.push_back(Element(element)),
            }
        }
        if !unknown.is_empty() {
            warn!(elements = unknown.len(), "found claimed elements that were not in hand");
        }
        Ok(unknown)
    }

    /// An element is claimed: in hand from here on.
    async fn receive(&self, element: Element, stop: &CancellationToken) -> Option<Leased> {
        let claim = self.lease.hold(&element);
        if stop.is_cancelled() {
            self.hand_back(claim, &element).await;
            return None;
        }
        let mut backoff = Backoff::new();
        loop {
            match self.judge(&element).await {
                Ok(Verdict::Job(spec, attempt)) => {
                    return Some(Leased { element, spec, attempt, claim, lease: self.lease.clone() });
                }
                Ok(Verdict::Dead(failure)) => {
                    self.bury(claim, &element, failure).await;
                    return None;
                }
                Ok(Verdict::NotOurs) => {
                    self.lease.lose();
                    return None;
                }
                Err(error) => {
                    self.queue.shared.link.failed(&error);
                    tokio::select! {
                        // Still claimed: handed back when the instance ends.
                        () = stop.cancelled() => return None,
                        () = tokio::time::sleep(backoff.next()) => {}
                    }
                }
            }
        }
    }

    async fn judge(&self, element: &Element) -> Result<Verdict, RedisError> {
        let shared = &self.queue.shared;
        let mut commands = shared.commands.clone();
        match classify::read(element) {
            Reading::Job(spec) => {
                // An instance that was stopped for long must not start what others have by now.
                let mut pipe = redis::pipe();
                pipe.zscore(&shared.keys.leases, &self.lease.instance);
                pipe.hget(&shared.keys.attempts, spec.task_id.get());
                let (lease, failed): (Option<f64>, Option<u32>) = pipe.query_async(&mut commands).await?;
                Ok(match lease {
                    Some(_) => Verdict::Job(spec, failed.unwrap_or(0).saturating_add(1)),
                    None => Verdict::NotOurs,
                })
            }
            Reading::Id(id) => match commands.hexists(rq_job(id), "data").await {
                Ok(true) => Ok(Verdict::Dead(classify::foreign(id))),
                Ok(false) => Ok(Verdict::Dead(classify::orphan_id(id))),
                Err(error) if is_wrong_type(&error) => Ok(Verdict::Dead(classify::orphan_id(id))),
                Err(error) => Err(error),
            },
            Reading::Rubbish(failure) => Ok(Verdict::Dead(failure)),
        }
    }

    /// To the dead list, verbatim.
    async fn bury(&self, claim: u64, element: &Element, failure: Failure) {
        let task_id = JobSpec::task_id_of(element);
        let envelope = DeadEnvelope::new(element, &failure, 0, &self.lease.instance);
        let settled = self.queue.settle_claim(&self.lease, claim, element, task_id, Move::Dead(envelope)).await;
        if settled.is_ok() {
            self.queue.shared.metrics.malformed.inc();
            let task_id = task_id.map(|id| id.get());
            warn!(task_id, kind = failure.kind.name(), reason = %failure, "not a job: moved to the dead list");
        }
    }

    async fn hand_back(&self, claim: u64, element: &Element) {
        let task_id = JobSpec::task_id_of(element);
        if let Err(failure) = self.queue.settle_claim(&self.lease, claim, element, task_id, Move::Return).await
            && failure.kind != FailureKind::LeaseLost
        {
            warn!(reason = %failure, "could not hand back an element");
        }
    }

    /// The newest first, so that the oldest is taken first again.
    async fn hand_back_found(&mut self) {
        while let Some(element) = self.found.pop_back() {
            let claim = self.lease.hold(&element);
            self.hand_back(claim, &element).await;
        }
    }

    async fn recover(&mut self, error: &RedisError, stop: &CancellationToken) {
        self.blocking = None;
        self.suspect_until = Some(Instant::now() + self.queue.shared.settings.block + ANSWER_MARGIN);
        self.link.failed(error);
        if is_wrong_type(error) {
            // A tombstone in place of the claimed list: we were taken for dead.
            if let Ok(None) = self.queue.renew(&self.lease).await {
                self.lease.lose();
                return;
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(self.backoff.next()) => {}
        }
    }

    /// Waits for the identity that follows a lost one.
    async fn follow_lease(&mut self, stop: &CancellationToken) {
        self.found.clear();
        let mut leases = self.queue.shared.lease.subscribe();
        let current = tokio::select! {
            () = stop.cancelled() => return,
            current = leases.wait_for(|lease| !lease.lost.is_cancelled()) => current,
        };
        if let Ok(lease) = current {
            self.lease = lease.clone();
        }
    }
}

/// What an element turned out to be.
enum Verdict {
    /// A job and the number of this attempt.
    Job(JobSpec, u32),
    /// Not a job.
    Dead(Failure),
    /// The lease is gone.
    NotOurs,
}

/// `BLMOVE`, awaited to its end. A stop and a lost lease only make the end come sooner.
async fn blocking_move(
    queue: &Queue,
    lease: &Lease,
    blocking: &mut BlockingConnection,
    stop: &CancellationToken,
) -> Result<Option<Vec<u8>>, RedisError> {
    let shared = &queue.shared;
    let mut command = redis::cmd("BLMOVE");
    command
        .arg(&shared.keys.list)
        .arg(&lease.claimed)
        .arg("RIGHT")
        .arg("LEFT")
        .arg(shared.settings.block.as_secs_f64());
    let unblock = blocking.unblock();
    let answer = command.query_async(blocking);
    tokio::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => return answer,
        () = stop.cancelled() => {}
        () = lease.lost.cancelled() => {}
    }
    if !unblock.is_possible() {
        return answer.await;
    }
    loop {
        let unblock = async {
            // Whether it worked shows in the answer that is waited for.
            let _ = unblock.now().await;
            tokio::time::sleep(UNBLOCK_PAUSE).await;
        };
        tokio::select! {
            biased;
            answer = &mut answer => return answer,
            () = unblock => {}
        }
    }
}

fn is_wrong_type(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE")
}
