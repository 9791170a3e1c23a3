//! The HLS engine: from a playlist URL to one exact file for each track, or the reason why not.
//!
//! `load` (URL to playlists), `playlist` (text to types) → `select` (which variant) → `plan` (what to
//! fetch and how to decrypt it), `itinerary` (where to get the rest of it) → `track` (fetch side by
//! side, write in order), made of `fetch`, `body` and `key` (requests), `hedge` with `pace` (late ones),
//! `hosts` and `allowance` (how many), `ceiling` (how large), `intake` (pieces to clear blocks) with
//! `assemble` and `decrypt`, `prefix` and `inspection` (is it what it should be?) with `sniff`,
//! `transport` and `fragment`, `oddities` (what is taken all the same), `buffer` and `slot` (bounded
//! waiting), `sink` and `journal` (the file), `fmp4` (what initialization sections and fragments
//! declare). Subtitles go the same way; then `subtitles` and `webvtt` make one text of them, on the timeline that `timestamps`,
//! with `id3` for packed audio, finds in the main track.

mod allowance;
mod assemble;
mod body;
mod buffer;
mod ceiling;
mod decrypt;
mod fetch;
pub mod fmp4;
mod fragment;
pub(crate) mod fuzzing;
mod hedge;
mod hosts;
pub mod id3;
mod inspection;
mod intake;
mod itinerary;
mod journal;
mod key;
mod load;
mod oddities;
mod pace;
mod plan;
pub mod playlist;
mod prefix;
pub mod select;
mod sink;
mod slot;
mod sniff;
mod subtitles;
mod timestamps;
mod track;
pub mod transport;
pub mod webvtt;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use async_trait::async_trait;
use tokio::sync::{Semaphore, SetOnce};
use url::Url;

use crate::config::{Config, HlsSettings, LiveSettings};
use crate::current::Current;
use crate::disk::beside;
use crate::failure::{Context, Result};
use crate::http::{MediaClient, RateLimit, RequestHeaders};
use crate::metrics::Metrics;
use crate::permits::Permits;
use crate::progress::Progress;
use allowance::Allowance;
pub use allowance::JobAllowance;
use buffer::{BLOCK_BYTES, Budget};
use ceiling::Ceiling;
#[doc(hidden)]
pub use decrypt::Decryptor; // for benches/decrypt.rs
use fetch::Fetcher;
use hosts::Hosts;
use itinerary::{Itinerary, Role};
use load::{Loader, Source};
use oddities::{Oddities, Telling};
use pace::Pace;
use plan::Place;
pub use plan::{Gaps, Plan};
use playlist::Playlist;
use sink::PartLock;
pub use sink::journal_path;
pub use sniff::MediaKind;
use subtitles::Listed;
pub use subtitles::{MAX_TAG_BYTES, Spool, Subtitles, language_tag};
use track::{Bounds, Whole};

/// The engine of the process: one connection pool, one budget of requests, one budget of memory.
pub struct Engine {
    loader: Current<Loader>,
    budget: Budget,
    requests: Permits,
    rate: Arc<RateLimit>,
    metrics: Arc<Metrics>,
}

/// A stream to download.
#[derive(Clone)]
pub struct StreamRequest {
    /// A multivariant or a media playlist.
    pub url: Url,
    /// Sent with every request of the stream.
    pub headers: RequestHeaders,
    /// What its job may use up.
    pub allowance: Arc<JobAllowance>,
    /// Who knows a new address when this one has expired.
    pub renewal: Option<Arc<dyn Renewal>>,
    /// Tags ([`language_tag`]) of subtitles that there are already: renditions of them are left out.
    pub captions: Vec<String>,
}

/// Knows where a stream is now.
#[async_trait]
pub trait Renewal: Send + Sync {
    /// The same stream at its new address; the request given has expired.
    ///
    /// # Errors
    /// What asking for it failed with, or that there is no other address.
    async fn renew(&self, expired: &StreamRequest) -> Result<StreamRequest>;
}

impl fmt::Debug for StreamRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamRequest").field("url", &crate::http::shown(&self.url)).finish_non_exhaustive()
    }
}

/// The tracks of a downloaded stream, each a whole `.part` file.
#[derive(Debug)]
pub struct Tracks {
    /// Pictures, usually with sound.
    pub main: Track,
    /// Sound, when the playlist has it apart.
    pub audio: Option<Track>,
    /// In the order of the playlist.
    pub subtitles: Vec<Spool>,
    /// Tags of subtitles that were left out: they are not WebVTT.
    pub skipped_subtitles: Vec<String>,
}

/// One downloaded track.
#[derive(Debug)]
pub struct Track {
    /// The file; not yet under its final name.
    pub part: PathBuf,
    pub kind: MediaKind,
    /// Sum of the durations of its segments, in seconds.
    pub duration_seconds: f64,
    /// What that can be off by because the playlist rounds, in seconds.
    pub rounding_seconds: f64,
    /// Where timestamps may begin anew (EXT-X-DISCONTINUITY): offsets in the part, ascending.
    pub sections: Vec<u64>,
    /// When the sections begin by the playlist, in seconds.
    section_starts: Vec<f64>,
    /// What it lacks, and may lack by configuration.
    pub gaps: Gaps,
    /// Of subtitles: where each segment stands.
    places: Vec<Place>,
    /// Nobody else writes to the part while this is held.
    _lock: PartLock,
}

impl Engine {
    /// Builds the engine.
    ///
    /// # Errors
    /// `internal` when the HTTP client cannot be built.
    pub fn new(config: &Config, metrics: Arc<Metrics>) -> Result<Self> {
        let settings = config.hls.clone();
        Ok(Engine {
            budget: Budget::new(settings.buffer_bytes, metrics.clone()),
            requests: Permits::new(settings.max_requests),
            rate: Arc::new(RateLimit::new(settings.max_bytes_per_second)),
            loader: Current::new(Loader {
                client: MediaClient::new(&config.http)?,
                hosts: Hosts::new(settings.max_connections_per_host, settings.max_requests, metrics.clone()),
                settings,
                live: config.live.clone(),
            }),
            metrics,
        })
    }

    /// Other settings: what all jobs have together changes at once, what one job or one lecture has
    /// with the next one.
    pub fn use_settings(&self, settings: &HlsSettings, live: &LiveSettings) {
        self.budget.resize(settings.buffer_bytes);
        self.requests.resize(settings.max_requests);
        self.rate.change(settings.max_bytes_per_second);
        let Loader { client, hosts, .. } = &*self.loader.get();
        hosts.limit(settings.max_connections_per_host, settings.max_requests);
        let (client, hosts) = (client.clone(), hosts.clone());
        self.loader.replace(Loader { client, hosts, settings: settings.clone(), live: live.clone() });
    }

    /// What a new job may use up.
    pub fn job_allowance(&self) -> Arc<JobAllowance> {
        let settings = &self.loader.get().settings;
        let rate = RateLimit::new(settings.max_job_bytes_per_second);
        Arc::new(JobAllowance::new(settings.max_job_retries, settings.max_job_bytes, rate, self.rate.clone()))
    }

    /// Loads and parses one playlist.
    ///
    /// # Errors
    /// `playlist_invalid`, `playlist_too_large`, or what the request failed with.
    pub async fn load_playlist(&self, request: &StreamRequest) -> Result<Playlist> {
        self.loader.get().load_playlist(request, &request.url, &[]).await
    }

    /// Downloads a stream into `<stem>.part` and, when the sound is apart, `<stem>.audio.part`; its
    /// subtitles into `<subtitle_stem>.<tag>.subtitles.part`. Goes on where an earlier call for the same
    /// stream ended.
    ///
    /// With `one_format` (they become one .mp4) codec and format must not change on the way.
    ///
    /// Dropping the future stops everything; what is written stays and is good for the next call.
    ///
    /// # Errors
    /// What the playlist, the network or the disk failed with.
    pub async fn download(
        &self,
        request: &StreamRequest,
        stem: &Path,
        subtitle_stem: &Path,
        one_format: bool,
        progress: &Arc<Progress>,
    ) -> Result<Tracks> {
        let loader = self.loader.get();
        let (request, stream) = load_stream(&loader, request).await?;
        let there = |listed: &Listed| request.captions.iter().any(|tag| tag.eq_ignore_ascii_case(&listed.tag));
        let texts = stream.subtitles.iter().filter(|listed| !there(listed)).count();
        progress.set_tracks(1 + usize::from(stream.audio.is_some()) + texts);
        let allowance = Arc::new(Allowance::new(request.allowance.clone(), loader.settings.max_lecture_retries));
        let requests = Arc::new(Semaphore::new(loader.settings.concurrency));
        let track = async |role, source, part| {
            let allowance = allowance.clone();
            // Boxed: there are three of them, and all of them in whoever waits for a job.
            Box::pin(self.track(&loader, &request, role, source, part, one_format, &requests, allowance, progress))
                .await
        };
        let main = track(Role::Main, stream.main, beside(stem, ".part"));
        let audio = async {
            match stream.audio {
                Some(source) => {
                    track(Role::Audio, source, beside(stem, ".audio.part")).await.map(Some).at(|| "the audio")
                }
                None => Ok(None),
            }
        };
        subtitles::check_count(&stream.subtitles)?;
        let subtitles = async {
            let (mut spools, mut skipped) = (Vec::new(), Vec::new());
            for listed in stream.subtitles.into_iter().filter(|listed| !there(listed)) {
                let tag = listed.tag.clone();
                let source = listed.load(&loader, &request).await.at(|| format!("the {tag} subtitles"))?;
                if !source.playlist.maps.is_empty() {
                    tracing::warn!("the {tag} subtitles are not WebVTT but in MP4 (wvtt or stpp): left out");
                    skipped.push(tag);
                    continue;
                }
                let part = beside(subtitle_stem, &format!(".{tag}.subtitles.part"));
                let spool = track(Role::Subtitles(tag.clone()), source, part).await;
                let spool = spool.at(|| format!("the {tag} subtitles"))?;
                spools.push(Spool { tag, track: spool });
            }
            Ok((spools, skipped))
        };
        let (main, audio, (subtitles, skipped_subtitles)) = tokio::try_join!(main, audio, subtitles)?;
        Ok(Tracks { main, audio, subtitles, skipped_subtitles })
    }

    #[expect(clippy::too_many_arguments, reason = "each of them is another thing that a track is made of")]
    async fn track(
        &self,
        loader: &Arc<Loader>,
        request: &StreamRequest,
        role: Role,
        source: Source,
        part: PathBuf,
        one_format: bool,
        requests: &Arc<Semaphore>,
        allowance: Arc<Allowance>,
        progress: &Arc<Progress>,
    ) -> Result<Track> {
        let rendition = source.rendition.clone();
        let is_text = matches!(role, Role::Subtitles(_));
        let bits = source.bits;
        let whose = match &role {
            Role::Main => String::new(),
            Role::Audio => "the audio: ".into(),
            Role::Subtitles(tag) => format!("the {tag} subtitles: "),
        };
        let itinerary = Itinerary::new(loader.clone(), request.clone(), role, source)?;
        let edition = itinerary.edition();
        let is_fragmented_mp4 = edition.plan.is_fragmented_mp4();
        let kind = match () {
            () if is_text => Some(MediaKind::WebVtt),
            () if is_fragmented_mp4 => Some(MediaKind::FragmentedMp4),
            () => None,
        };
        let kind = SetOnce::new_with(kind);
        let requests = [requests.clone(), self.requests.semaphore()];
        let fetcher = Arc::new(Fetcher {
            client: loader.client.clone(),
            hosts: loader.hosts.clone(),
            itinerary,
            budget: self.budget.clone(),
            allowance,
            attempts: loader.settings.segment_attempts,
            allow_gaps: loader.settings.allow_gaps,
            allow_leading_bytes: loader.settings.allow_leading_bytes,
            ceiling: Ceiling {
                max_bytes: loader.settings.max_segment_bytes,
                tolerance: loader.settings.bandwidth_tolerance,
                peak_bits_per_second: bits.peak,
            },
            requests: requests.clone(),
            pace: Pace::default(),
            // A quarter of it all.
            spare_blocks: loader.settings.buffer_bytes / BLOCK_BYTES / 4,
            oddities: Oddities::default(),
            keys: Default::default(),
            files: Default::default(),
            kind,
            text: is_text.then(|| AtomicU64::new(subtitles::MAX_BYTES)),
            metrics: self.metrics.clone(),
            progress: progress.clone(),
        });
        let bounds = Bounds {
            requests,
            // Twice the requests in flight: one slow segment at the head does not idle the others at once.
            window: loader.settings.concurrency * 2,
        };
        let fingerprint = edition.plan.fingerprint(&rendition);
        if let Some(bytes) = edition.plan.expected_bytes(bits.average) {
            // An .mp4 is made beside what it is made of. A stranger's claim counts no further than it may go.
            let copies = if one_format && !is_fragmented_mp4 { 2 } else { 1 };
            let bytes = bytes.min(loader.settings.max_job_bytes).saturating_mul(copies);
            crate::volumes::expect_room(&part, bytes).await?;
        }
        drop(edition);
        let url = crate::http::shown(&request.url).to_string();
        let mut telling = Telling { fetcher: &fetcher, progress, url, whose, gaps: Gaps::default() };
        let Whole { kind, sections, lock } =
            track::download(fetcher.clone(), fingerprint, &part, &bounds, one_format && !is_text).await?;
        // What it has become: it may have grown.
        let plan = &fetcher.itinerary.edition().plan;
        telling.gaps = plan.gaps();
        drop(telling);
        let places = if is_text { plan.places() } else { Vec::new() };
        Ok(Track {
            part,
            kind,
            duration_seconds: plan.duration_seconds(),
            rounding_seconds: plan.rounding_seconds(),
            sections,
            section_starts: plan.section_starts(),
            gaps: plan.gaps(),
            places,
            _lock: lock,
        })
    }
}

/// Loads the playlists of a stream; when its address has expired already, those of its new one.
async fn load_stream(loader: &Loader, request: &StreamRequest) -> Result<(StreamRequest, load::Stream)> {
    let failure = match loader.load_stream(request).await {
        Ok(stream) => return Ok((request.clone(), stream)),
        Err(failure) => failure,
    };
    match &request.renewal {
        Some(renewal) if failure.kind.may_pass_with_new_links() => {
            tracing::info!(kind = failure.kind.name(), "{failure}; asking for a new link");
            match renewal.renew(request).await {
                Ok(renewed) => {
                    let stream = loader.load_stream(&renewed).await?;
                    Ok((renewed, stream))
                }
                Err(reason) => Err(failure.because(&reason)),
            }
        }
        _ => Err(failure),
    }
}
