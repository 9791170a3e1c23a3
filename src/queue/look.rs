//! One look at the whole queue for people: a few commands however long it is, and nothing of a customer.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use redis::{AsyncCommands, RedisError};
use serde::{Deserialize, Serialize};

use super::note::Note;
use super::record::{Event, Record};
use super::recovery::{held_of, held_parts};
use super::view::Totals;
use super::{Depths, Pause, QueueView};
use crate::failure::Result;
use crate::job::{Element, JobSpec, TaskId};
use crate::redis_client;

/// What is where, at one moment.
#[derive(Debug)]
pub struct Look {
    pub depths: Depths,
    /// Since the beginning.
    pub counts: BTreeMap<String, i64>,
    /// When the element that is taken next was pushed, if its producer says so.
    pub oldest_waiting: Option<Timestamp>,
    pub pauses: Vec<Pause>,
    /// In the order of their identities.
    pub instances: Vec<InstanceLook>,
    /// The task that was done last, and until when a second element of it is set aside; nothing when none
    /// was done within that time.
    pub last_done: Option<(TaskId, Timestamp)>,
}

/// An instance that has a lease.
#[derive(Debug)]
pub struct InstanceLook {
    /// [`Queue::instance`](super::Queue::instance).
    pub identity: String,
    /// Until its lease runs out; negative when it has.
    pub lease_seconds: f64,
    pub about: InstanceFacts,
    pub running: Vec<RunningLook>,
}

/// What an instance says of itself when it registers.
#[derive(Debug, Default, Deserialize)]
pub struct InstanceFacts {
    /// What pauses call it: `<host>-<worker.instance>`.
    #[serde(default)]
    pub name: String,
    pub started_at: Option<Timestamp>,
    #[serde(default)]
    pub version: String,
}

/// A job that an instance runs.
#[derive(Debug)]
pub struct RunningLook {
    pub task_id: Option<TaskId>,
    /// Without credentials and query.
    pub course_url: Option<String>,
    /// What its instance has said of this attempt; nothing before the download.
    pub note: Option<Note>,
}

/// An element that waits for its next attempt.
#[derive(Debug, Clone, Serialize)]
pub struct RetryLook {
    pub task_id: Option<TaskId>,
    pub due_at: Option<Timestamp>,
    /// What happened to it last.
    pub last: Option<Event>,
}

impl QueueView {
    /// Looks at everything, in four round trips.
    ///
    /// # Errors
    /// `queue_unavailable`.
    pub async fn look(&self) -> Result<Look> {
        let looked = self.look_at_all().await;
        looked.map_err(|error| redis_client::failure("looking at the queue", &error))
    }

    async fn look_at_all(&self) -> Result<Look, RedisError> {
        let keys = &self.keys;
        let mut commands = self.commands.clone();
        let mut pipe = redis::pipe();
        pipe.zrange_withscores(&keys.leases, 0, -1).hgetall(&keys.instances).hgetall(&keys.paused);
        pipe.lindex(&keys.list, -1).cmd("ZREVRANGE").arg(&keys.recent).arg(0).arg(0).arg("WITHSCORES");
        type Answer =
            (Vec<(String, f64)>, HashMap<String, String>, Vec<(String, String)>, Option<Vec<u8>>, Vec<(u64, f64)>);
        let (leases, facts, pauses, oldest, recent): Answer = pipe.query_async(&mut commands).await?;
        let now = self.server_time().await?;
        let Totals { depths, counts, .. } = self.totals(redis::pipe()).await?;
        let running = self.running_of(&leases).await?;
        let instances = leases.into_iter().zip(running).map(|((identity, expiry), running)| InstanceLook {
            lease_seconds: (expiry - now) / 1000.0,
            about: facts.get(&identity).and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default(),
            identity,
            running,
        });
        Ok(Look {
            depths,
            counts,
            oldest_waiting: oldest.and_then(|element| Element(element).enqueued_at()),
            pauses: pauses.into_iter().map(|(instance, note)| Pause { instance, note }).collect(),
            instances: instances.collect(),
            last_done: recent.first().and_then(|(task, until)| Some((TaskId::new(*task)?, at(*until)?))),
        })
    }

    /// The jobs of each instance, with what is noted of them.
    async fn running_of(&self, leases: &[(String, f64)]) -> Result<Vec<Vec<RunningLook>>, RedisError> {
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        for (instance, _) in leases {
            pipe.hgetall(self.keys.running(instance));
        }
        let held: Vec<BTreeMap<u64, Vec<u8>>> = pipe.query_async(&mut self.commands.clone()).await?;
        let notes = self.notes_of(held.iter().flat_map(BTreeMap::values).filter_map(|held| task_of(held))).await?;
        let look = |instance: &str, claim: u64, held: &[u8]| {
            let (task_id, holder) = (task_of(held), format!("{instance}/{claim}"));
            let note = task_id.and_then(|task| notes.get(&task)).filter(|note| note.holder == holder);
            RunningLook { task_id, course_url: course_url(&held_parts(held).1), note: note.cloned() }
        };
        let running = leases.iter().zip(&held).map(|((instance, _), jobs)| {
            let looks = jobs.iter().map(|(claim, held)| look(instance, *claim, held));
            looks.collect()
        });
        Ok(running.collect())
    }

    async fn notes_of(&self, tasks: impl Iterator<Item = TaskId>) -> Result<HashMap<TaskId, Note>, RedisError> {
        let tasks: Vec<TaskId> = tasks.collect();
        if tasks.is_empty() {
            return Ok(HashMap::new());
        }
        let keys: Vec<String> = tasks.iter().map(|task| self.keys.progress(*task)).collect();
        let notes: Vec<Option<Vec<u8>>> = self.commands.clone().mget(keys).await?;
        let read = |note: Option<Vec<u8>>| serde_json::from_slice(&note?).ok();
        Ok(tasks.into_iter().zip(notes).filter_map(|(task, note)| Some((task, read(note)?))).collect())
    }

    /// The elements whose next attempt is due last, at most `limit`, with what happened to them: they are, as a
    /// rule, those that failed last.
    ///
    /// # Errors
    /// `queue_unavailable`.
    pub async fn retries(&self, limit: usize) -> Result<Vec<RetryLook>> {
        let looked = self.look_at_retries(limit).await;
        looked.map_err(|error| redis_client::failure("looking at the retries", &error))
    }

    async fn look_at_retries(&self, limit: usize) -> Result<Vec<RetryLook>, RedisError> {
        let mut commands = self.commands.clone();
        let last = isize::try_from(limit).unwrap_or(isize::MAX) - 1;
        let delayed: Vec<(Vec<u8>, f64)> = commands.zrevrange_withscores(&self.keys.delayed, 0, last).await?;
        if delayed.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<&[u8]> = delayed.iter().map(|(member, _)| held_parts(held_of(member)).0).collect();
        let records: Vec<Option<Vec<u8>>> =
            redis::cmd("HMGET").arg(&self.keys.records).arg(ids).query_async(&mut commands).await?;
        let looks = delayed.iter().zip(records).map(|((member, due), record)| RetryLook {
            task_id: JobSpec::task_id_of(&held_parts(held_of(member)).1),
            due_at: at(*due),
            last: Record::parse(&record.unwrap_or_default()).history.pop(),
        });
        Ok(looks.collect())
    }
}

/// Between the id and the element: the task may be known where the element does not tell it.
fn task_of(held: &[u8]) -> Option<TaskId> {
    let task = held.split(|byte| *byte == b':').nth(1)?;
    std::str::from_utf8(task).ok()?.parse().ok().and_then(TaskId::new)
}

pub(super) fn course_url(element: &Element) -> Option<String> {
    JobSpec::parse(element).ok().map(|spec| crate::http::shown(&spec.course_url))
}

/// Milliseconds of the server's clock.
fn at(milliseconds: f64) -> Option<Timestamp> {
    Timestamp::from_millisecond(milliseconds as i64).ok()
}
