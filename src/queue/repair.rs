//! Mending what the account finds. Every mend is one script or command, and checks for itself that
//! what it mends is still so.

use std::time::Duration;

use redis::{AsyncCommands, RedisError};
use tokio::time::Instant;

use super::findings::{Finding, FindingKind};
use super::{Queue, QueueView};
use crate::failure::Result;
use crate::redis_client;

impl Queue {
    /// Mends a finding. Returns whether there was anything to do. What dead instances held is taken
    /// back by a sweep of this one.
    ///
    /// # Errors
    /// `queue_unavailable`.
    pub async fn repair(&self, finding: &Finding) -> Result<bool> {
        let failed = |error| redis_client::failure("mending", &error);
        match finding.kind {
            FindingKind::Overdue => self.sweep().await.map(|()| true),
            FindingKind::DeadInstance => self.reap_for_certain(&finding.key).await,
            _ => self.shared.view.mend(finding).await.map_err(failed),
        }
    }

    /// When nobody has swept for long, the first sweep only begins the time in which instances may
    /// come back.
    async fn reap_for_certain(&self, place: &str) -> Result<bool> {
        let keys = &self.shared.keys;
        let Some((_, instance)) = keys.place_of(place) else { return Ok(false) };
        let deadline = Instant::now() + self.shared.settings.sweep * 3 + Duration::from_secs(1);
        loop {
            self.sweep().await?;
            let expiry: Result<Option<f64>, _> = self.shared.commands.clone().zscore(&keys.leases, instance).await;
            let there = expiry.map_err(|error| redis_client::failure("mending", &error))?.is_some();
            if !there || Instant::now() > deadline {
                return Ok(!there);
            }
            // Often enough that it is no silence of its own.
            tokio::time::sleep(self.shared.settings.sweep / 2).await;
        }
    }
}

impl QueueView {
    async fn mend(&self, finding: &Finding) -> Result<bool, RedisError> {
        let keys = &self.keys;
        let mut commands = self.commands.clone();
        match finding.kind {
            FindingKind::Orphan => {
                let Some((_, instance)) = keys.place_of(&finding.key) else { return Ok(false) };
                let mut call = self.scripts.adopt.key(&keys.leases);
                call.key(keys.claimed(instance)).key(keys.running(instance)).key(&keys.list).key(&keys.guards);
                let adopted: u64 = call.arg(instance).invoke_async(&mut commands).await?;
                Ok(adopted > 0)
            }
            FindingKind::StaleGuard => {
                let guard: Option<String> = commands.hget(&keys.guards, &finding.member).await?;
                let Some(guard) = guard else { return Ok(false) };
                Ok(!self.guard_holds(&finding.member, &guard).await?)
            }
            FindingKind::StaleRecord => commands.hdel(&keys.records, &finding.member).await,
            FindingKind::Count => {
                let mut call = self.scripts.recount.key(&keys.counts);
                call.key(&keys.delayed).key(&keys.dead).key(&keys.untold).invoke_async(&mut commands).await
            }
            FindingKind::TakenByRq => {
                let taken: Vec<Vec<u8>> = commands.lrange(&finding.key, 0, -1).await?;
                let element =
                    taken.into_iter().find(|element| crate::job::Element(element.clone()).id() == finding.member);
                let Some(element) = element else { return Ok(false) };
                // Two keys of different slots in Redis Cluster, where RQ is not used.
                let mut pipe = redis::pipe();
                pipe.atomic().rpush(&keys.list, &element).ignore().lrem(&finding.key, 1, &element).ignore();
                pipe.query_async::<()>(&mut commands).await?;
                Ok(true)
            }
            // Already done by the sweep, or for a person to decide.
            _ => Ok(false),
        }
    }
}
