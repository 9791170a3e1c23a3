//! Where a unit's fetcher hands blocks over to the writer of the file.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::buffer::Block;
use super::transport::Facts;
use crate::failure::Result;

/// Blocks of the head of the file that are written together: each write is a trip to another
/// thread, which costs as much as writing several blocks.
const WRITE_BLOCKS: usize = 4;
/// Blocks that the head of the file may have between socket and disk.
const HEAD_BLOCKS: usize = 8;

/// One unit on its way from the network to the file. One fetcher, one writer.
#[derive(Default)]
pub struct Slot {
    state: Mutex<State>,
    /// Wakes the writer.
    filled: Notify,
    /// Wakes the fetcher.
    emptied: Notify,
    /// Wakes whoever waits for the end.
    told: Notify,
    /// Tells the fetcher that the writer has waited for too long.
    overdue: Notify,
}

#[derive(Default)]
struct State {
    blocks: VecDeque<Block>,
    started_over: bool,
    /// The fetcher waits for memory: what is there must be written, however little.
    short_of_memory: bool,
    end: Option<Result<Facts>>,
}

/// What the writer finds in a slot.
pub struct Arrival {
    /// The unit began anew: what was written of it before is void.
    pub started_over: bool,
    /// The next blocks.
    pub blocks: Vec<Block>,
    /// Nothing follows.
    pub end: Option<Result<Facts>>,
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is a single step, so a poisoned state is still a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a block over. The head of the file waits while the disk is behind; what waits for
    /// its turn is bounded by the budget that its blocks come from.
    pub async fn hand_over(&self, block: Block, turn: &Turn) {
        while turn.has_come() && self.state().blocks.len() >= HEAD_BLOCKS {
            self.emptied.notified().await;
        }
        let waiting = {
            let mut state = self.state();
            state.blocks.push_back(block);
            state.blocks.len()
        };
        if waiting >= WRITE_BLOCKS {
            self.filled.notify_one();
        }
    }

    /// The fetcher waits for a block: the writer must not wait for more of them.
    pub fn wait_for_memory(&self) {
        self.state().short_of_memory = true;
        self.filled.notify_one();
    }

    /// The writer has waited for too long.
    pub fn is_overdue(&self) {
        self.overdue.notify_one();
    }

    /// Waits until the writer has waited for too long.
    pub async fn late(&self) {
        self.overdue.notified().await;
    }

    /// What has been handed over.
    pub fn into_blocks(self) -> impl Iterator<Item = Block> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        state.blocks.into_iter()
    }

    /// Throws away what has been handed over: the unit is fetched from its beginning again.
    pub fn start_over(&self) {
        let mut state = self.state();
        state.blocks.clear();
        state.started_over = true;
    }

    /// Says how the unit ended. Only the first word counts.
    pub fn finish(&self, result: Result<Facts>) {
        self.state().end.get_or_insert(result);
        self.filled.notify_one();
        self.told.notify_waiters();
    }

    /// Waits for something to write.
    pub async fn arrival(&self) -> Arrival {
        loop {
            let arrival = self.take(|state| {
                let enough = state.blocks.len() >= WRITE_BLOCKS;
                enough || state.end.is_some() || (state.short_of_memory && !state.blocks.is_empty())
            });
            if let Some(arrival) = arrival {
                self.emptied.notify_one();
                return arrival;
            }
            self.filled.notified().await;
        }
    }

    /// All of the unit and what is in it, if all of it is there and whole.
    pub fn whole(&self) -> Option<(Vec<Block>, Facts)> {
        let arrival = self.take(|state| matches!(state.end, Some(Ok(_))))?;
        Some((arrival.blocks, arrival.end?.ok()?))
    }

    /// Waits until the unit has ended, well or not.
    pub async fn ended(&self) {
        loop {
            let told = self.told.notified();
            if self.state().end.is_some() {
                return;
            }
            told.await;
        }
    }

    fn take(&self, when: impl Fn(&State) -> bool) -> Option<Arrival> {
        let mut state = self.state();
        when(&state).then(|| {
            state.short_of_memory = false;
            Arrival {
                started_over: std::mem::take(&mut state.started_over),
                blocks: state.blocks.drain(..).collect(),
                end: state.end.clone(),
            }
        })
    }
}

/// Tells a fetcher when its unit is the next one to be written.
#[derive(Clone)]
pub struct Turn {
    head: watch::Receiver<usize>,
    index: usize,
}

impl Turn {
    /// For the unit `index`; `head` holds the index of the unit that is being written.
    pub fn new(head: watch::Receiver<usize>, index: usize) -> Self {
        Turn { head, index }
    }

    /// Index of the unit that is being written.
    pub fn head(&self) -> usize {
        *self.head.borrow()
    }

    /// Whether the unit is the head of the file.
    pub fn has_come(&self) -> bool {
        self.head() >= self.index
    }

    /// Of a unit that is never the head of the file: nobody writes it.
    pub fn never(&self) -> Turn {
        Turn { head: self.head.clone(), index: usize::MAX }
    }

    /// Waits until the unit is the head of the file. Never, when the writer is gone.
    pub async fn come(&mut self) {
        let index = self.index;
        if self.head.wait_for(|head| *head >= index).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::failure::{Failure, FailureKind};
    use crate::hls::buffer::{BLOCK_BYTES, Budget};
    use crate::metrics::Metrics;

    fn turn(head: usize, index: usize) -> (watch::Sender<usize>, Turn) {
        let (sender, receiver) = watch::channel(head);
        (sender, Turn::new(receiver, index))
    }

    async fn block(budget: &Budget, turn: &mut Turn, byte: u8) -> Block {
        let mut block = budget.block(turn).await.unwrap();
        block.append(1, |place| place[0] = byte);
        block
    }

    fn bytes(blocks: &[Block]) -> Vec<u8> {
        blocks.iter().map(|block| block[0]).collect()
    }

    #[tokio::test]
    async fn the_head_waits_for_the_disk_and_later_units_do_not() {
        let budget = Budget::new(64 * BLOCK_BYTES, Metrics::new());
        let slot = Slot::default();
        let (head, mut turn) = turn(0, 1);
        for byte in 0..HEAD_BLOCKS as u8 + 2 {
            slot.hand_over(block(&budget, &mut turn, byte).await, &turn).await;
        }
        head.send(1).unwrap();
        let next = block(&budget, &mut turn, 99).await;
        let waiting = slot.hand_over(next, &turn);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        let arrival = slot.arrival().await;
        assert_eq!(bytes(&arrival.blocks), (0..HEAD_BLOCKS as u8 + 2).collect::<Vec<_>>());
        assert!(arrival.end.is_none() && !arrival.started_over);
        waiting.await;
        assert!(slot.whole().is_none(), "its end is not there");
        slot.finish(Ok(Facts::default()));
        assert_eq!(bytes(&slot.whole().unwrap().0), [99]);
    }

    #[tokio::test]
    async fn a_fetcher_that_waits_for_memory_is_not_waited_for() {
        let budget = Budget::new(64 * BLOCK_BYTES, Metrics::new());
        let slot = Slot::default();
        let (_head, mut turn) = turn(0, 0);
        slot.hand_over(block(&budget, &mut turn, 1).await, &turn).await;
        let arrival = slot.arrival();
        tokio::pin!(arrival);
        assert!(futures_util::poll!(arrival.as_mut()).is_pending());
        slot.wait_for_memory();
        assert_eq!(bytes(&arrival.await.blocks), [1]);
    }

    #[tokio::test]
    async fn starting_over_throws_away_what_waits() {
        let budget = Budget::new(64 * BLOCK_BYTES, Metrics::new());
        let slot = Slot::default();
        let (_head, mut turn) = turn(0, 0);
        slot.hand_over(block(&budget, &mut turn, 1).await, &turn).await;
        slot.start_over();
        slot.hand_over(block(&budget, &mut turn, 2).await, &turn).await;
        slot.finish(Ok(Facts::default()));
        let arrival = slot.arrival().await;
        assert!(arrival.started_over && matches!(arrival.end, Some(Ok(_))));
        assert_eq!(bytes(&arrival.blocks), [2]);
    }

    #[tokio::test]
    async fn the_first_end_counts_and_wakes_the_writer() {
        let slot = Arc::new(Slot::default());
        let reader = tokio::spawn({
            let slot = slot.clone();
            async move { slot.arrival().await.end }
        });
        slot.finish(Err(Failure::new(FailureKind::NotFound, "first")));
        slot.finish(Ok(Facts::default()));
        assert_eq!(reader.await.unwrap().unwrap().unwrap_err().message, "first");
        slot.ended().await;
        assert!(slot.whole().is_none());
    }
}
