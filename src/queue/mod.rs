//! The only room that knows the Redis list protocol: keys, scripts, take, settle, recovery.
//!
//! An element is always in exactly one place: waiting in the producers' list, handed over to an
//! instance, running there, delayed, untold, on the dead list, or done. Every step between two
//! places is one atomic command or script on the server.
//!
//! * `take`: from the list into the hands of an instance; `start`: from there to running; `turn_away`: or not
//! * `settle`: how a run ends; `record`: what is remembered between two runs
//! * `untold`: jobs that are delivered and whose finalize call is to be made again; `notices`: calls about failures
//! * `lease`, `fence`: an instance's right to what it has; `recovery`: the sweep that takes back what dead ones had
//! * `journal`: outcomes on disk while Redis is away; `link`: whether it is
//! * `pause`, `cancel`, `dead`, `dead_list`, `task`, `view`, `look`: what an operator does and sees; `producer`: pushing
//! * `note`: how far a job is, for those who look
//! * `measure`: the gauges; `story`, `story_writer`, `story_view`: what happened to each task
//! * `audit`, `findings`: the account, and what does not add up; `repair`: mending it
//! * `rq`: jobs of RQ and its books about them
//! * `keys`: every key; `scripts`: every script

mod audit;
mod cancel;
mod classify;
mod dead;
mod dead_list;
mod fence;
mod findings;
mod journal;
mod keys;
mod lease;
mod link;
mod look;
mod measure;
mod note;
mod notices;
mod pause;
mod producer;
mod record;
mod recovery;
mod repair;
mod rq;
mod scripts;
mod settle;
mod start;
pub mod story;
mod story_view;
mod story_writer;
mod take;
mod task;
mod turn_away;
mod untold;
mod view;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use cancel::Cancelled;
pub use dead::DeadEnvelope;
pub use dead_list::{DeadEntry, DeadFilter};
pub use fence::Fence;
pub use findings::{Account, Finding, FindingKind};
pub(crate) use keys::prefix as key_prefix;
pub use look::{InstanceLook, Look, RetryLook, RunningLook};
pub use note::{JobProgress, Note};
pub use notices::Notice;
pub use pause::{EVERYBODY, Pause};
pub use producer::Producer;
pub use record::{Event, Record, Verdict};
pub use story_view::{StoryFilter, TaskLine, last_step};
pub use take::Taker;
pub use task::Places;
pub use view::{Depths, QueueView};

use crate::config::{QueueSettings, RedisSettings};
use crate::failure::{Failure, FailureKind, Result};
use crate::job::{Element, JobSpec};
use crate::metrics::Metrics;
use crate::redis_client::{self, Commands};
use crate::rq::Run;
use journal::Journal;
use keys::Keys;
use lease::Lease;
use link::Link;
use scripts::Scripts;
use story_writer::Stories;

/// One instance's end of the queue. Clones share it.
#[derive(Clone)]
pub struct Queue {
    shared: Arc<Shared>,
}

struct Shared {
    settings: QueueSettings,
    /// What an operator calls this instance: `<host>-<worker.instance>`.
    pause_name: String,
    keys: Keys,
    scripts: Scripts,
    /// For every command that does not block.
    commands: Commands,
    link: Link,
    view: QueueView,
    stories: Stories,
    journal: Journal,
    metrics: Arc<Metrics>,
    /// Whether jobs may not be started now.
    paused: watch::Sender<bool>,
    /// The current identity.
    lease: watch::Sender<Arc<Lease>>,
    /// A retry was put into the delayed set: look when the next one is due.
    delayed: Notify,
    /// A job was put into the untold set.
    untold: Notify,
    /// A notice was written.
    notices: Notify,
    /// The waiting element that is taken next, since this instance has seen it there.
    next_in_line: Mutex<Option<(Vec<u8>, Instant)>>,
    /// When the sweeping loop last came round, whether or not Redis answered.
    last_round: Mutex<Instant>,
    /// When the step of taking began that is under way.
    take_began: Mutex<Option<Instant>>,
    /// Jobs that the sweep has put on the dead list.
    crashed: mpsc::UnboundedSender<Crashed>,
    crashed_receiver: Mutex<Option<mpsc::UnboundedReceiver<Crashed>>>,
}

/// A job that a sweep has given up, because too many instances died while they held it.
#[derive(Debug)]
pub struct Crashed {
    pub spec: JobSpec,
    /// Attempts that had come to an end of their own.
    pub attempts: u32,
    pub failure: Failure,
}

/// An element in hand, as a job.
pub struct Leased {
    /// Byte for byte as on the list.
    pub element: Element,
    /// What it asks for.
    pub spec: JobSpec,
    /// [`Element::id`].
    pub id: String,
    /// The number of this attempt, from 1.
    pub attempt: u32,
    /// What is remembered of it.
    pub record: Record,
    claim: u64,
    lease: Arc<Lease>,
    /// When it is a job of RQ.
    rq: Option<Run>,
    /// Never cancelled, or by RQ's stop-job command.
    stopped: CancellationToken,
    /// Whether a verdict has been noted.
    concluded: AtomicBool,
    /// When this attempt began.
    started: Timestamp,
}

impl Leased {
    fn new(element: Element, spec: JobSpec, id: String, record: Record, claim: u64, lease: Arc<Lease>) -> Leased {
        let attempt = record.attempts.saturating_add(1);
        let (rq, stopped) = (None, CancellationToken::new());
        let (concluded, started) = (AtomicBool::new(false), Timestamp::now());
        Leased { element, spec, id, attempt, record, claim, lease, rq, stopped, concluded, started }
    }

    fn of_rq(mut self, run: Run) -> Leased {
        self.stopped = run.stop.clone();
        self.rq = Some(run);
        self
    }

    /// How long it had waited when its first attempt began; `None` for another attempt, and when nobody
    /// wrote down when it was enqueued.
    pub fn waited(&self) -> Option<Duration> {
        let enqueued_at = match &self.rq {
            Some(run) => run.execution.job.enqueued_at,
            None => self.element.enqueued_at(),
        };
        let first = self.record == Record::default();
        // Its producer's clock may be ahead of ours.
        enqueued_at.filter(|_| first).map(measure::age)
    }

    /// Cancelled when somebody wants this one job to be stopped for good.
    pub fn stopped(&self) -> &CancellationToken {
        &self.stopped
    }

    /// Whether it is a job of RQ.
    pub fn is_of_rq(&self) -> bool {
        self.rq.is_some()
    }

    /// How many attempts it has: its own number, or this one; as many as it takes when this one has
    /// failed for a reason that costs none.
    pub fn max_attempts(&self, usual: u32, failed: FailureKind) -> u32 {
        let own = self.rq.as_ref().and_then(|run| run.execution.job.retries_left);
        let usual = if failed.costs_an_attempt() { usual } else { u32::MAX };
        own.map_or(usual, |left| self.attempt.saturating_add(left))
    }

    /// How long this attempt may take: its own limit, or this one.
    pub fn time_limit(&self, usual: Duration) -> Duration {
        self.rq.as_ref().and_then(|run| run.execution.job.timeout).unwrap_or(usual)
    }

    /// Whether Redis has a record of it.
    fn has_record(&self) -> bool {
        self.record != Record::default() || self.concluded.load(Relaxed)
    }

    /// The instance that holds it.
    pub fn instance(&self) -> &str {
        &self.lease.instance
    }

    /// The fencing token of that instance: grows with every instance that is registered.
    pub fn token(&self) -> u64 {
        self.lease.token
    }

    /// Cancelled when the instance has lost its lease and the job must stop.
    pub fn lost(&self) -> &CancellationToken {
        &self.lease.lost
    }
}

impl Queue {
    /// Connects and registers a new instance; `instance_name` is `worker.instance`, outcomes are kept
    /// in the directory `outcomes` while Redis is away. The lease runs from here:
    /// [`Queue::keep_sweeping`] renews it.
    ///
    /// # Errors
    /// `queue_unavailable` when the URL is wrong or Redis does not accept the registration now.
    pub async fn connect(
        redis: &RedisSettings,
        settings: &QueueSettings,
        instance_name: &str,
        outcomes: PathBuf,
        metrics: Arc<Metrics>,
    ) -> Result<Queue> {
        let commands = redis_client::commands(redis)?;
        let keys = Keys::new(&settings.list);
        let scripts = Scripts::new();
        let pause_name = lease::lasting_name(instance_name);
        let registered = lease::register(&commands, &scripts, &keys, settings, &pause_name).await;
        let lease = registered.map_err(|error| redis_client::failure("registering this instance", &error))?;
        let link = Link::new("commands", metrics.clone());
        link.answered();
        let (crashed, crashed_receiver) = mpsc::unbounded_channel();
        let view = QueueView::new(commands.clone(), &settings.list);
        let shared = Shared {
            settings: settings.clone(),
            pause_name,
            scripts,
            link,
            stories: Stories::new(view.clone()),
            view,
            commands,
            keys,
            journal: Journal::new(outcomes),
            metrics,
            paused: watch::Sender::new(false),
            lease: watch::Sender::new(Arc::new(lease)),
            delayed: Notify::new(),
            untold: Notify::new(),
            notices: Notify::new(),
            next_in_line: Mutex::default(),
            last_round: Mutex::new(Instant::now()),
            take_began: Mutex::default(),
            crashed,
            crashed_receiver: Mutex::new(Some(crashed_receiver)),
        };
        Ok(Queue { shared: Arc::new(shared) })
    }

    /// The current identity.
    fn lease(&self) -> Arc<Lease> {
        self.shared.lease.borrow().clone()
    }

    /// The identity of this instance: `<host>-<worker.instance>-<token>-<random>`. A new one after a
    /// lost lease.
    pub fn instance(&self) -> String {
        self.lease().instance.clone()
    }

    /// How long ago the sweeping loop last came round, or the step of taking began that is under way:
    /// seconds, unless the process hangs. An outage of Redis stops neither.
    pub fn silence(&self) -> Duration {
        let sweeping = self.shared.last_round.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        let taking = *self.shared.take_began.lock().unwrap_or_else(PoisonError::into_inner);
        sweeping.max(taking.map_or(Duration::ZERO, |began| began.elapsed()))
    }

    /// Remembers when a step of taking begins, or that none is under way.
    fn note_take(&self, began: Option<Instant>) {
        *self.shared.take_began.lock().unwrap_or_else(PoisonError::into_inner) = began;
    }

    /// The jobs that this instance's sweeps give up; `None` when somebody has them already.
    pub fn crashed(&self) -> Option<mpsc::UnboundedReceiver<Crashed>> {
        self.shared.crashed_receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The settings it was connected with.
    pub fn settings(&self) -> &QueueSettings {
        &self.shared.settings
    }

    /// How many elements are where.
    ///
    /// # Errors
    /// `queue_unavailable`.
    pub async fn depths(&self) -> Result<Depths> {
        self.shared.view.depths().await
    }

    /// The newest `limit` entries of the dead list, the newest first.
    ///
    /// # Errors
    /// `queue_unavailable`.
    pub async fn dead(&self, limit: usize) -> Result<Vec<DeadEnvelope>> {
        let entries = self.shared.view.dead_entries(&DeadFilter::default(), limit).await?;
        Ok(entries.into_iter().map(|entry| entry.envelope).collect())
    }

    /// Whether Redis answers now.
    ///
    /// # Errors
    /// `queue_unavailable`.
    pub async fn ping(&self) -> Result<()> {
        self.shared.view.ping().await
    }

    /// What in the server's configuration can lose jobs; empty when nothing, or when it may not be
    /// read.
    ///
    /// # Errors
    /// None at present; a server that does not answer has no warnings.
    pub async fn server_warnings(&self) -> Result<Vec<String>> {
        self.shared.view.server_warnings().await
    }
}
