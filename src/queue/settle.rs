//! The end of a run: done, retry, untold, dead, or handed back. Written only while the lease is there.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use jiff::Timestamp;
use redis::{RedisError, ScriptInvocation};

use super::lease::Lease;
use super::link::Backoff;
use super::record::{Record, Verdict};
use super::{DeadEnvelope, Leased, Queue, rq};
use crate::failure::{Failure, FailureKind, Result};
use crate::job::Outcome;
use crate::rq::Command;

/// A server that asks us to stay away for longer is asked again all the same.
const LONGEST_DELAY: Duration = Duration::from_secs(3600);
/// The pause before a retry is longer by up to this share, by chance: what failed together does not
/// come back together.
const JITTER: f64 = 0.2;

/// What the script is told.
struct Settlement {
    word: &'static str,
    /// The delay in ms, or the envelope.
    detail: String,
    memory: Memory,
    /// What is worth keeping on disk while Redis is away: what it does not know yet.
    to_keep: Option<Record>,
}

/// What becomes of the record.
enum Memory {
    Write(Record),
    /// It stays as it is.
    Leave,
    Forget,
}

impl Queue {
    /// Writes what became of a job. Waits while Redis is away, and keeps the outcome on disk
    /// meanwhile; dropping the future gives up, and the job stays where it is. A settle whose answer
    /// was lost is written once.
    ///
    /// # Errors
    /// [`FailureKind::LeaseLost`], and nothing was written: the instance has lost its lease, or the
    /// job was taken away from it.
    pub async fn settle(&self, leased: &Leased, outcome: Outcome) -> Result<()> {
        let lease = &leased.lease;
        let books = self.rq_end(leased, &outcome);
        let mut record = leased.record.clone();
        record.verdict = None;
        let verdict = |verdict: Verdict| match leased.concluded.load(Relaxed) {
            true => None,
            false => Some(Record { verdict: Some(verdict), ..leased.record.clone() }),
        };
        let settlement = match outcome {
            Outcome::Done => {
                let to_keep = verdict(Verdict::told(""));
                Some(Settlement { word: "done", detail: String::new(), memory: Memory::Forget, to_keep })
            }
            Outcome::Retry(failure) => {
                record.failed(&lease.instance, &failure);
                let tries =
                    if failure.kind.costs_an_attempt() { leased.attempt } else { record.failed_alike(&failure) };
                let detail = self.retry_delay(&failure, tries).as_millis().to_string();
                // A job of RQ waits where RQ keeps it, not in our delayed set.
                let word = if leased.rq.is_some() { "left" } else { "retry" };
                Some(Settlement { word, detail, memory: Memory::Write(record.clone()), to_keep: Some(record) })
            }
            Outcome::Untold { folder, since, after, failure } => {
                record.verdict = Some(Verdict::Delivered { folder, untold_since: since });
                record.note(&lease.instance, failure.kind.name(), &failure.message);
                let detail = after.min(LONGEST_DELAY).mul_f64(1.0 + JITTER * fastrand::f64()).as_millis().to_string();
                let to_keep = Some(record.clone());
                Some(Settlement { word: "untold", detail, memory: Memory::Write(record), to_keep })
            }
            Outcome::Dead(failure) => {
                record.failed(&lease.instance, &failure);
                let mut envelope = DeadEnvelope::new(&leased.element, &failure, &record, &lease.instance);
                envelope.task_id = Some(leased.spec.task_id);
                let to_keep = verdict(Verdict::failed(&failure, Timestamp::now()));
                Some(Settlement { word: "dead", detail: envelope.to_json(), memory: Memory::Forget, to_keep })
            }
            Outcome::HandBack => {
                Some(Settlement { word: "returned", detail: String::new(), memory: Memory::Leave, to_keep: None })
            }
            Outcome::Abandoned => None,
        };
        let settled = match &settlement {
            Some(settlement) => self.write(leased, settlement, &books).await,
            None => Ok(()),
        };
        lease.release(leased.claim);
        self.rq_no_more(leased);
        self.shared.journal.forget(leased).await;
        if let (Ok(()), Some(settlement)) = (&settled, settlement) {
            match settlement.word {
                "retry" => self.shared.delayed.notify_one(),
                "untold" => self.shared.untold.notify_one(),
                _ => {}
            }
            if leased.rq.is_some() {
                // What fails here is done by the next look of any instance.
                let _ = self.rq_release().await;
            }
        }
        settled
    }

    async fn write(&self, leased: &Leased, settlement: &Settlement, books: &[Command]) -> Result<()> {
        let (shared, lease) = (&self.shared, &leased.lease);
        let record = match &settlement.memory {
            Memory::Write(record) if *record != Record::default() => record.to_json(),
            // Most elements never have one: then there is none to delete.
            Memory::Write(_) | Memory::Forget if leased.has_record() => String::new(),
            _ => "-".to_owned(),
        };
        let mut call = self.settle_call(lease);
        call.arg(&lease.instance)
            .arg(leased.claim)
            .arg(lease.token)
            .arg(settlement.word)
            .arg(&settlement.detail)
            .arg(record)
            .arg(shared.settings.dedupe.as_millis() as u64);
        rq::also(&mut call, books);
        let mut backoff = Backoff::new();
        let mut asked_before = false;
        let answer = loop {
            if lease.lost.is_cancelled() {
                break -1;
            }
            let answer: Result<i64, RedisError> = call.invoke_async(&mut shared.commands.clone()).await;
            match answer {
                Ok(answer) => break answer,
                Err(error) => {
                    shared.link.failed(&error);
                    if let Some(record) = &settlement.to_keep {
                        shared.journal.keep(leased, record).await;
                    }
                    asked_before = true;
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        };
        if answer < 0 {
            return Err(lease.lose());
        }
        shared.link.answered();
        match answer {
            0 if !asked_before => Err(Failure::new(
                FailureKind::LeaseLost,
                format!("the job is not among those of {} any more: somebody took it away", lease.instance),
            )),
            _ => Ok(()),
        }
    }

    /// The script with its keys.
    pub(super) fn settle_call(&self, lease: &Lease) -> ScriptInvocation<'_> {
        let (scripts, keys) = (&self.shared.scripts, &self.shared.keys);
        let mut call = scripts.settle.prepare_invoke();
        call.key(&keys.leases)
            .key(&lease.running)
            .key(&keys.list)
            .key(&keys.delayed)
            .key(&keys.dead)
            .key(&keys.records)
            .key(&keys.guards)
            .key(&keys.recent)
            .key(&keys.counts)
            .key(&keys.untold);
        call
    }

    /// How long a job waits for its next attempt, after so many.
    pub(super) fn retry_delay(&self, failure: &Failure, attempt: u32) -> Duration {
        let settings = &self.shared.settings;
        let doublings = if failure.kind.backs_off() { attempt.saturating_sub(1).min(16) } else { 0 };
        let delay = settings.retry_delay.saturating_mul(1 << doublings).min(settings.max_retry_delay);
        let asked = failure.retry_after.unwrap_or_default().min(LONGEST_DELAY);
        delay.max(asked).mul_f64(1.0 + JITTER * fastrand::f64())
    }
}
