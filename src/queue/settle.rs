//! The end of a claim: done, retry, dead, or handed back. Written only while the lease is there.

use std::time::Duration;

use redis::RedisError;

use super::lease::Lease;
use super::link::Backoff;
use super::{DeadEnvelope, Leased, Queue};
use crate::failure::{Failure, FailureKind, Result};
use crate::job::{Element, Outcome, TaskId};

/// A server that asks us to stay away for longer is asked again all the same.
const LONGEST_DELAY: Duration = Duration::from_secs(3600);

/// Where the element goes.
pub(super) enum Move {
    Done,
    /// To the delayed set, for so long.
    Retry(Duration),
    /// To the dead list, in this envelope.
    Dead(DeadEnvelope),
    /// To the take end of the list.
    Return,
}

impl Queue {
    /// Writes what became of a job. Waits while Redis is away; dropping the future gives up, and
    /// the element stays claimed. A settle whose answer was lost is written once.
    ///
    /// # Errors
    /// [`FailureKind::LeaseLost`], and nothing was written: the instance has lost its lease, or the
    /// element is no longer in its claimed list.
    pub async fn settle(&self, leased: &Leased, outcome: Outcome) -> Result<()> {
        let lease = &leased.lease;
        let place = match outcome {
            Outcome::Done => Move::Done,
            Outcome::Retry(failure) => {
                let asked = failure.retry_after.unwrap_or_default().min(LONGEST_DELAY);
                Move::Retry(self.shared.settings.retry_delay.max(asked))
            }
            Outcome::Dead(failure) => {
                Move::Dead(DeadEnvelope::new(&leased.element, &failure, leased.attempt, &lease.instance))
            }
            Outcome::HandBack => Move::Return,
            Outcome::Abandoned => {
                lease.release(leased.claim);
                return Ok(());
            }
        };
        let task_id = Some(leased.spec.task_id);
        self.settle_claim(lease, leased.claim, &leased.element, task_id, place).await
    }

    /// Settles a claim that need not be a job.
    pub(super) async fn settle_claim(
        &self,
        lease: &Lease,
        claim: u64,
        element: &Element,
        task_id: Option<TaskId>,
        place: Move,
    ) -> Result<()> {
        let (word, detail) = match &place {
            Move::Done => ("done", String::new()),
            Move::Retry(delay) => ("retry", delay.as_millis().to_string()),
            Move::Dead(envelope) => ("dead", envelope.to_json()),
            Move::Return => ("returned", String::new()),
        };
        let shared = &self.shared;
        let keys = &shared.keys;
        let mut call = shared.scripts.settle.prepare_invoke();
        call.key(&keys.leases)
            .key(&lease.claimed)
            .key(&lease.receipts)
            .key(&keys.list)
            .key(&keys.delayed)
            .key(&keys.dead)
            .key(&keys.attempts)
            .key(&keys.crashes)
            .key(&keys.counts)
            .arg(&lease.instance)
            .arg(&element.0)
            .arg(lease.claim_name(claim))
            .arg(lease.receipt_to_forget())
            .arg(task_id.map(|id| id.to_string()).unwrap_or_default())
            .arg(word)
            .arg(detail);
        let mut backoff = Backoff::new();
        let answer = loop {
            if lease.lost.is_cancelled() {
                break -1;
            }
            let answer: Result<i64, RedisError> = call.invoke_async(&mut shared.commands.clone()).await;
            match answer {
                Ok(answer) => break answer,
                Err(error) => {
                    shared.link.failed(&error);
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        };
        if answer < 0 {
            return Err(lease.lose());
        }
        shared.link.answered();
        lease.release(claim);
        if matches!(place, Move::Retry(_)) {
            shared.delayed.notify_one();
        }
        match answer {
            0 => Err(Failure::new(
                FailureKind::LeaseLost,
                format!("the element is no longer in the claimed list of {}: somebody took it away", lease.instance),
            )),
            _ => Ok(()),
        }
    }
}
