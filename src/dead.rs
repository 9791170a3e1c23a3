//! What an operator does with an entry of the dead list beside looking at it: bring it back. The page and the
//! command line do the same.

use crate::failure::{FailureKind, Result};
use crate::job::JobSpec;
use crate::queue::{DeadEntry, QueueView};
use crate::store::{FinalStatus, TaskStore};

/// What became of an entry that was to be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retried {
    /// Somebody else has it.
    Gone,
    /// It is back in the queue; what the operator should know.
    Back(Option<&'static str>),
    /// It cannot be put back, since it holds no element; in words. The others may well be.
    Refused(String),
}

/// Puts the entry back into the queue, its task enrolled again where that is needed; with `force` even when
/// another job of the task is under way.
///
/// # Errors
/// `queue_unavailable`, `task_store_unavailable`.
pub async fn retry(view: &QueueView, store: &dyn TaskStore, entry: &DeadEntry, force: bool) -> Result<Retried> {
    let remark = make_way(store, entry).await?;
    match view.revive(entry, force).await {
        Ok(true) => Ok(Retried::Back(remark)),
        Ok(false) => Ok(Retried::Gone),
        Err(failure) if failure.kind == FailureKind::MalformedJob => Ok(Retried::Refused(failure.message)),
        Err(failure) => Err(failure),
    }
}

/// A task that failed after the gate had let it pass is enrolled still: the gate must let it pass
/// again. Returns what the operator should know.
async fn make_way(store: &dyn TaskStore, entry: &DeadEntry) -> Result<Option<&'static str>> {
    let Some(spec) = entry.envelope.element().and_then(|element| JobSpec::parse(&element).ok()) else {
        return Ok(None);
    };
    let Some(record) = store.read(spec.task_id).await? else { return Ok(Some("the task store has no such task")) };
    if record.status != FinalStatus::Failed.name() {
        return Ok(None);
    }
    if !record.failed_after_enrollment(FailureKind::named(&entry.envelope.kind)) {
        return Ok(Some("the task is `failed`: enroll the customer again, or it will be refused"));
    }
    store.enroll(&spec, record.order_id).await?;
    Ok(Some("the task is `enrolled` again"))
}
