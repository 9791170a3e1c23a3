//! Writing the stories of tasks, behind the back of the jobs: a line may be lost while Redis is away, a job
//! never waits for one.

use std::time::Duration;

use jiff::Timestamp;
use redis::RedisError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::story::{Line, Step};
use super::{Leased, Queue, QueueView};
use crate::job::TaskId;

/// How long a story is kept after its last line.
const KEPT: Duration = Duration::from_secs(30 * 86_400);
/// Lines kept of one task; the oldest go first.
const MOST_LINES: usize = 256;
/// Tasks whose stories are kept; those that nothing has happened to for longest go first.
const MOST_STORIES: usize = 10_000;

/// How long lines are gathered before they are written together.
const GATHER: Duration = Duration::from_secs(1);
/// How long the end of an instance waits for the last lines.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);
/// Lines that wait to be written while Redis is away.
const MOST_PENDING: usize = 2_000;

/// What the writer is sent.
enum Sent {
    Line(TaskId, Line),
    /// Write what is there, then answer.
    Flush(oneshot::Sender<()>),
}

/// Where lines go; the writer behind it ends when nobody has one any more.
pub(super) struct Stories(mpsc::Sender<Sent>);

impl Stories {
    /// Writes to the queue that `view` looks at.
    pub(super) fn new(view: QueueView) -> Stories {
        let (sender, receiver) = mpsc::channel(MOST_PENDING);
        tokio::spawn(write_on(view, receiver));
        Stories(sender)
    }

    fn tell(&self, task_id: TaskId, line: Line) {
        if self.0.try_send(Sent::Line(task_id, line)).is_err() {
            tracing::debug!(task_id = task_id.get(), "a line of the task's story is lost: too many wait for Redis");
        }
    }

    async fn flush(&self) {
        let (done, written) = oneshot::channel();
        let flushed = async {
            if self.0.send(Sent::Flush(done)).await.is_ok() {
                // An error means that the writer is gone, and with it what it had.
                let _ = written.await;
            }
        };
        // No end waits longer for it.
        let _ = tokio::time::timeout(FLUSH_LIMIT, flushed).await;
    }
}

impl Queue {
    /// Writes what has been told until now, if Redis takes it.
    pub async fn flush_stories(&self) {
        self.shared.stories.flush().await;
    }

    /// Adds to the story of a job's task, now.
    pub fn tell(&self, job: &Leased, step: Step) {
        self.tell_at(Timestamp::now(), job, step);
    }

    /// Adds to the story of a job's task what happened then.
    pub fn tell_at(&self, at: Timestamp, job: &Leased, step: Step) {
        let line = Line { at, instance: job.instance().to_owned(), attempt: job.attempt, step };
        self.shared.stories.tell(job.spec.task_id, line);
    }

    /// Adds to the story of a task that this instance does not run what happened then.
    pub fn tell_of(&self, at: Timestamp, task_id: TaskId, attempt: u32, step: Step) {
        let line = Line { at, instance: self.instance(), attempt, step };
        self.shared.stories.tell(task_id, line);
    }
}

/// Gathers lines and writes them, until there is nobody to tell any.
async fn write_on(view: QueueView, mut sent: mpsc::Receiver<Sent>) {
    let mut pending: Vec<(TaskId, Line)> = Vec::new();
    let mut open = true;
    while open {
        let mut flushes = Vec::new();
        // Since the first line, or since Redis did not take the last ones.
        let mut since = (!pending.is_empty()).then(Instant::now);
        while open && flushes.is_empty() {
            let due = since.unwrap_or_else(Instant::now) + GATHER;
            let received = tokio::select! {
                biased;
                () = sleep_until(due), if since.is_some() => break,
                received = sent.recv() => received,
            };
            match received {
                Some(Sent::Line(task_id, line)) => {
                    since.get_or_insert_with(Instant::now);
                    pending.push((task_id, line));
                }
                Some(Sent::Flush(done)) => flushes.push(done),
                None => open = false,
            }
        }
        if let Err(error) = write(&view, &mut pending).await {
            // Whether Redis is there is logged by those who need it.
            tracing::debug!(%error, lines = pending.len(), "the stories of tasks wait for Redis");
            let surplus = pending.len().saturating_sub(MOST_PENDING);
            pending.drain(..surplus);
        }
        for done in flushes {
            // Whoever asked may have given up waiting.
            let _ = done.send(());
        }
    }
}

/// Writes what is pending, task by task. What Redis has taken is pending no more; one story that it does not
/// take keeps no other one waiting.
async fn write(view: &QueueView, pending: &mut Vec<(TaskId, Line)>) -> Result<(), RedisError> {
    let mut tasks: Vec<TaskId> = Vec::new();
    for (task_id, _) in &*pending {
        if !tasks.contains(task_id) {
            tasks.push(*task_id);
        }
    }
    let mut written = Ok(());
    for task_id in tasks {
        let lines: Vec<&Line> = pending.iter().filter(|(of, _)| *of == task_id).map(|(_, line)| line).collect();
        match view.add_to_story(task_id, &lines).await {
            Ok(()) => pending.retain(|(of, _)| *of != task_id),
            // A server that does not answer this one will not answer the next one either.
            Err(error) if error.is_io_error() || error.is_timeout() => return Err(error),
            Err(error) => written = Err(error),
        }
    }
    written
}

impl QueueView {
    async fn add_to_story(&self, task_id: TaskId, lines: &[&Line]) -> Result<(), RedisError> {
        let keys = &self.keys;
        let mut call = self.scripts.story.key(&keys.stories);
        call.key(keys.story(task_id));
        call.arg(task_id.get()).arg(MOST_LINES).arg(KEPT.as_secs()).arg(MOST_STORIES);
        for line in lines {
            // cannot fail: strings, numbers and timestamps only
            call.arg(serde_json::to_string(line).unwrap_or_default());
        }
        let surplus: Vec<u64> = call.invoke_async(&mut self.commands.clone()).await?;
        if !surplus.is_empty() {
            let mut delete = redis::pipe();
            for task_id in surplus.into_iter().filter_map(TaskId::new) {
                delete.cmd("UNLINK").arg(keys.story(task_id)).ignore();
            }
            delete.query_async::<()>(&mut self.commands.clone()).await?;
        }
        Ok(())
    }
}
