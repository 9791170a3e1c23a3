//! What a playlist says, after parsing. Compact: a playlist may have hundreds of thousands of
//! segments, so keys and maps are stored once and segments point to them.

use std::borrow::Cow;

use url::Url;

use super::{KeySets, Segments, uri};
use crate::failure::Result;

/// Either kind of playlist (RFC 8216 §4).
#[derive(Debug, Clone)]
pub enum Playlist {
    /// Lists segments.
    Media(MediaPlaylist),
    /// Lists variants and renditions ("master playlist").
    Multivariant(MultivariantPlaylist),
}

/// A list of segments.
#[derive(Debug, Clone)]
pub struct MediaPlaylist {
    /// What relative URIs resolve against: the playlist's own URL after redirects.
    pub base: Url,
    /// EXT-X-TARGETDURATION in seconds; 0 when missing.
    pub target_duration_seconds: f64,
    /// EXT-X-MEDIA-SEQUENCE.
    pub media_sequence: u64,
    /// EXT-X-DISCONTINUITY-SEQUENCE.
    pub discontinuity_sequence: u64,
    /// EXT-X-PLAYLIST-TYPE.
    pub playlist_type: Option<PlaylistType>,
    /// EXT-X-ENDLIST was there.
    pub end_list: bool,
    /// EXT-X-I-FRAMES-ONLY was there.
    pub i_frames_only: bool,
    /// In playlist order.
    pub segments: Segments,
    /// Line of the first URI that neither EXTINF nor EXT-X-BYTERANGE announced. It is not among the
    /// segments, though its author may have thought so.
    pub unannounced_line: Option<u32>,
    /// What [`Segment::key_set`](super::Segment::key_set) points to. The first is empty: not encrypted.
    pub key_sets: KeySets,
    /// What [`Segment::map`](super::Segment::map) points to.
    pub maps: Vec<Map>,
    /// What was odd and how it was read.
    pub diagnostics: Vec<Diagnostic>,
}

/// EXT-X-PLAYLIST-TYPE (RFC 8216 §4.3.3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaylistType {
    /// Segments are only ever added.
    Event,
    /// Never changes.
    Vod,
}

/// A part of a resource, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub offset: u64,
    /// Number of bytes, at least 1; `offset + length` does not overflow.
    pub length: u64,
}

/// One EXT-X-KEY or EXT-X-SESSION-KEY that is in force (RFC 8216 §4.3.2.4). METHOD=NONE is never
/// stored: it empties the set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// METHOD as written: `AES-128`, `SAMPLE-AES`, …
    pub method: Cow<'static, str>,
    /// URI as an absolute URL in text; not necessarily http (`skd:`, `data:`).
    pub uri: Option<Box<str>>,
    /// IV attribute, left-padded to 128 bits.
    pub iv: Option<[u8; 16]>,
    /// KEYFORMAT; `identity` when absent.
    pub key_format: Cow<'static, str>,
}

/// EXT-X-MAP: the initialization section of the segments that follow (RFC 8216 §4.3.2.5).
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    /// As written; see [`MediaPlaylist::resolve`].
    pub uri: Box<str>,
    /// The part of the resource, if not all of it.
    pub byte_range: Option<ByteRange>,
    /// Keys that stood before the map; index into [`MediaPlaylist::key_sets`].
    pub key_set: u32,
    /// Media sequence number of the next segment: the implicit IV where the specification wants an
    /// explicit one and it is missing.
    pub sequence: u64,
}

/// A list of variants.
#[derive(Debug, Clone)]
pub struct MultivariantPlaylist {
    /// The playlist's own URL after redirects.
    pub base: Url,
    /// EXT-X-STREAM-INF, in playlist order.
    pub variants: Vec<Variant>,
    /// EXT-X-MEDIA, in playlist order.
    pub renditions: Vec<Rendition>,
    /// EXT-X-SESSION-KEY.
    pub session_keys: Vec<Key>,
    /// EXT-X-DEFINE values, by name, which media playlists may IMPORT.
    pub variables: Vec<(Box<str>, Box<str>)>,
    /// EXT-X-CONTENT-STEERING.
    pub steering: Option<ContentSteering>,
    /// What was odd and how it was read.
    pub diagnostics: Vec<Diagnostic>,
}

/// EXT-X-CONTENT-STEERING (rfc8216bis §4.4.6.6). The steering server is not asked: what it would
/// choose between are copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentSteering {
    /// SERVER-URI; absolute, and not necessarily http (`data:`).
    pub server: Option<Box<str>>,
    /// PATHWAY-ID: the pathway to begin with.
    pub pathway: Option<Box<str>>,
}

/// EXT-X-STREAM-INF (RFC 8216 §4.3.4.2, rfc8216bis §4.4.6.2).
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// Absolute.
    pub uri: Url,
    /// BANDWIDTH; 0 when missing.
    pub bandwidth_bits_per_second: u64,
    /// AVERAGE-BANDWIDTH.
    pub average_bandwidth_bits_per_second: Option<u64>,
    /// RESOLUTION width in pixels.
    pub width: Option<u32>,
    /// RESOLUTION height in lines.
    pub height: Option<u32>,
    /// FRAME-RATE in pictures per second.
    pub frame_rate: Option<f64>,
    /// CODECS as written.
    pub codecs: Option<Box<str>>,
    /// VIDEO-RANGE: `SDR`, `HLG`, `PQ`.
    pub video_range: Option<Box<str>>,
    /// HDCP-LEVEL: what the way to the screen must be protected with.
    pub hdcp_level: Option<Box<str>>,
    /// SCORE: the higher, the more its author would have it chosen.
    pub score: Option<f64>,
    /// STABLE-VARIANT-ID: names the variant when its URI changes.
    pub stable_id: Option<Box<str>>,
    /// GROUP-ID of its audio renditions.
    pub audio: Option<Box<str>>,
    /// GROUP-ID of its subtitle renditions.
    pub subtitles: Option<Box<str>>,
    /// GROUP-ID of its video renditions.
    pub video: Option<Box<str>>,
    /// GROUP-ID of its closed captions, or `NONE`.
    pub closed_captions: Option<Box<str>>,
    /// PATHWAY-ID: variants that differ only in it are copies of one another.
    pub pathway: Option<Box<str>>,
    /// All other attributes, in order of names. Only whether they are the same matters.
    pub others: Vec<(Box<str>, Box<str>)>,
}

/// TYPE of an EXT-X-MEDIA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenditionKind {
    /// AUDIO.
    Audio,
    /// VIDEO.
    Video,
    /// SUBTITLES.
    Subtitles,
    /// CLOSED-CAPTIONS.
    ClosedCaptions,
}

/// EXT-X-MEDIA (RFC 8216 §4.3.4.1).
#[derive(Debug, Clone, PartialEq)]
pub struct Rendition {
    /// TYPE.
    pub kind: RenditionKind,
    /// GROUP-ID.
    pub group: Box<str>,
    /// NAME; empty when missing.
    pub name: Box<str>,
    /// LANGUAGE (RFC 5646).
    pub language: Option<Box<str>>,
    /// CHANNELS: number of channels, and more.
    pub channels: Option<Box<str>>,
    /// Absolute; without one the rendition is inside the variant's own stream.
    pub uri: Option<Url>,
    /// DEFAULT=YES.
    pub default: bool,
    /// AUTOSELECT=YES.
    pub autoselect: bool,
    /// FORCED=YES.
    pub forced: bool,
}

/// Something odd in a playlist that did not stop it from being read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Line number, from 1.
    pub line: u32,
    /// What was odd and how it was read.
    pub message: String,
}

impl MediaPlaylist {
    /// A URI of this playlist as a URL that may be asked.
    ///
    /// # Errors
    /// [`FailureKind::UrlInvalid`]; the parser has checked segments and maps already.
    pub fn resolve(&self, uri: &str) -> Result<Url> {
        uri::resolve(&self.base, uri)
    }

    /// The path of a URI of this playlist once it is resolved, in two parts.
    ///
    /// # Errors
    /// As [`MediaPlaylist::resolve`].
    pub fn path<'a>(&'a self, uri: &'a str) -> Result<[Cow<'a, str>; 2]> {
        match uri::plain_path(&self.base, uri) {
            Some(parts) => Ok(parts.map(Cow::Borrowed)),
            None => Ok(["".into(), self.resolve(uri)?.path().to_owned().into()]),
        }
    }

    /// The keys of a segment or map; empty when it is not encrypted.
    pub fn keys(&self, key_set: u32) -> &[Key] {
        self.key_sets.get(key_set as usize).unwrap_or_default()
    }

    /// Sum of all EXTINF, in seconds.
    pub fn duration_seconds(&self) -> f64 {
        self.segments.duration_seconds()
    }
}
