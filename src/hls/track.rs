//! One media playlist to one file: units are fetched side by side and written in order.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::Instrument;

use super::fetch::Fetcher;
use super::plan::{Plan, Unit};
use super::sink::{self, PartLock, Sink};
use super::slot::{Slot, Turn};
use super::sniff::MediaKind;
use crate::failure::{Failure, FailureKind, Result};

/// Most bytes of an initialization section that is compared with the first one.
const MAP_LIMIT: usize = 4 << 20;

/// Downloads what is missing of `plan` into `part`, and says what is in it. When it returns, the
/// part is whole; its journal says so, so that doing it again asks the network for nothing.
///
/// `window` is the number of units that may be under way or waiting for their turn.
///
/// # Errors
/// The failure of the first unit, in file order, that could not be fetched, or of the disk. The part
/// and its journal stay for the next attempt.
pub async fn download(
    fetcher: Arc<Fetcher>,
    plan: Plan,
    fingerprint: String,
    part: &Path,
    window: usize,
) -> Result<(MediaKind, PartLock)> {
    let mut sink = Sink::open(part, fingerprint).await?;
    if sink.next() > 0 && fetcher.kind.get().is_none() {
        // The rest must be of the kind that is there.
        let kind = sink::kind_of(part).await?;
        fetcher.kind.get_or_init(|| kind);
    }
    fetcher.progress.add_segments(plan.len() as u64, sink.next() as u64);
    let (head, turn) = watch::channel(sink.next());
    let mut slots: VecDeque<Arc<Slot>> = VecDeque::with_capacity(window);
    // Dropped, and with it every fetcher stopped, when this function returns.
    let mut fetchers = JoinSet::new();
    let mut next = sink.next();
    for index in sink.next()..plan.len() {
        while next < plan.len().min(index + window) {
            let slot = Arc::new(Slot::default());
            slots.push_back(slot.clone());
            spawn(&mut fetchers, fetcher.clone(), plan.unit(next)?, slot, Turn::new(turn.clone(), next));
            next += 1;
        }
        while fetchers.try_join_next().is_some() {}
        head.send_replace(index);
        // cannot be empty: the loop above has just put the slot of `index` there.
        let Some(slot) = slots.pop_front() else { break };
        if plan.is_map(index) && sink.offset() > 0 {
            same_map(&slot, &mut sink).await?;
        } else {
            append(&fetcher, &slot, &mut sink).await?;
        }
        fetcher.metrics.segments.inc();
        fetcher.progress.segment_done();
    }
    let lock = sink.finish().await?;
    // cannot be missing: it is read from the part or told by the first unit, and no plan is empty.
    let kind = fetcher.kind.get().copied().ok_or_else(|| Failure::new(FailureKind::Internal, "a track of no kind"))?;
    Ok((kind, lock))
}

fn spawn(fetchers: &mut JoinSet<()>, fetcher: Arc<Fetcher>, unit: Unit, slot: Arc<Slot>, turn: Turn) {
    let fetch = async move {
        let guard = FinishOnDrop(slot);
        fetcher.run(&unit, &guard.0, turn).await;
    };
    // In the span of its job: a line about a segment names the task.
    fetchers.spawn(fetch.in_current_span());
}

/// A fetcher that panics must fail the download, not leave the writer waiting.
struct FinishOnDrop(Arc<Slot>);

impl Drop for FinishOnDrop {
    fn drop(&mut self) {
        self.0.finish(Err(Failure::new(FailureKind::Internal, "a fetcher ended without a result")));
    }
}

async fn append(fetcher: &Fetcher, slot: &Slot, sink: &mut Sink) -> Result<()> {
    loop {
        let arrival = slot.arrival().await;
        if arrival.started_over {
            sink.start_over();
        }
        let written: usize = arrival.blocks.iter().map(|block| block.bytes.len()).sum();
        let complete = matches!(arrival.end, Some(Ok(())));
        if let Some(Err(failure)) = arrival.end {
            return Err(failure);
        }
        sink.write(arrival.blocks, complete).await?;
        fetcher.metrics.written_bytes.inc_by(written as u64);
        if complete {
            return Ok(());
        }
    }
}

/// A later initialization section adds nothing when it equals the first, which is the usual case
/// after an advertisement. Another one would need another file.
async fn same_map(slot: &Slot, sink: &mut Sink) -> Result<()> {
    let mut bytes = Vec::new();
    loop {
        let arrival = slot.arrival().await;
        if arrival.started_over {
            bytes.clear();
        }
        for block in &arrival.blocks {
            bytes.extend_from_slice(&block.bytes);
        }
        let changed = || {
            let message = "the initialization section changes on the way: the rest does not fit into one file";
            Err(Failure::new(FailureKind::PlaylistInvalid, message))
        };
        if bytes.len() > MAP_LIMIT || bytes.len() as u64 > sink.offset() {
            return changed();
        }
        match arrival.end {
            None => {}
            Some(Err(failure)) => return Err(failure),
            Some(Ok(())) if sink.start(bytes.len()).await? == bytes => return sink.write(Vec::new(), true).await,
            Some(Ok(())) => return changed(),
        }
    }
}
