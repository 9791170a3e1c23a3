//! The `.part` file: bytes land in order, the journal follows, the name comes last.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::buffer::Block;
use super::journal::{Journal, Position};
use super::sniff::{MediaKind, SNIFF_BYTES};
use crate::disk::{beside, blocking, open_part};
use crate::failure::{Failure, Result};

/// How often the part is synced to disk while it grows: what a power loss may cost.
const SYNC_EVERY: Duration = Duration::from_secs(30);

/// One growing file. Every method runs blocking file calls on the blocking pool.
pub struct Sink {
    inner: Arc<Inner>,
    /// Where the unit that is being written begins.
    committed: Position,
    /// Where the next byte goes.
    offset: u64,
    last_sync: Instant,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    file: File,
    journal: Journal,
}

/// The journal's path beside a part.
pub fn journal_path(part: &Path) -> PathBuf {
    beside(part, ".journal")
}

/// Keeps other downloads away from a part that is whole, until it has been dealt with.
#[derive(Debug)]
pub struct PartLock(#[expect(dead_code, reason = "held for its drop")] Arc<Inner>);

impl Sink {
    /// Opens `part` and its journal and cuts the part to what the journal vouches for. Holds a lock
    /// on the part, so that two downloads never write into one file.
    ///
    /// # Errors
    /// `disk_full`, `disk_failed`.
    pub async fn open(part: &Path, fingerprint: String) -> Result<Sink> {
        let path = part.to_owned();
        blocking(move || {
            let failed = |error| Failure::disk(format_args!("opening {}", path.display()), error);
            let file = open_part(&path)?;
            let (journal, mut position) = Journal::open(&journal_path(&path), fingerprint).map_err(failed)?;
            if file.metadata().map_err(failed)?.len() < position.offset {
                position = Position::default();
            }
            if position == Position::default() {
                // What it says is of other bytes than those that come now.
                journal.forget().map_err(failed)?;
            }
            file.set_len(position.offset).map_err(failed)?;
            let inner = Arc::new(Inner { path, file, journal });
            Ok(Sink { inner, committed: position, offset: position.offset, last_sync: Instant::now() })
        })
        .await
    }

    /// Index of the first unit that is still to be written.
    pub fn next(&self) -> usize {
        self.committed.next
    }

    /// Bytes written.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The unit that is being written begins anew.
    pub fn start_over(&mut self) {
        self.offset = self.committed.offset;
    }

    /// Appends blocks; with `complete` the unit ends with them and is recorded.
    ///
    /// # Errors
    /// `disk_full`, `disk_failed`.
    pub async fn write(&mut self, blocks: Vec<Block>, complete: bool) -> Result<()> {
        let inner = self.inner.clone();
        let start = self.offset;
        let end = start + blocks.iter().map(|block| block.bytes.len() as u64).sum::<u64>();
        let position = complete.then_some(Position { next: self.committed.next + 1, offset: end });
        let sync = complete && self.last_sync.elapsed() >= SYNC_EVERY;
        blocking(move || {
            let failed = |error| Failure::disk(format_args!("writing {}", inner.path.display()), error);
            let mut at = start;
            for block in blocks {
                inner.file.write_all_at(&block.bytes, at).map_err(failed)?;
                at += block.bytes.len() as u64;
            }
            if let Some(position) = position {
                inner.journal.record(position).map_err(failed)?;
                if sync {
                    inner.file.sync_data().map_err(failed)?;
                    inner.journal.record_durable(position).map_err(failed)?;
                }
            }
            Ok(())
        })
        .await?;
        self.offset = end;
        self.committed = position.unwrap_or(self.committed);
        if sync {
            self.last_sync = Instant::now();
        }
        Ok(())
    }

    /// Reads the first `length` bytes of the file.
    ///
    /// # Errors
    /// `disk_failed`, also when the file is shorter.
    pub async fn start(&self, length: usize) -> Result<Vec<u8>> {
        let inner = self.inner.clone();
        blocking(move || {
            let mut bytes = vec![0; length];
            let read = inner.file.read_exact_at(&mut bytes, 0);
            read.map_err(|error| Failure::disk(format_args!("reading {}", inner.path.display()), error))?;
            Ok(bytes)
        })
        .await
    }

    /// Cuts off what a broken attempt may have left behind the end. The part is whole now, and
    /// stays locked.
    ///
    /// # Errors
    /// `disk_full`, `disk_failed`.
    pub async fn finish(self) -> Result<PartLock> {
        let Sink { inner, offset, .. } = self;
        blocking(move || {
            let failed = |error| Failure::disk(format_args!("finishing {}", inner.path.display()), error);
            inner.file.set_len(offset).map_err(failed)?;
            Ok(PartLock(inner))
        })
        .await
    }
}

/// What a part holds, told by its first bytes.
///
/// # Errors
/// `disk_failed`, or `segment_invalid` when it is no media.
pub async fn kind_of(part: &Path) -> Result<MediaKind> {
    let path = part.to_owned();
    blocking(move || {
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(SNIFF_BYTES as u64).read_to_end(&mut bytes));
        read.map_err(|error| Failure::disk(format_args!("reading {}", path.display()), error))?;
        MediaKind::of(&bytes).map_err(|failure| failure.at(path.display()))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hls::buffer::Budget;
    use crate::metrics::Metrics;

    fn blocks(budget: &Budget, text: &[u8]) -> Vec<Block> {
        let mut block = budget.block();
        block.bytes.extend_from_slice(text);
        vec![block]
    }

    #[tokio::test]
    async fn only_recorded_units_survive_a_kill() {
        let budget = Budget::new(1 << 20, Metrics::new());
        let directory = tempfile::tempdir().unwrap();
        let part = directory.path().join("a.part");
        let mut sink = Sink::open(&part, "f".into()).await.unwrap();
        sink.write(blocks(&budget, b"one"), true).await.unwrap();
        sink.write(blocks(&budget, b"tw"), false).await.unwrap();
        drop(sink);
        assert_eq!(std::fs::read(&part).unwrap(), b"onetw");
        let mut sink = Sink::open(&part, "f".into()).await.unwrap();
        assert_eq!((sink.next(), sink.offset()), (1, 3));
        assert_eq!(std::fs::read(&part).unwrap(), b"one");
        sink.write(blocks(&budget, b"long and wrong"), false).await.unwrap();
        sink.start_over();
        sink.write(blocks(&budget, b"two"), true).await.unwrap();
        sink.finish().await.unwrap();
        assert_eq!(std::fs::read(&part).unwrap(), b"onetwo");
        let other = Sink::open(&part, "other plan".into()).await.unwrap();
        assert_eq!((other.next(), other.offset()), (0, 0));
    }

    /// What is on disk after `next` units of 3 bytes of one plan and a part of a unit of another.
    async fn two_plans(first: &str, second: &str, next: usize) -> (tempfile::TempDir, PathBuf) {
        let budget = Budget::new(1 << 20, Metrics::new());
        let directory = tempfile::tempdir().unwrap();
        let part = directory.path().join("a.part");
        let mut sink = Sink::open(&part, first.into()).await.unwrap();
        for _ in 0..next {
            sink.write(blocks(&budget, b"one"), true).await.unwrap();
        }
        sink.inner.journal.record_durable(Position { next, offset: 3 * next as u64 }).unwrap();
        drop(sink);
        let mut sink = Sink::open(&part, second.into()).await.unwrap();
        sink.write(blocks(&budget, &[b'2'; 100]), false).await.unwrap();
        drop(sink);
        (directory, part)
    }

    #[tokio::test]
    async fn a_plan_that_comes_back_does_not_believe_bytes_of_another() {
        let (_directory, part) = two_plans("plan 1", "plan 2", 4).await;
        let sink = Sink::open(&part, "plan 1".into()).await.unwrap();
        assert_eq!((sink.next(), sink.offset()), (0, 0));
    }

    #[tokio::test]
    async fn a_part_that_was_deleted_is_not_believed_once_it_has_grown_again() {
        let budget = Budget::new(1 << 20, Metrics::new());
        let (_directory, part) = two_plans("plan", "plan", 4).await;
        std::fs::remove_file(&part).unwrap();
        let mut sink = Sink::open(&part, "plan".into()).await.unwrap();
        assert_eq!(sink.next(), 0);
        sink.write(blocks(&budget, &[b'x'; 100]), false).await.unwrap();
        drop(sink);
        assert_eq!(Sink::open(&part, "plan".into()).await.unwrap().next(), 0);
    }

    #[tokio::test]
    async fn a_whole_part_stays_locked_until_it_has_its_name() {
        let budget = Budget::new(1 << 20, Metrics::new());
        let directory = tempfile::tempdir().unwrap();
        let (part, whole) = (directory.path().join("a.part"), directory.path().join("a.ts"));
        let mut sink = Sink::open(&part, "plan".into()).await.unwrap();
        sink.write(blocks(&budget, b"one"), true).await.unwrap();
        let lock = sink.finish().await.unwrap();
        let second = tokio::spawn({
            let part = part.clone();
            async move { Sink::open(&part, "plan".into()).await.unwrap().next() }
        });
        while std::fs::read_dir("/proc/self/fd").unwrap().flatten().filter(|fd| points_to(fd, &part)).count() < 2 {
            tokio::task::yield_now().await;
        }
        assert!(!second.is_finished());
        std::fs::rename(&part, &whole).unwrap();
        std::fs::remove_file(journal_path(&part)).unwrap();
        drop(lock);
        assert_eq!(second.await.unwrap(), 0);
        assert_eq!(std::fs::read(&whole).unwrap(), b"one");
    }

    fn points_to(fd: &std::fs::DirEntry, path: &Path) -> bool {
        std::fs::read_link(fd.path()).is_ok_and(|target| target == path)
    }
}
