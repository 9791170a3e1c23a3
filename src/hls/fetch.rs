//! One unit from its URL into its slot: request, checks, decryption, another try, another address.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderValue, RANGE};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SetOnce};

use super::allowance::Allowance;
use super::body::{Body, Files};
use super::buffer::Budget;
use super::ceiling::Ceiling;
use super::decrypt::Decryptor;
use super::hosts::{self, Host, Hosts, Place};
use super::intake::Intake;
use super::itinerary::{Edition, Itinerary};
use super::key::KeyRing;
use super::oddities::Oddities;
use super::pace::Pace;
use super::plan::Unit;
use super::playlist::ByteRange;
use super::slot::{Slot, Turn};
use super::sniff::{self, MediaKind};
use super::transport::Facts;
use crate::failure::{Context, Failure, FailureKind, Result};
use crate::http::{self, Encoding, MediaClient, MediaResponse, RequestHeaders, shown};
use crate::metrics::Metrics;
use crate::progress::Progress;
use crate::traces;

/// One in so many units has a span, the first among them: a lecture has thousands.
const TRACED: usize = 16;

/// How long the head of a file waits for a place at its host; with each attempt as much longer, because
/// a host that has too much to do refuses what comes without one.
const HEAD_PATIENCE: Duration = Duration::from_secs(2);

/// What all fetchers of one track share.
pub struct Fetcher {
    pub client: MediaClient,
    pub hosts: Hosts,
    pub itinerary: Itinerary,
    pub budget: Budget,
    pub allowance: Arc<Allowance>,
    /// Attempts at one unit at one address.
    pub attempts: u32,
    pub ceiling: Ceiling,
    /// What is missing after a second try may be missing.
    pub allow_gaps: bool,
    /// Whether bytes in front of a transport stream may be left out when they are no picture.
    pub allow_leading_bytes: bool,
    /// Requests of the stream and of the process.
    pub requests: [Arc<Semaphore>; 2],
    pub pace: Pace,
    pub oddities: Oddities,
    pub keys: KeyRing,
    pub files: Files,
    /// What the units of the track are, told by the head of the file.
    pub kind: SetOnce<MediaKind>,
    /// Of subtitles: how many bytes may still come. The end of each unit is marked in the part.
    pub text: Option<AtomicU64>,
    pub metrics: Arc<Metrics>,
    pub progress: Arc<Progress>,
}

/// One request for a unit, and where what comes goes.
#[derive(Clone, Copy)]
struct Request<'a> {
    unit: &'a Unit,
    headers: &'a RequestHeaders,
    host: &'a Arc<Host>,
    slot: &'a Slot,
    /// Whether its bytes are told to the progress as they come.
    is_shown: bool,
}

/// Which of two requests for a unit brought it.
#[derive(Debug, PartialEq)]
enum Whole {
    First(Facts),
    Second(Facts),
}

/// What a unit holds from its first request to its end: it may be asked for.
pub struct Permits {
    /// Of the stream and of the process.
    pub _shared: [OwnedSemaphorePermit; 2],
    pub host: Arc<Host>,
    pub of_host: Option<Place>,
}

impl Permits {
    /// The unit is at another host now.
    async fn move_to(&mut self, host: Arc<Host>, turn: &mut Turn) {
        if !Arc::ptr_eq(&host, &self.host) {
            self.of_host = None;
            self.host = host;
            self.admit(turn, 1).await;
        }
    }

    /// Takes a place at the host, unless the unit has one. The head of the file goes ahead without one in
    /// the end: those that have the places may in turn wait for the head.
    async fn admit(&mut self, turn: &mut Turn, attempt: u32) {
        if self.of_host.is_none() {
            self.of_host = tokio::select! {
                biased;
                place = self.host.admit() => Some(place),
                () = async {
                    turn.come().await;
                    tokio::time::sleep(HEAD_PATIENCE * attempt).await;
                } => None,
            };
        }
    }
}

impl Fetcher {
    /// Fetches a unit into its slot, trying again where that can help, and says there how it ended.
    pub async fn run(&self, index: usize, slot: &Slot, mut turn: Turn, mut permits: Permits) {
        let span = match index.is_multiple_of(TRACED) {
            true => traces::span!("segment", index),
            false => tracing::Span::none(),
        };
        slot.finish(traces::within(span, self.bring(index, slot, &mut turn, &mut permits)).await);
    }

    /// Tries one edition of the plan after the other.
    async fn bring(&self, index: usize, slot: &Slot, turn: &mut Turn, permits: &mut Permits) -> Result<Facts> {
        loop {
            let edition = self.itinerary.edition();
            let unit = edition.plan.unit(index)?;
            permits.move_to(self.hosts.of(&unit.url), turn).await;
            match self.try_edition(&edition, &unit, slot, turn, permits).await {
                Err(failure) if failure.kind.is_of_the_origin() => {
                    self.itinerary.renew(edition.number, index, turn.head(), failure).await?;
                    slot.start_over();
                }
                done => return done,
            }
        }
    }

    async fn try_edition(
        &self,
        edition: &Edition,
        unit: &Unit,
        slot: &Slot,
        turn: &mut Turn,
        permits: &mut Permits,
    ) -> Result<Facts> {
        let mut attempt = 1;
        loop {
            permits.admit(turn, attempt).await;
            let request = Request { unit, headers: &edition.headers, host: &permits.host, slot, is_shown: true };
            let (fetched, received) = self.attempt(request, turn).await;
            let failure = match fetched.and_then(|facts| self.without_holes(unit, facts, attempt)) {
                Ok(facts) => {
                    self.oddities.count(&facts, &self.metrics);
                    return Ok(facts);
                }
                Err(failure) => failure,
            };
            self.metrics.segment_failed(&failure);
            self.progress.take_back_bytes(received);
            let place = |failure: Failure| failure.at(format_args!("{} (attempt {attempt})", name(unit)));
            if attempt >= failure.kind.request_attempts(self.attempts) {
                return Err(place(failure));
            }
            let failure = self.allowance.retry(failure).map_err(place)?;
            let kind = failure.kind.name();
            tracing::debug!(kind, request_attempt = attempt, "{}: {failure}; trying again", name(unit));
            self.metrics.segment_retries.inc();
            slot.start_over();
            if failure.is_overload {
                // The host has fewer places now: this one goes to whoever comes next.
                permits.of_host = None;
            }
            if hosts::asked_pause(&failure).is_none() {
                tokio::time::sleep(http::pause(attempt, None)).await;
            }
            attempt += 1;
        }
    }

    /// Fetches a unit. When it is late it is asked for a second time, and what is whole first is taken:
    /// bytes of both are never mixed. Also says how many bytes the progress has been told.
    async fn attempt(&self, request: Request<'_>, turn: &mut Turn) -> (Result<Facts>, u64) {
        let (mut received, mut received_again) = (0, 0);
        let spare = Slot::default();
        let mut no_turn = turn.never();
        let whole = {
            let mut first = pin!(self.fetch(request, turn, &mut received));
            let alone = tokio::select! {
                biased;
                done = &mut first => Ok(done),
                permits = self.late(request) => Err(permits),
            };
            match alone {
                Ok(done) => done.map(Whole::First),
                Err(_permits) => {
                    let Request { unit, .. } = request;
                    self.metrics.segment_hedges.inc();
                    tracing::debug!("{}: {}: late; asked for a second time", name(unit), shown(&unit.url));
                    let again = Request { slot: &spare, is_shown: false, ..request };
                    whole_first(first, self.fetch(again, &mut no_turn, &mut received_again)).await
                }
            }
        };
        match whole {
            Ok(Whole::First(facts)) => (Ok(facts), received),
            Ok(Whole::Second(facts)) => {
                self.progress.take_back_bytes(received);
                self.progress.add_bytes(received_again);
                request.slot.start_over();
                for block in spare.into_blocks() {
                    request.slot.hand_over(block, turn).await;
                }
                (Ok(facts), received_again)
            }
            Err(failure) => (Err(failure), received),
        }
    }

    /// Waits until the unit is late and may be asked for a second time: never, where that would be one
    /// request more for a host that has trouble, or beyond what its lecture may ask again.
    async fn late(&self, request: Request<'_>) -> ([OwnedSemaphorePermit; 2], Place) {
        let begun = Instant::now();
        loop {
            request.slot.late().await;
            // What the file has waited for before is not the fault of this request.
            if self.pace.patience().is_some_and(|patience| begun.elapsed() >= patience) {
                break;
            }
        }
        // Subtitles are counted as they come.
        if self.text.is_none() && request.host.is_calm() && self.allowance.ask_again().is_ok() {
            let [stream, process] = self.requests.clone();
            if let (Ok(stream), Ok(process)) = (stream.acquire_owned().await, process.acquire_owned().await) {
                return ([stream, process], request.host.admit().await);
            }
        }
        std::future::pending().await
    }

    async fn fetch(&self, request: Request<'_>, turn: &mut Turn, received: &mut u64) -> Result<Facts> {
        let Request { unit, headers, host, slot, is_shown } = request;
        let decryptor = match &unit.cipher {
            Some(cipher) => {
                let key = self.keys.get(&self.client, &self.hosts, headers, &cipher.key_url).await?;
                Some(Decryptor::new(&key, &cipher.iv))
            }
            None => None,
        };
        let started = Instant::now();
        let mut response = host.ask(self.request(headers, unit)).await?;
        let mut body = Body::of(unit, response.status, &response.headers)?;
        if let Some(total) = body.total {
            self.files.check(&unit.url, total)?;
        }
        let encoding = Encoding::of(&response.headers).at(|| shown(&unit.url))?;
        let intake = Intake::new(unit, encoding, decryptor, &self.kind, &self.budget, slot, turn);
        let mut intake = intake.at(|| shown(&unit.url))?;
        intake.text = self.text.as_ref();
        intake.ceiling = Some(self.ceiling.of(unit));
        intake.allow_leading_bytes = self.allow_leading_bytes;
        while let Some(chunk) = response.chunk().await? {
            if *received == 0 {
                sniff::refuse_page(&chunk).at(|| shown(&unit.url))?;
            }
            *received += chunk.len() as u64;
            if is_shown {
                self.progress.add_bytes(chunk.len() as u64);
            }
            self.metrics.received_bytes.inc_by(chunk.len() as u64);
            self.allowance.pass(chunk.len()).await?;
            let part = body.take(&chunk).at(|| shown(&unit.url))?;
            intake.take(chunk.slice_ref(part)).await.at(|| shown(&unit.url))?;
            if body.is_cut_short() {
                break;
            }
        }
        body.check_end(unit)?;
        let facts = intake.finish().await.at(|| shown(&unit.url))?;
        response.leave().await;
        let took = started.elapsed();
        self.metrics.segment_seconds.observe(took.as_secs_f64());
        self.pace.observe(took);
        Ok(facts)
    }

    /// A hole is never silent: what has one is fetched again, and then it is a failure, or it is
    /// reported where that has been allowed.
    fn without_holes(&self, unit: &Unit, facts: Facts, attempt: u32) -> Result<Facts> {
        let Some(damage) = facts.damage else { return Ok(facts) };
        let kind = FailureKind::PacketsMissing;
        if self.allow_gaps && attempt >= kind.request_attempts(self.attempts) {
            tracing::warn!(kind = kind.name(), "{}: {}: {damage}; that is allowed", name(unit), shown(&unit.url));
            return Ok(facts);
        }
        Err(Failure::new(kind, format!("{}: {damage}", shown(&unit.url))))
    }

    async fn request(&self, headers: &RequestHeaders, unit: &Unit) -> Result<MediaResponse> {
        let mut extra = HeaderMap::new();
        if let Some(ByteRange { offset, length }) = unit.byte_range {
            let range = HeaderValue::try_from(format!("bytes={offset}-{}", offset + length - 1));
            // cannot fail: digits and a dash.
            range.into_iter().for_each(|range| drop(extra.insert(RANGE, range)));
        }
        let asked = Instant::now();
        let response = self.client.get(&unit.url, headers, &extra).await?;
        self.metrics.first_byte_seconds.observe(asked.elapsed().as_secs_f64());
        match (response.status, unit.byte_range) {
            (StatusCode::OK, _) | (StatusCode::PARTIAL_CONTENT, Some(_)) => Ok(response),
            _ => Err(response.refusal(headers)),
        }
    }
}

/// What is whole first. A failure of the second request is of no interest. One of the first ends both: the
/// second has no right to the memory that the head of a file needs to get on, and might wait for ever.
async fn whole_first(
    mut first: Pin<&mut impl Future<Output = Result<Facts>>>,
    second: impl Future<Output = Result<Facts>>,
) -> Result<Whole> {
    let mut second = pin!(second);
    tokio::select! {
        biased;
        done = &mut first => done.map(Whole::First),
        done = &mut second => match done {
            Ok(facts) => Ok(Whole::Second(facts)),
            Err(failure) => {
                tracing::debug!(kind = failure.kind.name(), "the second request: {failure}; the first goes on");
                first.await.map(Whole::First)
            }
        },
    }
}

/// How a unit is called in messages.
pub fn name(unit: &Unit) -> String {
    if unit.is_map { "the initialization section".into() } else { format!("segment {}", unit.sequence) }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn line_25_what_is_whole_first_is_taken() {
        let facts = |leading_bytes| Facts { leading_bytes, ..Facts::default() };
        let failed = || Err(Failure::new(FailureKind::TimedOut, "the first"));
        let second_failed = async || Err(Failure::new(FailureKind::HttpRejected, "the second"));
        let second = async || Ok(facts(2));
        let whole = whole_first(pin!(pending()), second()).await.unwrap();
        assert_eq!(whole, Whole::Second(facts(2)), "the first is never whole");
        assert_eq!(whole_first(pin!(ready(Ok(facts(1)))), second()).await.unwrap(), Whole::First(facts(1)));
        let slow = async {
            tokio::task::yield_now().await;
            Ok(facts(1))
        };
        assert_eq!(whole_first(pin!(slow), second_failed()).await.unwrap(), Whole::First(facts(1)));
        assert_eq!(whole_first(pin!(ready(failed())), pending()).await.unwrap_err().message, "the first");
    }
}
