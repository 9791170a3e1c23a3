//! One plain file over HTTP: captions, assets, lectures that are not HLS.
//!
//! Bytes go to `<name>.part`, which is renamed when it is whole. Beside it `<name>.part.meta`
//! says which version of the resource they are of, so that the rest can be asked for (RFC 9110
//! §13.1.5, §14). The name and length of the `.part` are the whole journal: bytes that a crash
//! took are asked for again.

use std::fs::Metadata;
use std::path::Path;
use std::time::Instant;

use reqwest::StatusCode;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, HeaderValue, IF_RANGE, RANGE};
use tokio::fs::File;
use tokio::io::{AsyncSeekExt, AsyncWriteExt, BufWriter};
use tokio_util::sync::CancellationToken;
use url::Url;

use self::resume::{ContentRange, Meta};
use crate::config::FileSettings;
use crate::disk::{self, beside};
use crate::failure::{Failure, FailureKind, Result};
use crate::hls::JobAllowance;
use crate::http::{LONGEST_PAUSE, MediaClient, MediaResponse, RequestHeaders, is_html, pause, shown};
use crate::metrics::Metrics;
use crate::progress::Progress;

pub(crate) mod resume;
#[cfg(test)]
mod tests;

/// Bytes that are written at once.
const WRITE_BYTES: usize = 512 * 1024;
/// An attempt that brought this much does not count against the attempts.
const WORTHWHILE_BYTES: u64 = 4 << 20;

/// What is accepted as a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLimits {
    /// Largest file.
    pub max_bytes: u64,
    /// Attempts without notable progress, 1 and up.
    pub attempts: u32,
    /// Whether a file of no bytes is one.
    pub may_be_empty: bool,
}

impl FileLimits {
    /// Of subtitles.
    pub fn of_caption(settings: &FileSettings) -> FileLimits {
        FileLimits { max_bytes: settings.max_caption_bytes, attempts: 4, may_be_empty: true }
    }

    /// Of slides, exercises, archives.
    pub fn of_asset(settings: &FileSettings) -> FileLimits {
        FileLimits { max_bytes: settings.max_asset_bytes, attempts: 5, may_be_empty: true }
    }

    /// Of a lecture that is one file.
    pub fn of_lecture(settings: &FileSettings) -> FileLimits {
        FileLimits { max_bytes: settings.max_lecture_bytes, attempts: 5, may_be_empty: false }
    }
}

/// How files are fetched: what the requests of one lecture have in common.
pub struct FileFetch<'a> {
    /// Follows redirects and bounds silence.
    pub client: &'a MediaClient,
    pub headers: &'a RequestHeaders,
    pub limits: FileLimits,
    /// What the job may use up.
    pub allowance: &'a JobAllowance,
    pub progress: &'a Progress,
    pub metrics: &'a Metrics,
    pub cancel: &'a CancellationToken,
}

/// Why an attempt ended without a file.
enum Attempt {
    Failed(Failure),
    /// What is on disk is of no use: the next attempt begins at 0.
    StartOver(Failure),
}

impl From<Failure> for Attempt {
    fn from(failure: Failure) -> Self {
        Attempt::Failed(failure)
    }
}

impl FileFetch<'_> {
    /// Fetches `url` to `destination`, whose directory exists. Returns the size in bytes. A file
    /// that is there already is done. What has arrived stays for the next call, also when the
    /// future is dropped.
    ///
    /// # Errors
    /// What the requests met, [`FailureKind::HttpRejected`] for an HTML page in place of the file,
    /// [`FailureKind::BodyTooLarge`], [`FailureKind::Interrupted`] when cancelled, or a failure of
    /// the disk.
    pub async fn fetch(&self, url: &Url, destination: &Path) -> Result<u64> {
        crate::http::check_url(url)?;
        let part = beside(destination, ".part");
        let meta = beside(destination, ".part.meta");
        if let Some(size) = size_of(destination).await {
            // A crash between rename and removal leaves the second file.
            disk::remove(&meta).await?;
            return Ok(size);
        }
        let locked = {
            let part = part.clone();
            disk::blocking(move || disk::open_part(&part)).await?
        };
        // Another download may have finished it before it let go of the lock.
        if let Some(size) = size_of(destination).await {
            disk::remove(&part).await?;
            return Ok(size);
        }
        let mut transfer = Transfer { fetch: self, url, part: &part, locked, meta: &meta, counted: None };
        let mut attempt = 1;
        let size = loop {
            let before = transfer.counted.unwrap_or_default();
            let (failure, attempts) = match transfer.attempt().await {
                Ok(size) => break size,
                Err(Attempt::Failed(failure)) => {
                    let attempts = failure.kind.request_attempts(self.limits.attempts);
                    (failure, attempts)
                }
                Err(Attempt::StartOver(failure)) => {
                    disk::remove(&meta).await?;
                    (failure, self.limits.attempts)
                }
            };
            if transfer.counted.unwrap_or_default() >= before + WORTHWHILE_BYTES {
                attempt = 1;
            }
            // Beyond the longest pause that a server can impose, the job as a whole waits.
            let too_long = failure.retry_after.is_some_and(|asked| asked > LONGEST_PAUSE);
            if attempt >= attempts || too_long {
                return Err(failure);
            }
            let pause = pause(attempt, failure.retry_after);
            attempt += 1;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.cancel.cancelled() => return Err(interrupted(url)),
            }
        };
        disk::publish(&part, destination).await?;
        disk::remove(&meta).await?;
        Ok(size)
    }
}

/// The size of a finished file.
async fn size_of(destination: &Path) -> Option<u64> {
    tokio::fs::metadata(destination).await.ok().filter(Metadata::is_file).map(|done| done.len())
}

fn interrupted(url: &Url) -> Failure {
    Failure::new(FailureKind::Interrupted, format!("{}: interrupted", shown(url)))
}

/// One file on its way.
struct Transfer<'a> {
    fetch: &'a FileFetch<'a>,
    url: &'a Url,
    part: &'a Path,
    /// The part, which nobody else has.
    locked: std::fs::File,
    meta: &'a Path,
    /// Position up to which progress has been told; `None` before the first attempt.
    counted: Option<u64>,
}

impl Transfer<'_> {
    async fn attempt(&mut self) -> Result<u64, Attempt> {
        let known = Meta::load(self.meta, self.url).await;
        let have = match &known {
            Some(_) => tokio::fs::metadata(self.part).await.map_or(0, |part| part.len()),
            None => 0,
        };
        self.counted.get_or_insert(have);
        if let Some(known) = &known
            && known.total == Some(have)
            && have > 0
        {
            // Whole, but not yet renamed.
            return Ok(have);
        }
        let resume = known.filter(|_| have > 0);
        let response = self.request(resume.as_ref(), have).await?;
        let (start, total) = self.judge(&response, resume.as_ref(), have)?;
        let file = self.write_from(start).await.map_err(|error| self.disk(error))?;
        if start == 0 {
            // Only now: bytes of another version must never stand under this one's validator.
            let meta = Meta::of(self.url, &response.headers, total);
            meta.store(self.meta).await?;
        }
        self.receive(response, file, start, total).await
    }

    async fn request(&self, resume: Option<&Meta>, have: u64) -> Result<MediaResponse> {
        let mut headers = HeaderMap::new();
        // Ranges count the bytes of the encoded form (RFC 9110 §14.1.2), and it would be stored as it is.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(validator) = resume.and_then(|meta| HeaderValue::from_str(&meta.validator).ok())
            && let Ok(range) = HeaderValue::from_str(&format!("bytes={have}-"))
        {
            headers.insert(RANGE, range);
            headers.insert(IF_RANGE, validator);
        }
        let started = Instant::now();
        let response = tokio::select! {
            biased;
            () = self.fetch.cancel.cancelled() => return Err(interrupted(self.url)),
            response = self.fetch.client.get(self.url, self.fetch.headers, &headers) => response?,
        };
        self.fetch.metrics.first_byte_seconds.observe(started.elapsed().as_secs_f64());
        Ok(response)
    }

    /// Where the body of this answer begins, and how long the file is in all.
    fn judge(&self, response: &MediaResponse, resume: Option<&Meta>, have: u64) -> Result<(u64, Option<u64>), Attempt> {
        let headers = &response.headers;
        let rejected = |kind, reason: String| Failure::new(kind, format!("{}: {reason}", shown(self.url)));
        let range = ContentRange::of(headers);
        let (start, total) = match (response.status, resume) {
            (StatusCode::OK, _) => (0, response.content_length()),
            (StatusCode::PARTIAL_CONTENT, Some(meta)) => {
                let fits = range.filter(|range| range.start == Some(have) && range.continues(meta));
                let Some(total) = fits.filter(|_| meta.still_is(headers)).and_then(|range| range.total) else {
                    let reason = "the server continued another file than it began".to_owned();
                    return Err(Attempt::StartOver(rejected(FailureKind::BodyTruncated, reason)));
                };
                if response.content_length().is_some_and(|length| have.checked_add(length) != Some(total)) {
                    let reason = "Content-Length and Content-Range contradict each other".to_owned();
                    return Err(Attempt::StartOver(rejected(FailureKind::BodyTruncated, reason)));
                }
                (have, Some(total))
            }
            (StatusCode::RANGE_NOT_SATISFIABLE, Some(_)) => {
                let reason = format!("the server has no byte {have} any more");
                return Err(Attempt::StartOver(rejected(FailureKind::BodyTruncated, reason)));
            }
            _ => return Err(response.refusal(self.fetch.headers).into()),
        };
        self.check_type(headers)?;
        if total.is_some_and(|total| total > self.fetch.limits.max_bytes) {
            return Err(self.too_large().into());
        }
        Ok((start, total))
    }

    /// Refuses pages in place of files, and bodies that are encoded although nobody asked.
    fn check_type(&self, headers: &HeaderMap) -> Result<()> {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
        let name = self.part.file_stem().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let rejected =
            |reason: String| Err(Failure::new(FailureKind::HttpRejected, format!("{}: {reason}", shown(self.url))));
        if is_html(headers) && ![".html", ".htm", ".xhtml"].iter().any(|extension| name.ends_with(extension)) {
            return rejected("the server answered an HTML page in place of the file".into());
        }
        let encoding = text(CONTENT_ENCODING).trim().to_ascii_lowercase();
        // Servers call an archive "gzip encoded" when they mean that it is one.
        let is_archive = name.ends_with("gz");
        if !matches!(encoding.as_str(), "" | "identity") && !is_archive {
            return rejected(format!("the body is encoded ({encoding}) although that was not asked for"));
        }
        Ok(())
    }

    async fn receive(
        &mut self,
        mut response: MediaResponse,
        mut file: BufWriter<File>,
        start: u64,
        total: Option<u64>,
    ) -> Result<u64, Attempt> {
        if let Some(total) = total {
            self.fetch.progress.expect_bytes(total.saturating_sub(self.counted.unwrap_or_default()));
        }
        let mut position = start;
        let ended = loop {
            let chunk = tokio::select! {
                biased;
                () = self.fetch.cancel.cancelled() => break Err(interrupted(self.url)),
                chunk = response.chunk() => chunk,
            };
            let chunk = match chunk {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break Ok(()),
                Err(failure) => break Err(failure),
            };
            position += chunk.len() as u64;
            if position > self.fetch.limits.max_bytes {
                break Err(self.too_large());
            }
            if let Err(error) = file.write_all(&chunk).await {
                break Err(self.disk(error));
            }
            self.count(chunk.len() as u64, position);
            tokio::select! {
                biased;
                () = self.fetch.cancel.cancelled() => break Err(interrupted(self.url)),
                passed = self.fetch.allowance.pass(chunk.len()) => if let Err(failure) = passed {
                    break Err(failure);
                },
            }
        };
        // What arrived before a failure is kept for the next attempt.
        file.flush().await.map_err(|error| self.disk(error))?;
        ended?;
        let truncated =
            |reason: String| Failure::new(FailureKind::BodyTruncated, format!("{}: {reason}", shown(self.url)));
        if let Some(total) = total
            && position != total
        {
            let failure = truncated(format!("{position} of {total} bytes"));
            return Err(if position < total { Attempt::Failed(failure) } else { Attempt::StartOver(failure) });
        }
        if position == 0 && !self.fetch.limits.may_be_empty {
            let reason = format!("{}: the file is empty", shown(self.url));
            return Err(Failure::new(FailureKind::SegmentInvalid, reason).into());
        }
        Ok(position)
    }

    /// The part for writing at `start`, without what stood behind it. A write that is under way when
    /// the future is dropped keeps the lock.
    async fn write_from(&self, start: u64) -> std::io::Result<BufWriter<File>> {
        let mut file = File::from_std(self.locked.try_clone()?);
        file.set_len(start).await?;
        file.seek(std::io::SeekFrom::Start(start)).await?;
        Ok(BufWriter::with_capacity(WRITE_BYTES, file))
    }

    fn count(&mut self, received: u64, position: u64) {
        self.fetch.metrics.received_bytes.inc_by(received);
        self.fetch.metrics.written_bytes.inc_by(received);
        let counted = self.counted.unwrap_or_default();
        if position > counted {
            self.fetch.progress.add_bytes(position - counted);
            self.counted = Some(position);
        }
    }

    fn too_large(&self) -> Failure {
        let limit = self.fetch.limits.max_bytes;
        Failure::new(FailureKind::BodyTooLarge, format!("{}: more than {limit} bytes", shown(self.url)))
    }

    fn disk(&self, error: std::io::Error) -> Failure {
        Failure::disk(format_args!("writing {}", self.part.display()), error)
    }
}
