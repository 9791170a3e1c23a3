//! From a URL to the media playlists that have to be downloaded.

use hyper::StatusCode;
use url::Url;

use super::hosts::{self, Host, Hosts};
use super::playlist::{self, MediaPlaylist, MultivariantPlaylist, Playlist, Rendition, Variant};
use super::subtitles::Listed;
use super::{Role, StreamRequest, select};
use crate::config::{HlsSettings, LiveSettings};
use crate::failure::{Context, Failure, FailureKind, Result};
use crate::http::{self, MediaClient, MediaResponse, shown};

/// Asks for playlists; shared by all streams of the process.
pub struct Loader {
    pub client: MediaClient,
    pub hosts: Hosts,
    pub settings: HlsSettings,
    pub live: LiveSettings,
}

/// The media playlists of one stream.
pub struct Stream {
    pub main: Source,
    pub audio: Option<Source>,
    /// Not loaded: not all of them may be wanted.
    pub subtitles: Vec<Listed>,
}

/// One media playlist and where it is.
pub struct Source {
    pub playlist: MediaPlaylist,
    /// What the multivariant playlist says of it, the address left out.
    pub rendition: String,
    /// Its addresses: the chosen one and its copies.
    pub copies: Vec<Url>,
    /// Index of the copy that answered.
    pub copy: usize,
    /// What it may import from the multivariant playlist.
    pub variables: Variables,
    /// As the multivariant playlist says; `None` where it does not.
    pub bits: BitRate,
}

/// In bits per second (RFC 8216 §4.3.4.2).
#[derive(Debug, Clone, Copy, Default)]
pub struct BitRate {
    pub average: Option<u64>,
    /// Of the variant with all that belongs to it: no track of it has more.
    pub peak: Option<u64>,
}

/// Values that a multivariant playlist hands down to its media playlists (EXT-X-DEFINE).
pub type Variables = Vec<(Box<str>, Box<str>)>;

impl Loader {
    /// Loads a playlist; a multivariant one is followed to the chosen variant and its audio.
    ///
    /// # Errors
    /// Of the chosen variant, when neither it nor a copy of it can be loaded.
    pub async fn load_stream(&self, request: &StreamRequest) -> Result<Stream> {
        let master = match self.load_playlist(request, &request.url, &[]).await? {
            Playlist::Media(playlist) => {
                let copies = vec![request.url.clone()];
                let rendition = String::new();
                let (variables, bits) = (Vec::new(), BitRate::default());
                let main = Source { playlist, rendition, copies, copy: 0, variables, bits };
                return Ok(Stream { main, audio: None, subtitles: Vec::new() });
            }
            Playlist::Multivariant(master) => master,
        };
        let variant = select::variant(&master, self.settings.quality)?;
        tracing::debug!(
            height = variant.height,
            bandwidth_bits_per_second = variant.bandwidth_bits_per_second,
            "variant chosen: {}",
            shown(&variant.uri)
        );
        let redundant = select::redundant(&master, variant);
        let copies = std::iter::once(variant).chain(redundant.iter().copied()).map(|copy| copy.uri.clone()).collect();
        let Variant { bandwidth_bits_per_second, width, height, codecs, .. } = variant;
        let rendition = format!("{bandwidth_bits_per_second} {width:?} {height:?} {codecs:?}");
        let peak = Some(variant.bandwidth_bits_per_second);
        let average = variant.average_bandwidth_bits_per_second.or(peak);
        let main = self.load_any(request, copies, rendition, &master).await?;
        let main = Source { bits: BitRate { average, peak }, ..main };
        let audio = match select::audio(&master, variant) {
            Some(audio @ Rendition { uri: Some(url), name, language, .. }) if *url != variant.uri => {
                let redundant = select::redundant_audio(&master, variant, audio);
                let copies = std::iter::once(url).chain(redundant.iter().filter_map(|copy| copy.uri.as_ref()));
                let copies = copies.cloned().collect();
                // The variant's group: the same language may be there in several bit rates.
                let rendition = format!("{:?} {name:?} {language:?}", variant.audio);
                let audio = self.load_any(request, copies, rendition, &master).await.at(|| "the audio rendition")?;
                Some(Source { bits: BitRate { average: None, peak }, ..audio })
            }
            _ => None,
        };
        Ok(Stream { main, audio, subtitles: Listed::of(&master, variant) })
    }

    /// Loads the playlist of one track of a stream.
    ///
    /// # Errors
    /// `playlist_invalid` when the stream has no such track, or as [`Loader::load_stream`].
    pub async fn load_source(&self, request: &StreamRequest, role: &Role) -> Result<Source> {
        let stream = self.load_stream(request).await?;
        let missing =
            |what: &str| Failure::new(FailureKind::PlaylistInvalid, format!("the stream has no {what} any more"));
        match role {
            Role::Main => Ok(stream.main),
            Role::Audio => stream.audio.ok_or_else(|| missing("separate sound")),
            Role::Subtitles(tag) => match stream.subtitles.into_iter().find(|listed| listed.tag == *tag) {
                Some(listed) => listed.load(self, request).await,
                None => Err(missing(&format!("{tag} subtitles"))),
            },
        }
    }

    /// Loads the first of several copies that can be had.
    async fn load_any(
        &self,
        request: &StreamRequest,
        copies: Vec<Url>,
        rendition: String,
        master: &MultivariantPlaylist,
    ) -> Result<Source> {
        let mut first = None;
        for (copy, url) in copies.iter().enumerate() {
            match self.load_media(request, url, &master.variables).await {
                Ok(playlist) => {
                    let variables = master.variables.clone();
                    return Ok(Source { playlist, rendition, copies, copy, variables, bits: BitRate::default() });
                }
                Err(failure) if failure.kind.is_of_the_origin() && copy + 1 < copies.len() => {
                    tracing::warn!(kind = failure.kind.name(), "{failure}; trying a copy of it");
                    first.get_or_insert(failure);
                }
                Err(failure) => return Err(first.unwrap_or(failure)),
            }
        }
        // cannot come here: there is at least one copy, and the last one returns.
        Err(first.unwrap_or_else(|| Failure::new(FailureKind::Internal, "a stream without an address")))
    }

    /// Loads what a multivariant playlist lists: never another multivariant one.
    ///
    /// # Errors
    /// As [`Loader::load_playlist`].
    pub async fn load_media(&self, request: &StreamRequest, url: &Url, variables: &Variables) -> Result<MediaPlaylist> {
        match self.load_playlist(request, url, variables).await? {
            Playlist::Media(media) => Ok(media),
            Playlist::Multivariant(_) => {
                let message = format!("{}: a multivariant playlist inside another", shown(url));
                Err(Failure::new(FailureKind::PlaylistInvalid, message))
            }
        }
    }

    /// Loads and parses one playlist.
    ///
    /// # Errors
    /// `playlist_invalid`, `playlist_too_large`, or what the request failed with.
    pub async fn load_playlist(
        &self,
        request: &StreamRequest,
        url: &Url,
        variables: &[(Box<str>, Box<str>)],
    ) -> Result<Playlist> {
        let host = self.hosts.of(url);
        let mut attempt = 1;
        loop {
            let failure = match self.try_playlist(&host, request, url, variables).await {
                Ok(playlist) => return Ok(playlist),
                Err(failure) => failure,
            };
            if attempt >= failure.kind.request_attempts(self.settings.segment_attempts) {
                return Err(failure.at("the playlist"));
            }
            let kind = failure.kind.name();
            tracing::debug!(kind, request_attempt = attempt, "the playlist: {failure}; trying again");
            if hosts::asked_pause(&failure).is_none() {
                tokio::time::sleep(http::pause(attempt, None)).await;
            }
            attempt += 1;
        }
    }

    async fn request(&self, request: &StreamRequest, url: &Url) -> Result<MediaResponse> {
        let response = self.client.get(url, &request.headers, &Default::default()).await?;
        match response.status {
            StatusCode::OK => Ok(response),
            _ => Err(response.refusal(&request.headers)),
        }
    }

    async fn try_playlist(
        &self,
        host: &Host,
        request: &StreamRequest,
        url: &Url,
        variables: &[(Box<str>, Box<str>)],
    ) -> Result<Playlist> {
        http::check_url(url)?;
        let limits = &self.settings.playlist_limits;
        let response = host.ask(self.request(request, url)).await?;
        // URIs in it are relative to where it was found in the end (RFC 3986 §5.1.3).
        let base = response.url.clone();
        let body = response.read_body(limits.max_bytes).await.map_err(|mut failure| {
            if failure.kind == FailureKind::BodyTooLarge {
                failure.kind = FailureKind::PlaylistTooLarge;
            }
            failure
        })?;
        playlist::parse_with_variables(&body, &base, limits, variables).at(|| shown(&base))
    }
}
