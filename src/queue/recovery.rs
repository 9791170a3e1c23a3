//! The sweep, made by every instance: renew the own lease, bring back delayed elements that are
//! due, take back what dead instances held, count.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use jiff::Timestamp;
use redis::{AsyncCommands, RedisError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::classify::{self, Reading};
use super::keys::TOMBSTONE;
use super::lease::Lease;
use super::link::Backoff;
use super::record::Record;
use super::rq::{self, Seen};
use super::story::Step;
use super::{Crashed, DeadEnvelope, Queue};
use crate::failure::{Failure, FailureKind, Result};
use crate::job::{Element, JobSpec};
use crate::redis_client;
use crate::rq::RqWorker;

/// Elements that one call of the promotion script moves at most: it blocks the server meanwhile.
const PROMOTED_AT_ONCE: usize = 100;

/// A job that a dead instance ran.
struct Job {
    claim: String,
    element: Element,
    record: Record,
    /// When it is a job of RQ.
    rq: Option<Seen>,
}

/// What the running hash would hold of a member of the delayed or the untold set:
/// `<token>-<claim>:<held>`.
pub(super) fn held_of(member: &[u8]) -> &[u8] {
    member.iter().position(|byte| *byte == b':').map_or(member, |colon| &member[colon + 1..])
}

/// The id and the element of a value of the running hash.
pub(super) fn held_parts(held: &[u8]) -> (&[u8], Element) {
    let parts: Vec<&[u8]> = held.splitn(3, |byte| *byte == b':').collect();
    match parts[..] {
        [id, _, element] => (id, Element(element.to_vec())),
        _ => (b"", Element(held.to_vec())),
    }
}

impl Queue {
    /// Sweeps every `queue.sweep`, promotes when an element becomes due, and registers anew after
    /// a lost lease, until told to end. Never ends by itself.
    pub async fn keep_sweeping(&self, end: CancellationToken) {
        let sweep = self.shared.settings.sweep;
        let mut next_sweep = Instant::now();
        let mut due_in = None;
        let mut backoff = Backoff::new();
        loop {
            *self.shared.last_round.lock().unwrap_or_else(PoisonError::into_inner) = std::time::Instant::now();
            let due = due_in.map_or(next_sweep, |wait| next_sweep.min(Instant::now() + wait));
            let lease = self.lease();
            tokio::select! {
                biased;
                () = end.cancelled() => return,
                () = lease.lost.cancelled() => next_sweep = Instant::now(),
                () = self.shared.delayed.notified() => {}
                () = tokio::time::sleep_until(due) => {}
            }
            let swept = if Instant::now() >= next_sweep {
                next_sweep = Instant::now() + sweep;
                self.try_sweep().await
            } else {
                self.promote().await
            };
            match swept {
                Ok(next_due) => {
                    self.shared.link.answered();
                    backoff.reset();
                    due_in = next_due;
                }
                Err(error) => {
                    self.shared.link.failed(&error);
                    let pause = backoff.next();
                    due_in = None;
                    next_sweep = Instant::now() + pause;
                    // A lost lease would end the wait above at once, again and again.
                    tokio::select! {
                        () = end.cancelled() => return,
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
    }

    /// One sweep, now.
    ///
    /// # Errors
    /// `queue_unavailable`; what was not done is done by the next sweep.
    pub async fn sweep(&self) -> Result<()> {
        let swept = self.try_sweep().await;
        swept.map(drop).map_err(|error| redis_client::failure("sweeping the queue", &error))
    }

    /// Returns the time until the next delayed element is due, if there is one.
    async fn try_sweep(&self) -> Result<Option<Duration>, RedisError> {
        let lease = self.lease();
        let renewal = match lease.lost.is_cancelled() {
            true => None,
            false => self.renew(&lease).await?,
        };
        let Some(renewal) = renewal else {
            lease.lose();
            self.register_anew().await?;
            return Ok(None);
        };
        if renewal.claimed > 0 {
            self.mind_strays(&lease).await?;
        }
        if !renewal.strays.is_empty() {
            self.hand_back_strays(&lease, &renewal.strays).await?;
        }
        let due = self.promote().await?;
        self.recall().await?;
        for instance in renewal.expired {
            self.reap(&lease, &instance).await?;
        }
        self.trim_dead_list().await?;
        self.measure().await?;
        Ok(due)
    }

    /// Brings back what is due. Returns the time until the next element is.
    async fn promote(&self) -> Result<Option<Duration>, RedisError> {
        let shared = &self.shared;
        loop {
            let (moved, next_due): (usize, i64) = shared
                .scripts
                .promote
                .key(&shared.keys.delayed)
                .key(&shared.keys.list)
                .key(&shared.keys.guards)
                .key(&shared.keys.recent)
                .key(&shared.keys.counts)
                .arg(PROMOTED_AT_ONCE)
                .invoke_async(&mut shared.commands.clone())
                .await?;
            if moved < PROMOTED_AT_ONCE {
                return Ok(u64::try_from(next_due).ok().map(Duration::from_millis));
            }
        }
    }

    /// The claimed list held something: either the taker has it in its hands, or it came with an
    /// answer that was lost. A taker that waits for a permit cannot look, so it goes back.
    async fn mind_strays(&self, lease: &Lease) -> Result<(), RedisError> {
        if lease.taking.load(Relaxed) {
            lease.reread.store(true, Relaxed);
            return Ok(());
        }
        self.give_back(lease).await
    }

    /// A start whose connection broke may reach the server late, when the job it names has been
    /// settled, and has been handed over once more: then it runs under a claim that nobody has in
    /// hand. It goes back.
    async fn hand_back_strays(&self, lease: &Lease, strays: &[String]) -> Result<(), RedisError> {
        let jobs = self.jobs_of(&lease.instance).await?;
        for job in jobs.into_iter().filter(|job| strays.contains(&job.claim)) {
            let books = job.rq.map(|seen| self.rq_reaped(&lease.instance, &job.claim, seen.job, None));
            let mut call = self.settle_call(lease);
            call.arg(&lease.instance).arg(&job.claim).arg(lease.token).arg("returned").arg("").arg("-").arg(0);
            rq::also(&mut call, &books.unwrap_or_default());
            let returned: i64 = call.invoke_async(&mut self.shared.commands.clone()).await?;
            if returned == 1 {
                warn!(id = job.element.id(), "handed back a job that a late command had started");
            }
        }
        Ok(())
    }

    /// What was handed over and is not started goes back to the take end.
    pub(super) async fn give_back(&self, lease: &Lease) -> Result<(), RedisError> {
        let shared = &self.shared;
        let mut call = shared.scripts.give_back.key(&shared.keys.leases);
        call.key(&lease.claimed).key(&shared.keys.list).arg(&lease.instance);
        let returned: u64 = call.invoke_async(&mut shared.commands.clone()).await?;
        if returned > 0 {
            info!(returned, "handed back what there is no room for");
        }
        Ok(())
    }

    /// Takes back what a dead instance had.
    async fn reap(&self, own: &Lease, instance: &str) -> Result<(), RedisError> {
        let shared = &self.shared;
        let keys = &shared.keys;
        let mut commands = shared.commands.clone();
        let jobs = self.jobs_of(instance).await?;
        let mut call = shared.scripts.reap.prepare_invoke();
        call.key(&keys.leases)
            .key(keys.claimed(instance))
            .key(keys.running(instance))
            .key(&keys.list)
            .key(&keys.guards)
            .key(&keys.counts)
            .key(&keys.instances)
            .key(&keys.dead)
            .key(&keys.records)
            .key(&keys.sweeps)
            .arg(instance)
            .arg(TOMBSTONE.as_secs())
            .arg(jobs.len());
        let max_crashes = shared.settings.max_crashes as usize;
        let hours = shared.settings.crash_window.as_secs() / 3600;
        let crashed = Failure::new(
            FailureKind::WorkerCrashed,
            format!("{max_crashes} instances died within {hours} h while they ran this job, the last was {instance}"),
        );
        let mut seen = HashMap::new();
        let mut books = Vec::new();
        for Job { claim, element, mut record, rq } in jobs {
            // A job whose end is known is not what killed the instance.
            let crashes = match record.verdict {
                Some(_) => 0,
                None => record.crashed(instance, shared.settings.crash_window),
            };
            let killed = crashes >= max_crashes;
            let mut spec = JobSpec::parse(&element).ok();
            if let Some(Seen { job, spec: of_rq, .. }) = rq {
                books.extend(self.rq_reaped(instance, &claim, job, killed.then_some(&crashed)));
                spec = of_rq.ok();
            }
            let envelope = match killed {
                true => {
                    let mut envelope = DeadEnvelope::new(&element, &crashed, &record, &own.instance);
                    envelope.task_id = spec.as_ref().map(|spec| spec.task_id);
                    envelope.to_json()
                }
                false => String::new(),
            };
            call.arg(&claim).arg(record.to_json()).arg(envelope);
            seen.insert(claim, (spec, record.attempts));
        }
        if self.runs_rq() {
            books.extend(RqWorker::dead(instance, self.rq_queue(), Timestamp::now()));
        }
        rq::also(&mut call, &books);
        // As of before: whoever takes a job next may be quicker than this.
        let at = Timestamp::now();
        let (returned, killed): (i64, Vec<String>) = call.invoke_async(&mut commands).await?;
        let Ok(returned) = u64::try_from(returned) else { return Ok(()) };
        shared.metrics.reaped.inc_by(returned + killed.len() as u64);
        warn!(dead_instance = instance, returned, killed = killed.len(), "took back what a dead instance held");
        for (spec, attempts) in killed.iter().filter_map(|claim| seen.remove(claim)) {
            // Without a pool nobody wants to know.
            if let Some(spec) = spec {
                let _ = shared.crashed.send(Crashed { spec, attempts, failure: crashed.clone() });
            }
        }
        for (spec, attempts) in seen.into_values() {
            if let Some(spec) = spec {
                let step = Step::Reaped { dead_instance: instance.to_owned() };
                self.tell_of(at, spec.task_id, attempts.saturating_add(1), step);
            }
        }
        Ok(())
    }

    /// What an instance runs, with what is remembered of it.
    async fn jobs_of(&self, instance: &str) -> Result<Vec<Job>, RedisError> {
        let keys = &self.shared.keys;
        let mut commands = self.shared.commands.clone();
        let running: Vec<(String, Vec<u8>)> = commands.hgetall(keys.running(instance)).await?;
        if running.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<&[u8]> = running.iter().map(|(_, held)| held_parts(held).0).collect();
        let records: Vec<Option<Vec<u8>>> =
            redis::cmd("HMGET").arg(&keys.records).arg(ids).query_async(&mut commands).await?;
        let mut jobs = Vec::with_capacity(running.len());
        for ((claim, held), record) in running.iter().zip(records) {
            let (claim, element) = (claim.clone(), held_parts(held).1);
            let record = Record::parse(&record.unwrap_or_default());
            let rq = match classify::read(&element) {
                Reading::Id(id) if self.runs_rq() => self.look_at_rq_job(id).await?,
                _ => None,
            };
            jobs.push(Job { claim, element, record, rq });
        }
        Ok(jobs)
    }
}
