//! How a job ends, and who is told: task store, watchers, backend.

use std::time::Duration;

use jiff::Timestamp;

use super::pipeline::Trail;
use super::{Pipeline, settle};
use crate::failure::{Failure, JobPolicy, Result};
use crate::job::{JobSpec, Outcome};
use crate::queue::{Leased, Notice, Verdict};
use crate::store::{FinalStatus, TaskStore};

/// How long a job that the store did not take the end of waits until that is tried again.
const STORE_DELAY: Duration = Duration::from_secs(60);
/// Longest pause between two tries.
const STORE_PAUSE: Duration = Duration::from_secs(2);

impl Pipeline {
    pub(super) async fn completed(&self, job: &Leased, trail: &Trail, folder: &str) -> Outcome {
        let spec = &job.spec;
        match self.write_end(spec, FinalStatus::Completed, None).await {
            Ok(()) => {}
            // A row that stays `enrolled` would have the course delivered again by whoever looks for lost
            // jobs. A job of RQ has no place to wait beside its attempts.
            Err(failure) if failure.kind.job_policy() == JobPolicy::Retry && !job.is_of_rq() => {
                return self.untold(spec, trail, folder, None, STORE_DELAY, failure).await;
            }
            Err(failure) => tracing::error!(kind = failure.kind.name(), "delivered, but {failure}"),
        }
        let message = format!("delivered as {folder}");
        self.events
            .status(
                &trail.fence,
                spec.task_id,
                trail.order_id,
                "completed",
                trail.status.unwrap_or("enrolled"),
                &message,
            )
            .await;
        tracing::info!(folder, "task completed");
        Outcome::Done
    }

    /// The one place where a failed attempt is logged.
    pub(super) async fn failed(&self, job: &Leased, trail: &Trail, failure: Failure) -> Outcome {
        let (spec, kind) = (&job.spec, failure.kind.name());
        self.volumes.met(failure.kind);
        let previous = trail.status.unwrap_or("enrolled");
        let max_attempts = job.max_attempts(self.max_attempts, failure.kind);
        let outcome = settle::outcome(failure.clone(), job.attempt, max_attempts);
        match &outcome {
            Outcome::Retry(_) => {
                self.metrics.job_failed(&failure);
                match failure.kind.costs_an_attempt() {
                    true => {
                        tracing::warn!(
                            kind,
                            "attempt {} of {max_attempts} failed: {failure}; trying again",
                            job.attempt
                        );
                    }
                    false => tracing::warn!(kind, "{failure}; trying again, which costs no attempt"),
                }
                self.events
                    .status(&trail.fence, spec.task_id, trail.order_id, "retrying", previous, &failure.message)
                    .await;
            }
            Outcome::Dead(_) => return self.dead(job, trail, failure).await,
            // The pool, which has stopped the job, says why.
            Outcome::HandBack | Outcome::Abandoned | Outcome::Done | Outcome::Untold { .. } => {
                tracing::debug!(kind, "{failure}");
            }
        }
        outcome
    }

    /// The job has failed for good.
    pub(super) async fn dead(&self, job: &Leased, trail: &Trail, failure: Failure) -> Outcome {
        let (kind, at) = (failure.kind.name(), Timestamp::now());
        if let Err(lost) = self.queue.conclude(job, Verdict::failed(&failure, at)).await {
            tracing::warn!(kind, reason = %lost, "the job failed, but it is not ours any more: {failure}");
            return Outcome::Abandoned;
        }
        self.metrics.job_failed(&failure);
        tracing::error!(kind, "task failed after attempt {}: {failure}; to do: {}", job.attempt, failure.kind.remedy());
        self.give_up(&job.spec, job.attempt, trail, &failure, at).await;
        Outcome::Dead(failure)
    }

    /// Tells store, watchers and, if it wants to know, the backend that the task has failed for good.
    pub(super) async fn give_up(&self, spec: &JobSpec, attempts: u32, trail: &Trail, failure: &Failure, at: Timestamp) {
        // The gate may have refused the job before anything was known of the task.
        let record = self.store.read(spec.task_id).await.ok().flatten();
        let stored = record.as_ref().map(|record| record.status.as_str());
        if stored == Some(FinalStatus::Completed.name()) {
            tracing::info!("the task was completed before and stays so: the customer has the course");
            return;
        }
        let error_log = serde_json::json!({
            "kind": failure.kind.name(),
            "message": failure.message,
            "attempts": attempts,
            // The pool, which ends a job from outside, does not know whether the gate was passed.
            "enrolled": trail.enrolled || stored == Some("enrolled"),
            "failedAt": at.to_string(),
        });
        if let Err(failure) = self.write_end(spec, FinalStatus::Failed, Some(&error_log.to_string())).await {
            tracing::error!(kind = failure.kind.name(), "the dead list has the job, but {failure}");
        }
        let order_id = trail.order_id.or(record.as_ref().and_then(|record| record.order_id));
        let previous = trail.status.or(stored).unwrap_or("unknown");
        self.events.status(&trail.fence, spec.task_id, order_id, "failed", previous, &failure.message).await;
        if self.finalize.get().tells_of_failures() {
            let (kind, message) = (failure.kind.name().to_owned(), failure.message.clone());
            self.keep_notice(&Notice { task_id: spec.task_id, kind, message, failed_at: at }).await;
        }
    }

    /// As long as Redis is away, so is the job's own end.
    async fn keep_notice(&self, notice: &Notice) {
        let mut attempt = 1;
        while let Err(failure) = self.queue.keep_notice(notice).await {
            tracing::debug!("{failure}; again until it is kept");
            tokio::time::sleep(crate::http::pause(attempt, None).min(STORE_PAUSE)).await;
            attempt += 1;
        }
    }

    async fn write_end(&self, spec: &JobSpec, status: FinalStatus, error_log: Option<&str>) -> Result<()> {
        write_end(&*self.store, self.store_patience, spec, status, error_log).await
    }
}

/// Writes the end of the task, again and again to a store that is away, as long as `patience` lasts.
pub(super) async fn write_end(
    store: &dyn TaskStore,
    patience: Duration,
    spec: &JobSpec,
    status: FinalStatus,
    error_log: Option<&str>,
) -> Result<()> {
    let started = tokio::time::Instant::now();
    let mut attempt = 1;
    loop {
        let Err(failure) = store.finish(spec.task_id, status, error_log).await else { return Ok(()) };
        let pause = crate::http::pause(attempt, None).min(STORE_PAUSE);
        if started.elapsed() + pause > patience {
            return Err(failure.at(format!("the task store did not take the status {}", status.name())));
        }
        tokio::time::sleep(pause).await;
        attempt += 1;
    }
}
