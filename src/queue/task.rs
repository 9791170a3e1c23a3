//! Where the elements of one task are.

use redis::{AsyncCommands, RedisError};

use super::recovery::{held_of, held_parts};
use super::{DeadEntry, DeadFilter, QueueView};
use crate::failure::Result;
use crate::job::{Element, JobSpec, TaskId};
use crate::redis_client;

/// Elements that one read fetches at most.
const PAGE: isize = 1000;
/// Elements of the list that are looked at; a list that is longer is looked at only so far from the
/// end where the next job is taken.
const MOST: isize = 200_000;

/// Every place that has an element of the task.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// In the producers' list, the next one first.
    pub waiting: Vec<Element>,
    /// The instance that runs it, or is about to.
    pub running: Option<String>,
    /// Members of the delayed set, with when they are due: Unix milliseconds.
    pub(super) delayed: Vec<(Vec<u8>, f64)>,
    /// Whether it is delivered, and the backend is to be told.
    pub untold: bool,
    /// Entries of the dead list, the newest first.
    pub dead: Vec<DeadEntry>,
}

impl Places {
    /// When the next attempt is due, of what waits for one.
    pub fn due(&self) -> Option<jiff::Timestamp> {
        let due = self.delayed.iter().map(|(_, due)| *due).min_by(f64::total_cmp)?;
        jiff::Timestamp::from_millisecond(due as i64).ok()
    }

    /// One word for it: `running`, `delayed`, `waiting`, `untold`, `dead`; `None` when it is nowhere.
    pub fn word(&self) -> Option<&'static str> {
        match () {
            () if self.running.is_some() => Some("running"),
            () if !self.delayed.is_empty() => Some("delayed"),
            () if !self.waiting.is_empty() => Some("waiting"),
            () if self.untold => Some("untold"),
            () if !self.dead.is_empty() => Some("dead"),
            () => None,
        }
    }

    /// Whether something of it will run, or ends by itself.
    pub fn will_run(&self) -> bool {
        self.running.is_some() || !self.delayed.is_empty() || !self.waiting.is_empty() || self.untold
    }
}

impl QueueView {
    /// Looks for the task everywhere. An element that moves meanwhile may be seen twice or not at all.
    ///
    /// # Errors
    /// `queue_unavailable`.
    pub async fn places_of_task(&self, task_id: TaskId) -> Result<Places> {
        let looked = self.look_everywhere(task_id).await;
        let mut places = looked.map_err(|error| redis_client::failure("looking for the task", &error))?;
        let of_task = DeadFilter { task_ids: vec![task_id], ..DeadFilter::default() };
        places.dead = self.dead_entries(&of_task, usize::MAX).await?;
        Ok(places)
    }

    async fn look_everywhere(&self, task_id: TaskId) -> Result<Places, RedisError> {
        let mut commands = self.commands.clone();
        let keys = &self.keys;
        let is_of_task = |element: &Element| JobSpec::task_id_of(element) == Some(task_id);
        let mut places = Places::default();
        for page in 0..MOST / PAGE {
            let last = -1 - page * PAGE;
            let elements: Vec<Vec<u8>> = commands.lrange(&keys.list, last - PAGE + 1, last).await?;
            let full = elements.len() == PAGE as usize;
            places.waiting.extend(elements.into_iter().rev().map(Element).filter(is_of_task));
            if !full {
                break;
            }
        }
        let task = task_id.to_string();
        let guard: Option<String> = commands.hget(&keys.guards, &task).await?;
        if let Some(guard) = guard
            && self.guard_holds(&task, &guard).await?
        {
            match guard.split_once('/') {
                // Members are looked at below: there may be more than the guard knows.
                Some(("delayed", _)) | None => {}
                Some(("untold", _)) => places.untold = true,
                Some((instance, _)) => places.running = Some(instance.to_owned()),
            }
        }
        let delayed: Vec<(Vec<u8>, f64)> = commands.zrange_withscores(&keys.delayed, 0, -1).await?;
        places.delayed = delayed.into_iter().filter(|(member, _)| is_of_task(&element_of(member))).collect();
        if places.running.is_none() {
            let instances: Vec<String> = commands.zrange(&keys.leases, 0, -1).await?;
            for instance in instances {
                let claimed: Vec<Vec<u8>> = commands.lrange(keys.claimed(&instance), 0, -1).await?;
                if claimed.into_iter().map(Element).any(|element| is_of_task(&element)) {
                    places.running = Some(instance);
                }
            }
        }
        Ok(places)
    }
}

/// The element of a member of the delayed set.
pub(super) fn element_of(member: &[u8]) -> Element {
    held_parts(held_of(member)).1
}
