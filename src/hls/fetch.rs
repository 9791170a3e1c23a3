//! One unit from its URL into its slot: request, checks, decryption, another try, another address.

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
    /// Blocks that a second request may have.
    pub spare_blocks: usize,
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
pub struct Request<'a> {
    pub unit: &'a Unit,
    pub headers: &'a RequestHeaders,
    pub host: &'a Arc<Host>,
    pub slot: &'a Slot,
    /// When it is sent.
    pub sent: &'a SetOnce<Instant>,
    /// The unit is on its way already, and this is only made because it is late.
    pub is_second: bool,
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
            let sent = SetOnce::new();
            let (headers, host) = (&edition.headers, &permits.host);
            let request = Request { unit, headers, host, slot, sent: &sent, is_second: false };
            let (fetched, received) = self.attempt(request, turn).await;
            let failure = match fetched.and_then(|facts| self.without_holes(unit, facts, attempt)) {
                Ok(facts) => return Ok(facts),
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

    /// Makes one request and takes what comes into its slot.
    ///
    /// # Errors
    /// What is wrong with the answer, or the failure of the host, the network or the disk.
    pub async fn fetch(&self, request: Request<'_>, turn: &mut Turn, received: &mut u64) -> Result<Facts> {
        let Request { unit, headers, host, slot, .. } = request;
        let decryptor = match &unit.cipher {
            Some(cipher) => {
                let key = self.keys.get(&self.client, &self.hosts, headers, &cipher.key_url).await?;
                Some(Decryptor::new(&key, &cipher.iv))
            }
            None => None,
        };
        let started = Instant::now();
        let mut response = host.ask(self.request(request)).await?;
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
        intake.spare_blocks = request.is_second.then_some(self.spare_blocks);
        while let Some(chunk) = response.chunk().await? {
            if *received == 0 {
                sniff::refuse_page(&chunk).at(|| shown(&unit.url))?;
            }
            *received += chunk.len() as u64;
            if !request.is_second {
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

    async fn request(&self, request: Request<'_>) -> Result<MediaResponse> {
        let Request { unit, headers, .. } = request;
        let mut extra = HeaderMap::new();
        if let Some(ByteRange { offset, length }) = unit.byte_range {
            let range = HeaderValue::try_from(format!("bytes={offset}-{}", offset + length - 1));
            // cannot fail: digits and a dash.
            range.into_iter().for_each(|range| drop(extra.insert(RANGE, range)));
        }
        let asked = Instant::now();
        // An error would say that it is known already.
        let _ = request.sent.set(asked);
        let response = self.client.get(&unit.url, headers, &extra).await?;
        self.metrics.first_byte_seconds.observe(asked.elapsed().as_secs_f64());
        match (response.status, unit.byte_range) {
            (StatusCode::OK, _) | (StatusCode::PARTIAL_CONTENT, Some(_)) => Ok(response),
            _ => Err(response.refusal(headers)),
        }
    }
}

/// How a unit is called in messages.
pub fn name(unit: &Unit) -> String {
    if unit.is_map { "the initialization section".into() } else { format!("segment {}", unit.sequence) }
}
