//! Speaking for a job only as long as it is ours.

use std::sync::Arc;

use redis::RedisError;

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
}

impl Queue {
    /// The fence of the identity that has the job.
    pub fn fence(&self, leased: &Leased) -> Fence {
        self.fence_of(leased.instance())
    }

    /// The fence of the current identity.
    pub fn own_fence(&self) -> Fence {
        self.fence_of(&self.instance())
    }

    fn fence_of(&self, instance: &str) -> Fence {
        let view = &self.shared.view;
        Fence { leases: view.keys.leases.clone(), instance: instance.to_owned(), scripts: view.scripts.clone() }
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
        let mut call = self.scripts.publish.key(&self.leases);
        let published: u8 = call.arg(&self.instance).arg(message).arg(channels).invoke_async(commands).await?;
        Ok(published == 1)
    }
}

#[cfg(test)]
impl Fence {
    /// With a lease that was not registered.
    pub(crate) async fn for_test(commands: &mut Commands) -> Fence {
        let fence = Fence { leases: "leases".into(), instance: "i".into(), scripts: Arc::new(Scripts::new()) };
        let _: u64 = redis::AsyncCommands::zadd(commands, &fence.leases, &fence.instance, 1).await.unwrap();
        fence
    }
}
