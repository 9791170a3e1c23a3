//! What became of jobs while Redis was away, kept on disk: should the process die before Redis is
//! back, the next one on this host still knows it.
//!
//! One small file for each job, there only as long as the outcome is on disk alone. It is not
//! secret, but it names a customer: nobody else may read it.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use redis::{AsyncCommands, RedisError};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::record::Record;
use super::{Lease, Leased, Queue};
use crate::disk;
use crate::failure::Result;

/// Files that one sweep reads at most.
const READ_AT_ONCE: usize = 100;

/// The directory and what this process has in it.
pub(super) struct Journal {
    directory: PathBuf,
    /// Its files, and whether they could be written.
    kept: Mutex<BTreeMap<String, bool>>,
}

/// The content of one file.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    instance: String,
    claim: u64,
    id: String,
    element_base64: String,
    record: Record,
}

impl Journal {
    pub(super) fn new(directory: PathBuf) -> Journal {
        Journal { directory, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<String, bool>> {
        // A poisoned lock still guards a whole set: only single insertions and removals happen under it.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what is known about the job, unless it is kept already. Trouble with the disk is logged once,
    /// and passes or does not: the caller knows the outcome too, and comes again as long as Redis is away.
    pub(super) async fn keep(&self, leased: &Leased, record: &Record) {
        let name = file_name(leased.instance(), leased.claim);
        let before = self.kept().get(&name).copied();
        if before == Some(true) {
            return;
        }
        self.kept().insert(name.clone(), false);
        let entry = Entry {
            instance: leased.instance().to_owned(),
            claim: leased.claim,
            id: leased.id.clone(),
            element_base64: STANDARD.encode(&leased.element.0),
            record: record.clone(),
        };
        let directory = self.directory.clone();
        let file = name.clone();
        let written = disk::blocking(move || {
            // cannot fail: texts and numbers only
            disk::write_private(&directory, &file, &serde_json::to_vec(&entry).unwrap_or_default())
        });
        match written.await {
            Ok(()) => {
                self.kept().insert(name, true);
                info!("Redis is away: the outcome is kept on disk until it is back");
            }
            Err(failure) => {
                if before.is_none() {
                    let kind = failure.kind.name();
                    warn!(
                        kind,
                        "the outcome cannot be kept on disk while Redis is away: {failure}; tried again, \
                         and told Redis when it is back, as long as this process lives"
                    );
                }
            }
        }
    }

    /// The outcome is where it belongs, or is nobody's any more.
    pub(super) async fn forget(&self, leased: &Leased) {
        let name = file_name(leased.instance(), leased.claim);
        // Even a file whose write was told to have failed may be there.
        if self.kept().remove(&name).is_some() {
            self.remove(&name).await;
        }
    }

    async fn remove(&self, name: &str) {
        if let Err(failure) = disk::remove(&self.directory.join(name)).await {
            warn!(kind = failure.kind.name(), "an outcome that is written in Redis stays on disk: {failure}");
        }
    }

    /// What a file says, with the element; `None` where it is gone or cannot be read, which is logged.
    async fn read(&self, name: &str) -> Option<(Entry, Vec<u8>)> {
        let path = self.directory.join(name);
        let text = match tokio::fs::read(&path).await {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                warn!("{}: {error}", path.display());
                return None;
            }
        };
        let entry: Option<Entry> = serde_json::from_slice(&text).ok();
        let read = entry.and_then(|entry| STANDARD.decode(&entry.element_base64).ok().map(|element| (entry, element)));
        if read.is_none() {
            warn!("{} cannot be read as an outcome: look at it, then remove it", path.display());
        }
        read
    }

    /// The files that are not of this process.
    async fn others(&self) -> Result<Vec<String>> {
        let directory = self.directory.clone();
        let mut names = disk::blocking(move || disk::json_files(&directory)).await?;
        let kept = self.kept();
        names.retain(|name| !kept.contains_key(name));
        names.truncate(READ_AT_ONCE);
        Ok(names)
    }
}

impl Queue {
    /// Looks for outcomes that a process which has died could not tell Redis, and tells it. Before
    /// anybody's jobs are taken back, so that whoever has them next knows.
    pub(super) async fn recall(&self) -> Result<(), RedisError> {
        let journal = &self.shared.journal;
        let names = journal.others().await.unwrap_or_else(|failure| {
            warn!(kind = failure.kind.name(), "{failure}");
            Vec::new()
        });
        for name in names {
            let Some((entry, element)) = journal.read(&name).await else { continue };
            if self.recall_entry(&entry, &element).await? {
                journal.remove(&name).await;
            }
        }
        Ok(())
    }

    /// Tells Redis what is kept on disk of jobs that this instance is about to hand back: whoever has them next
    /// must know it.
    pub(super) async fn tell_kept(&self, lease: &Lease) -> Result<(), RedisError> {
        let journal = &self.shared.journal;
        let names: Vec<String> = journal.kept().keys().cloned().collect();
        for name in names {
            let Some((entry, _)) = journal.read(&name).await.filter(|(entry, _)| entry.instance == lease.instance)
            else {
                continue;
            };
            let record = entry.record.to_json();
            // Of no matter what is answered: when the job is somebody else's by now, so is the outcome.
            let _: u8 = self
                .confirm_call(lease, entry.claim, &entry.id, &record)
                .invoke_async(&mut self.shared.commands.clone())
                .await?;
            info!(id = entry.id, "told Redis an outcome that was kept on disk");
            journal.kept().remove(&name);
            journal.remove(&name).await;
        }
        Ok(())
    }

    /// Returns whether the entry has served its purpose.
    async fn recall_entry(&self, entry: &Entry, element: &[u8]) -> Result<bool, RedisError> {
        let shared = &self.shared;
        let mut commands = shared.commands.clone();
        let expiry: Option<f64> = commands.zscore(&shared.keys.leases, &entry.instance).await?;
        let now = shared.view.server_time().await?;
        if expiry.is_some_and(|expiry| expiry > now) {
            // Alive, or dead since a moment: it may still settle by itself.
            return Ok(false);
        }
        let current: Option<Vec<u8>> = commands.hget(&shared.keys.records, &entry.id).await?;
        let current = current.unwrap_or_default();
        let mut record = Record::parse(&current);
        let taken_back = record.has_crashed(&entry.instance);
        record.learn(&entry.record);
        let mut call = shared.scripts.recall.key(shared.keys.running(&entry.instance));
        call.key(&shared.keys.records).key(&shared.keys.list);
        call.arg(entry.claim).arg(&entry.id).arg(record.to_json()).arg(element);
        call.arg(if taken_back { &current[..] } else { b"" });
        let noted: u8 = call.invoke_async(&mut commands).await?;
        match noted {
            1 => info!(id = entry.id, instance = entry.instance, "told Redis an outcome that was kept on disk"),
            _ => warn!(
                id = entry.id,
                instance = entry.instance,
                "an outcome kept on disk came too late: the job is somebody else's or has ended"
            ),
        }
        Ok(true)
    }
}

fn file_name(instance: &str, claim: u64) -> String {
    format!("{instance}.{claim}.json")
}
