//! Pausing: a key in Redis that stops the starting of jobs, for one instance or for all.
//!
//! It is looked at in the script that starts a job, so nothing starts after `hauld pause` has
//! returned, not even what a wait that was under way is handed: that goes back to its place.

use redis::{AsyncCommands, RedisError};
use tracing::info;

use super::{Queue, QueueView, rq};
use crate::failure::Result;
use crate::redis_client;

/// In place of a name: every instance.
pub const EVERYBODY: &str = "*";

/// One pause, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Pause {
    /// `*`, or `<host>-<worker.instance>`.
    pub instance: String,
    /// The JSON that was left with it: since when, and why.
    pub note: String,
}

impl Queue {
    pub(super) fn is_paused(&self) -> bool {
        *self.shared.paused.borrow()
    }

    /// Returns when the queue is paused.
    pub(super) async fn paused(&self) {
        // The sender lives as long as this queue.
        let _ = self.shared.paused.subscribe().wait_for(|paused| *paused).await;
    }

    /// Notes what was seen in Redis. Logged when it changes.
    pub(super) fn set_paused(&self, paused: bool) {
        let changed = self.shared.paused.send_if_modified(|current| std::mem::replace(current, paused) != paused);
        if changed {
            self.shared.metrics.paused.set(paused.into());
            match paused {
                true => info!("paused: no job is started until `hauld resume` (or `rq resume`)"),
                false => info!("resumed"),
            }
        }
    }

    pub(super) async fn look_whether_paused(&self) -> Result<(), RedisError> {
        let fields = [EVERYBODY, self.shared.pause_name.as_str()];
        let mut commands = self.shared.commands.clone();
        let paused: Vec<Option<String>> =
            redis::cmd("HMGET").arg(&self.shared.keys.paused).arg(&fields).query_async(&mut commands).await?;
        let suspended = self.runs_rq() && commands.exists(rq::SUSPENDED).await?;
        self.set_paused(suspended || paused.iter().any(Option::is_some));
        Ok(())
    }
}

impl QueueView {
    /// Pauses `instance` (`<host>-<worker.instance>`), or everybody.
    ///
    /// # Errors
    /// `queue_unavailable`.
    pub async fn pause(&self, instance: Option<&str>, reason: &str) -> Result<()> {
        let note = serde_json::json!({ "since": jiff::Timestamp::now(), "reason": reason }).to_string();
        let field = instance.unwrap_or(EVERYBODY);
        let set: Result<(), _> = self.commands.clone().hset(&self.keys.paused, field, note).await;
        set.map_err(|error| redis_client::failure("pausing", &error))
    }

    /// Ends the pause of `instance`, or that of everybody. Returns whether there was one.
    ///
    /// # Errors
    /// `queue_unavailable`.
    pub async fn resume(&self, instance: Option<&str>) -> Result<bool> {
        let field = instance.unwrap_or(EVERYBODY);
        let removed: Result<bool, _> = self.commands.clone().hdel(&self.keys.paused, field).await;
        removed.map_err(|error| redis_client::failure("resuming", &error))
    }

    /// Every pause.
    ///
    /// # Errors
    /// `queue_unavailable`.
    pub async fn pauses(&self) -> Result<Vec<Pause>> {
        let all: Result<Vec<(String, String)>, _> = self.commands.clone().hgetall(&self.keys.paused).await;
        let all = all.map_err(|error| redis_client::failure("reading the pauses", &error))?;
        Ok(all.into_iter().map(|(instance, note)| Pause { instance, note }).collect())
    }
}
