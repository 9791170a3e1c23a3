//! The pool: a permit, then a job (`taking`); every job in a task of its own; the drain.

mod limits;
mod taking;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::{Instrument, error, error_span, info, warn};

use super::settle;
use crate::failure::{Failure, FailureKind, Result};
use crate::job::{JobSpec, Outcome};
use crate::metrics::{Metrics, OutcomeLabel};
use crate::queue::story::{self, Step};
use crate::queue::{Crashed, Leased, Queue, Verdict};
pub use limits::Limits;
use taking::{run_untold, take_jobs};

/// How long a cancelled job may take to come to its end before it is aborted.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// How long an aborted job may take to be gone.
const ABORT_GRACE: Duration = Duration::from_secs(1);
/// How long the end of the instance may wait for Redis. After it the other instances take back
/// what is left, once the lease has run out.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// How long telling the backend of a job that the pool ended may take.
const GAVE_UP_LIMIT: Duration = Duration::from_secs(30);

/// What the pool runs. The pipeline is one.
#[async_trait]
pub trait JobRunner: Send + Sync {
    /// One attempt. When `cancel` is cancelled it should end soon: it is aborted some seconds
    /// later.
    async fn run(&self, job: Arc<Leased>, cancel: CancellationToken) -> Outcome;

    /// The pool itself ends the job for good, after so many attempts (its time was over, the runner
    /// panicked, or it took its instance down too often): tell the backend, as `run` does before it
    /// answers [`Outcome::Dead`].
    async fn gave_up(&self, _spec: &JobSpec, _attempts: u32, _failure: &Failure) {}

    /// The job is settled as `done`: what was kept for another attempt can go.
    async fn settled(&self, _job: &Leased) {}
}

struct Pool {
    queue: Queue,
    runner: Arc<dyn JobRunner>,
    metrics: Arc<Metrics>,
    limits: Arc<Limits>,
    /// Cancelled when running jobs are to be handed back.
    interrupt: CancellationToken,
}

/// Takes and runs jobs until `stop`, as long as `hindered` says `None` (else it says why not); then waits
/// up to the drain of `limits` for those that run and hands back the rest, at once when `stop_now` comes.
/// Returns when all is settled and this instance has left the queue.
///
/// # Errors
/// `internal` when it stopped by itself, because taking or sweeping had ended in a panic: without
/// them the process would look well and do nothing.
pub async fn run(
    queue: Queue,
    limits: Arc<Limits>,
    runner: Arc<dyn JobRunner>,
    metrics: Arc<Metrics>,
    hindered: watch::Receiver<Option<String>>,
    stop: CancellationToken,
    stop_now: CancellationToken,
) -> Result<()> {
    let broken = CancellationToken::new();
    let end_sweeping = CancellationToken::new();
    let sweeper = tokio::spawn({
        let (queue, end, ended) = (queue.clone(), end_sweeping.clone(), broken.clone().drop_guard());
        async move {
            let _ended = ended;
            queue.keep_sweeping(end).await;
        }
    });
    let books = AbortOnDropHandle::new(tokio::spawn({
        let (queue, end, shutdown) = (queue.clone(), end_sweeping.clone(), stop.clone());
        async move { queue.keep_rq_books(end, shutdown).await }
    }));
    let pool = Arc::new(Pool {
        queue: queue.clone(),
        runner,
        metrics,
        limits: limits.clone(),
        interrupt: CancellationToken::new(),
    });
    let teller = AbortOnDropHandle::new(tokio::spawn(pool.clone().tell_of_crashed()));
    let jobs = TaskTracker::new();
    let no_more = CancellationToken::new();
    let taker = tokio::spawn({
        let taking = take_jobs(pool.clone(), jobs.clone(), hindered, no_more.clone());
        let ended = broken.clone().drop_guard();
        async move {
            let _ended = ended;
            taking.await;
        }
    });

    let caller = tokio::spawn({
        let (calling, ended) = (run_untold(pool.clone(), jobs.clone(), no_more.clone()), broken.clone().drop_guard());
        async move {
            let _ended = ended;
            calling.await;
        }
    });

    let told = tokio::select! {
        () = stop.cancelled() => true,
        () = stop_now.cancelled() => true,
        () = broken.cancelled() => false,
    };
    no_more.cancel();
    let drain = *limits.drain.get();
    info!(running = jobs.len(), drain_seconds = drain.as_secs(), "stopping: no more jobs are taken");
    let finished = async {
        for task in [taker, caller] {
            if let Err(panic) = task.await {
                error!(%panic, "a taking task ended in a panic: this is a defect");
            }
        }
        jobs.close();
        jobs.wait().await;
    };
    tokio::pin!(finished);
    let drained = tokio::select! {
        () = &mut finished => true,
        () = sleep(drain) => false,
        () = stop_now.cancelled() => false,
    };
    if !drained {
        info!(running = jobs.len(), "handing back the jobs that run");
        pool.interrupt.cancel();
        // The limit is for settles that wait for Redis.
        let _ = timeout(STOP_GRACE + ABORT_GRACE + CLOSE_LIMIT, finished).await;
    }
    end_sweeping.cancel();
    if let Err(panic) = sweeper.await {
        error!(%panic, "the sweeping task ended in a panic: this is a defect");
    }
    drop((teller, books));
    match timeout(CLOSE_LIMIT, queue.close()).await {
        Ok(returned) => info!(returned, "stopped"),
        Err(_) => warn!("stopped without Redis: the other instances take back what was claimed"),
    }
    match told {
        true => Ok(()),
        false => Err(Failure::new(FailureKind::Internal, "a loop of the queue ended in a panic; see the log")),
    }
}

/// Why the pool ends an attempt before its runner does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Interrupted,
    LeaseLost,
    Stopped,
    TimedOut,
}

impl Pool {
    /// One job from its lease to its settle.
    async fn job(&self, leased: Arc<Leased>) {
        let _running = Running::new(&self.metrics);
        self.begin(&leased);
        let started = Instant::now();
        let outcome = self.attempt(&leased).await;
        let (ended, took) = (Timestamp::now(), started.elapsed());
        let seconds = took.as_secs_f64();
        self.metrics.job_seconds.observe(seconds);
        if matches!(outcome, Outcome::HandBack) && self.interrupt.is_cancelled() {
            // All that are left go back together, in their order, when the instance leaves.
            self.count("returned");
            self.queue.tell_at(ended, &leased, Step::Returned);
            info!(seconds, "the job is handed back");
            return;
        }
        let name = outcome.name();
        let step = settle::step(&outcome, &leased.record, took);
        match self.queue.settle(&leased, outcome).await {
            Ok(()) => {
                self.count(name);
                // As of before the settle: whoever takes the job next may be quicker.
                step.into_iter().for_each(|step| self.queue.tell_at(ended, &leased, step));
                if name == "done" {
                    self.metrics.last_success.set(jiff::Timestamp::now().as_second());
                    self.runner.settled(&leased).await;
                }
                info!(outcome = name, seconds, "job settled");
            }
            Err(failure) => {
                self.count("abandoned");
                self.queue.tell_at(ended, &leased, Step::Abandoned);
                warn!(outcome = name, seconds, reason = %failure, "job not settled");
            }
        }
    }

    /// Says that an attempt begins. Who was not told at the end of a delivered job is told again and
    /// again: the story has one line for that.
    fn begin(&self, leased: &Leased) {
        let waited = leased.waited();
        waited.iter().for_each(|waited| self.metrics.pickup_seconds.observe(waited.as_secs_f64()));
        info!(waited_seconds = waited.map(|waited| waited.as_secs_f64()), "job taken");
        if leased.record.verdict.is_none() {
            self.queue.tell(leased, Step::Taken { waited_seconds: waited.map(story::seconds) });
        }
    }

    /// Runs one attempt within its limits.
    async fn attempt(&self, leased: &Arc<Leased>) -> Outcome {
        let limit = leased.time_limit(*self.limits.job_timeout.get());
        let cancel = CancellationToken::new();
        let runner = self.runner.clone();
        let run = {
            let (leased, cancel) = (leased.clone(), cancel.clone());
            async move { runner.run(leased, cancel).await }
        };
        // A task of its own, so that a panic is an outcome like any other.
        let mut running = AbortOnDropHandle::new(tokio::spawn(run.in_current_span()));
        let ending = tokio::select! {
            biased;
            joined = &mut running => return self.ended(leased, joined).await,
            () = leased.lost().cancelled() => Ending::LeaseLost,
            () = self.interrupt.cancelled() => Ending::Interrupted,
            () = leased.stopped().cancelled() => Ending::Stopped,
            () = sleep(limit) => Ending::TimedOut,
        };
        cancel.cancel();
        let outcome = match timeout(STOP_GRACE, &mut running).await {
            Ok(joined) => Some(joined),
            Err(_) => {
                running.abort();
                if timeout(ABORT_GRACE, &mut running).await.is_err() {
                    warn!("the job does not stop: it blocks its thread");
                }
                None
            }
        };
        match (ending, outcome) {
            // What a runner has finished stays finished; so does what it has reported as failed.
            (
                Ending::Interrupted | Ending::Stopped | Ending::TimedOut,
                Some(Ok(outcome @ (Outcome::Done | Outcome::Untold { .. } | Outcome::Dead(_)))),
            ) => outcome,
            (Ending::Interrupted, _) => Outcome::HandBack,
            (Ending::LeaseLost, _) => Outcome::Abandoned,
            (Ending::Stopped, _) => {
                let failure = Failure::new(FailureKind::JobStopped, "stopped on request");
                self.decide(leased, failure).await
            }
            (Ending::TimedOut, _) => {
                let message = format!("the attempt took longer than {} s", limit.as_secs());
                self.decide(leased, Failure::new(FailureKind::JobTimeout, message)).await
            }
        }
    }

    /// The outcome of a runner that came to its end, be it by a panic.
    async fn ended(&self, leased: &Arc<Leased>, joined: Result<Outcome, tokio::task::JoinError>) -> Outcome {
        match joined {
            Ok(outcome) => outcome,
            Err(panic) => {
                let message = match panic.try_into_panic().ok().as_deref().and_then(panic_text) {
                    Some(text) => format!("a panic: {text}"),
                    None => "a panic".to_owned(),
                };
                self.decide(leased, Failure::new(FailureKind::Internal, message)).await
            }
        }
    }

    /// A failure that the pool found, not the runner.
    async fn decide(&self, leased: &Arc<Leased>, failure: Failure) -> Outcome {
        self.metrics.job_failed(&failure);
        let max_attempts = leased.max_attempts(self.queue.settings().max_attempts, failure.kind);
        let outcome = settle::outcome(failure.clone(), leased.attempt, max_attempts);
        let next = settle::next(&outcome);
        error!(kind = failure.kind.name(), reason = %failure, next, "DOWNLOAD failed");
        if let Outcome::Dead(failure) = &outcome {
            if self.queue.conclude(leased, Verdict::failed(failure, Timestamp::now())).await.is_err() {
                return Outcome::Abandoned;
            }
            self.tell(leased.spec.clone(), leased.attempt, failure.clone()).await;
        }
        outcome
    }

    /// Tells the backend of a job that has failed for good. In a task of its own: a panic or a hang
    /// in it must not keep the element from its end.
    async fn tell(&self, spec: JobSpec, attempts: u32, failure: Failure) {
        let runner = self.runner.clone();
        let told = async move { runner.gave_up(&spec, attempts, &failure).await };
        let mut told = AbortOnDropHandle::new(tokio::spawn(told.in_current_span()));
        if !matches!(timeout(GAVE_UP_LIMIT, &mut told).await, Ok(Ok(()))) {
            error!("the backend could not be told that the job has failed for good");
        }
    }

    /// Tells of each job that a sweep of this instance gives up.
    async fn tell_of_crashed(self: Arc<Self>) {
        let Some(mut crashed) = self.queue.crashed() else { return };
        while let Some(Crashed { spec, attempts, failure }) = crashed.recv().await {
            let span = error_span!("job", task_id = spec.task_id.get());
            async {
                self.metrics.job_failed(&failure);
                error!(kind = failure.kind.name(), "task failed: {failure}; to do: {}", failure.kind.remedy());
                self.count("dead");
                self.queue.tell_of(Timestamp::now(), spec.task_id, attempts, Step::dead(&failure));
                self.tell(spec, attempts, failure).await;
            }
            .instrument(span)
            .await;
        }
    }

    fn count(&self, outcome: &'static str) {
        self.metrics.jobs.get_or_create(&OutcomeLabel { outcome }).inc();
    }
}

/// What a panic says, when it says it in text.
fn panic_text(payload: &(dyn std::any::Any + Send)) -> Option<&str> {
    payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

/// Counts a running job, whatever way it ends.
struct Running<'a>(&'a Metrics);

impl Running<'_> {
    fn new(metrics: &Metrics) -> Running<'_> {
        metrics.jobs_running.inc();
        Running(metrics)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.jobs_running.dec();
    }
}
