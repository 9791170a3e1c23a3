//! The tags of a media playlist, folded into segments (RFC 8216 §4.3.2 and §4.3.3).

use url::Url;

use crate::failure::{Context, FailureKind, Result};

use super::attributes::Attributes;
use super::key;
use super::key_sets::{KeySets, KeysInForce};
use super::reading::{Reading, quoted};
use super::segments::NewSegment;
use super::{ByteRange, Map, MediaPlaylist, PlaylistType, Segments};

/// A media playlist while it is read.
pub(super) struct MediaReader {
    playlist: MediaPlaylist,
    keys: KeysInForce,
    map: Option<u32>,
    pending: Pending,
    /// Line of EXT-X-MEDIA-SEQUENCE.
    sequence_line: Option<u32>,
    /// Line of an unreadable, second or late EXT-X-MEDIA-SEQUENCE: how segments count is a guess.
    sequence_doubt: Option<u32>,
}

/// What tags say about the segment whose URI is still to come.
#[derive(Default)]
struct Pending {
    duration_seconds: Option<f64>,
    byte_range: Option<DeclaredRange>,
    discontinuity: bool,
    gap: bool,
}

/// EXT-X-BYTERANGE as written.
#[derive(Clone, Copy, PartialEq)]
struct DeclaredRange {
    length: u64,
    offset: Option<u64>,
}

impl MediaReader {
    pub(super) fn new(base: &Url) -> Self {
        let playlist = MediaPlaylist {
            base: base.clone(),
            target_duration_seconds: 0.0,
            media_sequence: 0,
            discontinuity_sequence: 0,
            playlist_type: None,
            end_list: false,
            i_frames_only: false,
            segments: Segments::default(),
            unannounced_line: None,
            key_sets: KeySets::default(),
            maps: Vec::new(),
            diagnostics: Vec::new(),
        };
        MediaReader {
            playlist,
            keys: KeysInForce::default(),
            map: None,
            pending: Pending::default(),
            sequence_line: None,
            sequence_doubt: None,
        }
    }

    /// EXTINF: seconds, then a title behind a comma, which nobody needs.
    pub(super) fn extinf(&mut self, value: &[u8], reading: &mut Reading) {
        let number = value.split(|&byte| byte == b',').next().unwrap_or_default().trim_ascii();
        let duration_seconds = seconds(number).unwrap_or_else(|| {
            let digits = number.iter().position(|byte| !matches!(byte, b'0'..=b'9' | b'.')).unwrap_or(number.len());
            let read = seconds(&number[..digits]).unwrap_or_default();
            reading.note(format!("EXTINF: {} is no duration: read as {read}", quoted(number)));
            read
        });
        if self.pending.duration_seconds.replace(duration_seconds).is_some() {
            reading.note("EXTINF follows another without a URI between them: the last one counts");
        }
    }

    /// EXT-X-BYTERANGE: the next URI is only this part of the resource.
    pub(super) fn byte_range(&mut self, value: &[u8], reading: &mut Reading) -> Result<()> {
        let range = declared_range(value, reading)?;
        if self.pending.byte_range.replace(range).is_some_and(|before| before != range) {
            return Err(reading.invalid("two different EXT-X-BYTERANGE for one segment"));
        }
        Ok(())
    }

    pub(super) fn discontinuity(&mut self) {
        self.pending.discontinuity = true;
    }

    pub(super) fn gap(&mut self) {
        self.pending.gap = true;
    }

    /// EXT-X-BITRATE (rfc8216bis §4.4.4.8): about how large the segments are that follow, until the
    /// next one.
    pub(super) fn bitrate(&mut self, value: &[u8], reading: &mut Reading) {
        match integer(value) {
            Some(kilobits) => self.playlist.segments.set_bitrate(kilobits.saturating_mul(1000)),
            None => reading.note(format!("EXT-X-BITRATE: {} is no number: left out", quoted(value))),
        }
    }

    pub(super) fn end_list(&mut self) {
        self.playlist.end_list = true;
    }

    pub(super) fn i_frames_only(&mut self) {
        self.playlist.i_frames_only = true;
    }

    /// EXT-X-KEY: in force for all segments and maps that follow.
    pub(super) fn key(&mut self, list: &[u8], reading: &mut Reading) -> Result<()> {
        let key = key::parse("EXT-X-KEY", list, reading)?;
        self.keys.apply(key).at(|| reading.place())
    }

    /// EXT-X-MAP: in force for all segments that follow, until the next one.
    pub(super) fn map(&mut self, list: &[u8], reading: &mut Reading) -> Result<()> {
        let (mut uri, mut byte_range) = (None, None);
        for attribute in Attributes::new(list) {
            let attribute = attribute.map_err(|reason| reading.invalid(format!("EXT-X-MAP: {reason}")))?;
            match attribute.name {
                b"URI" => uri = Some(attribute.value),
                b"BYTERANGE" => byte_range = Some(attribute.value),
                _ => {}
            }
        }
        let uri = uri.ok_or_else(|| reading.invalid("EXT-X-MAP: URI is missing"))?;
        let byte_range = match byte_range {
            None => None,
            Some(value) => {
                let value = reading.text(value)?.into_owned();
                let declared = declared_range(value.as_bytes(), reading)?;
                if declared.offset.is_none() {
                    reading.note("EXT-X-MAP: BYTERANGE without an offset: read from 0");
                }
                Some(checked_range(declared.offset.unwrap_or(0), declared.length, reading)?)
            }
        };
        let uri = reading.uri(uri)?;
        let key_set = self.keys.current(reading.limits.max_keys).at(|| reading.place())?;
        let same = |map: &Map| *map.uri == *uri && map.byte_range == byte_range && map.key_set == key_set;
        if !self.playlist.maps.last().is_some_and(same) {
            reading.at_most(self.playlist.maps.len() + 1, reading.limits.max_segments, "initialization sections")?;
            if self.keys.has_implicit_iv() {
                reading.note("EXT-X-MAP under a key without IV: that of the next segment counts");
            }
            // Counted from 0 until the end, as in the segments.
            let sequence = self.playlist.segments.len() as u64;
            self.playlist.maps.push(Map { uri: uri.into(), byte_range, key_set, sequence });
        }
        self.map = Some((self.playlist.maps.len() - 1) as u32);
        Ok(())
    }

    /// A line that is a URI: a segment, if EXTINF or EXT-X-BYTERANGE announced one.
    pub(super) fn uri(&mut self, uri: &[u8], reading: &mut Reading) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        if pending.duration_seconds.is_none() {
            if pending.byte_range.is_none() {
                reading.note(format!("{} without EXTINF: left out", shown_uri(uri)));
                self.playlist.unannounced_line.get_or_insert(reading.line);
                // A joint stays one; a gap said that this very URI is absent.
                self.pending.discontinuity = pending.discontinuity;
                return Ok(());
            }
            reading.note("a segment without EXTINF: its duration counts as 0");
        }
        reading.at_most(self.playlist.segments.len() + 1, reading.limits.max_segments, "segments")?;
        let uri = reading.uri(uri)?;
        let byte_range = match pending.byte_range {
            None => None,
            Some(DeclaredRange { length, offset }) => {
                let offset = match offset {
                    Some(offset) => offset,
                    None => self.end_of_previous(&uri).ok_or_else(|| {
                        reading.invalid("EXT-X-BYTERANGE without an offset, and no range of the same URI before it")
                    })?,
                };
                Some(checked_range(offset, length, reading)?)
            }
        };
        let added = self.playlist.segments.push(NewSegment {
            uri: &uri,
            duration_seconds: pending.duration_seconds.unwrap_or_default(),
            byte_range,
            key_set: self.keys.current(reading.limits.max_keys).at(|| reading.place())?,
            map: self.map,
            discontinuity: pending.discontinuity,
            gap: pending.gap,
        });
        if added { Ok(()) } else { Err(reading.failure(FailureKind::PlaylistTooLarge, "the URIs are more than 4 GiB")) }
    }

    /// Where an implicit offset begins: behind the previous segment, when that was a part of the
    /// same resource.
    fn end_of_previous(&self, uri: &str) -> Option<u64> {
        let previous = self.playlist.segments.last().filter(|segment| segment.uri == uri)?;
        previous.byte_range.map(|range| range.offset + range.length)
    }

    pub(super) fn target_duration(&mut self, value: &[u8], reading: &mut Reading) {
        match seconds(value) {
            Some(seconds) => self.playlist.target_duration_seconds = seconds,
            None => reading.note(format!("EXT-X-TARGETDURATION: {} is no duration: left out", quoted(value))),
        }
    }

    /// EXT-X-MEDIA-SEQUENCE: the number of the first segment. It makes the implicit IV: doubt about
    /// it is an error once a key needs it.
    pub(super) fn media_sequence(&mut self, value: &[u8], reading: &mut Reading) -> Result<()> {
        let doubt = match integer(value) {
            Some(sequence) => {
                let first = self.playlist.segments.is_empty() && self.sequence_line.is_none();
                let same = sequence == self.playlist.media_sequence;
                self.playlist.media_sequence = sequence;
                (!first && !same)
                    .then(|| "is not the first, or behind a segment: it counts for the whole playlist".to_owned())
            }
            None if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                return Err(reading.invalid("EXT-X-MEDIA-SEQUENCE overflows"));
            }
            None => Some(format!("{} is no number: left out", quoted(value))),
        };
        if let Some(doubt) = doubt {
            reading.note(format!("EXT-X-MEDIA-SEQUENCE: {doubt}"));
            self.sequence_doubt = Some(reading.line);
        }
        self.sequence_line = Some(reading.line);
        Ok(())
    }

    pub(super) fn discontinuity_sequence(&mut self, value: &[u8], reading: &mut Reading) {
        if self.pending.discontinuity || !self.playlist.segments.is_empty() {
            reading.note("EXT-X-DISCONTINUITY-SEQUENCE behind a segment or joint: it counts for the whole playlist");
        }
        match integer(value) {
            Some(sequence) => self.playlist.discontinuity_sequence = sequence,
            None => reading.note(format!("EXT-X-DISCONTINUITY-SEQUENCE: {} is no number: left out", quoted(value))),
        }
    }

    pub(super) fn playlist_type(&mut self, value: &[u8], reading: &mut Reading) {
        self.playlist.playlist_type = if value.eq_ignore_ascii_case(b"VOD") {
            Some(PlaylistType::Vod)
        } else if value.eq_ignore_ascii_case(b"EVENT") {
            Some(PlaylistType::Event)
        } else {
            reading.note(format!("EXT-X-PLAYLIST-TYPE: {} is unknown: left out", quoted(value)));
            return;
        };
    }

    /// The playlist, once all lines are read.
    pub(super) fn finish(self, reading: &mut Reading) -> Result<MediaPlaylist> {
        if self.pending.duration_seconds.is_some() || self.pending.byte_range.is_some() {
            reading.note("the last EXTINF or EXT-X-BYTERANGE has no URI: left out");
        }
        if let Some(line) = self.sequence_doubt
            && self.keys.any_implicit_iv()
        {
            reading.line = line;
            let what = "EXT-X-MEDIA-SEQUENCE is no number, not the first, or behind a segment, and an IV depends on it";
            return Err(reading.invalid(what));
        }
        let mut playlist = self.playlist;
        let first = playlist.media_sequence;
        if first.checked_add(playlist.segments.len() as u64).is_none() {
            reading.line = self.sequence_line.unwrap_or(reading.line);
            return Err(reading.invalid("EXT-X-MEDIA-SEQUENCE: the numbers of the segments overflow"));
        }
        playlist.segments.finish(first, playlist.discontinuity_sequence);
        playlist.maps.iter_mut().for_each(|map| map.sequence += first);
        playlist.key_sets = self.keys.into_sets();
        playlist.diagnostics = reading.take_diagnostics();
        Ok(playlist)
    }
}

/// Seconds, whole or not; `None` for anything else, negative ones too.
fn seconds(text: &[u8]) -> Option<f64> {
    /// About three years: the sum of half a million of them, counted in ticks of 90 kHz, has 64 bits.
    const LONGEST: f64 = 1e8;
    let seconds: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (0.0..=LONGEST).contains(&seconds).then_some(seconds.abs())
}

/// A decimal integer of at most 64 bits.
fn integer(text: &[u8]) -> Option<u64> {
    // `parse` would take a plus sign.
    text.first().filter(|first| first.is_ascii_digit())?;
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `length[@offset]`.
fn declared_range(value: &[u8], reading: &Reading) -> Result<DeclaredRange> {
    let mut parts = value.splitn(2, |&byte| byte == b'@').map(|part| integer(part.trim_ascii()));
    match (parts.next().flatten(), parts.next()) {
        (Some(0), _) => Err(reading.invalid("a byte range of length 0")),
        (Some(length), None) => Ok(DeclaredRange { length, offset: None }),
        (Some(length), Some(Some(offset))) => Ok(DeclaredRange { length, offset: Some(offset) }),
        _ => Err(reading.invalid(format!("{} is no byte range", quoted(value)))),
    }
}

fn checked_range(offset: u64, length: u64, reading: &Reading) -> Result<ByteRange> {
    match offset.checked_add(length) {
        Some(_) => Ok(ByteRange { offset, length }),
        None => Err(reading.invalid("a byte range that overflows")),
    }
}

/// The beginning of a URI for a message, without its query.
fn shown_uri(uri: &[u8]) -> String {
    let path = uri.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
    // What stands before an @ may be a password.
    quoted(path.rsplit(|&byte| byte == b'@').next().unwrap_or_default())
}
