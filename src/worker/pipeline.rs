//! The story of one job: gate, resolve, download, deliver, report. The only place that knows all
//! rooms. How it ends is told in `ending`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::JobRunner;
use crate::current::Current;
use crate::delivery::{Delivery, Receipt};
use crate::failure::{Context, Failure, FailureKind, Result};
use crate::gate::{Enrolled, Gate};
use crate::http::CookieJar;
use crate::job::{JobSpec, Outcome};
use crate::media::{CourseDownload, CourseFolder, CourseRequest, FinishedLecture};
use crate::metrics::Metrics;
use crate::progress::Progress;
use crate::queue::story::{self, MOST_REMARKS, Step, seconds};
use crate::queue::{Fence, Leased, Queue, Verdict};
use crate::report::{Events, FinalizeClient};
use crate::resolver::Resolver;
use crate::sandbox::Sandbox;
use crate::sharing::SharedDownloads;
use crate::store::TaskStore;
use crate::traces;
use crate::volumes::Volumes;

/// Everything that a job meets on its way.
pub struct Pipeline {
    pub gate: Gate,
    pub store: Arc<dyn TaskStore>,
    /// How long the end of a task is written again and again to a store that does not answer.
    pub store_patience: Duration,
    pub resolver: Arc<Resolver>,
    /// For the catalogue and the media hosts; every job has its own beside them.
    pub cookies: Arc<CookieJar>,
    pub courses: CourseDownload,
    /// Several jobs of one course download it once.
    pub sharing: Option<SharedDownloads>,
    pub delivery: Delivery,
    pub finalize: Current<FinalizeClient>,
    pub events: Events,
    pub queue: Queue,
    pub staging: PathBuf,
    /// The disks that it writes to.
    pub volumes: Arc<Volumes>,
    pub max_attempts: u32,
    pub metrics: Arc<Metrics>,
}

/// What was found out about a job on its way, for the report at its end.
pub(super) struct Trail {
    /// Whose word it is.
    pub fence: Fence,
    pub order_id: Option<u64>,
    /// Whether the gate let the job pass.
    pub enrolled: bool,
    /// The status that was last told.
    pub status: Option<&'static str>,
}

/// An attempt that has come to its delivery.
struct Delivered {
    /// Name at the destination.
    folder: String,
    /// Where it was downloaded, for what is noted beside it.
    sandbox: Option<Sandbox>,
    /// Since when the backend is to be told, unless it knows or there is none.
    since: Option<Timestamp>,
}

impl Trail {
    fn new(fence: Fence) -> Trail {
        Trail { fence, order_id: None, enrolled: false, status: None }
    }
}

#[async_trait]
impl JobRunner for Pipeline {
    async fn run(&self, job: Arc<Leased>, cancel: CancellationToken) -> Outcome {
        let mut trail = Trail::new(self.queue.fence(&job));
        if let Some(verdict) = &job.record.verdict {
            return self.tell_again(&job, &mut trail, verdict).await;
        }
        match self.attempt(&job, &mut trail, &cancel).await {
            Ok(Delivered { folder, sandbox, since }) => {
                self.report_delivery(&job, &trail, sandbox.as_ref(), &folder, since).await
            }
            Err(failure) => self.failed(&job, &trail, failure).await,
        }
    }

    async fn gave_up(&self, spec: &JobSpec, attempts: u32, failure: &Failure) {
        self.give_up(spec, attempts, &Trail::new(self.queue.own_fence()), failure, Timestamp::now()).await;
    }

    async fn settled(&self, job: &Leased) {
        let removed = match Sandbox::existing(&self.staging, &job.spec).await {
            Ok(Some(sandbox)) => sandbox.remove().await,
            // Another job of the task has it already, and removes it at its end.
            Ok(None) => Ok(()),
            Err(failure) => Err(failure),
        };
        if let Err(failure) = removed {
            tracing::warn!(kind = failure.kind.name(), "the course is delivered, but its sandbox stays: {failure}");
        }
    }
}

impl Pipeline {
    /// One attempt, from the gate to the delivery, which is noted: whoever has the job from then on only
    /// tells of it.
    async fn attempt(&self, job: &Leased, trail: &mut Trail, cancel: &CancellationToken) -> Result<Delivered> {
        let spec = &job.spec;
        let (Enrolled { order_id, waited }, sandbox) = match until(cancel, self.admit(spec)).await {
            Ok(admitted) => admitted,
            Err(failure) => {
                let Receipt { folder_name: folder } = self.completed_before(spec, &failure).await?.ok_or(failure)?;
                self.queue.conclude(job, Verdict::told(&folder)).await?;
                return Ok(Delivered { folder, sandbox: None, since: None });
            }
        };
        self.metrics.enrollment_wait_seconds.observe(waited.as_secs_f64());
        self.queue.tell(job, Step::Enrolled { waited_seconds: seconds(waited) });
        (trail.order_id, trail.enrolled) = (order_id, true);
        self.tell(spec, trail, "downloading", "download started").await;

        let receipt = match self.delivery.delivered(&sandbox).await? {
            Some(receipt) => receipt,
            None => {
                let progress = Arc::new(Progress::with_upload(self.delivery.uploads()));
                let watch = self.events.watch_progress(trail.fence.clone(), spec.task_id, order_id, progress.clone());
                let folder = until(cancel, self.download(job, &sandbox, &progress, cancel)).await;
                self.tell_last_remarks(job, &progress);
                let folder = folder?;
                // From here on a stop interrupts only an upload: a move and a call are short, and half of
                // them is worse than a late stop.
                self.queue.confirm(job).await?;
                progress.start_delivery();
                self.tell(spec, trail, "uploading", "delivery started").await;
                let receipt = self.deliver(job, &sandbox, &folder, &progress, cancel).await?;
                watch.finish().await;
                receipt
            }
        };

        let folder = receipt.folder_name;
        let since = self.finalize.get().is_on().then(Timestamp::now);
        self.queue.conclude(job, Verdict::Delivered { folder: folder.clone(), untold_since: since }).await?;
        Ok(Delivered { folder, sandbox: Some(sandbox), since })
    }

    /// Tells the backend that the course is delivered, if it is to be told `since` then, and everybody
    /// else once it has accepted that.
    async fn report_delivery(
        &self,
        job: &Leased,
        trail: &Trail,
        sandbox: Option<&Sandbox>,
        folder: &str,
        since: Option<Timestamp>,
    ) -> Outcome {
        let Some(since) = since else { return self.completed(job, trail, folder).await };
        let called = async {
            self.call_backend(job, sandbox, folder).await?;
            self.queue.conclude(job, Verdict::told(folder)).await
        };
        match called.await {
            Ok(()) => self.completed(job, trail, folder).await,
            Err(failure) if failure.kind == FailureKind::FinalizeFailed && !job.is_of_rq() => {
                match self.finalize.get().pause(since, &failure) {
                    Some(after) => self.untold(&job.spec, trail, folder, Some(since), after, failure).await,
                    None => self.dead(job, trail, failure).await,
                }
            }
            Err(failure) => self.failed(job, trail, failure).await,
        }
    }

    /// The finalize call, unless it is known that it was accepted.
    async fn call_backend(&self, job: &Leased, sandbox: Option<&Sandbox>, folder: &str) -> Result<()> {
        if let Some(sandbox) = sandbox
            && sandbox.is_finalized(&job.id).await
        {
            tracing::info!("the backend knows already that the course is delivered");
            return Ok(());
        }
        let started = Instant::now();
        let call = async {
            let trace = traces::headers(job.spec.trace.as_ref());
            self.finalize.get().finalize(job.spec.task_id, folder, &job.id, trace).await
        };
        traces::within(traces::span!("finalize", "otel.kind" = "client"), call).await?;
        let took = started.elapsed();
        self.metrics.finalize_seconds.observe(took.as_secs_f64());
        self.queue.tell(job, Step::Finalized { seconds: seconds(took) });
        tracing::info!(seconds = took.as_secs_f64(), "the backend has accepted the finalize call");
        if let Some(sandbox) = sandbox
            && let Err(failure) = sandbox.note_finalized(&job.id).await
        {
            tracing::warn!(
                kind = failure.kind.name(),
                "should this instance die now, the finalize call comes twice: {failure}"
            );
        }
        Ok(())
    }

    /// Delivered, and the backend or the store is told later, outside any slot.
    pub(super) async fn untold(
        &self,
        spec: &JobSpec,
        trail: &Trail,
        folder: &str,
        since: Option<Timestamp>,
        after: Duration,
        failure: Failure,
    ) -> Outcome {
        self.metrics.job_failed(&failure);
        let kind = failure.kind.name();
        tracing::warn!(kind, folder, "delivered, but {failure}; told again in {} s", after.as_secs());
        let previous = trail.status.unwrap_or("enrolled");
        self.events.status(&trail.fence, spec.task_id, trail.order_id, "retrying", previous, &failure.message).await;
        Outcome::Untold { folder: folder.to_owned(), since, after, failure }
    }

    /// Through the gate, and alone with the task: whoever had to wait for another job of it looks
    /// at the gate again.
    async fn admit(&self, spec: &JobSpec) -> Result<(Enrolled, Sandbox)> {
        loop {
            let enrolled = traces::within(traces::span!("gate"), self.gate.admit(spec)).await?;
            if let Some(sandbox) = Sandbox::open(&self.staging, spec).await? {
                return Ok((enrolled, sandbox));
            }
            tracing::info!("the sandbox of this task is in use: waiting for the job that has it");
            Sandbox::wait(&self.staging, spec).await?;
        }
    }

    /// A worker that dies between the accepted finalize call and the settle leaves a task that is
    /// completed, which the gate does not know: its delivery tells it from a task that is completed
    /// for another reason.
    async fn completed_before(&self, spec: &JobSpec, refused: &Failure) -> Result<Option<Receipt>> {
        if refused.kind != FailureKind::UnexpectedStatus {
            return Ok(None);
        }
        if !self.store.read(spec.task_id).await?.is_some_and(|record| record.is_completed()) {
            return Ok(None);
        }
        match Sandbox::existing(&self.staging, spec).await? {
            Some(sandbox) => self.delivery.delivered(&sandbox).await,
            None => Ok(None),
        }
    }

    /// The course into the sandbox; downloaded by this job, or by another one that wants it now.
    async fn download(
        &self,
        job: &Leased,
        sandbox: &Sandbox,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Result<String> {
        let Some(sharing) = &self.sharing else {
            let CourseFolder { name: folder, files } = self.fetch(job, sandbox.path(), progress, cancel).await?;
            sandbox.keep_only(&folder, files).await?;
            return Ok(folder);
        };
        let nothing_to_download = |folder: &str| {
            progress.set_items(1);
            progress.finish_item();
            self.queue.tell(job, Step::Reused { folder: folder.into() });
        };
        if let Some(folder) = SharedDownloads::handed_over(sandbox).await {
            tracing::info!(folder, "DOWNLOAD finished by an earlier attempt");
            nothing_to_download(&folder);
            return Ok(folder);
        }
        let turn = sharing.turn(&job.spec.course_url).await?;
        let (turn, folder) = match turn.finished().await {
            Some(folder) => {
                tracing::info!(folder, "DOWNLOAD finished by another job that wanted this course");
                self.metrics.shared_downloads.inc();
                nothing_to_download(&folder);
                (turn, folder)
            }
            None => {
                let CourseFolder { name: folder, files } = self.fetch(job, turn.path(), progress, cancel).await?;
                (turn.finish(&folder, files).await?, folder)
            }
        };
        turn.hand_over(&folder, sandbox).await?;
        Ok(folder)
    }

    /// Downloads the course into a directory.
    async fn fetch(
        &self,
        job: &Leased,
        directory: &Path,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Result<CourseFolder> {
        let (url, started) = (&job.spec.course_url, Instant::now());
        tracing::info!(course_url = %crate::http::shown(url), "DOWNLOAD started");
        let cookies = self.cookies.for_job();
        let course = traces::within(traces::span!("resolve"), self.resolver.resolve(url, &cookies)).await?;
        let lectures: usize = course.sections.iter().map(|section| section.lectures.len()).sum();
        tracing::info!(course = course.title, lectures, "DOWNLOAD course resolved");
        let (title, took) = (course.title.as_str().into(), seconds(started.elapsed()));
        self.queue.tell(job, Step::Resolved { course: title, lectures: lectures as u64, seconds: took });
        let finished = |lecture: FinishedLecture<'_>| {
            let FinishedLecture { number, lectures, title, took } = lecture;
            self.tell_remarks(job, progress);
            if story::has_line(number, lectures) {
                let (title, seconds) = (title.into(), seconds(took));
                self.queue.tell(job, Step::Lecture { number, lectures, title, seconds });
            }
        };
        let request = CourseRequest { course: &course, url, cookies: &cookies, finished: &finished };
        let downloaded = self.courses.run(&request, directory, progress, cancel).await?;
        let (bytes, took) = (progress.snapshot().bytes_downloaded, started.elapsed());
        tracing::info!(folder = downloaded.name, bytes, seconds = took.as_secs_f64(), "DOWNLOAD finished");
        let folder = downloaded.name.as_str().into();
        self.queue.tell(job, Step::Downloaded { folder, bytes, seconds: seconds(took) });
        Ok(downloaded)
    }

    /// Tells the story what has been remarked: in one attempt so much, lest nothing else stays in it.
    fn tell_remarks(&self, job: &Leased, progress: &Progress) {
        let (before, remarks) = progress.take_remarks();
        for (number, remark) in remarks.into_iter().take(MOST_REMARKS.saturating_sub(before)) {
            self.queue.tell(job, Step::Remark { number, remark: remark.as_str().into() });
        }
    }

    /// The download has ended, well or not: remarks of the lecture that was under way, and how many had no line.
    fn tell_last_remarks(&self, job: &Leased, progress: &Progress) {
        self.tell_remarks(job, progress);
        let (all, _) = progress.take_remarks();
        if all > MOST_REMARKS {
            let remark = format!("{} remarks more so far: they are in the log", all - MOST_REMARKS);
            self.queue.tell(job, Step::Remark { number: progress.snapshot().lecture, remark: remark.as_str().into() });
        }
    }

    async fn deliver(
        &self,
        job: &Leased,
        sandbox: &Sandbox,
        folder: &str,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<Receipt> {
        let started = Instant::now();
        let delivering = self.delivery.deliver(sandbox, folder, job.spec.task_id, progress, cancel);
        let receipt = traces::within(traces::span!("delivery"), delivering).await.at(|| "delivery")?;
        let took = started.elapsed();
        self.metrics.delivery_seconds.observe(took.as_secs_f64());
        tracing::info!(folder = receipt.folder_name, seconds = took.as_secs_f64(), "delivered");
        let folder = receipt.folder_name.as_str().into();
        self.queue.tell(job, Step::Delivered { folder, seconds: seconds(took) });
        Ok(receipt)
    }

    /// The job had come to its end before, and whoever ran it died before everybody knew.
    async fn tell_again(&self, job: &Leased, trail: &mut Trail, verdict: &Verdict) -> Outcome {
        let spec = &job.spec;
        tracing::info!("this job had come to its end before: only telling it");
        let record = self.store.read(spec.task_id).await.ok().flatten();
        trail.order_id = record.and_then(|record| record.order_id);
        match verdict {
            Verdict::Delivered { folder, untold_since } => {
                if untold_since.is_some() {
                    trail.status = Some("retrying");
                    if let Err(lost) = self.queue.confirm(job).await {
                        return self.failed(job, trail, lost).await;
                    }
                }
                // On another host than that of the delivery there is none.
                let sandbox = Sandbox::existing(&self.staging, spec).await.ok().flatten();
                self.report_delivery(job, trail, sandbox.as_ref(), folder, *untold_since).await
            }
            Verdict::Failed { kind, message, at } => {
                let failure = Failure::new(FailureKind::named(kind).unwrap_or(FailureKind::Internal), message);
                self.metrics.job_failed(&failure);
                let kind = failure.kind.name();
                tracing::error!(kind, "task failed: {failure}; to do: {}", failure.kind.remedy());
                self.give_up(spec, job.attempt, trail, &failure, at.unwrap_or_else(Timestamp::now)).await;
                Outcome::Dead(failure)
            }
        }
    }

    async fn tell(&self, spec: &JobSpec, trail: &mut Trail, status: &'static str, message: &str) {
        let previous = trail.status.replace(status).unwrap_or("enrolled");
        self.events.status(&trail.fence, spec.task_id, trail.order_id, status, previous, message).await;
    }
}

/// Runs a step that may be stopped at any point.
async fn until<T>(cancel: &CancellationToken, step: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Failure::new(FailureKind::Interrupted, "the job was stopped")),
        result = step => result,
    }
}

#[cfg(test)]
mod tests;
