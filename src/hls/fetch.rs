//! One unit from its URL into its slot: request, checks, decryption, another try, another address.

use std::sync::{Arc, OnceLock};

use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderValue, RANGE};
use tokio::sync::OwnedSemaphorePermit;

use super::allowance::Allowance;
use super::assemble::Assembler;
use super::body::Body;
use super::buffer::{Block, Budget};
use super::decrypt::Decryptor;
use super::hosts::{Host, Hosts};
use super::itinerary::{Edition, Itinerary};
use super::key::KeyRing;
use super::plan::Unit;
use super::playlist::ByteRange;
use super::slot::{Slot, Turn};
use super::sniff::{self, MediaKind, SNIFF_BYTES};
use crate::failure::{Context, Failure, FailureKind, Result};
use crate::http::{self, MediaClient, MediaResponse, RequestHeaders, shown};
use crate::metrics::Metrics;
use crate::progress::Progress;

/// What all fetchers of one track share.
pub struct Fetcher {
    pub client: MediaClient,
    pub hosts: Hosts,
    pub itinerary: Itinerary,
    pub budget: Budget,
    pub allowance: Arc<Allowance>,
    /// Attempts at one unit at one address.
    pub attempts: u32,
    pub keys: KeyRing,
    /// What the units of the track are, told by the first that came.
    pub kind: OnceLock<MediaKind>,
    pub metrics: Arc<Metrics>,
    pub progress: Arc<Progress>,
}

/// What a unit holds from its first request to its end: it may be asked for.
pub struct Permits {
    /// Of the stream and of the process.
    pub _shared: [OwnedSemaphorePermit; 2],
    pub host: Arc<Host>,
    pub of_host: Option<OwnedSemaphorePermit>,
}

impl Permits {
    /// The unit is at another host now. The head of the file does not wait for it: those that hold
    /// the host's permits may in turn wait for the head.
    async fn move_to(&mut self, host: Arc<Host>, turn: &mut Turn) {
        if Arc::ptr_eq(&host, &self.host) {
            return;
        }
        self.of_host = None;
        self.of_host = tokio::select! {
            biased;
            permit = host.admit() => permit,
            () = turn.come() => None,
        };
        self.host = host;
    }
}

impl Fetcher {
    /// Fetches a unit into its slot, trying again where that can help, and says there how it ended.
    pub async fn run(&self, index: usize, slot: &Slot, mut turn: Turn, mut permits: Permits) {
        slot.finish(self.bring(index, slot, &mut turn, &mut permits).await);
    }

    /// Tries one edition of the plan after the other.
    async fn bring(&self, index: usize, slot: &Slot, turn: &mut Turn, permits: &mut Permits) -> Result<()> {
        loop {
            let edition = self.itinerary.edition();
            let unit = edition.plan.unit(index)?;
            permits.move_to(self.hosts.of(&unit.url), turn).await;
            match self.try_edition(&edition, &unit, slot, turn, &permits.host).await {
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
        host: &Host,
    ) -> Result<()> {
        let mut attempt = 1;
        loop {
            host.cooled().await;
            let mut received = 0;
            let Err(failure) = self.fetch(&edition.headers, unit, slot, turn, &mut received).await else {
                return Ok(());
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
            slot.start_over();
            if !host.heed(&failure) {
                tokio::time::sleep(http::pause(attempt, None)).await;
            }
            attempt += 1;
        }
    }

    async fn fetch(
        &self,
        headers: &RequestHeaders,
        unit: &Unit,
        slot: &Slot,
        turn: &mut Turn,
        received: &mut u64,
    ) -> Result<()> {
        let decryptor = match &unit.cipher {
            Some(cipher) => {
                let key = self.keys.get(&self.client, headers, &cipher.key_url).await?;
                Some(Decryptor::new(&key, &cipher.iv))
            }
            None => None,
        };
        let mut response = self.request(headers, unit).await?;
        let mut body = Body::of(unit, &response)?;
        let mut assembler = Assembler::new(decryptor);
        let mut block = self.block(slot, turn).await?;
        let mut first = true;
        while let Some(chunk) = response.chunk().await? {
            if *received == 0 {
                sniff::refuse_page(&chunk).at(|| shown(&unit.url))?;
            }
            *received += chunk.len() as u64;
            self.progress.add_bytes(chunk.len() as u64);
            self.metrics.received_bytes.inc_by(chunk.len() as u64);
            self.allowance.pass(chunk.len()).await;
            let mut rest = body.take(&chunk).at(|| shown(&unit.url))?;
            while !rest.is_empty() {
                rest = assembler.fill(rest, &mut block);
                if !rest.is_empty() {
                    self.check(unit, &block, &mut first)?;
                    slot.hand_over(block, turn).await;
                    block = self.block(slot, turn).await?;
                }
            }
            if body.is_cut_short() {
                break;
            }
        }
        body.check_end(unit)?;
        if assembler.is_full(&block) {
            self.check(unit, &block, &mut first)?;
            slot.hand_over(block, turn).await;
            block = self.block(slot, turn).await?;
        }
        assembler.finish(&mut block, false).at(|| shown(&unit.url))?;
        self.check(unit, &block, &mut first)?;
        if !block.is_empty() {
            slot.hand_over(block, turn).await;
        }
        Ok(())
    }

    /// The next block to fill.
    async fn block(&self, slot: &Slot, turn: &mut Turn) -> Result<Block> {
        match self.budget.block_at_once()? {
            Some(block) => Ok(block),
            None => {
                slot.wait_for_memory();
                self.budget.block(turn).await
            }
        }
    }

    async fn request(&self, headers: &RequestHeaders, unit: &Unit) -> Result<MediaResponse> {
        let mut extra = HeaderMap::new();
        if let Some(ByteRange { offset, length }) = unit.byte_range {
            let range = HeaderValue::try_from(format!("bytes={offset}-{}", offset + length - 1));
            // cannot fail: digits and a dash.
            range.into_iter().for_each(|range| drop(extra.insert(RANGE, range)));
        }
        let response = self.client.get(&unit.url, headers, &extra).await?;
        match (response.status, unit.byte_range) {
            (StatusCode::OK, _) | (StatusCode::PARTIAL_CONTENT, Some(_)) => Ok(response),
            (status, _) => Err(http::status_failure(&unit.url, status, &response.headers)),
        }
    }

    /// Looks at the first block of a unit: is it media, and of the track's kind?
    fn check(&self, unit: &Unit, block: &Block, first: &mut bool) -> Result<()> {
        if !std::mem::take(first) {
            return Ok(());
        }
        let start = &block[..block.len().min(SNIFF_BYTES)];
        let kind = MediaKind::of(start).map_err(|failure| failure.at(shown(&unit.url)))?;
        let expected = *self.kind.get_or_init(|| kind);
        if kind != expected {
            let message = format!("{}: {kind:?} came where the track is {expected:?}", shown(&unit.url));
            return Err(Failure::new(FailureKind::SegmentInvalid, message));
        }
        if unit.is_map && block.windows(4).any(|name| matches!(name, b"encv" | b"enca" | b"sinf" | b"pssh")) {
            let message = format!(
                "{}: the initialization section declares protected media; DRM is not worked around",
                shown(&unit.url)
            );
            return Err(Failure::new(FailureKind::DrmProtected, message));
        }
        Ok(())
    }
}

/// How a unit is called in messages.
fn name(unit: &Unit) -> String {
    if unit.is_map { "the initialization section".into() } else { format!("segment {}", unit.sequence) }
}
