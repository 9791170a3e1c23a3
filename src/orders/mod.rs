//! Orders: enroll, then enqueue, as the payment backend used to do by itself. The customer has paid:
//! an order that was taken in is brought to its end, whatever dies on the way.
//!
//! * `order`: an order and how far it is; `book`: orders in Redis; `journal`: on disk while Redis is
//!   away; `work`: the steps
//!
//! From the answer on an order is in Redis, with a claim of whoever works on it. Each step of each
//! task is noted there before the next one; a claim that is not renewed ends, and any instance goes
//! on from the last note.

mod book;
mod journal;
mod order;
mod work;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use order::{Order, OrderState, OrderedTask, Place, TaskOutcome, TaskStatus};

use crate::enroll::EnrollmentClient;
use crate::failure::{Failure, FailureKind, Result};
use crate::metrics::{Metrics, OutcomeLabel};
use crate::redis_client::Commands;
use crate::store::TaskStore;
use book::{Accepted, Book};
use journal::{Journal, Kept};

/// Orders that one instance works on at once; more wait in Redis.
const AT_ONCE: usize = 64;
/// Between two looks for orders that nobody works on.
const LOOK: Duration = Duration::from_secs(5);
/// Between two tries to bring orders from disk into Redis.
const JOURNAL_LOOK: Duration = Duration::from_secs(1);
/// Between two looks at an order whose end a caller waits for.
const WAIT_LOOK: Duration = Duration::from_millis(100);

/// Why an order is not taken in.
#[derive(Debug, Clone)]
pub enum Refusal {
    /// Its idempotency key came before, with another order.
    KeyConflict,
    /// Its id came before, with other tasks.
    OrderConflict,
    /// Neither Redis nor the disk took it.
    Unavailable(Failure),
}

/// The orders, as one instance sees them.
pub struct Orders {
    book: Book,
    journal: Journal,
    enrollment: EnrollmentClient,
    store: Arc<dyn TaskStore>,
    metrics: Arc<Metrics>,
    /// What this process is called in claims.
    process: String,
    claims: AtomicU64,
    slots: Arc<Semaphore>,
    /// Orders wait for a slot.
    backlog: AtomicBool,
    more: Notify,
    running: TaskTracker,
}

impl Orders {
    /// Orders beside the queue of `list`. One that has ended is kept for `kept`; while Redis is away
    /// they are kept in the directory `journal`.
    ///
    /// # Errors
    /// `disk_failed` when the journal cannot be read.
    pub async fn open(
        commands: Commands,
        list: &str,
        kept: Duration,
        journal: PathBuf,
        enrollment: EnrollmentClient,
        store: Arc<dyn TaskStore>,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Orders>> {
        let journal = Journal::open(journal).await?;
        // All there from the start, so that a rate can be computed over the first one.
        for outcome in ["accepted", "repeated", "conflict", "journalled", "refused"] {
            metrics.orders.get_or_create_owned(&OutcomeLabel { outcome });
        }
        Ok(Arc::new(Orders {
            book: Book::new(commands, list, kept),
            journal,
            enrollment,
            store,
            metrics,
            process: format!("{:016x}", fastrand::u64(..)),
            claims: AtomicU64::new(0),
            slots: Arc::new(Semaphore::new(AT_ONCE)),
            backlog: AtomicBool::new(false),
            more: Notify::new(),
            running: TaskTracker::new(),
        }))
    }

    /// Takes an order in: when this returns, nothing that dies loses it. `key` is the hash of the
    /// caller's idempotency key.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub async fn accept(self: &Arc<Self>, order: Order, key: Option<&str>) -> Result<OrderState, Refusal> {
        let order_id = order.order_id;
        match self.journal.knows(&order) {
            Kept::No => {}
            Kept::Same => {
                self.count("repeated");
                return Ok(waiting(&order, Place::Disk));
            }
            Kept::Other => {
                self.count("conflict");
                return Err(Refusal::OrderConflict);
            }
        }
        let slot = self.slots.clone().try_acquire_owned().ok();
        let worker = slot.as_ref().map(|_| self.worker());
        match self.book.accept(&order, key, worker.as_deref()).await {
            Ok(Accepted::New) => {
                self.count("accepted");
                let state = waiting(&order, Place::Redis);
                match slot.zip(worker) {
                    Some((slot, worker)) => {
                        let outcomes = vec![TaskOutcome::WAITING; order.tasks.len()];
                        self.begin(order, outcomes, worker, slot);
                    }
                    None => self.backlog.store(true, Relaxed),
                }
                Ok(state)
            }
            Ok(Accepted::Known) => {
                self.count("repeated");
                let known = self.book.read(order_id).await.ok().flatten();
                Ok(known.map_or_else(|| waiting(&order, Place::Redis), book::Stored::state))
            }
            Ok(conflict) => {
                self.count("conflict");
                let key = conflict == Accepted::KeyConflict;
                Err(if key { Refusal::KeyConflict } else { Refusal::OrderConflict })
            }
            // It may have arrived in Redis all the same: then it is known there when it is brought.
            Err(failure) => match self.journal.keep(&order, key).await {
                Ok(()) => {
                    self.count("journalled");
                    let kind = failure.kind.name();
                    tracing::warn!(order_id, kind, "the order is kept on disk until Redis takes it: {failure}");
                    self.metrics.orders_on_disk.set(self.journal.len() as i64);
                    self.more.notify_one();
                    Ok(waiting(&order, Place::Disk))
                }
                Err(disk) => {
                    self.count("refused");
                    let kind = disk.kind.name();
                    tracing::error!(order_id, kind, "the order is NOT taken in: {failure}; nor does the disk: {disk}");
                    Err(Refusal::Unavailable(failure.because(&disk)))
                }
            },
        }
    }

    /// How far an order is; `None` when it is not known, or not any more.
    ///
    /// # Errors
    /// `queue_unavailable`.
    pub async fn look(&self, order_id: u64) -> Result<Option<OrderState>> {
        if let Some(entry) = self.journal.read(order_id).await
            && let Some(order) = entry.order()
        {
            return Ok(Some(OrderState { created_at: entry.received_at, ..waiting(&order, Place::Disk) }));
        }
        Ok(self.book.read(order_id).await?.map(book::Stored::state))
    }

    /// The order when it is done, or how far it is after `limit` or at the stop.
    ///
    /// # Errors
    /// `queue_unavailable`.
    pub async fn wait(&self, order_id: u64, limit: Duration, stop: &CancellationToken) -> Result<Option<OrderState>> {
        let deadline = Instant::now() + limit;
        loop {
            let looked = self.look(order_id).await?;
            let open = looked.as_ref().is_some_and(|state| !state.is_done());
            if !open || Instant::now() >= deadline || stop.is_cancelled() {
                return Ok(looked);
            }
            tokio::select! { () = stop.cancelled() => {}, () = sleep(WAIT_LOOK) => {} }
        }
    }

    /// Takes up what has failed of an order. Returns the order and how many tasks are open again;
    /// `None` when it is not known.
    ///
    /// # Errors
    /// `queue_unavailable`.
    pub async fn retry(&self, order_id: u64) -> Result<Option<(OrderState, usize)>> {
        let Some(stored) = self.book.read(order_id).await? else { return Ok(None) };
        let opened = self.book.retry(&stored).await?;
        if opened > 0 {
            tracing::info!(order_id, tasks = opened, "order: what had failed is taken up again");
            self.backlog.store(true, Relaxed);
            self.more.notify_one();
        }
        let now = self.book.read(order_id).await?.unwrap_or(stored);
        Ok(Some((now.state(), opened)))
    }

    /// Brings orders from disk into Redis and takes up those that nobody works on, until `stop`.
    /// What runs then goes on: [`Orders::drain`] waits for it.
    pub async fn keep_working(self: Arc<Self>, stop: CancellationToken) {
        let mut away = false;
        loop {
            if self.journal.len() > 0 {
                self.bring_from_disk().await;
            }
            match self.take_up().await {
                Ok(()) => away = false,
                Err(failure) if !std::mem::replace(&mut away, true) => {
                    tracing::warn!(kind = failure.kind.name(), "orders wait: {failure}");
                }
                Err(_) => {}
            }
            let pause = if self.journal.len() > 0 { JOURNAL_LOOK } else { LOOK };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.more.notified() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Waits until every order that this instance works on is at its end. What is left when the
    /// caller gives up is taken up by another instance, or by the next process.
    pub async fn drain(&self) {
        self.running.close();
        self.running.wait().await;
    }

    async fn bring_from_disk(self: &Arc<Self>) {
        for order_id in self.journal.order_ids() {
            let entry = self.journal.read(order_id).await;
            let Some((entry, order)) = entry.and_then(|entry| entry.order().map(|order| (entry, order))) else {
                tracing::error!(order_id, "an order on disk cannot be read: look at it, it may be paid for");
                self.journal.set_aside(order_id).await;
                continue;
            };
            match self.book.accept(&order, entry.key.as_deref(), None).await {
                Ok(Accepted::New | Accepted::Known) => {
                    tracing::info!(order_id, "the order that was kept on disk is in Redis");
                    self.backlog.store(true, Relaxed);
                    self.journal.forget(order_id).await;
                }
                Ok(conflict) => {
                    tracing::error!(
                        order_id,
                        ?conflict,
                        "an order kept on disk contradicts one in Redis: its file is set aside, look at both"
                    );
                    self.count("conflict");
                    self.journal.set_aside(order_id).await;
                }
                // Said when it was kept.
                Err(_) => break,
            }
        }
        self.metrics.orders_on_disk.set(self.journal.len() as i64);
    }

    async fn take_up(self: &Arc<Self>) -> Result<()> {
        self.metrics.orders_open.set(self.book.open().await?.try_into().unwrap_or(i64::MAX));
        loop {
            let free = self.slots.available_permits();
            self.backlog.store(false, Relaxed);
            let due = if free > 0 { self.book.due(free).await? } else { Vec::new() };
            if due.len() == free {
                // More may be there than there are slots. What comes meanwhile says so itself.
                self.backlog.store(true, Relaxed);
            }
            if due.is_empty() {
                return Ok(());
            }
            for order_id in due {
                let Ok(slot) = self.slots.clone().try_acquire_owned() else { return Ok(()) };
                let worker = self.worker();
                if !self.book.claim(order_id, &worker).await? {
                    continue;
                }
                let Some(stored) = self.book.read(order_id).await? else { continue };
                tracing::info!(order_id, "order: taken up");
                self.begin(stored.order, stored.outcomes, worker, slot);
            }
        }
    }

    /// Works on an order that is `worker`'s, in a task of its own.
    fn begin(self: &Arc<Self>, order: Order, outcomes: Vec<TaskOutcome>, worker: String, slot: OwnedSemaphorePermit) {
        let orders = self.clone();
        self.running.spawn(async move {
            let order_id = order.order_id;
            // A task of its own, so that a panic is told, and the claim runs out.
            let worked = tokio::spawn({
                let orders = orders.clone();
                async move { orders.work(&order, outcomes, &worker).await }
            });
            if worked.await.is_err() {
                let kind = FailureKind::Internal.name();
                tracing::error!(order_id, kind, "working on the order ended in a panic; it is taken up again");
            }
            drop(slot);
            if orders.backlog.load(Relaxed) {
                orders.more.notify_one();
            }
        });
    }

    fn worker(&self) -> String {
        format!("{}-{}", self.process, self.claims.fetch_add(1, Relaxed))
    }

    fn count(&self, outcome: &'static str) {
        self.metrics.orders.get_or_create(&OutcomeLabel { outcome }).inc();
    }
}

fn waiting(order: &Order, place: Place) -> OrderState {
    let outcomes = vec![TaskOutcome::WAITING; order.tasks.len()];
    OrderState::new(order, outcomes, place, jiff::Timestamp::now(), None)
}
