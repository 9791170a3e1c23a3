//! Jobs that are delivered and whose finalize call is due again: they run beside the list, so that
//! they neither wait for a slot nor come into the hands of a worker that would download them again.

use std::time::Duration;

use redis::RedisError;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::lease::Lease;
use super::record::Record;
use super::recovery::held_parts;
use super::{Leased, Queue};
use crate::job::JobSpec;

/// What the server says.
enum Told {
    /// What the running hash holds, and the record.
    Due(Vec<u8>, Record),
    /// None is due; the time until the next one is, if there is one.
    Later(Option<Duration>),
    NotOurs,
}

impl Queue {
    /// The next delivered job whose finalize call is due, started. Waits as long as there is none, or
    /// Redis is away. `None` after `stop`.
    ///
    /// Not cancel safe, as [`Taker::next`](super::Taker::next).
    pub async fn next_untold(&self, stop: &CancellationToken) -> Option<Leased> {
        loop {
            let mut leases = self.shared.lease.subscribe();
            let lease = tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                lease = leases.wait_for(|lease| !lease.lost.is_cancelled()) => lease.ok()?.clone(),
            };
            let claim = lease.claim();
            // With the same claim until it answers: what was handed over with a lost answer is handed
            // over again.
            let wait = match self.ask(&lease, stop, || self.try_untold(&lease, claim)).await {
                Some(Told::Due(held, record)) => {
                    let (id, element) = held_parts(&held);
                    let id = String::from_utf8_lossy(id).into_owned();
                    if let Ok(spec) = JobSpec::parse(&element) {
                        return Some(Leased::new(element, spec, id, record, claim, lease));
                    }
                    warn!(id, "what was put among the untold jobs is not one: a sweep hands it to the list");
                    None
                }
                Some(Told::Later(wait)) => wait,
                Some(Told::NotOurs) => {
                    lease.lose();
                    None
                }
                None => None,
            };
            lease.release(claim);
            let longest = self.shared.settings.sweep;
            tokio::select! {
                () = stop.cancelled() => return None,
                () = lease.lost.cancelled() => {}
                () = self.shared.untold.notified() => {}
                () = tokio::time::sleep(wait.unwrap_or(longest).min(longest)) => {}
            }
        }
    }

    async fn try_untold(&self, lease: &Lease, claim: u64) -> Result<Told, RedisError> {
        let (scripts, keys) = (&self.shared.scripts, &self.shared.keys);
        let mut call = scripts.tell.key(&keys.leases);
        call.key(&keys.untold).key(&lease.running).key(&keys.records).key(&keys.guards).key(&keys.counts);
        call.arg(&lease.instance).arg(claim);
        let (found, detail, record): (i64, redis::Value, Vec<u8>) =
            call.invoke_async(&mut self.shared.commands.clone()).await?;
        Ok(match found {
            1 => Told::Due(redis::from_redis_value(detail)?, Record::parse(&record)),
            0 => Told::Later(u64::try_from(redis::from_redis_value::<i64>(detail)?).ok().map(Duration::from_millis)),
            _ => Told::NotOurs,
        })
    }
}
