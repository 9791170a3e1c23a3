//! One unit from its URL into its slot: request, checks, decryption, another try.

use std::sync::{Arc, OnceLock};

use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Client, Response, StatusCode};
use tokio::sync::Semaphore;

use super::assemble::Assembler;
use super::buffer::{Block, Budget};
use super::decrypt::Decryptor;
use super::key::KeyRing;
use super::plan::Unit;
use super::playlist::ByteRange;
use super::slot::{Slot, Turn};
use super::sniff::{self, MediaKind, SNIFF_BYTES};
use crate::failure::{Context, Failure, FailureKind, Result};
use crate::http::{self, RequestHeaders, shown};
use crate::metrics::Metrics;
use crate::progress::Progress;

/// Bytes that are read and thrown away when a server ignores a byte range; beyond that every
/// segment would cost most of the file.
const SKIP_LIMIT: u64 = 16 << 20;

/// What all fetchers of one track share.
pub struct Fetcher {
    pub client: Client,
    pub headers: RequestHeaders,
    pub budget: Budget,
    /// Requests in flight for the whole process.
    pub process_requests: Arc<Semaphore>,
    /// Requests in flight for this stream, picture and sound together.
    pub stream_requests: Arc<Semaphore>,
    /// Attempts at one unit.
    pub attempts: u32,
    pub keys: KeyRing,
    /// What the units of the track are, told by the first that came.
    pub kind: OnceLock<MediaKind>,
    pub metrics: Arc<Metrics>,
    pub progress: Arc<Progress>,
}

impl Fetcher {
    /// Fetches a unit into its slot, trying again where that can help, and says there how it ended.
    pub async fn run(&self, unit: &Unit, slot: &Slot, mut turn: Turn) {
        // The head of the file takes no permit that others hold while they wait for it.
        let mut mine = turn.clone();
        let _permits = tokio::select! {
            permits = async { (self.stream_requests.acquire().await, self.process_requests.acquire().await) } => Some(permits),
            () = mine.come() => None,
        };
        let mut attempt = 1;
        let result = loop {
            let mut received = 0;
            match self.fetch(unit, slot, &mut turn, &mut received).await {
                Ok(()) => break Ok(()),
                Err(failure) => {
                    self.metrics.segment_failed(&failure);
                    if attempt >= failure.kind.request_attempts(self.attempts) {
                        break Err(failure.at(format_args!("{} (attempt {attempt})", name(unit))));
                    }
                    let kind = failure.kind.name();
                    tracing::debug!(kind, request_attempt = attempt, "{}: {failure}; trying again", name(unit));
                    self.progress.take_back_bytes(received);
                    slot.start_over();
                    tokio::time::sleep(http::pause(attempt, failure.retry_after)).await;
                    attempt += 1;
                }
            }
        };
        slot.finish(result);
    }

    async fn fetch(&self, unit: &Unit, slot: &Slot, turn: &mut Turn, received: &mut u64) -> Result<()> {
        let decryptor = match &unit.cipher {
            Some(cipher) => {
                let key = self.keys.get(&self.client, &self.headers, &cipher.key_url).await?;
                Some(Decryptor::new(&key, &cipher.iv))
            }
            None => None,
        };
        let mut response = self.request(unit).await?;
        let mut body = Body::of(unit, &response)?;
        let mut assembler = Assembler::new(self.budget.clone(), decryptor);
        let mut first = true;
        while let Some(chunk) = response.chunk().await.map_err(|error| http::request_failure(&unit.url, &error))? {
            if *received == 0 {
                sniff::refuse_page(&chunk).at(|| shown(&unit.url))?;
            }
            *received += chunk.len() as u64;
            self.progress.add_bytes(chunk.len() as u64);
            self.metrics.received_bytes.inc_by(chunk.len() as u64);
            let mut rest = body.take(&chunk).at(|| shown(&unit.url))?;
            loop {
                rest = assembler.fill(rest);
                if rest.is_empty() {
                    break;
                }
                let block = assembler.take();
                self.check(unit, &block, &mut first)?;
                slot.hand_over(block, &self.budget, turn).await;
            }
            if body.is_cut_short() {
                break;
            }
        }
        body.check_end(unit)?;
        let block = assembler.finish().at(|| shown(&unit.url))?;
        self.check(unit, &block, &mut first)?;
        if !block.bytes.is_empty() {
            slot.hand_over(block, &self.budget, turn).await;
        }
        Ok(())
    }

    async fn request(&self, unit: &Unit) -> Result<Response> {
        let mut request = self.client.get(unit.url.clone()).headers(self.headers.for_url(&unit.url));
        if let Some(ByteRange { offset, length }) = unit.byte_range {
            request = request.header(RANGE, format!("bytes={offset}-{}", offset + length - 1));
        }
        let response = request.send().await.map_err(|error| http::request_failure(&unit.url, &error))?;
        match (response.status(), unit.byte_range) {
            (StatusCode::OK, _) | (StatusCode::PARTIAL_CONTENT, Some(_)) => Ok(response),
            (status, _) => Err(http::status_failure(&unit.url, status, response.headers())),
        }
    }

    /// Looks at the first block of a unit: is it media, and of the track's kind?
    fn check(&self, unit: &Unit, block: &Block, first: &mut bool) -> Result<()> {
        if !std::mem::take(first) {
            return Ok(());
        }
        let start = &block.bytes[..block.bytes.len().min(SNIFF_BYTES)];
        let kind = MediaKind::of(start).map_err(|failure| failure.at(shown(&unit.url)))?;
        let expected = *self.kind.get_or_init(|| kind);
        if kind != expected {
            let message = format!("{}: {kind:?} came where the track is {expected:?}", shown(&unit.url));
            return Err(Failure::new(FailureKind::SegmentInvalid, message));
        }
        if unit.is_map && block.bytes.windows(4).any(|name| matches!(name, b"encv" | b"enca" | b"sinf" | b"pssh")) {
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

/// Counts a body against what was asked for and what was declared.
struct Body {
    /// Bytes to throw away before the range begins.
    skip: u64,
    /// Bytes that must come after that, if it is known.
    expected: Option<u64>,
    received: u64,
    /// The server sends more than the range: the rest is not read.
    cut: bool,
}

impl Body {
    /// Reads the head of an answer.
    fn of(unit: &Unit, response: &Response) -> Result<Body> {
        let declared = response.content_length();
        let Some(range) = unit.byte_range else {
            return Ok(Body { skip: 0, expected: declared, received: 0, cut: false });
        };
        let rejected = |what: String| Failure::new(FailureKind::HttpRejected, format!("{}: {what}", shown(&unit.url)));
        let asked = format!("bytes {}-{}/", range.offset, range.offset + range.length - 1);
        if response.status() == StatusCode::PARTIAL_CONTENT {
            let content_range =
                response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
            if !content_range.starts_with(&asked) {
                return Err(rejected(format!("{asked}* was asked for, {content_range:?} came")));
            }
            return Ok(Body { skip: 0, expected: Some(range.length), received: 0, cut: false });
        }
        if range.offset > SKIP_LIMIT {
            return Err(rejected("the server does not answer byte ranges".into()));
        }
        Ok(Body { skip: range.offset, expected: Some(range.length), received: 0, cut: true })
    }

    /// The part of a chunk that belongs to the unit.
    fn take<'a>(&mut self, chunk: &'a [u8]) -> Result<&'a [u8]> {
        let skipped = self.skip.min(chunk.len() as u64);
        self.skip -= skipped;
        let mut part = &chunk[skipped as usize..];
        if let Some(expected) = self.expected {
            let left = expected - self.received;
            if part.len() as u64 > left {
                if !self.cut {
                    let message = format!("more than the declared {expected} bytes came");
                    return Err(Failure::new(FailureKind::BodyTooLarge, message));
                }
                part = &part[..left as usize];
            }
        }
        self.received += part.len() as u64;
        Ok(part)
    }

    /// Everything that was asked for is there, though the server goes on.
    fn is_cut_short(&self) -> bool {
        self.cut && self.expected == Some(self.received)
    }

    fn check_end(&self, unit: &Unit) -> Result<()> {
        match self.expected {
            Some(expected) if expected != self.received => {
                let message = format!("{}: {} of {expected} bytes came", shown(&unit.url), self.received);
                Err(Failure::new(FailureKind::BodyTruncated, message))
            }
            _ if self.received == 0 => {
                Err(Failure::new(FailureKind::SegmentInvalid, format!("{}: the body is empty", shown(&unit.url))))
            }
            _ => Ok(()),
        }
    }
}
