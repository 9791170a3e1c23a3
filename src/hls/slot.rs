//! Where a unit's fetcher hands blocks over to the writer of the file.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::buffer::{Block, Budget};
use crate::failure::Result;

/// Blocks that the head of the file may have between socket and disk.
const HEAD_BLOCKS: usize = 4;

/// One unit on its way from the network to the file. One fetcher, one writer.
#[derive(Default)]
pub struct Slot {
    state: Mutex<State>,
    /// Wakes the writer.
    filled: Notify,
    /// Wakes the fetcher.
    emptied: Notify,
}

#[derive(Default)]
struct State {
    blocks: VecDeque<Block>,
    started_over: bool,
    end: Option<Result<()>>,
}

/// What the writer finds in a slot.
pub struct Arrival {
    /// The unit began anew: what was written of it before is void.
    pub started_over: bool,
    /// The next blocks.
    pub blocks: Vec<Block>,
    /// Nothing follows.
    pub end: Option<Result<()>>,
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is a single step, so a poisoned state is still a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, block: Block) {
        self.state().blocks.push_back(block);
        self.filled.notify_one();
    }

    /// Hands a block over. Waits until the budget has room for it or until the unit is the head of
    /// the file: the head goes straight to disk and never waits for the budget, which is what keeps
    /// a full budget from blocking everybody.
    pub async fn hand_over(&self, mut block: Block, budget: &Budget, turn: &mut Turn) {
        if !turn.has_come() {
            tokio::select! {
                charge = budget.room() => {
                    block.charge(charge);
                    return self.push(block);
                }
                () = turn.come() => {}
            }
        }
        while self.state().blocks.len() >= HEAD_BLOCKS {
            self.emptied.notified().await;
        }
        self.push(block);
    }

    /// Throws away what has been handed over: the unit is fetched from its beginning again.
    pub fn start_over(&self) {
        let mut state = self.state();
        state.blocks.clear();
        state.started_over = true;
    }

    /// Says how the unit ended. Only the first word counts.
    pub fn finish(&self, result: Result<()>) {
        self.state().end.get_or_insert(result);
        self.filled.notify_one();
    }

    /// Waits for something to write.
    pub async fn arrival(&self) -> Arrival {
        loop {
            {
                let mut state = self.state();
                if !state.blocks.is_empty() || state.end.is_some() {
                    let blocks = state.blocks.drain(..).collect();
                    let arrival = Arrival {
                        started_over: std::mem::take(&mut state.started_over),
                        blocks,
                        end: state.end.clone(),
                    };
                    drop(state);
                    self.emptied.notify_one();
                    return arrival;
                }
            }
            self.filled.notified().await;
        }
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

    /// Whether the unit is the head of the file.
    pub fn has_come(&self) -> bool {
        *self.head.borrow() >= self.index
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
    use crate::hls::buffer::BLOCK_BYTES;
    use crate::metrics::Metrics;

    fn block(budget: &Budget, byte: u8) -> Block {
        let mut block = budget.block();
        block.bytes.push(byte);
        block
    }

    #[tokio::test]
    async fn a_full_budget_stops_later_units_but_never_the_head() {
        let budget = Budget::new(BLOCK_BYTES, Metrics::new());
        let (head, receiver) = watch::channel(0);
        let slot = Arc::new(Slot::default());
        let mut turn = Turn::new(receiver, 1);
        slot.hand_over(block(&budget, 1), &budget, &mut turn).await;
        let second = slot.hand_over(block(&budget, 2), &budget, &mut turn);
        tokio::pin!(second);
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        head.send(1).unwrap();
        second.await;
        let arrival = slot.arrival().await;
        assert_eq!(arrival.blocks.iter().map(|block| block.bytes[0]).collect::<Vec<_>>(), [1, 2]);
        assert!(arrival.end.is_none() && !arrival.started_over);
    }

    #[tokio::test]
    async fn starting_over_throws_away_what_waits() {
        let budget = Budget::new(BLOCK_BYTES * 4, Metrics::new());
        let (_head, receiver) = watch::channel(0);
        let slot = Slot::default();
        let mut turn = Turn::new(receiver, 0);
        slot.hand_over(block(&budget, 1), &budget, &mut turn).await;
        slot.start_over();
        slot.hand_over(block(&budget, 2), &budget, &mut turn).await;
        slot.finish(Ok(()));
        let arrival = slot.arrival().await;
        assert!(arrival.started_over && arrival.end.is_some());
        assert_eq!(arrival.blocks.len(), 1);
        assert_eq!(arrival.blocks[0].bytes, [2]);
    }

    #[tokio::test]
    async fn the_head_waits_for_the_disk() {
        let budget = Budget::new(BLOCK_BYTES, Metrics::new());
        let (_head, receiver) = watch::channel(0);
        let slot = Slot::default();
        let mut turn = Turn::new(receiver, 0);
        for byte in 0..HEAD_BLOCKS as u8 {
            slot.hand_over(block(&budget, byte), &budget, &mut turn).await;
        }
        let one_more = slot.hand_over(block(&budget, 9), &budget, &mut turn);
        tokio::pin!(one_more);
        assert!(futures_util::poll!(one_more.as_mut()).is_pending());
        slot.arrival().await;
        one_more.await;
    }
}
