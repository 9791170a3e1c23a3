//! The whole of it for a person: what waits, what runs and how far it is, what has failed and what to do
//! about it. The page of the admin port and the command line show the same. Read from Redis alone, and without
//! a customer's address.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::config::QueueSettings;
use crate::failure::{FailureKind, Result};
use crate::job::TaskId;
use crate::queue::{
    DeadEntry, DeadFilter, Depths, EVERYBODY, InstanceLook, Look, Pause, QueueView, RetryLook, RunningLook,
};
use crate::redis_client::Commands;

/// Failures and entries of the dead list that are shown, the newest.
const SHOWN: usize = 50;

/// A job that has not moved for so long stands still: its last speed is not that of now.
const STANDSTILL: SignedDuration = SignedDuration::from_secs(10);

/// Everything that is shown.
#[derive(Debug, Clone, Serialize)]
pub struct Overview {
    /// When it was looked at.
    pub at: Timestamp,
    /// `queue.list`
    pub list: String,
    pub depths: Depths,
    /// How long the element that is taken next has waited; nothing when its producer does not say when it
    /// was pushed.
    pub oldest_waiting_seconds: Option<u64>,
    /// Elements since the beginning, by what became of them: `done`, `retry`, `dead` …
    pub counts: BTreeMap<String, i64>,
    /// The task that was done last, within the last `queue.dedupe_seconds`.
    pub last_done: Option<LastDone>,
    /// Why nobody starts anything.
    pub pause: Option<PauseNote>,
    pub instances: Vec<InstanceState>,
    /// Of all instances.
    pub running: Vec<RunningTask>,
    /// The newest first: what was given up, and what waits for another attempt.
    pub failures: Vec<RecentFailure>,
    /// The newest entries of the dead list, the newest first.
    pub dead: Vec<DeadTask>,
}

/// The job that ended well last.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LastDone {
    pub task_id: TaskId,
    pub at: Timestamp,
}

/// Why nothing is started.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PauseNote {
    pub since: Option<Timestamp>,
    pub reason: String,
}

/// An instance with a lease.
#[derive(Debug, Clone, Serialize)]
pub struct InstanceState {
    /// `<host>-<worker.instance>`, as `hauld pause --instance` takes it.
    pub name: String,
    /// Its identity: a new one after each start.
    pub identity: String,
    pub version: String,
    pub started_at: Option<Timestamp>,
    /// Until its lease runs out, if it does not renew it; below 0 when the others are about to take its jobs.
    pub lease_seconds: i64,
    /// Jobs that it runs.
    pub running: usize,
    /// Its own pause, beside that of everybody.
    pub pause: Option<PauseNote>,
}

/// A job that runs.
#[derive(Debug, Clone, Serialize)]
pub struct RunningTask {
    pub task_id: Option<TaskId>,
    /// The instance's name.
    pub instance: String,
    /// Its title where it is known, else its URL without credentials and query.
    pub course: Option<String>,
    /// What it does: `starting` (the enrollment is looked up, nothing is downloaded yet), `downloading`,
    /// `delivering`.
    pub status: &'static str,
    /// The number of the attempt, from 1; not known while it is starting, like everything below.
    pub attempt: Option<u32>,
    /// When the attempt began.
    pub since: Option<Timestamp>,
    /// Of the whole way, 0 to 100.
    pub percent: Option<f64>,
    /// The number of the lecture that is on its way, from 1.
    pub lecture: Option<u64>,
    /// Lectures of the course.
    pub lectures: Option<u64>,
    /// Name of the file that is on its way.
    pub file: Option<String>,
    /// Of that file, 0 to 100.
    pub file_percent: Option<f64>,
    /// Bytes received.
    pub bytes: Option<u64>,
    /// Bytes that will have been received.
    pub total_bytes: Option<u64>,
    /// Bytes per second; 0 when it has stood still for a while.
    pub speed: Option<u64>,
    /// Since when it stands still, when that is a while.
    pub still_since: Option<Timestamp>,
    pub remaining_seconds: Option<u64>,
}

/// Something that went wrong.
#[derive(Debug, Clone, Serialize)]
pub struct RecentFailure {
    pub at: Timestamp,
    pub task_id: Option<TaskId>,
    /// [`FailureKind::name`]
    pub kind: String,
    pub message: String,
    /// [`FailureKind::meaning`]
    pub meaning: Option<&'static str>,
    /// What to do about it: [`FailureKind::remedy`].
    pub remedy: Option<&'static str>,
    /// When the next attempt is due; nothing when it is given up.
    pub retry_at: Option<Timestamp>,
}

/// An entry of the dead list.
#[derive(Debug, Clone, Serialize)]
pub struct DeadTask {
    /// What `hauld dead` calls it.
    pub id: String,
    pub task_id: Option<TaskId>,
    /// Without credentials and query.
    pub course_url: Option<String>,
    /// [`FailureKind::name`]
    pub kind: String,
    pub message: String,
    /// [`FailureKind::meaning`]
    pub meaning: Option<&'static str>,
    /// What to do about it: [`FailureKind::remedy`].
    pub remedy: Option<&'static str>,
    /// Attempts that were made.
    pub attempts: u32,
    pub failed_at: Timestamp,
}

/// Whoever looks again and again.
pub struct Overviews {
    view: QueueView,
    list: String,
    dedupe: Duration,
    /// The lists of the last look, which are large and seldom change.
    remembered: Mutex<Option<Remembered>>,
}

/// Lists, and what changes whenever they do.
#[derive(Clone)]
struct Remembered {
    depths: Depths,
    counts: BTreeMap<String, i64>,
    failures: Vec<RecentFailure>,
    dead: Vec<DeadTask>,
}

impl Overviews {
    /// Of the queue that these settings name.
    pub fn new(commands: Commands, settings: &QueueSettings) -> Overviews {
        Overviews {
            view: QueueView::new(commands, &settings.list),
            list: settings.list.clone(),
            dedupe: settings.dedupe,
            remembered: Mutex::default(),
        }
    }

    /// Looks at everything: some twenty commands in a few round trips, however long the queue is.
    ///
    /// # Errors
    /// `queue_unavailable`.
    pub async fn look(&self) -> Result<Overview> {
        let look = self.view.look().await?;
        let Remembered { failures, dead, .. } = self.lists(&look).await?;
        Ok(self.overview(look, failures, dead))
    }

    /// The lists, read again when something has gone in or out.
    async fn lists(&self, look: &Look) -> Result<Remembered> {
        let known = self.remembered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // What waits and what runs changes with every job, and these lists do not.
        let depths = Depths { waiting: 0, running: 0, ..look.depths };
        if let Some(known) = known.filter(|known| known.depths == depths && known.counts == look.counts) {
            return Ok(known);
        }
        let entries = self.view.dead_entries(&DeadFilter::default(), SHOWN).await?;
        let retries = self.view.retries(SHOWN).await?;
        let dead: Vec<DeadTask> = entries.into_iter().map(dead_task).collect();
        let mut failures: Vec<RecentFailure> = retries.into_iter().filter_map(waiting_failure).collect();
        failures.extend(dead.iter().map(final_failure));
        failures.sort_by_key(|failure| std::cmp::Reverse(failure.at));
        failures.truncate(SHOWN);
        let lists = Remembered { depths, counts: look.counts.clone(), failures, dead };
        *self.remembered.lock().unwrap_or_else(PoisonError::into_inner) = Some(lists.clone());
        Ok(lists)
    }

    fn overview(&self, look: Look, failures: Vec<RecentFailure>, dead: Vec<DeadTask>) -> Overview {
        let at = Timestamp::now();
        let pause_of = |name: &str| look.pauses.iter().find(|pause| pause.instance == name).map(pause_note);
        let since = |then: Timestamp| u64::try_from(at.duration_since(then).as_secs()).unwrap_or(0);
        let done_at = |until: Timestamp| until.checked_sub(self.dedupe).ok();
        let mut running: Vec<RunningTask> = look
            .instances
            .iter()
            .flat_map(|instance| instance.running.iter().map(|job| running_task(name_of(instance), job, at)))
            .collect();
        running.sort_by_key(|task| (task.since.is_none(), task.since, task.task_id));
        let instances = look.instances.iter().map(|instance| InstanceState {
            name: name_of(instance).to_owned(),
            identity: instance.identity.clone(),
            version: instance.about.version.clone(),
            started_at: instance.about.started_at,
            lease_seconds: instance.lease_seconds as i64,
            running: instance.running.len(),
            pause: pause_of(name_of(instance)),
        });
        let mut instances: Vec<InstanceState> = instances.collect();
        instances.sort_by(|one, other| one.name.cmp(&other.name));
        Overview {
            at,
            list: self.list.clone(),
            depths: look.depths,
            oldest_waiting_seconds: look.oldest_waiting.map(since),
            last_done: look.last_done.and_then(|(task_id, until)| Some(LastDone { task_id, at: done_at(until)? })),
            pause: pause_of(EVERYBODY),
            counts: look.counts,
            instances,
            running,
            failures,
            dead,
        }
    }
}

fn name_of(instance: &InstanceLook) -> &str {
    if instance.about.name.is_empty() { &instance.identity } else { &instance.about.name }
}

fn pause_note(pause: &Pause) -> PauseNote {
    let note: serde_json::Value = serde_json::from_str(&pause.note).unwrap_or_default();
    let text = |name: &str| note.get(name).and_then(serde_json::Value::as_str);
    PauseNote {
        since: text("since").and_then(|since| since.parse().ok()),
        // One that was left by hand is shown as it is.
        reason: text("reason").unwrap_or(&pause.note).to_owned(),
    }
}

fn running_task(instance: &str, job: &RunningLook, now: Timestamp) -> RunningTask {
    let (note, instance) = (job.note.as_ref(), instance.to_owned());
    let progress = note.map(|note| &note.progress);
    let still_since = note.map(|note| note.at).filter(|at| now.duration_since(*at) > STANDSTILL);
    let title = progress.map(|progress| progress.course.clone()).filter(|title| !title.is_empty());
    RunningTask {
        task_id: job.task_id,
        instance,
        course: title.or_else(|| job.course_url.clone()),
        status: match progress {
            None => "starting",
            Some(progress) if progress.delivering => "delivering",
            Some(_) => "downloading",
        },
        attempt: note.map(|note| note.attempt),
        since: note.map(|note| note.started),
        percent: progress.map(|progress| progress.percent),
        lecture: progress.map(|progress| progress.lecture).filter(|lecture| *lecture > 0),
        lectures: progress.map(|progress| progress.lectures).filter(|lectures| *lectures > 0),
        file: progress.map(|progress| progress.file.clone()).filter(|file| !file.is_empty()),
        file_percent: progress.map(|progress| progress.file_percent),
        bytes: progress.map(|progress| progress.bytes),
        total_bytes: progress.and_then(|progress| progress.total_bytes),
        speed: if still_since.is_some() { Some(0) } else { progress.and_then(|progress| progress.speed) },
        remaining_seconds: progress.and_then(|progress| progress.remaining_seconds).filter(|_| still_since.is_none()),
        still_since,
    }
}

fn waiting_failure(retry: RetryLook) -> Option<RecentFailure> {
    let last = retry.last?;
    let known = FailureKind::named(&last.kind);
    Some(RecentFailure {
        at: last.at,
        task_id: retry.task_id,
        meaning: known.map(FailureKind::meaning),
        remedy: known.map(FailureKind::remedy),
        kind: last.kind,
        message: last.message,
        retry_at: retry.due_at,
    })
}

fn final_failure(dead: &DeadTask) -> RecentFailure {
    RecentFailure {
        at: dead.failed_at,
        task_id: dead.task_id,
        kind: dead.kind.clone(),
        message: dead.message.clone(),
        meaning: dead.meaning,
        remedy: dead.remedy,
        retry_at: None,
    }
}

fn dead_task(entry: DeadEntry) -> DeadTask {
    let envelope = entry.envelope;
    let known = FailureKind::named(&envelope.kind);
    DeadTask {
        id: entry.id,
        task_id: envelope.task_id,
        course_url: envelope.course_url(),
        meaning: known.map(FailureKind::meaning),
        remedy: known.map(FailureKind::remedy),
        kind: envelope.kind,
        message: envelope.message,
        attempts: envelope.attempts,
        failed_at: envelope.failed_at,
    }
}
