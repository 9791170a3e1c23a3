//! The HLS engine: from a playlist URL to one exact file for each track, or the reason why not.
//!
//! `playlist` (text to types) → `select` (which variant) → `plan` (what to fetch and how to decrypt
//! it) → `track` (fetch side by side, write in order), made of `fetch` and `key` (requests),
//! `assemble` and `decrypt` (chunks to clear blocks), `buffer` and `slot` (bounded waiting), `sink` and
//! `journal` (the file).

mod assemble;
mod buffer;
mod decrypt;
mod fetch;
mod journal;
mod key;
mod load;
mod plan;
pub mod playlist;
pub mod select;
mod sink;
mod slot;
mod sniff;
mod track;
pub mod transport;
pub mod webvtt;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use reqwest::Client;
use tokio::sync::Semaphore;
use url::Url;

use crate::config::{HlsSettings, HttpSettings};
use crate::disk::beside;
use crate::failure::{Context, Result};
use crate::http::{self, RequestHeaders, shown};
use crate::metrics::Metrics;
use crate::progress::Progress;
use buffer::Budget;
#[doc(hidden)]
pub use decrypt::Decryptor; // for benches/decrypt.rs
use fetch::Fetcher;
use load::Source;
pub use plan::Plan;
use sink::PartLock;
pub use sink::journal_path;
pub use sniff::MediaKind;

/// The engine of the process: one connection pool, one budget of requests, one budget of memory.
pub struct Engine {
    client: Client,
    settings: HlsSettings,
    budget: Budget,
    requests: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// A stream to download.
#[derive(Debug, Clone)]
pub struct StreamRequest {
    /// A multivariant or a media playlist.
    pub url: Url,
    /// Sent with every request of the stream.
    pub headers: RequestHeaders,
}

/// The tracks of a downloaded stream, each a whole `.part` file.
#[derive(Debug)]
pub struct Tracks {
    /// Pictures, usually with sound.
    pub main: Track,
    /// Sound, when the playlist has it apart.
    pub audio: Option<Track>,
    /// Sum of the segment durations, in seconds.
    pub duration_seconds: f64,
}

/// One downloaded track.
#[derive(Debug)]
pub struct Track {
    /// The file; not yet under its final name.
    pub part: PathBuf,
    pub kind: MediaKind,
    /// Nobody else writes to the part while this is held.
    _lock: PartLock,
}

impl Engine {
    /// Builds the engine.
    ///
    /// # Errors
    /// `internal` when the HTTP client cannot be built.
    pub fn new(settings: HlsSettings, http: &HttpSettings, metrics: Arc<Metrics>) -> Result<Self> {
        Ok(Engine {
            client: http::client(http, http::Protocol::Http1)?,
            budget: Budget::new(settings.buffer_bytes, metrics.clone()),
            requests: Arc::new(Semaphore::new(settings.max_requests)),
            settings,
            metrics,
        })
    }

    /// The client that media is fetched with.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Downloads a stream into `<stem>.part` and, when the sound is apart, `<stem>.audio.part`.
    /// Goes on where an earlier call for the same stream ended.
    ///
    /// Dropping the future stops everything; what is written stays and is good for the next call.
    ///
    /// # Errors
    /// What the playlist, the network or the disk failed with.
    pub async fn download(&self, request: &StreamRequest, stem: &Path, progress: &Arc<Progress>) -> Result<Tracks> {
        let stream = self.load_stream(request).await?;
        let plan = |what: &str, source: Source| {
            let url = shown(&source.playlist.base);
            let plan = Plan::new(source.playlist).at(|| format!("{what}: {url}"))?;
            let fingerprint = plan.fingerprint(&source.rendition);
            Ok((plan, fingerprint))
        };
        let main_plan = plan("the playlist", stream.main)?;
        let audio_plan = stream.audio.map(|audio| plan("the audio playlist", audio)).transpose()?;
        let duration_seconds = main_plan.0.duration_seconds();
        let requests = Arc::new(Semaphore::new(self.settings.concurrency));
        let main = self.track(request, main_plan, beside(stem, ".part"), &requests, progress);
        let audio = async {
            match audio_plan {
                Some(plan) => {
                    let track = self.track(request, plan, beside(stem, ".audio.part"), &requests, progress).await;
                    track.map(Some).at(|| "the audio")
                }
                None => Ok(None),
            }
        };
        let (main, audio) = tokio::try_join!(main, audio)?;
        Ok(Tracks { main, audio, duration_seconds })
    }

    async fn track(
        &self,
        request: &StreamRequest,
        (plan, fingerprint): (Plan, String),
        part: PathBuf,
        requests: &Arc<Semaphore>,
        progress: &Arc<Progress>,
    ) -> Result<Track> {
        let kind = if plan.is_fragmented_mp4() { OnceLock::from(MediaKind::FragmentedMp4) } else { OnceLock::new() };
        let fetcher = Arc::new(Fetcher {
            client: self.client.clone(),
            headers: request.headers.clone(),
            budget: self.budget.clone(),
            process_requests: self.requests.clone(),
            stream_requests: requests.clone(),
            attempts: self.settings.segment_attempts,
            keys: Default::default(),
            kind,
            metrics: self.metrics.clone(),
            progress: progress.clone(),
        });
        // Twice the requests in flight: one slow segment at the head does not idle the others at once.
        let window = self.settings.concurrency * 2;
        let (kind, lock) = track::download(fetcher, plan, fingerprint, &part, window).await?;
        Ok(Track { part, kind, _lock: lock })
    }
}
