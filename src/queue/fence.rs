//! Speaking for a job only as long as it is ours.

use std::sync::Arc;

use jiff::Timestamp;
use redis::{RedisError, ScriptInvocation};

use super::note::{JobProgress, NOTE_SECONDS, Note};
use super::scripts::Scripts;
use super::{Leased, Queue};
use crate::redis_client::Commands;

/// One identity of an instance, as far as others need it: what it says is not heard any more once
/// its lease is gone.
#[derive(Clone)]
pub struct Fence {
    leases: String,
    instance: String,
    scripts: Arc<Scripts>,
    /// The job that it speaks for.
    job: Option<Job>,
}

#[derive(Clone)]
struct Job {
    /// Where its note is left.
    key: String,
    holder: String,
    attempt: u32,
    started: Timestamp,
}

impl Queue {
    /// The fence of the identity that has the job.
    pub fn fence(&self, leased: &Leased) -> Fence {
        let job = Job {
            key: self.shared.keys.progress(leased.spec.task_id),
            holder: format!("{}/{}", leased.instance(), leased.claim),
            attempt: leased.attempt,
            started: leased.started,
        };
        self.fence_of(leased.instance(), Some(job))
    }

    /// The fence of the current identity.
    pub fn own_fence(&self) -> Fence {
        self.fence_of(&self.instance(), None)
    }

    fn fence_of(&self, instance: &str, job: Option<Job>) -> Fence {
        let view = &self.shared.view;
        Fence { leases: view.keys.leases.clone(), instance: instance.to_owned(), scripts: view.scripts.clone(), job }
    }
}

impl Fence {
    /// `PUBLISH` to each channel. Returns whether it was ours to say.
    ///
    /// # Errors
    /// Those of Redis.
    pub async fn publish(
        &self,
        commands: &mut Commands,
        channels: &[String],
        message: &str,
    ) -> Result<bool, RedisError> {
        let call = self.scripts.publish.key(&self.leases);
        self.send(call, commands, channels, message, "").await
    }

    /// As [`Fence::publish`], and leaves a note about the job that it speaks for.
    ///
    /// # Errors
    /// Those of Redis.
    pub async fn publish_progress(
        &self,
        commands: &mut Commands,
        channels: &[String],
        message: &str,
        progress: JobProgress,
    ) -> Result<bool, RedisError> {
        let Some(job) = &self.job else { return self.publish(commands, channels, message).await };
        let mut call = self.scripts.publish.key(&self.leases);
        call.key(&job.key);
        let (holder, at) = (job.holder.clone(), Timestamp::now());
        let note = Note { holder, attempt: job.attempt, started: job.started, at, progress };
        // cannot fail: texts and numbers only
        let note = serde_json::to_string(&note).unwrap_or_default();
        self.send(call, commands, channels, message, &note).await
    }

    async fn send(
        &self,
        mut call: ScriptInvocation<'_>,
        commands: &mut Commands,
        channels: &[String],
        message: &str,
        note: &str,
    ) -> Result<bool, RedisError> {
        call.arg(&self.instance).arg(message).arg(note).arg(NOTE_SECONDS).arg(channels);
        let published: u8 = call.invoke_async(commands).await?;
        Ok(published == 1)
    }
}

#[cfg(test)]
impl Fence {
    /// With a lease that was not registered.
    pub(crate) async fn for_test(commands: &mut Commands) -> Fence {
        let (leases, instance) = ("leases".to_owned(), "i".to_owned());
        let fence = Fence { leases, instance, scripts: Arc::new(Scripts::new()), job: None };
        let _: u64 = redis::AsyncCommands::zadd(commands, &fence.leases, &fence.instance, 1).await.unwrap();
        fence
    }
}
