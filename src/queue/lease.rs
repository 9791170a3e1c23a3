//! An instance's right to what it holds: registration, renewal, the end.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use redis::RedisError;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::keys::{Keys, TOMBSTONE};
use super::link::Backoff;
use super::scripts::Scripts;
use super::{Leased, Queue};
use crate::config::QueueSettings;
use crate::failure::{Failure, FailureKind, Result};
use crate::job::Element;
use crate::redis_client::Commands;

/// One identity: a name and a fencing token that were never used before. It ends when its lease is
/// found gone; the process then goes on under a new one.
pub(super) struct Lease {
    pub(super) instance: String,
    pub(super) token: u64,
    pub(super) claimed: String,
    pub(super) receipts: String,
    /// Cancelled when the lease is found gone: stops every job of this identity.
    pub(super) lost: CancellationToken,
    /// The claimed list held more than was in hand at the last renewal: it is to be read again.
    pub(super) reread: AtomicBool,
    next_claim: AtomicU64,
    in_hand: Mutex<BTreeMap<u64, Element>>,
    settled: Mutex<VecDeque<u64>>,
}

impl Lease {
    fn new(keys: &Keys, instance: String, token: u64) -> Lease {
        Lease {
            claimed: keys.claimed(&instance),
            receipts: keys.receipts(&instance),
            instance,
            token,
            lost: CancellationToken::new(),
            reread: AtomicBool::new(false),
            next_claim: AtomicU64::new(1),
            in_hand: Mutex::default(),
            settled: Mutex::default(),
        }
    }

    /// Notes an element of the claimed list as in hand. Returns the number of the claim.
    pub(super) fn hold(&self, element: &Element) -> u64 {
        let claim = self.next_claim.fetch_add(1, Relaxed);
        lock(&self.in_hand).insert(claim, element.clone());
        claim
    }

    /// The claim is over. Its receipt may go with a later settle: this one's answer has been seen.
    pub(super) fn release(&self, claim: u64) {
        lock(&self.in_hand).remove(&claim);
        lock(&self.settled).push_back(claim);
    }

    /// The number of elements in hand.
    pub(super) fn held(&self) -> usize {
        lock(&self.in_hand).len()
    }

    /// How often each element is in hand.
    pub(super) fn multiset(&self) -> BTreeMap<Vec<u8>, usize> {
        let mut counts = BTreeMap::new();
        for element in lock(&self.in_hand).values() {
            *counts.entry(element.0.clone()).or_default() += 1;
        }
        counts
    }

    /// A claim number that names the identity too.
    pub(super) fn claim_name(&self, claim: u64) -> String {
        format!("{}-{claim}", self.token)
    }

    /// One receipt that is no longer needed, or "".
    pub(super) fn receipt_to_forget(&self) -> String {
        lock(&self.settled).pop_front().map(|claim| self.claim_name(claim)).unwrap_or_default()
    }

    /// The lease is gone: every job of this identity stops. Logged once.
    pub(super) fn lose(&self) -> Failure {
        if !self.lost.is_cancelled() {
            self.lost.cancel();
            warn!(instance = %self.instance, "the lease is gone: what this instance held belongs to the others now");
        }
        Failure::new(FailureKind::LeaseLost, format!("instance {} has lost its lease", self.instance))
    }
}

/// A poisoned lock still guards whole values: only single insertions and removals happen under it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What a renewal tells.
pub(super) struct Renewal {
    /// Elements in the claimed list.
    pub(super) claimed: usize,
    /// Instances whose lease has run out.
    pub(super) expired: Vec<String>,
}

impl Queue {
    /// Takes a new identity after the old one was lost.
    pub(super) async fn register_anew(&self) -> Result<(), RedisError> {
        let shared = &self.shared;
        let registered =
            register(&shared.commands, &shared.scripts, &shared.keys, &shared.settings, &shared.instance_name).await?;
        shared.lease.send_replace(Arc::new(registered));
        Ok(())
    }

    /// Renews the lease. `None` when it is gone.
    pub(super) async fn renew(&self, lease: &Lease) -> Result<Option<Renewal>, RedisError> {
        let shared = &self.shared;
        let silence = (shared.settings.sweep * 2).as_millis() as u64;
        let mut commands = shared.commands.clone();
        let (claimed, expired): (i64, Vec<String>) = shared
            .scripts
            .renew
            .key(&shared.keys.leases)
            .key(&lease.claimed)
            .key(&shared.keys.sweeps)
            .arg(&lease.instance)
            .arg(shared.settings.lease.as_millis() as u64)
            .arg(silence)
            .arg(silence)
            .invoke_async(&mut commands)
            .await?;
        Ok(usize::try_from(claimed).ok().map(|claimed| Renewal { claimed, expired }))
    }

    /// Makes sure, now, that the job is still ours: to be asked before anything that must happen
    /// once (delivery, the finalize call). Waits while Redis is away.
    ///
    /// # Errors
    /// [`FailureKind::LeaseLost`]: another instance has the job; stop, and write nothing.
    pub async fn confirm(&self, leased: &Leased) -> Result<()> {
        let mut backoff = Backoff::new();
        loop {
            if leased.lease.lost.is_cancelled() {
                return Err(leased.lease.lose());
            }
            match self.renew(&leased.lease).await {
                Ok(renewal) => {
                    self.shared.link.answered();
                    return renewal.map(drop).ok_or_else(|| leased.lease.lose());
                }
                Err(error) => {
                    self.shared.link.failed(&error);
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
    }

    /// The end of this instance, when nothing of it runs any more: what it still holds goes back
    /// to the take end in its order, at no cost of an attempt. Waits while Redis is away; when the
    /// caller gives up, the other instances take it back once the lease has run out. Returns the
    /// number of elements handed back.
    pub async fn close(&self) -> usize {
        let shared = &self.shared;
        let lease = self.lease();
        let mut backoff = Backoff::new();
        loop {
            let mut commands = shared.commands.clone();
            let returned: Result<i64, RedisError> = shared
                .scripts
                .deregister
                .key(&shared.keys.leases)
                .key(&lease.claimed)
                .key(&lease.receipts)
                .key(&shared.keys.list)
                .key(&shared.keys.instances)
                .key(&shared.keys.counts)
                .arg(&lease.instance)
                .arg(TOMBSTONE.as_secs())
                .invoke_async(&mut commands)
                .await;
            match returned {
                Ok(returned) => {
                    shared.link.answered();
                    lease.lost.cancel();
                    info!(instance = %lease.instance, returned = returned.max(0), "deregistered");
                    return usize::try_from(returned).unwrap_or(0);
                }
                Err(error) => {
                    shared.link.failed(&error);
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
    }
}

/// Registers a new identity.
pub(super) async fn register(
    commands: &Commands,
    scripts: &Scripts,
    keys: &Keys,
    settings: &QueueSettings,
    instance_name: &str,
) -> Result<Lease, RedisError> {
    let host = host_name();
    let facts = serde_json::json!({
        "host": host,
        "pid": std::process::id(),
        "started_at": jiff::Timestamp::now(),
        "version": env!("CARGO_PKG_VERSION"),
    });
    let random = std::hash::RandomState::new().build_hasher().finish();
    let (instance, token): (String, u64) = scripts
        .register
        .key(&keys.token)
        .key(&keys.leases)
        .key(&keys.instances)
        .arg(format!("{}-{}", plain(&host), plain(instance_name)))
        .arg(format!("{random:016x}"))
        .arg(settings.lease.as_millis() as u64)
        // The script puts the token in front of the rest of the object.
        .arg(&facts.to_string()[1..])
        .invoke_async(&mut commands.clone())
        .await?;
    info!(instance = %instance, token, list = %keys.list, "registered");
    Ok(Lease::new(keys, instance, token))
}

/// The name of this host; Linux tells it in a file.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "host".to_owned() } else { name.to_owned() }
}

/// The text with everything that would be a nuisance in a key name replaced.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' }).collect()
}
