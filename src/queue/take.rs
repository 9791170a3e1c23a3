//! Taking: what waits, or one blocking move at a time, on a connection of its own.
//!
//! The server may hand over an element at any moment between the command and its answer. So the
//! answer is always awaited (a wait that is no longer wanted is unblocked from another
//! connection), and after every error the claimed list is read again: what is there was handed
//! over with an answer that never came.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use redis::{AsyncCommands, RedisError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::lease::Lease;
use super::link::{Backoff, Link};
use super::{Leased, Queue};
use crate::job::Element;
use crate::redis_client::BlockingConnection;

/// How much longer the client waits for an answer than the server for an element.
const ANSWER_MARGIN: Duration = Duration::from_secs(2);
/// Between two attempts to unblock our own wait: the first may overtake the command.
const UNBLOCK_PAUSE: Duration = Duration::from_millis(50);
/// Elements that one call takes at most: the server does nothing else meanwhile.
const TAKEN_AT_ONCE: usize = 64;
/// How often a pool that is paused looks whether it may go on.
const PAUSE_POLL: Duration = Duration::from_millis(500);

/// The taking end of an instance. There is one for each [`Queue`].
pub struct Taker {
    pub(super) queue: Queue,
    pub(super) lease: Arc<Lease>,
    blocking: Option<BlockingConnection>,
    pub(super) link: Link,
    backoff: Backoff,
    /// Until then a command of a connection that broke can still claim an element.
    suspect_until: Option<Instant>,
    /// Whether the last look at the list found something: then more may be there without waiting.
    busy: bool,
    /// Elements in a row that belong to RQ, when we leave those to it.
    pub(super) left_alone: u64,
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
            suspect_until: None,
            busy: true,
            left_alone: 0,
        }
    }
}

impl Taker {
    /// The next jobs, started, at most `room` and at least one: waits as long as there is none, the
    /// queue is paused, or Redis is away. What is not a job goes to the dead list on the way. `None`
    /// after `stop`: what was handed over meanwhile has been handed back, or is still claimed when
    /// Redis was away.
    ///
    /// Call it with permits in hand. Not cancel safe: the future must not be dropped, or elements
    /// stay claimed until this instance ends.
    pub async fn next(&mut self, room: usize, stop: &CancellationToken) -> Option<Vec<Leased>> {
        loop {
            if stop.is_cancelled() {
                return None;
            }
            if self.lease.lost.is_cancelled() {
                self.follow_lease(stop).await;
                continue;
            }
            if self.queue.is_paused() {
                self.wait_for_resume(stop).await;
                continue;
            }
            self.lease.taking.store(true, Relaxed);
            self.queue.note_take(Some(std::time::Instant::now()));
            let taken = self.take(room.min(TAKEN_AT_ONCE), stop).await;
            self.queue.note_take(None);
            let started = match taken {
                Ok(elements) if elements.is_empty() => Vec::new(),
                // Handed over while the stop came: back to its place at once.
                Ok(_) if stop.is_cancelled() => {
                    if let Err(error) = self.queue.give_back(&self.lease).await {
                        self.queue.shared.link.failed(&error);
                    }
                    Vec::new()
                }
                Ok(elements) => {
                    self.backoff.reset();
                    self.start(elements, stop).await
                }
                Err(error) => {
                    self.recover(&error, stop).await;
                    Vec::new()
                }
            };
            self.lease.taking.store(false, Relaxed);
            if !started.is_empty() {
                return Some(started);
            }
        }
    }

    /// One step: a look at the claimed list, at what waits, or a blocking move. The oldest first.
    async fn take(&mut self, room: usize, stop: &CancellationToken) -> Result<Vec<Element>, RedisError> {
        let suspect = self.suspect_until.is_some_and(|until| Instant::now() < until);
        if self.lease.reread.swap(false, Relaxed) || suspect {
            let found = self.strays(room).await?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        if std::mem::replace(&mut self.busy, false) {
            let elements = self.waiting(room).await?;
            if !elements.is_empty() {
                self.busy = elements.len() == room;
                return Ok(elements);
            }
        }
        let blocking = match self.blocking.take() {
            Some(blocking) => blocking,
            None => tokio::select! {
                connected = self.connect() => connected?,
                () = stop.cancelled() => return Ok(Vec::new()),
            },
        };
        let blocking = self.blocking.insert(blocking);
        let taken = blocking_move(&self.queue, &self.lease, blocking, stop).await?;
        self.link.answered();
        // One that came alone is answered for alone: the next wait begins with a look at the list.
        self.busy = taken.is_some();
        Ok(taken.map(Element).into_iter().collect())
    }

    /// What waits, as far as there is room.
    async fn waiting(&mut self, room: usize) -> Result<Vec<Element>, RedisError> {
        let shared = &self.queue.shared;
        let mut call = shared.scripts.take.key(&shared.keys.leases);
        call.key(&shared.keys.list).key(&self.lease.claimed).arg(room);
        let elements: Vec<Vec<u8>> = call.invoke_async(&mut shared.commands.clone()).await?;
        self.link.answered();
        Ok(elements.into_iter().map(Element).collect())
    }

    async fn connect(&self) -> Result<BlockingConnection, RedisError> {
        let shared = &self.queue.shared;
        shared.commands.blocking(&shared.keys.list, shared.settings.block + ANSWER_MARGIN).await
    }

    /// What is in the claimed list, the oldest first. Only this taker starts what is there, so all
    /// of it came without our knowledge. What there is no room for goes back.
    async fn strays(&mut self, room: usize) -> Result<Vec<Element>, RedisError> {
        let mut commands = self.queue.shared.commands.clone();
        let claimed: Vec<Vec<u8>> = commands.lrange(&self.lease.claimed, 0, -1).await?;
        if claimed.is_empty() {
            return Ok(Vec::new());
        }
        warn!(elements = claimed.len(), "found elements whose hand-over was not answered");
        if claimed.len() > room {
            self.queue.give_back(&self.lease).await?;
            self.busy = true;
            return Ok(Vec::new());
        }
        Ok(claimed.into_iter().rev().map(Element).collect())
    }

    async fn recover(&mut self, error: &RedisError, stop: &CancellationToken) {
        self.blocking = None;
        self.suspect_until = Some(Instant::now() + self.queue.shared.settings.block + ANSWER_MARGIN);
        // A server that is out of memory refuses to block, not to hand over what waits.
        self.busy = true;
        self.link.failed(error);
        if error.code() == Some("WRONGTYPE") {
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

    async fn wait_for_resume(&self, stop: &CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => return,
            () = self.lease.lost.cancelled() => return,
            () = tokio::time::sleep(PAUSE_POLL) => {}
        }
        if let Err(error) = self.queue.look_whether_paused().await {
            self.queue.shared.link.failed(&error);
        }
    }

    /// Waits for the identity that follows a lost one.
    async fn follow_lease(&mut self, stop: &CancellationToken) {
        let mut leases = self.queue.shared.lease.subscribe();
        let current = tokio::select! {
            () = stop.cancelled() => return,
            current = leases.wait_for(|lease| !lease.lost.is_cancelled()) => current,
        };
        if let Ok(lease) = current {
            self.lease = lease.clone();
            self.busy = true;
        }
    }
}

/// `BLMOVE`, awaited to its end. A stop, a pause and a lost lease only make the end come sooner.
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
        () = queue.paused() => {}
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
