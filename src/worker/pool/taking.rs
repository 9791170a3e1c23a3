//! Where jobs come from: taken as long as there is room for them, and those that are delivered and still to
//! be told of.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error_span};

use super::Pool;
use crate::queue::{Leased, Taker};
use crate::traces;

/// Finalize calls of jobs that were delivered before, at once: they take no slot.
const CALLS_AT_ONCE: usize = 8;

/// Takes jobs and has the pool run them, at most as many as its limits allow and none while it is
/// `hindered`, until there are to be no more.
pub(super) async fn take_jobs(
    pool: Arc<Pool>,
    jobs: TaskTracker,
    mut hindered: watch::Receiver<Option<String>>,
    no_more: CancellationToken,
) {
    let permits = pool.limits.jobs.semaphore();
    let mut size = pool.limits.jobs.size();
    let mut taker = pool.queue.taker();
    loop {
        tokio::select! {
            biased;
            () = no_more.cancelled() => return,
            // Whoever could hinder has gone away when this fails.
            _ = hindered.wait_for(Option::is_none) => {}
        }
        size.mark_unchanged();
        let first = tokio::select! {
            biased;
            () = no_more.cancelled() => return,
            // Those that are too many are taken away before anybody gets one.
            Ok(()) = size.changed() => continue,
            permit = permits.clone().acquire_owned() => permit,
        };
        // The semaphore is never closed.
        let Ok(mut held) = first else { return };
        while let Ok(more) = permits.clone().try_acquire_owned() {
            held.merge(more);
        }
        let Some(started) = take(&mut taker, &held, &mut size, &mut hindered, &no_more).await else {
            if no_more.is_cancelled() {
                return;
            }
            continue;
        };
        for leased in started {
            // There is one for each: no more jobs than permits were asked for.
            let Some(permit) = held.split(1) else { break };
            start(&pool, &jobs, leased, permit);
        }
    }
}

/// The next jobs, one for each permit at most; `None` when there are to be no more, none for now, or another
/// number of them.
async fn take(
    taker: &mut Taker,
    held: &OwnedSemaphorePermit,
    size: &mut watch::Receiver<usize>,
    hindered: &mut watch::Receiver<Option<String>>,
    no_more: &CancellationToken,
) -> Option<Vec<Leased>> {
    let enough = no_more.child_token();
    let started = taker.next(held.num_permits(), &enough);
    tokio::pin!(started);
    tokio::select! {
        started = &mut started => return started,
        Ok(()) = size.changed() => enough.cancel(),
        Ok(_) = hindered.wait_for(Option::is_some) => enough.cancel(),
    }
    started.await
}

/// Runs the jobs that are delivered and whose finalize call is due again, beside the slots.
pub(super) async fn run_untold(pool: Arc<Pool>, jobs: TaskTracker, no_more: CancellationToken) {
    let calls = Arc::new(Semaphore::new(CALLS_AT_ONCE));
    loop {
        let call = tokio::select! {
            biased;
            () = no_more.cancelled() => return,
            call = calls.clone().acquire_owned() => call,
        };
        // The semaphore is never closed.
        let Ok(call) = call else { return };
        let Some(leased) = pool.queue.next_untold(&no_more).await else { return };
        start(&pool, &jobs, leased, call);
    }
}

/// Runs the job in a task of its own, which gives the permit back when the job is over.
fn start(pool: &Arc<Pool>, jobs: &TaskTracker, leased: Leased, permit: OwnedSemaphorePermit) {
    let pool = pool.clone();
    let span = span_of(&leased);
    let job = async move {
        pool.job(Arc::new(leased)).await;
        drop(permit);
    };
    jobs.spawn(job.instrument(span));
}

/// What every line of a job says. At error level, so that no log level takes it off them.
fn span_of(leased: &Leased) -> tracing::Span {
    let (task_id, attempt, instance) = (leased.spec.task_id.get(), leased.attempt, leased.instance());
    traces::adopt(error_span!("job", task_id, attempt, instance), leased.spec.trace.as_ref())
}
