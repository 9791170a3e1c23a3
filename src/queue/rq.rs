//! Jobs of RQ: where the queue and RQ's books meet (`rq.compat = "worker"`).
//!
//! What is written stands in [`crate::rq`]; here it is put beside the step that it belongs to, and
//! what RQ expects of a worker between the steps is done: signs of life, commands, the scheduler.
//! Without Redis nothing of it is done, and all of it is made up for when Redis is back.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use redis::{RedisError, ScriptInvocation};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::keys::rq_job;
use super::lease::Lease;
use super::{Leased, Queue};
use crate::failure::{Failure, FailureKind, Result};
use crate::job::{JobSpec, Outcome};
use crate::rq::{Command, Execution, RqJob, RqWorker, decode, execution_id};

/// RQ's own pause.
pub(super) const SUSPENDED: &str = "rq:suspended";
/// Between two signs of life; RQ's figure, a third of what it believes.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// Between two looks at what is due; RQ's figure.
const SCHEDULE: Duration = Duration::from_secs(1);
/// How long the scheduler's lock holds; RQ's figure.
const LOCK_TTL: u64 = 61;
/// What RQ's scheduler lock says when instances of ours schedule: any of them may.
const LOCK_HOLDER: &str = "hauld";
/// Jobs that one call of a script moves at most: it blocks the server meanwhile.
const MOVED_AT_ONCE: usize = 100;
/// How long the server may take to answer on the connection for commands.
const LISTEN_LIMIT: Duration = Duration::from_secs(5);
/// Between two tries to be told commands.
const RECONNECT: Duration = Duration::from_secs(1);

/// A job of RQ that has been looked at.
pub(super) struct Seen {
    pub(super) job: RqJob,
    /// What it asks for, or why it cannot be run here.
    pub(super) spec: Result<JobSpec>,
    /// Executions that its books have.
    pub(super) stale: Vec<String>,
}

/// Adds commands that the script executes when it has made its step.
pub(super) fn also(call: &mut ScriptInvocation, commands: &[Command]) {
    for command in commands {
        call.arg(command.len());
        for word in command {
            call.arg(word.as_slice());
        }
    }
}

impl Queue {
    /// Whether jobs of RQ are run.
    pub(super) fn runs_rq(&self) -> bool {
        self.shared.settings.rq.is_worker()
    }

    /// The name of the list as a queue of RQ.
    pub(super) fn rq_queue(&self) -> &str {
        self.shared.keys.rq_queue().unwrap_or_default()
    }

    /// Reads a job's hash. `None` when there is none, or it is not one of RQ.
    pub(super) async fn look_at_rq_job(&self, id: &str) -> Result<Option<Seen>, RedisError> {
        let mut commands = self.shared.commands.clone();
        let key = rq_job(id);
        let length: Result<usize, RedisError> =
            redis::cmd("HSTRLEN").arg(&key).arg("data").query_async(&mut commands).await;
        let length = match length {
            Ok(length) => length,
            // A key of another type is no job of RQ.
            Err(error) if error.code() == Some("WRONGTYPE") => return Ok(None),
            Err(error) => return Err(error),
        };
        // What is too large is not even fetched.
        let too_large = length > decode::LARGEST_DATA;
        let fields = &decode::FIELDS[usize::from(too_large)..];
        let mut pipe = redis::pipe();
        pipe.cmd("HMGET").arg(&key).arg(fields).zrange(format!("rq:executions:{id}"), 0, -1);
        let (values, stale): (Vec<Option<Vec<u8>>>, Vec<String>) = pipe.query_async(&mut commands).await?;
        let mut hash: HashMap<String, Vec<u8>> =
            fields.iter().zip(values).filter_map(|(name, value)| Some(((*name).to_owned(), value?))).collect();
        if too_large {
            hash.insert("data".into(), Vec::new());
        }
        let Some((job, mut spec)) = RqJob::read(id, self.rq_queue(), &hash) else { return Ok(None) };
        if too_large {
            let message = format!("the data of the RQ job {id} has {length} bytes, more than {}", decode::LARGEST_DATA);
            spec = Err(Failure::new(FailureKind::MalformedJob, message));
        }
        if job.status == "canceled" {
            spec = Err(Failure::new(FailureKind::ForeignJob, format!("the RQ job {id} has been canceled")));
        }
        Ok(Some(Seen { job, spec, stale }))
    }

    /// What RQ's books say when a job of RQ has come to an end, and how long it waits if it is tried
    /// again.
    pub(super) fn rq_end(&self, leased: &Leased, outcome: &Outcome) -> Vec<Command> {
        let Some(run) = &leased.rq else { return Vec::new() };
        let (execution, now) = (&run.execution, Timestamp::now());
        match outcome {
            Outcome::Done => self.ended(execution.finished(now), &execution.job.id, "finished"),
            Outcome::Dead(failure) => match failure.kind {
                // As with RQ, what waits for a stopped job goes on waiting.
                FailureKind::JobStopped => execution.failed(failure, true, now),
                _ => self.ended(execution.failed(failure, false, now), &execution.job.id, "failed"),
            },
            // Jobs of RQ are never untold: they have RQ's attempts.
            Outcome::Retry(failure) | Outcome::Untold { failure, .. } => {
                let pause = self.rq_pause(execution, failure, leased.attempt);
                execution.retried(pause, &self.shared.settings.list, now)
            }
            Outcome::HandBack => execution.returned(now),
            Outcome::Abandoned => Vec::new(),
        }
    }

    /// A job of RQ runs no more.
    pub(super) fn rq_no_more(&self, leased: &Leased) {
        if let (Some(worker), Some(_)) = (&leased.lease.rq, &leased.rq) {
            worker.end(leased.claim);
        }
    }

    /// Notes that what waits for the job is to be told.
    fn ended(&self, mut commands: Vec<Command>, id: &str, status: &str) -> Vec<Command> {
        let words = ["HSET", &self.shared.keys.rq_ended, id, status];
        commands.push(words.iter().map(|word| word.as_bytes().to_vec()).collect());
        commands
    }

    /// RQ's interval where the job has some, as RQ chooses among them; else ours.
    fn rq_pause(&self, execution: &Execution, failure: &Failure, attempt: u32) -> Duration {
        let job = &execution.job;
        let Some(left) = job.retries_left else { return self.retry_delay(failure, attempt) };
        let index = job.retry_intervals.len().saturating_sub(left as usize);
        Duration::from_secs(job.retry_intervals.get(index).copied().unwrap_or(0))
    }

    /// What RQ's books say when a job that is not started goes to the dead list.
    pub(super) fn rq_refusal(&self, lease: &Lease, job: RqJob, failure: &Failure) -> Vec<Command> {
        // An element of a job that runs, or has been canceled: the books are right as they are.
        if matches!(job.status.as_str(), "started" | "canceled") {
            return Vec::new();
        }
        let execution = Execution { id: String::new(), worker: lease.instance.clone(), started: Timestamp::now(), job };
        self.ended(execution.refused(failure), &execution.job.id, "failed")
    }

    /// What RQ's books say when everything goes back that a live instance still has.
    pub(super) fn rq_farewell(&self, lease: &Lease) -> Vec<Command> {
        let Some(worker) = &lease.rq else { return Vec::new() };
        let now = Timestamp::now();
        let returned = worker.running().into_iter().flat_map(|(_, execution)| execution.returned(now));
        returned.chain(RqWorker::dead(&worker.name, self.rq_queue(), now)).collect()
    }

    /// What RQ's books say when the job is taken back that a dead instance had; `killed`: because it
    /// goes to the dead list.
    pub(super) fn rq_reaped(&self, instance: &str, claim: &str, job: RqJob, killed: Option<&Failure>) -> Vec<Command> {
        let now = Timestamp::now();
        let started = job.started_at.parse().unwrap_or(now);
        let execution = Execution { id: execution_id(instance, claim), worker: instance.to_owned(), started, job };
        match killed {
            Some(failure) => self.ended(execution.failed(failure, false, now), &execution.job.id, "failed"),
            None => execution.returned(now),
        }
    }

    /// Tells what waits for jobs that have ended. What fails is done by the next look.
    pub(super) async fn rq_release(&self) -> Result<(), RedisError> {
        let shared = &self.shared;
        loop {
            let mut call = shared.scripts.rq_release.key(&shared.keys.rq_ended);
            call.arg(MOVED_AT_ONCE).arg(crate::rq::books::date(Timestamp::now()));
            let left: usize = call.invoke_async(&mut shared.commands.clone()).await?;
            if left == 0 {
                return Ok(());
            }
        }
    }

    /// Everything that RQ expects of a worker beside its jobs, until told to end: signs of life,
    /// the scheduler's work, and obeying commands, of which one cancels `shutdown`. Does nothing
    /// when jobs of RQ are not run.
    pub async fn keep_rq_books(&self, end: CancellationToken, shutdown: CancellationToken) {
        if self.runs_rq() {
            tokio::select! {
                () = end.cancelled() => {}
                () = async { tokio::join!(self.show_rq_worker(), self.schedule_for_rq(), self.obey_rq(&shutdown)); } => {}
            }
        }
    }

    async fn show_rq_worker(&self) {
        let mut leases = self.shared.lease.subscribe();
        let mut paused = self.shared.paused.subscribe();
        loop {
            let lease = leases.borrow_and_update().clone();
            let Some(worker) = &lease.rq else { return };
            let mut next_heartbeat = tokio::time::Instant::now();
            loop {
                let beats = tokio::time::Instant::now() >= next_heartbeat;
                let shown = self.show(&lease, worker, beats).await;
                match shown {
                    Ok(()) if beats => next_heartbeat = tokio::time::Instant::now() + HEARTBEAT,
                    Ok(()) => {}
                    Err(_) => next_heartbeat = tokio::time::Instant::now() + RECONNECT,
                }
                tokio::select! {
                    _ = leases.changed() => break,
                    _ = paused.changed() => {}
                    () = worker.changed.notified() => {}
                    () = tokio::time::sleep_until(next_heartbeat) => {}
                }
            }
        }
    }

    async fn show(&self, lease: &Lease, worker: &RqWorker, with_jobs: bool) -> Result<(), RedisError> {
        let now = Timestamp::now();
        self.write_rq(lease, "", &worker.alive(self.is_paused(), now)).await?;
        if with_jobs {
            for (claim, execution) in worker.running() {
                self.write_rq(lease, &claim.to_string(), &execution.alive(now)).await?;
            }
        }
        Ok(())
    }

    /// Not by an instance whose lease is gone, nor about a job that it does not have.
    async fn write_rq(&self, lease: &Lease, claim: &str, commands: &[Command]) -> Result<(), RedisError> {
        let shared = &self.shared;
        let mut call = shared.scripts.rq_write.key(&shared.keys.leases);
        call.key(&lease.running).arg(&lease.instance).arg(claim);
        also(&mut call, commands);
        call.invoke_async::<i64>(&mut shared.commands.clone()).await.map(drop)
    }

    async fn schedule_for_rq(&self) {
        let (shared, queue) = (&self.shared, self.rq_queue());
        loop {
            let mut call = shared.scripts.rq_promote.key(format!("rq:scheduler-lock:{queue}"));
            call.key(format!("rq:scheduled:{queue}"))
                .key(format!("rq:ready:{queue}"))
                .key(&shared.keys.list)
                .key(&shared.keys.rq_ended)
                .arg(LOCK_HOLDER)
                .arg(LOCK_TTL)
                .arg(MOVED_AT_ONCE)
                .arg(crate::rq::books::date(Timestamp::now()));
            let looked: Result<bool, RedisError> = call.invoke_async(&mut shared.commands.clone()).await;
            // What fails now is done a second later; whether Redis is away is told by the sweep.
            if let Ok(true) = looked {
                let _ = self.rq_release().await;
            }
            tokio::time::sleep(SCHEDULE).await;
        }
    }

    /// As with RQ, what is told while the connection is away is lost.
    async fn obey_rq(&self, shutdown: &CancellationToken) {
        let mut leases = self.shared.lease.subscribe();
        loop {
            let lease = leases.borrow_and_update().clone();
            let Some(worker) = &lease.rq else { return };
            let listening = async {
                if let Err(error) = self.listen(worker, shutdown).await {
                    warn!(%error, "cannot listen to the commands of RQ: trying again");
                }
            };
            tokio::select! {
                () = listening => tokio::time::sleep(RECONNECT).await,
                _ = leases.changed() => {}
            }
        }
    }

    /// Returns when the connection is gone.
    async fn listen(&self, worker: &RqWorker, shutdown: &CancellationToken) -> Result<(), RedisError> {
        let channel = worker.channel();
        let mut pubsub = self.shared.commands.pubsub(&channel).await?;
        pubsub.subscribe(&channel).await?;
        let (mut sink, mut messages) = pubsub.split();
        loop {
            match tokio::time::timeout(HEARTBEAT, messages.next()).await {
                Ok(Some(message)) => worker.obey(message.get_payload_bytes(), shutdown),
                Ok(None) => return Ok(()),
                // A connection that carries nothing can be dead without a sign: this must be answered.
                Err(_) => {
                    let answered = tokio::time::timeout(LISTEN_LIMIT, sink.subscribe(&channel)).await;
                    answered.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))?;
                }
            }
        }
    }
}
