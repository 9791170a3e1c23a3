//! Bytes of segments in memory: one budget for the whole process, and the blocks that are taken out
//! of it. Every byte between socket and disk is in a block, so that nothing else grows with what
//! passes through.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memmap2::{MmapMut, MmapOptions};
use tokio::sync::OwnedSemaphorePermit;

use super::slot::Turn;
use crate::failure::{Failure, Result};
use crate::metrics::Metrics;
use crate::permits::Permits;

/// Capacity of a block. A multiple of 16, so that cipher blocks never straddle two of them.
pub const BLOCK_BYTES: usize = 128 * 1024;
/// One block in so many is kept for the heads of files.
const HEAD_SHARE: usize = 8;

/// The budget; cheap to clone.
#[derive(Clone)]
pub struct Budget(Arc<Inner>);

struct Inner {
    /// One permit for each block that anybody may take.
    common: Permits,
    /// One for each block that only the head of a file may take.
    for_heads: Permits,
    /// Memory that can be used again. Mapped and not allocated: what the allocator is given back
    /// in pieces of this size it keeps, spread over its arenas, and the process grows.
    spare: Mutex<Spare>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Spare {
    memory: Vec<MmapMut>,
    /// Tracks that are being downloaded.
    users: usize,
}

/// As long as somebody has one, memory that comes back is kept for the next block.
pub struct Use(Budget);

impl Budget {
    /// A budget of `bytes`, at least two blocks.
    pub fn new(bytes: usize, metrics: Arc<Metrics>) -> Self {
        let [common, for_heads] = shares(bytes);
        metrics.buffer_limit_bytes.set(((common + for_heads) * BLOCK_BYTES) as i64);
        Budget(Arc::new(Inner {
            common: Permits::new(common),
            for_heads: Permits::new(for_heads),
            spare: Mutex::default(),
            metrics,
        }))
    }

    /// Another size; what is too much goes as it comes back.
    pub fn resize(&self, bytes: usize) {
        let [common, for_heads] = shares(bytes);
        self.0.metrics.buffer_limit_bytes.set(((common + for_heads) * BLOCK_BYTES) as i64);
        self.0.common.resize(common);
        self.0.for_heads.resize(for_heads);
    }

    /// Somebody begins to download.
    pub fn begin(&self) -> Use {
        self.spare().users += 1;
        Use(self.clone())
    }

    fn spare(&self) -> MutexGuard<'_, Spare> {
        // Every change under the lock is a single step, so a poisoned state is still a whole one.
        self.0.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for an empty block. The head of a file also gets one of those that are kept for
    /// heads: they go straight on to the disk and come back, which is what keeps a full budget from
    /// blocking everybody.
    ///
    /// # Errors
    /// `disk_failed` when the system has no memory left.
    pub async fn block(&self, turn: &mut Turn) -> Result<Block> {
        let (common, for_heads) = (self.0.common.semaphore(), self.0.for_heads.semaphore());
        let permit = tokio::select! {
            biased;
            permit = common.acquire_owned() => permit.ok(),
            permit = async {
                turn.come().await;
                for_heads.acquire_owned().await
            } => permit.ok(),
        };
        self.take(permit)
    }

    /// A block that nobody has to be waited for.
    ///
    /// # Errors
    /// As [`Budget::block`].
    pub fn block_at_once(&self) -> Result<Option<Block>> {
        self.0.common.semaphore().try_acquire_owned().ok().map(|permit| self.take(Some(permit))).transpose()
    }

    /// How many blocks anybody may take now.
    pub fn free_blocks(&self) -> usize {
        self.0.common.semaphore().available_permits()
    }

    fn take(&self, permit: Option<OwnedSemaphorePermit>) -> Result<Block> {
        let inner = &self.0;
        // cannot be none: the semaphores are never closed. Were they, the block would go uncounted.
        let memory = self.spare().memory.pop();
        inner.metrics.buffer_used_bytes.inc_by(BLOCK_BYTES as i64);
        let mut block = Block { memory, length: 0, budget: self.clone(), _permit: permit };
        if block.memory.is_none() {
            // All pages at once: one by one, as they are written to, costs several times as much.
            let mapped = MmapOptions::new().len(BLOCK_BYTES).populate().map_anon();
            block.memory = Some(mapped.map_err(|error| Failure::disk("taking memory for a segment", error))?);
        }
        Ok(block)
    }
}

/// Blocks of a budget that anybody may take, and those for heads.
fn shares(bytes: usize) -> [usize; 2] {
    let blocks = (bytes / BLOCK_BYTES).max(2);
    let for_heads = blocks.div_ceil(HEAD_SHARE);
    [blocks - for_heads, for_heads]
}

/// Up to [`BLOCK_BYTES`] of a unit, in the order of the file. Gives its memory back when dropped.
pub struct Block {
    /// Always there until it is dropped.
    memory: Option<MmapMut>,
    length: usize,
    budget: Budget,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Block {
    /// How many bytes still fit.
    pub fn room(&self) -> usize {
        BLOCK_BYTES - self.length
    }

    /// Appends `count` bytes, at most [`Block::room`], which `write` puts there.
    pub fn append(&mut self, count: usize, write: impl FnOnce(&mut [u8])) {
        let end = self.length + count;
        if let Some(place) = self.memory.as_mut().and_then(|memory| memory.get_mut(self.length..end)) {
            write(place);
            self.length = end;
        }
    }

    /// Drops the first `count` bytes.
    pub fn cut_front(&mut self, count: usize) {
        let count = count.min(self.length);
        if let Some(memory) = &mut self.memory {
            memory.copy_within(count..self.length, 0);
        }
        self.length -= count;
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory.as_ref().map_or(&[], |memory| &memory[..self.length])
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let inner = &self.budget.0;
        inner.metrics.buffer_used_bytes.dec_by(BLOCK_BYTES as i64);
        let mut spare = self.budget.spare();
        if spare.users > 0 {
            spare.memory.extend(self.memory.take());
        }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut spare = self.0.spare();
        spare.users -= 1;
        if spare.users == 0 {
            // Nobody downloads: the system gets it back.
            spare.memory = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;

    fn used(metrics: &Metrics) -> usize {
        usize::try_from(metrics.buffer_used_bytes.get()).unwrap() / BLOCK_BYTES
    }

    #[tokio::test]
    async fn blocks_are_bounded_and_come_back_and_the_head_has_its_own() {
        let metrics = Metrics::new();
        let budget = Budget::new(8 * BLOCK_BYTES, metrics.clone());
        let (head, receiver) = watch::channel(0);
        let (mut first, mut second) = (Turn::new(receiver.clone(), 0), Turn::new(receiver, 1));
        let begun = budget.begin();
        let mut blocks = Vec::new();
        for _ in 0..7 {
            blocks.push(budget.block(&mut second).await.unwrap());
        }
        assert_eq!(used(&metrics), 7);
        let kept = budget.block(&mut first).await.unwrap();
        {
            let waiting = budget.block(&mut second);
            tokio::pin!(waiting);
            assert!(futures_util::poll!(waiting.as_mut()).is_pending());
            // It has become the head, and the head before it is done.
            head.send(1).unwrap();
            assert!(futures_util::poll!(waiting.as_mut()).is_pending());
            drop(kept);
            assert!(futures_util::poll!(waiting.as_mut()).is_ready());
        }
        assert_eq!(used(&metrics), 7);
        drop(blocks);
        assert_eq!(used(&metrics), 0);
        assert_eq!(budget.spare().memory.len(), 8, "it is used again");
        drop(begun);
        assert!(budget.spare().memory.is_empty(), "an idle process keeps no memory");
    }

    #[tokio::test]
    async fn a_block_holds_what_was_appended() {
        let budget = Budget::new(1 << 20, Metrics::new());
        let mut block = budget.block(&mut Turn::new(watch::channel(0).1, 0)).await.unwrap();
        block.append(2, |place| place.copy_from_slice(b"bo"));
        block.append(2, |place| place.copy_from_slice(b"dy"));
        assert_eq!((&block[..], block.room()), (&b"body"[..], BLOCK_BYTES - 4));
        block.append(BLOCK_BYTES, |_| panic!("there is no room for it"));
    }
}
