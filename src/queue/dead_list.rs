//! What is done with the dead list: looking, bringing back, throwing away.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use redis::{AsyncCommands, RedisError};
use sha2::{Digest, Sha256};
use tracing::warn;

use super::record::Record;
use super::{DeadEnvelope, Queue, QueueView};
use crate::failure::{Failure, FailureKind, Result};
use crate::job::TaskId;
use crate::redis_client;

/// Entries that one read fetches at most.
const PAGE: usize = 500;
/// Entries that one sweep throws away at most: the rest goes with the next.
const PURGED_AT_ONCE: usize = 200;
/// Hex digits of an entry's id.
const ID_DIGITS: usize = 12;

/// One entry, as it stands on the list.
#[derive(Debug, Clone)]
pub struct DeadEntry {
    /// The first 12 hex digits of the entry's SHA-256: what commands call it.
    pub id: String,
    /// What it says.
    pub envelope: DeadEnvelope,
    raw: Arc<Vec<u8>>,
}

/// Which entries are meant. An empty one means all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadFilter {
    /// Ids, or beginnings of them.
    pub ids: Vec<String>,
    pub kinds: Vec<FailureKind>,
    pub task_ids: Vec<TaskId>,
    /// Dead for at least so long.
    pub older_than: Option<Duration>,
}

impl DeadEntry {
    fn new(raw: Vec<u8>) -> DeadEntry {
        let digest = hex::encode(Sha256::digest(&raw));
        DeadEntry { id: digest[..ID_DIGITS].to_owned(), envelope: DeadEnvelope::from_entry(&raw), raw: Arc::new(raw) }
    }

    fn age(&self) -> Duration {
        Timestamp::now().duration_since(self.envelope.failed_at).try_into().unwrap_or_default()
    }
}

impl DeadFilter {
    fn admits(&self, entry: &DeadEntry) -> bool {
        let envelope = &entry.envelope;
        (self.ids.is_empty() || self.ids.iter().any(|id| entry.id.starts_with(id.as_str())))
            && (self.kinds.is_empty() || self.kinds.iter().any(|kind| kind.name() == envelope.kind))
            && (self.task_ids.is_empty() || envelope.task_id.is_some_and(|task| self.task_ids.contains(&task)))
            && self.older_than.is_none_or(|age| entry.age() >= age)
    }
}

impl QueueView {
    /// The entries that `filter` admits, the newest first, at most `limit`.
    ///
    /// # Errors
    /// `queue_unavailable`.
    pub async fn dead_entries(&self, filter: &DeadFilter, limit: usize) -> Result<Vec<DeadEntry>> {
        let failed = |error| redis_client::failure("reading the dead list", &error);
        let mut found = Vec::new();
        // No more than is wanted, where everything is: an entry may be large.
        let page_size = if *filter == DeadFilter::default() { PAGE.min(limit.max(1)) } else { PAGE } as isize;
        for page in 0.. {
            let first = page * page_size;
            let entries: Result<Vec<Vec<u8>>, RedisError> =
                self.commands.clone().lrange(&self.keys.dead, first, first + page_size - 1).await;
            let entries = entries.map_err(failed)?;
            let last = entries.len() < page_size as usize;
            found.extend(entries.into_iter().map(DeadEntry::new).filter(|entry| filter.admits(entry)));
            if last || found.len() >= limit {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    /// Puts the element back at the end of the queue, with all its attempts before it and its history
    /// kept. With `force` it runs even when another job of the task is under way or was done just now.
    /// Returns whether the entry was still there.
    ///
    /// # Errors
    /// `queue_unavailable`; `malformed_job` when the entry holds no element.
    pub async fn revive(&self, entry: &DeadEntry, force: bool) -> Result<bool> {
        let element = entry.envelope.element().ok_or_else(|| {
            Failure::new(FailureKind::MalformedJob, format!("the entry {} holds no element that could run", entry.id))
        })?;
        let mut record = Record { history: entry.envelope.history.clone(), ..Record::default() };
        record.note("", "revived", &format!("was {}: {}", entry.envelope.kind, entry.envelope.message));
        let task = entry.envelope.task_id.filter(|_| force).map(|id| id.to_string()).unwrap_or_default();
        let arguments =
            [&element.0[..], element.id().as_bytes(), record.to_json().as_bytes(), task.as_bytes()].map(<[u8]>::to_vec);
        let revived = self.unbury(entry, "revived", &arguments).await;
        revived.map_err(|error| redis_client::failure("bringing an element back", &error))
    }

    /// Throws an entry away. Returns whether it was still there.
    ///
    /// # Errors
    /// `queue_unavailable`.
    pub async fn purge(&self, entry: &DeadEntry) -> Result<bool> {
        let purged = self.unbury(entry, "purged", &Default::default()).await;
        purged.map_err(|error| redis_client::failure("throwing an entry away", &error))
    }

    async fn unbury(&self, entry: &DeadEntry, word: &str, arguments: &[Vec<u8>; 4]) -> Result<bool, RedisError> {
        let keys = &self.keys;
        let mut call = self.scripts.unbury.key(&keys.dead);
        call.key(&keys.list).key(&keys.records).key(&keys.guards).key(&keys.recent).key(&keys.counts);
        call.arg(&*entry.raw).arg(word);
        for argument in arguments {
            call.arg(argument);
        }
        call.invoke_async(&mut self.commands.clone()).await
    }
}

impl Queue {
    /// Throws away what the dead list holds beyond its limits, the oldest first. Each is logged:
    /// nothing goes without a word.
    pub(super) async fn trim_dead_list(&self) -> Result<(), RedisError> {
        let (shared, view) = (&self.shared, &self.shared.view);
        for _ in 0..PURGED_AT_ONCE {
            let mut pipe = redis::pipe();
            pipe.llen(&shared.keys.dead).lindex(&shared.keys.dead, -1);
            let (length, oldest): (usize, Option<Vec<u8>>) = pipe.query_async(&mut shared.commands.clone()).await?;
            let Some(oldest) = oldest.map(DeadEntry::new) else { return Ok(()) };
            let limit = match () {
                () if length > shared.settings.max_dead => "queue.max_dead",
                () if oldest.age() > shared.settings.max_dead_age => "queue.max_dead_hours",
                () => return Ok(()),
            };
            if view.unbury(&oldest, "purged", &Default::default()).await? {
                shared.metrics.dead_purged.inc();
                let DeadEnvelope { task_id, kind, message, failed_at, .. } = &oldest.envelope;
                let task_id = task_id.map(|id| id.get());
                warn!(task_id, kind, %failed_at, limit, "an entry of the dead list is over its limit and goes: {message}");
            }
        }
        Ok(())
    }
}
