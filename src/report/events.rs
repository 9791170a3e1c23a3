//! Progress and status events over Redis Pub/Sub, as the backend's pages listen to them: never durable, never in the way.
//!
//! Whatever goes wrong here is passed over; one debug line says when events stop arriving.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use redis::{AsyncCommands, RedisError};
use serde::Serialize;
use serde_json::Number;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::Instrument;

use crate::job::TaskId;
use crate::progress::{Progress, Snapshot};
use crate::queue::{Fence, JobProgress};
use crate::redis_client::Commands;

/// Longest wait for one publish.
const PUBLISH_TIMEOUT: Duration = Duration::from_millis(500);
/// At most four progress events a second: three, and the last one, which does not wait. A tick may be
/// some milliseconds late, and the next one is not.
const INTERVAL: Duration = Duration::from_millis(345);
/// What is shown at most before the course is delivered.
const ALMOST: f64 = 99.99;
/// The speed is that of the last seconds.
const SPEED_WINDOW: Duration = Duration::from_secs(5);
/// How long the last progress can be read after the event.
const PROGRESS_TTL_SECONDS: u64 = 3600;

/// Publishes events. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    connection: Commands,
    failing: Arc<AtomicBool>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusEvent<'a> {
    task_id: TaskId,
    order_id: Option<u64>,
    new_status: &'a str,
    previous_status: &'a str,
    message: &'a str,
    /// Unix milliseconds.
    timestamp: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProgressEvent<'a> {
    task_id: TaskId,
    order_id: Option<u64>,
    percent: Option<Number>,
    current_file: Option<&'a str>,
    /// Bytes per second.
    speed: Option<u64>,
    eta: Option<String>,
    bytes_downloaded: u64,
    /// Known from the last file on, when that declares its size.
    total_bytes: Option<u64>,
    /// Unix milliseconds.
    timestamp: i64,
}

impl Events {
    /// Publishes over `connection`.
    pub fn new(connection: Commands) -> Events {
        Events { connection, failing: Arc::default() }
    }

    /// Tells that the task goes from status `previous` to `new`, unless the job is not `fence`'s any
    /// more. Returns within half a second whether anybody heard it or not.
    pub async fn status(
        &self,
        fence: &Fence,
        task_id: TaskId,
        order_id: Option<u64>,
        new: &str,
        previous: &str,
        message: &str,
    ) {
        let event = StatusEvent {
            task_id,
            order_id,
            new_status: new,
            previous_status: previous,
            message,
            timestamp: now_milliseconds(),
        };
        if let Ok(json) = serde_json::to_string(&event) {
            let (mut connection, channels) = (self.connection.clone(), channels("status", task_id, order_id));
            let sending = async { fence.publish(&mut connection, &channels, &json).await.map(drop) };
            self.send(sending).await;
        }
    }

    /// Publishes the progress of a job, as it is now and then at most four times a second when it has
    /// changed, until the guard is finished or dropped.
    pub fn watch_progress(
        &self,
        fence: Fence,
        task_id: TaskId,
        order_id: Option<u64>,
        progress: Arc<Progress>,
    ) -> ProgressWatch {
        let (finish, finished) = oneshot::channel();
        let first = progress.snapshot();
        let publisher = Publisher { events: self.clone(), fence, task_id, order_id, progress, pace: Pace::default() };
        let task = tokio::spawn(publisher.run(first, finished).in_current_span());
        ProgressWatch { finish: Some(finish), task }
    }

    async fn send(&self, sending: impl Future<Output = Result<(), RedisError>>) {
        let sent = tokio::time::timeout(PUBLISH_TIMEOUT, sending).await;
        let error = match sent {
            Ok(Ok(())) => return self.failing.store(false, Relaxed),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        if !self.failing.swap(true, Relaxed) {
            tracing::debug!(%error, "events are not published; nothing else is affected");
        }
    }
}

/// The task's channel and, where the order is known, the order's.
fn channels(topic: &str, task_id: TaskId, order_id: Option<u64>) -> Vec<String> {
    let order = order_id.map(|order_id| format!("order:{order_id}:{topic}"));
    std::iter::once(format!("task:{task_id}:{topic}")).chain(order).collect()
}

/// Publishes the progress of one job as long as it lives.
#[must_use = "progress is published until the guard is dropped"]
pub struct ProgressWatch {
    finish: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl ProgressWatch {
    /// The course is delivered: publishes that, as 100 percent, and stops. Returns within about a
    /// second.
    pub async fn finish(mut self) {
        if let Some(finish) = self.finish.take() {
            let _ = finish.send(());
            // It can only have panicked, which the panic hook has logged.
            let _ = (&mut self.task).await;
        }
    }
}

/// Publishes one job's progress; owned by its task.
struct Publisher {
    events: Events,
    fence: Fence,
    task_id: TaskId,
    order_id: Option<u64>,
    progress: Arc<Progress>,
    pace: Pace,
}

impl Publisher {
    /// Ends when the guard says so; a guard that is dropped says it by closing the channel.
    async fn run(mut self, first: Snapshot, mut finished: oneshot::Receiver<()>) {
        let mut ticks = tokio::time::interval_at(Instant::now() + INTERVAL, INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.publish(&first).await;
        let mut published = first;
        loop {
            tokio::select! {
                biased;
                end = &mut finished => {
                    if end.is_ok() {
                        self.publish(&Snapshot { percent: 100.0, ..self.progress.snapshot() }).await;
                    }
                    return;
                }
                _ = ticks.tick() => {
                    let snapshot = self.progress.snapshot();
                    let snapshot = Snapshot { percent: snapshot.percent.min(ALMOST), ..snapshot };
                    if published != snapshot {
                        self.publish(&snapshot).await;
                        published = snapshot;
                    }
                }
            }
        }
    }

    async fn publish(&mut self, snapshot: &Snapshot) {
        let estimate = self.pace.look(Instant::now(), snapshot);
        let event = ProgressEvent {
            task_id: self.task_id,
            order_id: self.order_id,
            percent: rounded(snapshot.percent),
            current_file: Some(snapshot.current_file.as_str()).filter(|name| !name.is_empty()),
            speed: estimate.speed,
            eta: estimate.remaining.and_then(clock),
            bytes_downloaded: snapshot.bytes_downloaded,
            total_bytes: snapshot.total_bytes,
            timestamp: now_milliseconds(),
        };
        let Ok(json) = serde_json::to_string(&event) else { return };
        let mut connection = self.events.connection.clone();
        let channels = channels("progress", self.task_id, self.order_id);
        let sending = async {
            // The key may be in another Cluster slot than the lease.
            if self.fence.publish_progress(&mut connection, &channels, &json, note(snapshot, &estimate)).await? {
                let key = format!("progress:task:{}", self.task_id);
                connection.set_ex::<_, _, ()>(key, &json, PROGRESS_TTL_SECONDS).await?;
            }
            Ok(())
        };
        self.events.send(sending).await;
    }
}

/// What an operator sees of it.
fn note(snapshot: &Snapshot, estimate: &Estimate) -> JobProgress {
    JobProgress {
        delivering: snapshot.delivering,
        course: snapshot.course.clone(),
        percent: snapshot.percent,
        lecture: snapshot.lecture,
        lectures: snapshot.lectures,
        file: snapshot.current_file.clone(),
        file_percent: snapshot.file_percent,
        bytes: snapshot.bytes_downloaded,
        total_bytes: snapshot.total_bytes,
        speed: estimate.speed,
        remaining_seconds: estimate.remaining.map(|remaining| remaining.as_secs()),
    }
}

/// How fast a job goes, from looks at its progress.
#[derive(Default)]
struct Pace {
    /// Bytes at each look of the last seconds.
    recent: VecDeque<(Instant, u64)>,
    /// When the percentage first grew, and to what: files of an earlier attempt are no work.
    begin: Option<(Instant, f64)>,
}

#[derive(Debug, PartialEq)]
struct Estimate {
    speed: Option<u64>,
    remaining: Option<Duration>,
}

impl Pace {
    fn look(&mut self, now: Instant, snapshot: &Snapshot) -> Estimate {
        // One look beyond the window stays, so that the window is covered.
        self.recent.push_back((now, snapshot.bytes_moved));
        while self.recent.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= SPEED_WINDOW) {
            self.recent.pop_front();
        }
        let speed = self.recent.front().and_then(|(at, bytes)| {
            let seconds = now.duration_since(*at).as_secs_f64();
            (seconds > 0.0).then(|| (snapshot.bytes_moved.saturating_sub(*bytes) as f64 / seconds) as u64)
        });
        Estimate { speed, remaining: self.remaining(now, snapshot.percent) }
    }

    /// As if the rest went as fast as what was done so far.
    fn remaining(&mut self, now: Instant, percent: f64) -> Option<Duration> {
        if percent == 0.0 {
            return None;
        }
        let (begin, first) = *self.begin.get_or_insert((now, percent));
        let elapsed = now.duration_since(begin).as_secs_f64();
        if percent >= 100.0 {
            return Some(Duration::ZERO);
        }
        let rate = (percent - first) / elapsed;
        (elapsed > 0.0 && rate > 0.0).then(|| Duration::try_from_secs_f64((100.0 - percent) / rate).ok())?
    }
}

/// Two decimals; a whole number without any, as JavaScript writes it.
fn rounded(percent: f64) -> Option<Number> {
    let rounded = (percent * 100.0).round() / 100.0;
    if rounded.fract() == 0.0 { Some(Number::from(rounded as u64)) } else { Number::from_f64(rounded) }
}

/// `HH:MM:SS`; `None` for what does not fit, which is not worth waiting for either.
fn clock(duration: Duration) -> Option<String> {
    let seconds = duration.as_secs_f64().ceil() as u64;
    (seconds < 100 * 3600).then(|| format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60))
}

fn now_milliseconds() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
