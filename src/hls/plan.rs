//! What has to be fetched, in which order, and how each part is decrypted. Pure: no I/O.

use protection::{key_url, usable_key};
use sha2::{Digest, Sha256};
use url::Url;

use super::decrypt::AES_BLOCK;
use super::playlist::{ByteRange, Map, MediaPlaylist, PlaylistType, Segment};
use crate::failure::{Failure, FailureKind, Result};

mod protection;
#[cfg(test)]
mod tests;

/// One media playlist as a list of things to fetch and append.
#[derive(Debug)]
pub struct Plan {
    playlist: MediaPlaylist,
    steps: Vec<Step>,
    gaps: Gaps,
}

/// What a track lacks because its playlist says so (EXT-X-GAP).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Gaps {
    /// Segments that are absent.
    pub segments: u32,
    /// How long they would have been, in seconds.
    pub seconds: f64,
}

/// Where a segment stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Sum of the durations of those before it, in seconds.
    pub start_seconds: f64,
    /// EXT-X-DISCONTINUITY stood before it.
    pub discontinuity: bool,
    /// Media sequence number.
    pub sequence: u64,
}

/// Index of a map or a segment, in the order of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Map { map: u32 },
    Segment { segment: u32 },
}

/// One thing to fetch and append to the output.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// Where it is.
    pub url: Url,
    /// The part of the resource, if not all of it.
    pub byte_range: Option<ByteRange>,
    /// How to decrypt it, if it is encrypted.
    pub cipher: Option<Cipher>,
    /// An initialization section, not a segment.
    pub is_map: bool,
    /// Media sequence number, for messages.
    pub sequence: u64,
    /// As its playlist says; 0 for an initialization section.
    pub duration_seconds: f64,
}

/// AES-128-CBC parameters of one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cipher {
    /// Where the 16 bytes of key are.
    pub key_url: Url,
    /// Explicit, or made from the media sequence number (RFC 8216 §5.2).
    pub iv: [u8; 16],
}

impl Plan {
    /// Checks that the playlist can be downloaded exactly, and orders its parts. With `allow_gaps`
    /// segments that are declared absent are left out and counted.
    ///
    /// # Errors
    /// `live_unsupported`, `drm_protected`, `encryption_unsupported`, `segment_missing` or
    /// `playlist_invalid`, all before anything is fetched.
    pub fn new(playlist: MediaPlaylist, allow_gaps: bool) -> Result<Plan> {
        let invalid = |message: String| Err(Failure::new(FailureKind::PlaylistInvalid, message));
        if !playlist.end_list && playlist.playlist_type.is_none() {
            let message = "the playlist has no EXT-X-ENDLIST and no EXT-X-PLAYLIST-TYPE: it is a live stream";
            return Err(Failure::new(FailureKind::LiveUnsupported, message));
        }
        if playlist.i_frames_only {
            return invalid("the playlist holds only I-frames".into());
        }
        if playlist.segments.is_empty() {
            return invalid("the playlist has no segments".into());
        }
        // Players leave it out. If it was a segment, the file would have a hole.
        if let Some(line) = playlist.unannounced_line {
            return invalid(format!("line {line}: a URI without EXTINF: whether it is a segment cannot be told"));
        }
        for keys in playlist.key_sets.iter() {
            usable_key(keys)?.map(key_url).transpose()?;
        }
        let mut steps = Vec::with_capacity(playlist.segments.len() + playlist.maps.len());
        let mut current_map = None;
        let mut gaps = Gaps::default();
        for (index, segment) in playlist.segments.iter().enumerate() {
            if segment.gap && allow_gaps {
                gaps.segments += 1;
                gaps.seconds += segment.duration_seconds;
                continue;
            }
            check_segment(&playlist, &segment)?;
            if let Some(map) = segment.map.filter(|map| current_map != Some(*map)) {
                current_map = Some(map);
                steps.push(Step::Map { map });
            }
            // The parser's limit on segments is far below 2^32.
            steps.push(Step::Segment { segment: index as u32 });
        }
        if steps.is_empty() {
            return invalid("the playlist declares every segment absent (EXT-X-GAP)".into());
        }
        Ok(Plan { playlist, steps, gaps })
    }

    /// Segments that are left out.
    pub fn gaps(&self) -> Gaps {
        self.gaps
    }

    /// Where each unit stands on the playlist's timeline. Initialization sections have no place.
    pub fn places(&self) -> Vec<Place> {
        let mut starts = Vec::with_capacity(self.playlist.segments.len());
        let mut seconds = 0.0;
        for segment in self.playlist.segments.iter() {
            starts.push(seconds);
            seconds += segment.duration_seconds;
        }
        let place = |step: &Step| match *step {
            Step::Map { .. } => None,
            Step::Segment { segment } => {
                let start_seconds = starts.get(segment as usize).copied().unwrap_or_default();
                let segment = self.playlist.segments.at(segment as usize);
                Some(Place { start_seconds, discontinuity: segment.discontinuity, sequence: segment.sequence })
            }
        };
        self.steps.iter().filter_map(place).collect()
    }

    /// Whether nothing will be added to the playlist.
    pub fn is_complete(&self) -> bool {
        self.playlist.end_list || self.playlist.playlist_type == Some(PlaylistType::Vod)
    }

    /// How often a playlist that grows is looked at, in seconds.
    pub fn target_duration_seconds(&self) -> f64 {
        self.playlist.target_duration_seconds
    }

    /// Whether a download of this plan can go on with `other` at the unit `from`: a later edition
    /// of the playlist, or a copy of the stream on another host. Addresses and keys may differ;
    /// what is where in the stream may not.
    ///
    /// # Errors
    /// `playlist_invalid` with the first difference.
    pub fn continued_by(&self, other: &Plan, from: usize) -> Result<()> {
        let differs =
            |what: String| Err(Failure::new(FailureKind::PlaylistInvalid, format!("the playlist has changed: {what}")));
        let grows = !self.is_complete() && other.len() >= self.len();
        if other.len() != self.len() && !grows {
            return differs(format!("{} parts became {}", self.len(), other.len()));
        }
        for index in from..self.len() {
            if self.place(index) != other.place(index) {
                return differs(format!("part {index} of {} is another one", self.len()));
            }
        }
        Ok(())
    }

    /// What tells one unit from another without its address.
    fn place(&self, index: usize) -> impl PartialEq + use<> {
        match self.steps[index] {
            Step::Map { map } => {
                let map = &self.playlist.maps[map as usize];
                (true, map.sequence, 0, map.byte_range, false)
            }
            Step::Segment { segment } => {
                let segment = self.playlist.segments.at(segment as usize);
                // Packagers print the same duration with more or fewer digits.
                let milliseconds = (segment.duration_seconds * 1000.0).round() as u64;
                (false, segment.sequence, milliseconds, segment.byte_range, segment.discontinuity)
            }
        }
    }

    /// Number of units.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Bytes of all units from this one on; `None` when not all of them are ranges.
    pub fn bytes_from(&self, first: usize) -> Option<u64> {
        let range = |step: &Step| match *step {
            Step::Map { map } => {
                let map = &self.playlist.maps[map as usize];
                let encrypted = !self.playlist.keys(map.key_set).is_empty();
                map.byte_range.map(|range| if encrypted { whole_blocks(range) } else { range })
            }
            Step::Segment { segment } => self.playlist.segments.at(segment as usize).byte_range,
        };
        let rest = self.steps.get(first..).unwrap_or_default();
        rest.iter().try_fold(0, |sum: u64, step| Some(sum.saturating_add(range(step)?.length)))
    }

    /// A plan is never empty.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// One unit, from 0. Built on demand: a plan of 100,000 segments stays small.
    ///
    /// # Errors
    /// None for a plan that was made: every URI has been checked.
    pub fn unit(&self, index: usize) -> Result<Unit> {
        match self.steps[index] {
            Step::Map { map } => {
                let map = &self.playlist.maps[map as usize];
                let cipher = self.cipher(map.key_set, map.sequence)?;
                let byte_range = map.byte_range.map(|range| if cipher.is_some() { whole_blocks(range) } else { range });
                let url = self.playlist.resolve(&map.uri)?;
                Ok(Unit { url, byte_range, cipher, is_map: true, sequence: map.sequence, duration_seconds: 0.0 })
            }
            Step::Segment { segment } => {
                let segment = self.playlist.segments.at(segment as usize);
                let cipher = self.cipher(segment.key_set, segment.sequence)?;
                let url = self.playlist.resolve(segment.uri)?;
                let Segment { byte_range, sequence, duration_seconds, .. } = segment;
                Ok(Unit { url, byte_range, cipher, is_map: false, sequence, duration_seconds })
            }
        }
    }

    /// Whether the unit is an initialization section.
    pub fn is_map(&self, index: usize) -> bool {
        matches!(self.steps[index], Step::Map { .. })
    }

    /// Whether timestamps may begin anew with the unit (EXT-X-DISCONTINUITY). Before the first
    /// segment there is nothing to go on from.
    pub fn begins_section(&self, index: usize) -> bool {
        let sequence = |step: &Step| match *step {
            Step::Map { .. } => None,
            Step::Segment { segment } => Some(self.playlist.segments.at(segment as usize).discontinuity_sequence),
        };
        let before = self.steps[..index].iter().rev().find_map(sequence);
        // By number: a segment that is left out may have had the tag.
        sequence(&self.steps[index]).zip(before).is_some_and(|(this, before)| this != before)
    }

    /// How large it will be, as far as that can be told: by its ranges, or by its bit rate.
    pub fn expected_bytes(&self, bits_per_second: Option<u64>) -> Option<u64> {
        let by_rate = |bits: u64| (bits as f64 / 8.0 * self.duration_seconds()) as u64;
        self.bytes_from(0).or(bits_per_second.map(by_rate))
    }

    /// Where each section but the first begins on the playlist's timeline, in seconds.
    pub fn section_starts(&self) -> Vec<f64> {
        let mut starts = Vec::new();
        let mut places = self.places().into_iter();
        for index in (0..self.len()).filter(|index| !self.is_map(*index)) {
            let place = places.next();
            if self.begins_section(index) {
                starts.extend(place.map(|place| place.start_seconds));
            }
        }
        starts
    }

    /// Whether the segments are fMP4 (they have an initialization section).
    pub fn is_fragmented_mp4(&self) -> bool {
        !self.playlist.maps.is_empty()
    }

    /// Sum of the durations of all segments that are there, in seconds.
    pub fn duration_seconds(&self) -> f64 {
        self.playlist.duration_seconds() - self.gaps.seconds
    }

    /// What the sum of the durations can be off by because they are rounded, in seconds: half a
    /// second for each that is whole (RFC 8216 §4.3.2.1).
    pub fn rounding_seconds(&self) -> f64 {
        let whole = self.playlist.segments.iter().filter(|segment| segment.duration_seconds.fract() == 0.0);
        whole.count() as f64 * 0.5
    }

    /// Says whether two plans make the same file byte by byte, as far as a playlist can tell.
    /// Hosts and queries are left out, since signed URLs change from one request to the next; what
    /// tells two renditions apart whose paths are the same is `rendition` and the durations.
    pub fn fingerprint(&self, rendition: &str) -> String {
        let mut hash = Sha256::new();
        let text = |hash: &mut Sha256, parts: &[&str]| {
            hash.update((parts.iter().map(|part| part.len()).sum::<usize>() as u64).to_le_bytes());
            parts.iter().for_each(|part| hash.update(part));
        };
        text(&mut hash, &[rendition]);
        let mut last_keys = None;
        // An event only ever gets more units: its beginning tells it from others.
        let grows = self.playlist.playlist_type == Some(PlaylistType::Event);
        for step in self.steps.iter().take(if grows { 1 } else { usize::MAX }) {
            let (uri, byte_range, key_set, sequence, seconds) = match *step {
                Step::Map { map } => {
                    let Map { uri, byte_range, key_set, sequence } = &self.playlist.maps[map as usize];
                    (&**uri, *byte_range, *key_set, *sequence, 0.0)
                }
                Step::Segment { segment } => {
                    let segment = self.playlist.segments.at(segment as usize);
                    let Segment { uri, byte_range, key_set, sequence, duration_seconds, .. } = segment;
                    (uri, byte_range, key_set, sequence, duration_seconds)
                }
            };
            // Resolved, as the relative URIs of two playlists are often the same. The parser has
            // resolved all of them once: none fails.
            match self.playlist.path(uri) {
                Ok([folder, rest]) => text(&mut hash, &[&folder, &rest]),
                Err(_) => text(&mut hash, &[uri]),
            }
            let (offset, length) = byte_range.map_or((0, 0), |range| (range.offset, range.length));
            // 1 and more stand for as many keys less one; 0 is "the keys of the unit before".
            let keys = Some(key_set).filter(|_| last_keys.replace(key_set) != Some(key_set));
            let keys = keys.map(|key_set| self.playlist.keys(key_set));
            let new_keys = keys.map_or(0, |keys| keys.len() as u64 + 1);
            for number in [offset, length, sequence, seconds.to_bits(), new_keys] {
                hash.update(number.to_le_bytes());
            }
            for key in keys.unwrap_or_default() {
                text(&mut hash, &[&key.method]);
                hash.update([u8::from(key.iv.is_some())]);
                hash.update(key.iv.unwrap_or_default());
            }
        }
        hex::encode(&hash.finalize()[..16])
    }

    fn cipher(&self, key_set: u32, sequence: u64) -> Result<Option<Cipher>> {
        let Some(key) = usable_key(self.playlist.keys(key_set))? else { return Ok(None) };
        let iv = key.iv.unwrap_or_else(|| u128::from(sequence).to_be_bytes());
        Ok(Some(Cipher { key_url: key_url(key)?, iv }))
    }
}

/// What a segment must fulfil so that the file has no hole and no garbage.
fn check_segment(playlist: &MediaPlaylist, segment: &Segment) -> Result<()> {
    if segment.gap {
        let message = format!("segment {} is declared absent (EXT-X-GAP)", segment.sequence);
        return Err(Failure::new(FailureKind::SegmentMissing, message));
    }
    let encrypted = !playlist.keys(segment.key_set).is_empty();
    if let Some(range) = segment.byte_range.filter(|range| encrypted && range.length % AES_BLOCK as u64 != 0) {
        let message =
            format!("segment {}: its byte range of {} bytes is not a multiple of 16", segment.sequence, range.length);
        return Err(Failure::new(FailureKind::PlaylistInvalid, message));
    }
    Ok(())
}

/// Some packagers declare the clear size of an encrypted initialization section.
fn whole_blocks(range: ByteRange) -> ByteRange {
    ByteRange { offset: range.offset, length: range.length.next_multiple_of(AES_BLOCK as u64) }
}
