//! Calls that tell the backend of failures, kept until it has accepted them. A notice is about a task
//! and not an element: that is on the dead list by then, and may be put back while the call waits.

use std::time::Duration;

use jiff::Timestamp;
use redis::RedisError;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::Queue;
use super::link::Backoff;
use crate::failure::Result;
use crate::job::TaskId;
use crate::redis_client;

/// One call that is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    pub task_id: TaskId,
    /// [`FailureKind::name`](crate::failure::FailureKind::name)
    pub kind: String,
    pub message: String,
    /// When the task failed: with the task id, what the call is called.
    pub failed_at: Timestamp,
}

impl Notice {
    /// The same in every call for this failure.
    pub fn key(&self) -> String {
        format!("task-{}-failed-{}", self.task_id, self.failed_at.as_millisecond())
    }
}

impl Queue {
    /// Keeps a notice until the backend has accepted it. The same one again changes nothing.
    ///
    /// # Errors
    /// `queue_unavailable`.
    pub async fn keep_notice(&self, notice: &Notice) -> Result<()> {
        let kept = self.notice_call("add", &to_json(notice), Duration::ZERO).await;
        kept.map_err(|error| redis_client::failure("keeping a notice of a failure", &error))?;
        self.shared.notices.notify_one();
        Ok(())
    }

    /// The next notice that is due. It is nobody else's for `hold`. Waits as long as there is none, or
    /// Redis is away. `None` after `stop`.
    pub async fn next_notice(&self, hold: Duration, stop: &CancellationToken) -> Option<Notice> {
        let longest = self.shared.settings.sweep;
        let mut backoff = Backoff::new();
        while !stop.is_cancelled() {
            let wait = match self.notice_call("claim", "", hold).await {
                Ok((text, wait)) => {
                    backoff.reset();
                    match serde_json::from_str(&text) {
                        Ok(notice) => return Some(notice),
                        Err(_) if text.is_empty() => u64::try_from(wait).map_or(longest, Duration::from_millis),
                        Err(error) => {
                            tracing::warn!(%error, "a notice of a failure cannot be read: it is thrown away");
                            let _ = self.notice_call("drop", &text, Duration::ZERO).await;
                            Duration::ZERO
                        }
                    }
                }
                Err(error) => {
                    self.shared.link.failed(&error);
                    backoff.next()
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.shared.notices.notified() => {}
                () = tokio::time::sleep(wait.min(longest)) => {}
            }
        }
        None
    }

    /// The call is made again after `pause`; `None`: never, it was accepted or is pointless. Should
    /// Redis be away, the notice is due again when its hold ends.
    pub async fn settle_notice(&self, notice: &Notice, pause: Option<Duration>) {
        let (word, pause) = pause.map_or(("drop", Duration::ZERO), |pause| ("later", pause));
        if let Err(error) = self.notice_call(word, &to_json(notice), pause).await {
            self.shared.link.failed(&error);
        }
    }

    async fn notice_call(&self, word: &str, notice: &str, pause: Duration) -> Result<(String, i64), RedisError> {
        let mut call = self.shared.scripts.notice.key(&self.shared.keys.notices);
        call.arg(word).arg(notice).arg(pause.as_millis() as u64);
        call.invoke_async(&mut self.shared.commands.clone()).await
    }
}

fn to_json(notice: &Notice) -> String {
    // cannot fail: strings, numbers and timestamps only
    serde_json::to_string(notice).unwrap_or_default()
}
