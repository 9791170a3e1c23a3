//! From a URL to the media playlists that have to be downloaded.

use reqwest::StatusCode;
use url::Url;

use super::playlist::{self, Limits, MediaPlaylist, Playlist, Rendition, Variant};
use super::{Engine, StreamRequest, select};
use crate::failure::{Context, Failure, FailureKind, Result};
use crate::http::{self, shown};

/// The media playlists of one stream.
pub(super) struct Stream {
    pub main: Source,
    pub audio: Option<Source>,
}

/// One media playlist.
pub(super) struct Source {
    pub playlist: MediaPlaylist,
    /// What the multivariant playlist says of it, the address left out.
    pub rendition: String,
}

/// Values that a multivariant playlist hands down to its media playlists (EXT-X-DEFINE).
type Variables = Vec<(Box<str>, Box<str>)>;

impl Engine {
    /// Loads a playlist; a multivariant one is followed to the chosen variant and its audio.
    pub(super) async fn load_stream(&self, request: &StreamRequest) -> Result<Stream> {
        let master = match self.load_playlist(request, &request.url, &[]).await? {
            Playlist::Media(playlist) => {
                return Ok(Stream { main: Source { playlist, rendition: String::new() }, audio: None });
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
        let playlist = self.load_media(request, &variant.uri, &master.variables).await?;
        let Variant { bandwidth_bits_per_second, width, height, codecs, .. } = variant;
        let rendition = format!("{bandwidth_bits_per_second} {width:?} {height:?} {codecs:?}");
        let main = Source { playlist, rendition };
        let audio = match select::audio(&master, variant) {
            Some(Rendition { uri: Some(url), name, language, .. }) if *url != variant.uri => {
                let playlist = self.load_media(request, url, &master.variables).await.at(|| "the audio rendition")?;
                // The variant's group: the same language may be there in several bit rates.
                Some(Source { playlist, rendition: format!("{:?} {name:?} {language:?}", variant.audio) })
            }
            _ => None,
        };
        Ok(Stream { main, audio })
    }

    /// Loads what a multivariant playlist lists: never another multivariant one.
    async fn load_media(&self, request: &StreamRequest, url: &Url, variables: &Variables) -> Result<MediaPlaylist> {
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
        let mut attempt = 1;
        loop {
            let failure = match self.try_playlist(request, url, variables).await {
                Ok(playlist) => return Ok(playlist),
                Err(failure) => failure,
            };
            if attempt >= failure.kind.request_attempts(self.settings.segment_attempts) {
                return Err(failure.at("the playlist"));
            }
            let kind = failure.kind.name();
            tracing::debug!(kind, request_attempt = attempt, "the playlist: {failure}; trying again");
            tokio::time::sleep(http::pause(attempt, failure.retry_after)).await;
            attempt += 1;
        }
    }

    async fn try_playlist(
        &self,
        request: &StreamRequest,
        url: &Url,
        variables: &[(Box<str>, Box<str>)],
    ) -> Result<Playlist> {
        http::check_url(url)?;
        let response = self.client.get(url.clone()).headers(request.headers.for_url(url)).send().await;
        let response = response.map_err(|error| http::request_failure(url, &error))?;
        if response.status() != StatusCode::OK {
            return Err(http::status_failure(url, response.status(), response.headers()));
        }
        // URIs in it are relative to where it was found in the end (RFC 3986 §5.1.3).
        let base = response.url().clone();
        let body = http::read_body(response, self.settings.max_playlist_bytes).await.map_err(|mut failure| {
            if failure.kind == FailureKind::BodyTooLarge {
                failure.kind = FailureKind::PlaylistTooLarge;
            }
            failure
        })?;
        let limits = Limits {
            max_bytes: self.settings.max_playlist_bytes,
            max_segments: self.settings.max_segments,
            ..Limits::default()
        };
        playlist::parse_with_variables(&body, &base, &limits, variables).at(|| shown(&base))
    }
}
