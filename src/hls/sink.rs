//! The `.part` file: bytes land in order, the journal follows, the name comes last.

use std::fs::File;
use std::io::{IoSlice, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::buffer::Block;
use super::journal::{Journal, Position};
use super::sniff::{MediaKind, SNIFF_BYTES};
use super::transport::{Facts, Inspector, PACKET};
use crate::disk::{beside, blocking, open_part};
use crate::failure::{Failure, Result};

/// How much of a part is read to learn what its first segment holds.
const SURVEY_BYTES: usize = 1 << 20;
/// How often the part is synced to disk while it grows: what a power loss may cost.
const SYNC_EVERY: Duration = Duration::from_secs(30);

/// Blocks that are written in one call: half a MiB. For larger calls the system makes larger pages
/// of cache, and finding those takes two to five times as long as the copy.
const MAX_SLICES: usize = 4;

/// One growing file. Every method runs blocking file calls on the blocking pool.
pub struct Sink {
    inner: Arc<Inner>,
    /// Where the unit that is being written begins.
    committed: Position,
    /// Where the next byte goes.
    offset: u64,
    last_sync: Instant,
    sections: Vec<u64>,
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
                journal.begin().map_err(failed)?;
            }
            file.set_len(position.offset).map_err(failed)?;
            let sections = journal.sections(position.next).map_err(failed)?;
            let inner = Arc::new(Inner { path, file, journal });
            Ok(Sink { inner, committed: position, offset: position.offset, last_sync: Instant::now(), sections })
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

    /// Appends blocks. A unit ends behind each of the first `ends` blocks, given as counts; the
    /// last unit ends where the blocks do, or goes on when there are no ends.
    ///
    /// # Errors
    /// `disk_full`, `disk_failed`. Units that were written before that are recorded.
    pub async fn write(&mut self, blocks: Vec<Block>, ends: Vec<usize>) -> Result<()> {
        let inner = self.inner.clone();
        let start = self.offset;
        let before = self.committed;
        let length = |blocks: &[Block]| blocks.iter().map(|block| block.len() as u64).sum::<u64>();
        let end = start + length(&blocks);
        let position = (!ends.is_empty()).then_some(Position { next: before.next + ends.len(), offset: end });
        let sync = position.is_some() && self.last_sync.elapsed() >= SYNC_EVERY;
        blocking(move || {
            let failed = |error| Failure::disk(format_args!("writing {}", inner.path.display()), error);
            let mut at = start;
            if let Err(error) = write_all_at(&inner.file, &blocks, &mut at) {
                let offsets = ends.iter().map(|count| start + length(&blocks[..*count]));
                let whole = offsets.zip(before.next + 1..).take_while(|(offset, _)| *offset <= at).last();
                if let Some((offset, next)) = whole {
                    inner.journal.record(Position { next, offset }).map_err(failed)?;
                }
                return Err(failed(error));
            }
            drop(blocks);
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

    /// Notes that timestamps may begin anew with the unit that is written next.
    ///
    /// # Errors
    /// `disk_full`, `disk_failed`.
    pub async fn begin_section(&mut self) -> Result<()> {
        let inner = self.inner.clone();
        let (number, position) = (self.sections.len(), self.committed);
        blocking(move || {
            let failed = |error| Failure::disk(format_args!("writing the journal of {}", inner.path.display()), error);
            inner.journal.note_section(number, position).map_err(failed)
        })
        .await?;
        self.sections.push(position.offset);
        Ok(())
    }

    /// Where sections begin behind the first: offsets in the file.
    pub fn sections(&self) -> &[u64] {
        &self.sections
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

/// Writes all blocks at `at`, several in one call, and moves it to where it got.
fn write_all_at(file: &File, blocks: &[Block], at: &mut u64) -> std::io::Result<()> {
    let mut slices: Vec<IoSlice> = blocks.iter().map(|block| IoSlice::new(block)).collect();
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        let count = rest.len().min(MAX_SLICES);
        match rustix::io::pwritev(file, &rest[..count], *at) {
            Ok(0) if rest.iter().any(|slice| !slice.is_empty()) => return Err(std::io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                *at += written as u64;
                IoSlice::advance_slices(&mut rest, written);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
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

/// What the first segment of a transport stream holds, as far as its beginning in a part tells.
///
/// # Errors
/// `disk_failed`.
pub async fn facts_of(part: &Path) -> Result<Facts> {
    let path = part.to_owned();
    blocking(move || {
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(SURVEY_BYTES as u64).read_to_end(&mut bytes));
        read.map_err(|error| Failure::disk(format_args!("reading {}", path.display()), error))?;
        let (packets, _) = bytes.as_chunks::<PACKET>();
        let mut inspector = Inspector::new();
        inspector.inspect(packets.as_flattened()).and_then(|()| inspector.finish())
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;
    use crate::hls::buffer::Budget;
    use crate::hls::slot::Turn;
    use crate::metrics::Metrics;

    /// The text, a byte in each block.
    async fn blocks(budget: &Budget, text: &[u8]) -> Vec<Block> {
        let mut blocks = Vec::new();
        for byte in text {
            let mut block = budget.block(&mut Turn::new(watch::channel(0).1, 0)).await.unwrap();
            block.append(1, |place| place[0] = *byte);
            blocks.push(block);
        }
        blocks
    }

    #[tokio::test]
    async fn line_39_only_recorded_units_survive_a_kill() {
        let budget = Budget::new(8 << 20, Metrics::new());
        let directory = tempfile::tempdir().unwrap();
        let part = directory.path().join("a.part");
        let mut sink = Sink::open(&part, "f".into()).await.unwrap();
        sink.write(blocks(&budget, b"one").await, vec![3]).await.unwrap();
        sink.write(blocks(&budget, b"tw").await, vec![]).await.unwrap();
        drop(sink);
        assert_eq!(std::fs::read(&part).unwrap(), b"onetw");
        let mut sink = Sink::open(&part, "f".into()).await.unwrap();
        assert_eq!((sink.next(), sink.offset()), (1, 3));
        assert_eq!(std::fs::read(&part).unwrap(), b"one");
        sink.write(blocks(&budget, b"long and wrong").await, vec![]).await.unwrap();
        sink.start_over();
        sink.write(blocks(&budget, b"two").await, vec![3]).await.unwrap();
        sink.finish().await.unwrap();
        assert_eq!(std::fs::read(&part).unwrap(), b"onetwo");
        let other = Sink::open(&part, "other plan".into()).await.unwrap();
        assert_eq!((other.next(), other.offset()), (0, 0));
    }

    /// What is on disk after `next` units of 3 bytes of one plan and a part of a unit of another.
    async fn two_plans(first: &str, second: &str, next: usize) -> (tempfile::TempDir, PathBuf) {
        let budget = Budget::new(8 << 20, Metrics::new());
        let directory = tempfile::tempdir().unwrap();
        let part = directory.path().join("a.part");
        let mut sink = Sink::open(&part, first.into()).await.unwrap();
        for _ in 0..next {
            sink.write(blocks(&budget, b"one").await, vec![3]).await.unwrap();
        }
        sink.inner.journal.record_durable(Position { next, offset: 3 * next as u64 }).unwrap();
        drop(sink);
        let mut sink = Sink::open(&part, second.into()).await.unwrap();
        sink.write(blocks(&budget, &[b'2'; 13]).await, vec![]).await.unwrap();
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
        let budget = Budget::new(8 << 20, Metrics::new());
        let (_directory, part) = two_plans("plan", "plan", 4).await;
        std::fs::remove_file(&part).unwrap();
        let mut sink = Sink::open(&part, "plan".into()).await.unwrap();
        assert_eq!(sink.next(), 0);
        sink.write(blocks(&budget, &[b'x'; 13]).await, vec![]).await.unwrap();
        drop(sink);
        assert_eq!(Sink::open(&part, "plan".into()).await.unwrap().next(), 0);
    }

    #[tokio::test]
    async fn line_38_a_part_that_fills_the_disk_leaves_its_journal_room() {
        let directory = tempfile::tempdir().unwrap();
        let part = directory.path().join("a.part");
        let sink = Sink::open(&part, "plan".into()).await.unwrap();
        let before = std::fs::metadata(journal_path(&part)).unwrap();
        let position = Position { next: 1, offset: 3 };
        sink.inner.journal.record(position).unwrap();
        sink.inner.journal.record_durable(position).unwrap();
        assert_eq!(std::fs::metadata(journal_path(&part)).unwrap().len(), before.len(), "nothing more is taken");
    }

    #[tokio::test]
    async fn a_whole_part_stays_locked_until_it_has_its_name() {
        let budget = Budget::new(8 << 20, Metrics::new());
        let directory = tempfile::tempdir().unwrap();
        let (part, whole) = (directory.path().join("a.part"), directory.path().join("a.ts"));
        let mut sink = Sink::open(&part, "plan".into()).await.unwrap();
        sink.write(blocks(&budget, b"one").await, vec![3]).await.unwrap();
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
