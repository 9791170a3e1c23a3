//! An instance's right to what it holds: registration, renewal, the end.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::{RedisError, ScriptInvocation};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::keys::{Keys, TOMBSTONE};
use super::link::Backoff;
use super::record::{Record, Verdict};
use super::scripts::Scripts;
use super::{Leased, Queue, rq};
use crate::config::QueueSettings;
use crate::failure::{Failure, FailureKind, Result};
use crate::job::TaskId;
use crate::redis_client::Commands;
use crate::rq::RqWorker;

/// One identity: a name and a fencing token that were never used before. It ends when its lease is
/// found gone; the process then goes on under a new one.
pub(super) struct Lease {
    pub(super) instance: String,
    pub(super) token: u64,
    pub(super) claimed: String,
    pub(super) running: String,
    /// Cancelled when the lease is found gone: stops every job of this identity.
    pub(super) lost: CancellationToken,
    /// The claimed list is to be read: something may be in it that the taker does not know of.
    pub(super) reread: AtomicBool,
    /// Whether the taker has elements between the claimed list and their start.
    pub(super) taking: AtomicBool,
    next_claim: AtomicU64,
    /// Claims from before their start is asked for until they are settled or turn out not to start.
    in_hand: Mutex<HashMap<u64, Option<Running>>>,
    /// This identity as a worker of RQ, when its jobs are run.
    pub(super) rq: Option<Arc<RqWorker>>,
}

/// A job that runs, as far as stopping it needs.
struct Running {
    task_id: TaskId,
    stopped: CancellationToken,
}

impl Lease {
    fn new(keys: &Keys, instance: String, token: u64, settings: &QueueSettings) -> Lease {
        let queue = keys.rq_queue().unwrap_or_default();
        let worker = || Arc::new(RqWorker::new(&instance, queue, &host_name()));
        Lease {
            claimed: keys.claimed(&instance),
            running: keys.running(&instance),
            rq: settings.rq.is_worker().then(worker),
            instance,
            token,
            lost: CancellationToken::new(),
            reread: AtomicBool::new(false),
            taking: AtomicBool::new(false),
            next_claim: AtomicU64::new(1),
            in_hand: Mutex::default(),
        }
    }

    /// A number for a claim, never used before by this identity, in hand from here on.
    pub(super) fn claim(&self) -> u64 {
        let claim = self.next_claim.fetch_add(1, Relaxed);
        self.in_hand().insert(claim, None);
        claim
    }

    /// The claim is a job that runs: `stopped` ends it.
    pub(super) fn runs(&self, claim: u64, task_id: TaskId, stopped: CancellationToken) {
        self.in_hand().insert(claim, Some(Running { task_id, stopped }));
    }

    /// Stops what runs of these tasks.
    pub(super) fn stop(&self, task_ids: &[u64]) {
        for running in self.in_hand().values().flatten() {
            if task_ids.contains(&running.task_id.get()) && !running.stopped.is_cancelled() {
                info!(task_id = running.task_id.get(), "the task was cancelled: its job stops");
                running.stopped.cancel();
            }
        }
    }

    /// The claim is over.
    pub(super) fn release(&self, claim: u64) {
        self.in_hand().remove(&claim);
    }

    /// Those of `running` that are not in hand. It must have been read before, or a job that is
    /// started meanwhile looks like one.
    pub(super) fn strays(&self, running: &[String]) -> Vec<String> {
        let in_hand = self.in_hand();
        let is_known = |claim: &&String| claim.parse().is_ok_and(|claim: u64| in_hand.contains_key(&claim));
        running.iter().filter(|claim| !is_known(claim)).cloned().collect()
    }

    fn in_hand(&self) -> MutexGuard<'_, HashMap<u64, Option<Running>>> {
        // A poisoned lock still guards a whole map: only single insertions and removals happen under it.
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
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

/// What a renewal tells.
pub(super) struct Renewal {
    /// Elements handed over and not started yet.
    pub(super) claimed: usize,
    /// Claims that run under its name without being in hand.
    pub(super) strays: Vec<String>,
    /// Instances whose lease has run out.
    pub(super) expired: Vec<String>,
}

impl Queue {
    /// Takes a new identity after the old one was lost.
    pub(super) async fn register_anew(&self) -> Result<(), RedisError> {
        let shared = &self.shared;
        let registered =
            register(&shared.commands, &shared.scripts, &shared.keys, &shared.settings, &shared.pause_name).await?;
        shared.lease.send_replace(Arc::new(registered));
        Ok(())
    }

    /// Renews the lease. `None` when it is gone.
    pub(super) async fn renew(&self, lease: &Lease) -> Result<Option<Renewal>, RedisError> {
        let shared = &self.shared;
        let silence = (shared.settings.sweep * 2).as_millis() as u64;
        let mut commands = shared.commands.clone();
        let mut call = shared.scripts.renew.key(&shared.keys.leases);
        call.key(&lease.claimed).key(&shared.keys.sweeps).key(&shared.keys.paused).key(&lease.running);
        call.key(&shared.keys.cancelled).key(&shared.keys.delayed).key(&shared.keys.untold);
        call.key(&shared.keys.notices).key(&shared.keys.recent);
        if self.runs_rq() {
            call.key(rq::SUSPENDED);
        }
        let (claimed, paused, expired, running, cancelled): (i64, u8, Vec<String>, Vec<String>, Vec<u64>) = call
            .arg(&lease.instance)
            .arg(shared.settings.lease.as_millis() as u64)
            .arg(silence)
            .arg(silence)
            .arg(&shared.pause_name)
            .invoke_async(&mut commands)
            .await?;
        let Ok(claimed) = usize::try_from(claimed) else { return Ok(None) };
        self.set_paused(paused == 1);
        lease.stop(&cancelled);
        Ok(Some(Renewal { claimed, strays: lease.strays(&running), expired }))
    }

    /// Makes sure, now, that the job is still ours, for a whole lease from now on: to be asked
    /// before anything that must happen once (delivery, the finalize call). Waits while Redis is
    /// away.
    ///
    /// # Errors
    /// [`FailureKind::LeaseLost`]: another instance has the job; stop, and write nothing.
    pub async fn confirm(&self, leased: &Leased) -> Result<()> {
        self.confirm_and_note(leased, None).await
    }

    /// Notes how the job has ended, before anybody is told: should this instance die on the way,
    /// the next one tells it instead of running the job again.
    ///
    /// # Errors
    /// As [`Queue::confirm`].
    pub async fn conclude(&self, leased: &Leased, verdict: Verdict) -> Result<()> {
        let record = Record { verdict: Some(verdict), ..leased.record.clone() };
        self.confirm_and_note(leased, Some(&record)).await
    }

    async fn confirm_and_note(&self, leased: &Leased, record: Option<&Record>) -> Result<()> {
        let shared = &self.shared;
        let (lease, mut backoff) = (&leased.lease, Backoff::new());
        let text = record.map(Record::to_json).unwrap_or_default();
        let call = self.confirm_call(lease, leased.claim, &leased.id, &text);
        loop {
            if lease.lost.is_cancelled() {
                return Err(lease.lose());
            }
            let confirmed: Result<u8, RedisError> = call.invoke_async(&mut shared.commands.clone()).await;
            match confirmed {
                Ok(1) => {
                    shared.link.answered();
                    if record.is_some() {
                        leased.concluded.store(true, Relaxed);
                        shared.journal.forget(leased).await;
                    }
                    return Ok(());
                }
                Ok(_) => {
                    let gone = format!("{} does not have the job any more", lease.instance);
                    return Err(Failure::new(FailureKind::LeaseLost, gone));
                }
                Err(error) => {
                    shared.link.failed(&error);
                    if let Some(record) = record {
                        shared.journal.keep(leased, record).await;
                    }
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
    }

    /// The script with its keys; `record` is what is noted, or empty.
    pub(super) fn confirm_call(&self, lease: &Lease, claim: u64, id: &str, record: &str) -> ScriptInvocation<'_> {
        let shared = &self.shared;
        let mut call = shared.scripts.confirm.key(&shared.keys.leases);
        call.key(&lease.running).key(&shared.keys.records);
        call.arg(&lease.instance).arg(claim).arg(shared.settings.lease.as_millis() as u64).arg(id).arg(record);
        call
    }

    /// The end of this instance, when nothing of it runs any more: what it still holds goes back
    /// to the take end in its order, at no cost of an attempt. Waits while Redis is away; when the
    /// caller gives up, the other instances take it back once the lease has run out. Returns the
    /// number of elements handed back.
    pub async fn close(&self) -> usize {
        let shared = &self.shared;
        let lease = self.lease();
        let mut backoff = Backoff::new();
        let farewell = self.rq_farewell(&lease);
        loop {
            if let Err(error) = self.tell_kept(&lease).await {
                shared.link.failed(&error);
                tokio::time::sleep(backoff.next()).await;
                continue;
            }
            let mut commands = shared.commands.clone();
            let mut call = shared.scripts.deregister.prepare_invoke();
            call.key(&shared.keys.leases)
                .key(&lease.claimed)
                .key(&lease.running)
                .key(&shared.keys.list)
                .key(&shared.keys.guards)
                .key(&shared.keys.counts)
                .key(&shared.keys.instances)
                .arg(&lease.instance)
                .arg(TOMBSTONE.as_secs());
            rq::also(&mut call, &farewell);
            let returned: Result<i64, RedisError> = call.invoke_async(&mut commands).await;
            match returned {
                Ok(returned) => {
                    shared.link.answered();
                    lease.lost.cancel();
                    info!(instance = %lease.instance, returned = returned.max(0), "deregistered");
                    self.flush_stories().await;
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
    name: &str,
) -> Result<Lease, RedisError> {
    let facts = serde_json::json!({
        "host": host_name(),
        "name": name,
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
        .arg(name)
        .arg(format!("{random:016x}"))
        .arg(settings.lease.as_millis() as u64)
        // The script puts the token in front of the rest of the object.
        .arg(&facts.to_string()[1..])
        .invoke_async(&mut commands.clone())
        .await?;
    info!(instance = %instance, token, list = %keys.list, "registered");
    Ok(Lease::new(keys, instance, token, settings))
}

/// What an operator calls an instance, whatever its identity is at the moment.
pub(super) fn lasting_name(instance_name: &str) -> String {
    format!("{}-{}", plain(&host_name()), plain(instance_name))
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
