//! The calls that tell the backend of failures (`report.on_failure`), beside the jobs.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, error_span, info, warn};

use super::Pipeline;
use crate::queue::Notice;
use crate::store::FinalStatus;

/// How much longer than its call a notice is nobody else's.
const MARGIN: Duration = Duration::from_secs(30);

impl Pipeline {
    /// Makes the calls that are due, one at a time, until `stop`. Those that are left are in Redis.
    pub async fn tell_of_failures(self: Arc<Self>, stop: CancellationToken) {
        if !self.finalize.get().tells_of_failures() {
            return;
        }
        let hold = || self.finalize.get().longest_call() + MARGIN;
        while let Some(notice) = self.queue.next_notice(hold(), &stop).await {
            let span = error_span!("notice", task_id = notice.task_id.get());
            let told = async {
                let pause = self.tell_of(&notice).await;
                self.queue.settle_notice(&notice, pause).await;
            };
            told.instrument(span).await;
        }
    }

    /// Returns the time until the call is to be made again, if it is.
    async fn tell_of(&self, notice: &Notice) -> Option<Duration> {
        let told = match self.store.read(notice.task_id).await {
            Ok(Some(record)) if record.status != FinalStatus::Failed.name() => {
                info!(status = record.status, "the task does not count as failed any more: the backend is not told");
                return None;
            }
            Ok(_) => self.finalize.get().failed(notice).await,
            Err(failure) => Err(failure),
        };
        let Err(failure) = told else {
            info!(failed_as = notice.kind, "the backend knows that the task has failed");
            return None;
        };
        let kind = failure.kind.name();
        let pause = self.finalize.get().pause(notice.failed_at, &failure);
        match pause {
            Some(pause) => warn!(kind, "{failure}; again in {} s", pause.as_secs()),
            None => error!(kind, "the backend is not told that the task has failed: {failure}"),
        }
        pause
    }
}
