//! Bytes of segments that wait in memory: one budget for the whole process, and the blocks that
//! are charged to it. Blocks are used again, so that memory does not grow with what passes through.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::Metrics;

/// Capacity of a block: large enough that a write call costs little, small enough that a few of
/// them for each request in flight are nothing.
pub const BLOCK_BYTES: usize = 256 * 1024;

/// The budget; cheap to clone.
#[derive(Clone)]
pub struct Budget(Arc<Inner>);

struct Inner {
    /// One permit for each block that may wait.
    permits: Arc<Semaphore>,
    /// Buffers that can be used again.
    spare: Mutex<Vec<Vec<u8>>>,
    metrics: Arc<Metrics>,
}

impl Budget {
    /// A budget of `bytes`, at least one block.
    pub fn new(bytes: usize, metrics: Arc<Metrics>) -> Self {
        let blocks = (bytes / BLOCK_BYTES).max(1);
        metrics.buffer_limit_bytes.set((blocks * BLOCK_BYTES) as i64);
        Budget(Arc::new(Inner { permits: Arc::new(Semaphore::new(blocks)), spare: Mutex::default(), metrics }))
    }

    /// An empty block, not charged.
    pub fn block(&self) -> Block {
        let spare = self.0.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Block { bytes: spare.unwrap_or_else(|| Vec::with_capacity(BLOCK_BYTES)), charge: None, budget: self.clone() }
    }

    /// Waits until there is room for one more block.
    pub async fn room(&self) -> Charge {
        // cannot fail: the semaphore is never closed. Were it, the block would go uncharged.
        let permit = self.0.permits.clone().acquire_owned().await.ok();
        self.0.metrics.buffer_used_bytes.inc_by(BLOCK_BYTES as i64);
        Charge { _permit: permit, budget: self.clone() }
    }
}

/// Room for one block in the budget, given back when dropped.
pub struct Charge {
    _permit: Option<OwnedSemaphorePermit>,
    budget: Budget,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.0.metrics.buffer_used_bytes.dec_by(BLOCK_BYTES as i64);
    }
}

/// Up to [`BLOCK_BYTES`] of a unit.
pub struct Block {
    /// The bytes, in the order of the file.
    pub bytes: Vec<u8>,
    charge: Option<Charge>,
    budget: Budget,
}

impl Block {
    /// Charges the block: it may wait in memory now.
    pub fn charge(&mut self, charge: Charge) {
        self.charge = Some(charge);
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        let inner = &self.budget.0;
        // Without waiters there is no use for many: each request in flight fills one at a time.
        let mut spare = inner.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < 32 {
            spare.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn room_is_bounded_and_comes_back() {
        let metrics = Metrics::new();
        let budget = Budget::new(2 * BLOCK_BYTES, metrics.clone());
        let first = budget.room().await;
        let mut block = budget.block();
        block.charge(budget.room().await);
        let waiting = budget.room();
        tokio::pin!(waiting);
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        assert_eq!(metrics.buffer_used_bytes.get(), 2 * BLOCK_BYTES as i64);
        drop(block);
        assert!(futures_util::poll!(waiting.as_mut()).is_ready());
        drop(first);
        assert_eq!(metrics.buffer_used_bytes.get(), 0);
    }
}
