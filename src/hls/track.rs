//! One media playlist to one file: units are fetched side by side and written in order.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tracing::Instrument;

use super::fetch::{self, Fetcher, Permits};
use super::fmp4;
use super::sink::{self, PartLock, Sink};
use super::slot::{Arrival, Slot, Turn};
use super::sniff::MediaKind;
use super::transport::Facts;
use crate::failure::{Context, Failure, FailureKind, Result};
use crate::http::shown;

/// Most bytes of an initialization section that is compared with the first one.
const MAP_LIMIT: usize = 4 << 20;
/// Most blocks that are written in one call.
const BATCH_BLOCKS: usize = 32;
/// How often somebody looks whether the unit that the file waits for is late.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How many requests a track may have in flight.
pub struct Bounds {
    /// For its stream, and for the process.
    pub requests: [Arc<Semaphore>; 2],
    /// Units that may be under way or waiting for their turn.
    pub window: usize,
}

/// A part that is whole.
pub struct Whole {
    pub kind: MediaKind,
    /// Where timestamps may begin anew: offsets in the part.
    pub sections: Vec<u64>,
    pub lock: PartLock,
}

/// A unit that is under way.
struct UnderWay {
    index: usize,
    slot: Arc<Slot>,
}

/// Downloads what is missing of the fetcher's plan into `part`, and says what is in it. When it
/// returns, the part is whole; its journal says so, so that doing it again asks the network for
/// nothing. With `one_format` all segments must be coded as the first is.
///
/// # Errors
/// The failure of the first unit, in file order, that could not be fetched, or of the disk, or
/// `codec_changed`. The part and its journal stay for the next attempt.
pub async fn download(
    fetcher: Arc<Fetcher>,
    fingerprint: String,
    part: &Path,
    bounds: &Bounds,
    one_format: bool,
) -> Result<Whole> {
    let _memory = fetcher.budget.begin();
    let mut sink = Sink::open(part, fingerprint).await?;
    if sink.next() > 0 && fetcher.kind.get().is_none() {
        // The rest must be of the kind that is there.
        let kind = sink::kind_of(part).await?;
        // cannot be told already: nobody else has begun.
        let _ = fetcher.kind.set(kind);
    }
    let mut format = one_format.then(Facts::default);
    if let Some(first) = format.as_mut().filter(|_| sink.next() > 0)
        && fetcher.kind.get() == Some(&MediaKind::TransportStream)
    {
        *first = sink::facts_of(part).await?;
    }
    let edition = fetcher.itinerary.edition();
    fetcher.progress.add_track(edition.plan.len() as u64, sink.next() as u64, edition.plan.bytes_from(sink.next()));
    let (head, turn) = watch::channel(sink.next());
    // One more is with the writer.
    let (under_way, arrivals) = mpsc::channel((bounds.window - 1).max(1));
    let start = sink.next();
    tokio::try_join!(
        dispatch(&fetcher, start, bounds, &turn, under_way),
        write(&fetcher, &mut sink, &head, arrivals, format.as_mut())
    )?;
    let sections = sink.sections().to_vec();
    let lock = sink.finish().await?;
    // cannot be missing: it is read from the part or told by the first unit, and no plan is empty.
    let kind = fetcher.kind.get().copied().ok_or_else(|| Failure::new(FailureKind::Internal, "a track of no kind"))?;
    Ok(Whole { kind, sections, lock })
}

/// Starts the fetchers, one after the other: each has its permits before the next one asks for
/// them. So the head of a file always has what it needs, and what others wait for comes.
async fn dispatch(
    fetcher: &Arc<Fetcher>,
    start: usize,
    bounds: &Bounds,
    turn: &watch::Receiver<usize>,
    under_way: mpsc::Sender<UnderWay>,
) -> Result<()> {
    // Dropped, and with it every fetcher stopped, when this future is.
    let mut fetchers = JoinSet::new();
    let mut known = fetcher.itinerary.edition().plan.len();
    for index in start.. {
        if !fetcher.itinerary.has_unit(index).await? {
            break;
        }
        let edition = fetcher.itinerary.edition();
        let length = edition.plan.len().max(known);
        fetcher.progress.add_segments((length - known) as u64);
        known = length;
        // Room in the window first: what is asked for must be waited for by the writer.
        let Ok(place) = under_way.reserve().await else { break };
        let [stream, process] = &bounds.requests;
        let _shared = [permit(stream).await?, permit(process).await?];
        let host = fetcher.hosts.of(&edition.plan.unit(index)?.url);
        let of_host = Some(host.admit().await);
        let slot = Arc::new(Slot::default());
        place.send(UnderWay { index, slot: slot.clone() });
        let turn = Turn::new(turn.clone(), index);
        spawn(&mut fetchers, fetcher.clone(), index, slot.clone(), turn, Permits { _shared, host, of_host });
        if edition.plan.is_map(index) {
            // It may say that what follows is protected: then nothing that follows is asked for.
            slot.ended().await;
        }
        while fetchers.try_join_next().is_some() {}
    }
    drop(under_way);
    while fetchers.join_next().await.is_some() {}
    Ok(())
}

async fn permit(requests: &Arc<Semaphore>) -> Result<tokio::sync::OwnedSemaphorePermit> {
    // cannot fail: nobody closes these semaphores.
    let closed = |_| Failure::new(FailureKind::Internal, "the bound of requests is gone");
    requests.clone().acquire_owned().await.map_err(closed)
}

fn spawn(
    fetchers: &mut JoinSet<()>,
    fetcher: Arc<Fetcher>,
    index: usize,
    slot: Arc<Slot>,
    turn: Turn,
    permits: Permits,
) {
    let fetch = async move {
        let guard = FinishOnDrop(slot);
        fetcher.run(index, &guard.0, turn, permits).await;
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

/// Writes units in order as they arrive.
async fn write(
    fetcher: &Fetcher,
    sink: &mut Sink,
    head: &watch::Sender<usize>,
    mut arrivals: mpsc::Receiver<UnderWay>,
    mut format: Option<&mut Facts>,
) -> Result<()> {
    let mut next = arrivals.recv().await;
    while let Some(UnderWay { index, slot }) = next.take() {
        head.send_replace(index);
        if fetcher.itinerary.edition().plan.begins_section(index) {
            sink.begin_section().await?;
        }
        if fetcher.itinerary.edition().plan.is_map(index) && sink.offset() > 0 {
            same_map(&slot, sink).await?;
            complete(fetcher, 1);
        } else {
            next = append(fetcher, index, &slot, sink, &mut arrivals, format.as_deref_mut()).await?;
        }
        if next.is_none() {
            next = arrivals.recv().await;
        }
    }
    Ok(())
}

/// Writes one unit, and those after it that are there already in the same call. Returns the next
/// one, if it was looked at.
async fn append(
    fetcher: &Fetcher,
    index: usize,
    slot: &Slot,
    sink: &mut Sink,
    arrivals: &mut mpsc::Receiver<UnderWay>,
    mut format: Option<&mut Facts>,
) -> Result<Option<UnderWay>> {
    let mut waited = Duration::ZERO;
    loop {
        let arrival = arrival(fetcher, slot, &mut waited).await;
        if arrival.started_over {
            sink.start_over();
        }
        let is_complete = match arrival.end {
            Some(Err(failure)) => return Err(failure),
            Some(Ok(facts)) => {
                goes_on(fetcher, index, format.as_deref_mut(), &facts)?;
                true
            }
            None => false,
        };
        // What stands before a change is written all the same.
        let mut changed = Ok(());
        let mut blocks = arrival.blocks;
        let mut ends = if is_complete { vec![blocks.len()] } else { Vec::new() };
        let mut next = None;
        while is_complete && blocks.len() < BATCH_BLOCKS {
            next = arrivals.try_recv().ok();
            let Some(UnderWay { index, slot }) = &next else { break };
            let plan = &fetcher.itinerary.edition().plan;
            if plan.is_map(*index) || plan.begins_section(*index) {
                break;
            }
            let Some((whole, facts)) = slot.whole() else { break };
            changed = goes_on(fetcher, *index, format.as_deref_mut(), &facts);
            if changed.is_err() {
                break;
            }
            blocks.extend(whole);
            ends.push(blocks.len());
            next = None;
        }
        let written: usize = blocks.iter().map(|block| block.len()).sum();
        let units = ends.len();
        sink.write(blocks, ends).await?;
        fetcher.metrics.written_bytes.inc_by(written as u64);
        complete(fetcher, units);
        changed?;
        if is_complete {
            return Ok(next);
        }
    }
}

/// Waits for something to write. The fetcher is told again and again when the file has waited for the unit
/// for too long, in all.
async fn arrival(fetcher: &Fetcher, slot: &Slot, waited: &mut Duration) -> Arrival {
    loop {
        let begun = Instant::now();
        let arrival = tokio::time::timeout(LOOK_EVERY, slot.arrival()).await;
        *waited += begun.elapsed();
        if fetcher.pace.patience().is_some_and(|patience| *waited >= patience) {
            slot.is_overdue();
        }
        if let Ok(arrival) = arrival {
            return arrival;
        }
    }
}

/// Takes a unit, if it is coded as the first one is where that has to be so.
fn goes_on(fetcher: &Fetcher, index: usize, first: Option<&mut Facts>, facts: &Facts) -> Result<()> {
    if let Some(first) = first {
        if let Err(change) = first.compatible(facts) {
            let unit = fetcher.itinerary.edition().plan.unit(index)?;
            let message = format!("{}: {}: {change}", fetch::name(&unit), shown(&unit.url));
            return Err(Failure::new(FailureKind::CodecChanged, message));
        }
        first.learn(facts);
    }
    fetcher.oddities.count(facts, &fetcher.metrics);
    Ok(())
}

fn complete(fetcher: &Fetcher, units: usize) {
    fetcher.metrics.segments.inc_by(units as u64);
    fetcher.progress.segments_done(units as u64);
}

/// A later initialization section adds nothing when it declares the tracks of the first, which is
/// the usual case after an advertisement. Another one would need another file.
async fn same_map(slot: &Slot, sink: &mut Sink) -> Result<()> {
    let mut bytes = Vec::new();
    loop {
        let arrival = slot.arrival().await;
        if arrival.started_over {
            bytes.clear();
        }
        for block in &arrival.blocks {
            bytes.extend_from_slice(block);
        }
        if bytes.len() > MAP_LIMIT {
            let message = format!("the initialization section has more than {MAP_LIMIT} bytes");
            return Err(Failure::new(FailureKind::SegmentInvalid, message));
        }
        match arrival.end {
            None => {}
            Some(Err(failure)) => return Err(failure),
            Some(Ok(_)) => {
                let first = sink.start(MAP_LIMIT.min(sink.offset() as usize)).await?;
                fmp4::same_tracks(&first, &bytes).at(|| "the initialization section changes on the way")?;
                return sink.write(Vec::new(), vec![0]).await;
            }
        }
    }
}
