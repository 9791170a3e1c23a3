//! A second request for a unit that is late (a hedge): what is whole first is taken.

use std::pin::{Pin, pin};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SetOnce};

use super::fetch::{Fetcher, Request, name};
use super::hosts::Place;
use super::slot::{Slot, Turn};
use super::transport::Facts;
use crate::failure::{FailureKind, Result};
use crate::http::shown;

/// Which of two requests for a unit brought it.
enum Whole {
    First(Facts),
    Second(Box<Second>),
}

/// What a second request brought.
struct Second {
    facts: Facts,
    slot: Slot,
    received: u64,
}

impl Fetcher {
    /// Fetches a unit. When it is late it is asked for a second time, and what is whole first is taken:
    /// bytes of both are never mixed. Also says how many bytes the progress has been told.
    pub async fn attempt(&self, request: Request<'_>, turn: &mut Turn) -> (Result<Facts>, u64) {
        let mut received = 0;
        let no_turn = turn.never();
        let whole = {
            let mut first = pin!(self.fetch(request, turn, &mut received));
            let alone = tokio::select! {
                biased;
                done = &mut first => Ok(done),
                permits = self.late(request) => Err(permits),
            };
            match alone {
                Ok(done) => done.map(Whole::First),
                Err(permits) => whole_first(first, self.second(request, no_turn, permits)).await,
            }
        };
        match whole {
            Ok(Whole::First(facts)) => (Ok(facts), received),
            Ok(Whole::Second(second)) => {
                self.progress.take_back_bytes(received);
                self.progress.add_bytes(second.received);
                request.slot.start_over();
                for block in second.slot.into_blocks() {
                    request.slot.hand_over(block, turn).await;
                }
                (Ok(second.facts), second.received)
            }
            Err(failure) => (Err(failure), received),
        }
    }

    /// Waits until the unit is late and may be asked for a second time: never, where that would be one
    /// request more for a host that has trouble, or beyond what its lecture may ask again or receive. Holds
    /// nothing while it waits: the others need it.
    async fn late(&self, request: Request<'_>) -> ([OwnedSemaphorePermit; 2], Place) {
        let sent = *request.sent.wait().await;
        loop {
            request.slot.late().await;
            // What the file has waited for before is not the fault of this request.
            let is_late = self.pace.patience().is_some_and(|patience| sent.elapsed() >= patience);
            // Subtitles are counted as they come.
            let makes_sense = self.text.is_none() && !self.allowance.is_rate_limited() && request.host.is_calm();
            if is_late
                && makes_sense
                && self.budget.free_blocks() >= self.spare_blocks
                && let [Ok(stream), Ok(process)] = self.requests.clone().map(Semaphore::try_acquire_owned)
                && let Some(place) = request.host.admit_at_once()
                && self.allowance.ask_again().is_ok()
            {
                return ([stream, process], place);
            }
        }
    }

    /// Asks a second time for a unit that is late. `None` when that came to nothing: what it had goes at once.
    async fn second(
        &self,
        first: Request<'_>,
        mut turn: Turn,
        permits: ([OwnedSemaphorePermit; 2], Place),
    ) -> Option<Second> {
        self.metrics.segment_hedges.inc();
        let name = format!("{}: {}", name(first.unit), shown(&first.unit.url));
        tracing::debug!("{name}: late; asked for a second time");
        let (slot, sent, mut received) = (Slot::default(), SetOnce::new(), 0);
        let request = Request { slot: &slot, sent: &sent, is_second: true, ..first };
        let fetched = self.fetch(request, &mut turn, &mut received).await;
        drop(permits);
        match fetched {
            Ok(facts) if facts.damage.is_none() => Some(Second { facts, slot, received }),
            Ok(_) => None,
            Err(failure) => {
                if failure.kind != FailureKind::HostExhausted {
                    self.metrics.segment_failed(&failure);
                }
                tracing::debug!(kind = failure.kind.name(), "{name}: the second request: {failure}; the first goes on");
                None
            }
        }
    }
}

/// What is whole first. It is no matter when the second request comes to nothing. A failure of the first ends
/// both: the second has no right to the memory that the head of a file needs to get on.
async fn whole_first(
    mut first: Pin<&mut impl Future<Output = Result<Facts>>>,
    second: impl Future<Output = Option<Second>>,
) -> Result<Whole> {
    tokio::select! {
        biased;
        done = &mut first => done.map(Whole::First),
        Some(second) = second => Ok(Whole::Second(Box::new(second))),
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;
    use crate::failure::Failure;

    #[tokio::test]
    async fn line_25_what_is_whole_first_is_taken() {
        let facts = |leading_bytes| Facts { leading_bytes, ..Facts::default() };
        let second = async || Some(Second { facts: facts(2), slot: Slot::default(), received: 0 });
        let first = async |facts| {
            tokio::task::yield_now().await;
            Ok(facts)
        };
        let failed = || Err(Failure::new(FailureKind::TimedOut, "the first"));
        let brought = |whole: Result<Whole>| match whole {
            Ok(Whole::First(facts)) => Ok((1, facts.leading_bytes)),
            Ok(Whole::Second(second)) => Ok((2, second.facts.leading_bytes)),
            Err(failure) => Err(failure.message),
        };
        assert_eq!(brought(whole_first(pin!(pending()), second()).await), Ok((2, 2)));
        assert_eq!(brought(whole_first(pin!(first(facts(1))), second()).await), Ok((2, 2)));
        assert_eq!(brought(whole_first(pin!(ready(Ok(facts(1)))), second()).await), Ok((1, 1)));
        assert_eq!(brought(whole_first(pin!(first(facts(1))), ready(None)).await), Ok((1, 1)));
        assert_eq!(brought(whole_first(pin!(ready(failed())), pending()).await), Err("the first".into()));
    }
}
