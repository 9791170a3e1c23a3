//! Orders on the disk of this host, as long as Redis is away: the customer has paid, so an order is
//! taken in all the same.
//!
//! One file for each order, written through to the disk before the answer. It names a customer:
//! nobody else may read it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::order::Order;
use crate::disk;
use crate::failure::{Failure, FailureKind, Result};

/// Orders that are kept at most: whoever floods us must not fill the disk.
const MOST_ORDERS: usize = 100_000;

/// The directory and what is in it.
pub(super) struct Journal {
    directory: PathBuf,
    /// Order id to digest.
    kept: Mutex<BTreeMap<u64, String>>,
}

/// The content of one file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    pub order_id: u64,
    /// The hash of the caller's idempotency key.
    pub key: Option<String>,
    pub received_at: Timestamp,
    body: String,
}

impl Entry {
    pub(super) fn new(order: &Order, key: Option<&str>) -> Entry {
        let key = key.map(str::to_owned);
        Entry { order_id: order.order_id, key, received_at: Timestamp::now(), body: order.body() }
    }

    pub(super) fn order(&self) -> Option<Order> {
        Order::parse(self.order_id, &self.body)
    }
}

/// What the journal says to an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    No,
    Same,
    /// Another order of this id.
    Other,
}

impl Journal {
    /// Reads what an earlier process has left.
    ///
    /// # Errors
    /// `disk_failed`.
    pub(super) async fn open(directory: PathBuf) -> Result<Journal> {
        let at = directory.clone();
        let kept = disk::blocking(move || {
            let mut kept = BTreeMap::new();
            for name in disk::json_files(&at)? {
                match read(&at.join(&name)).and_then(|entry| entry.order()) {
                    Some(order) => drop(kept.insert(order.order_id, order.digest())),
                    None => tracing::error!(
                        "{} cannot be read as an order: look at it, it may be paid for",
                        at.join(&name).display()
                    ),
                }
            }
            Ok(kept)
        });
        Ok(Journal { directory, kept: Mutex::new(kept.await?) })
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<u64, String>> {
        // A poisoned lock still guards a whole map: only single insertions and removals happen under it.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the order is here.
    pub(super) fn knows(&self, order: &Order) -> Kept {
        let kept = self.kept();
        match kept.get(&order.order_id) {
            None => Kept::No,
            Some(digest) if *digest == order.digest() => Kept::Same,
            Some(_) => Kept::Other,
        }
    }

    /// How many orders are here.
    pub(super) fn len(&self) -> usize {
        self.kept().len()
    }

    /// The ids of all that are here.
    pub(super) fn order_ids(&self) -> Vec<u64> {
        self.kept().keys().copied().collect()
    }

    /// Keeps an order: it is on the disk when this returns.
    ///
    /// # Errors
    /// `disk_full`, `disk_failed`.
    pub(super) async fn keep(&self, order: &Order, key: Option<&str>) -> Result<()> {
        if self.len() >= MOST_ORDERS {
            return Err(Failure::new(FailureKind::DiskFull, format!("{MOST_ORDERS} orders are kept on disk already")));
        }
        let entry = Entry::new(order, key);
        let directory = self.directory.clone();
        disk::blocking(move || {
            // cannot fail: texts and numbers only
            let content = serde_json::to_vec(&entry).unwrap_or_default();
            disk::write_private(&directory, &file_name(entry.order_id), &content)
        })
        .await?;
        self.kept().insert(order.order_id, order.digest());
        Ok(())
    }

    /// Reads one; `None` when it is not there, or damaged. Asks the disk only for what is there.
    pub(super) async fn read(&self, order_id: u64) -> Option<Entry> {
        if !self.kept().contains_key(&order_id) {
            return None;
        }
        let path = self.directory.join(file_name(order_id));
        disk::blocking(move || Ok(read(&path))).await.ok().flatten()
    }

    /// The order is in Redis.
    pub(super) async fn forget(&self, order_id: u64) {
        if let Err(failure) = disk::remove(&self.directory.join(file_name(order_id))).await {
            tracing::warn!(order_id, kind = failure.kind.name(), "an order that is in Redis stays on disk: {failure}");
        }
        self.kept().remove(&order_id);
    }

    /// The order cannot go into Redis: its file stays for a person to look at.
    pub(super) async fn set_aside(&self, order_id: u64) {
        let path = self.directory.join(file_name(order_id));
        // Should this fail, it is tried again with the next process.
        let _ = tokio::fs::rename(&path, disk::beside(&path, ".conflict")).await;
        self.kept().remove(&order_id);
    }
}

fn file_name(order_id: u64) -> String {
    format!("{order_id}.json")
}

fn read(path: &Path) -> Option<Entry> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}
