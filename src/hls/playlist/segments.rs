//! The segments of a media playlist, stored so that hundreds of thousands of them stay small: 32
//! bytes each, 16 more where there are byte ranges, and the text of every URI once.

use std::fmt;

use super::ByteRange;

/// The segments of a media playlist, in playlist order. What a segment is comes out as a
/// [`Segment`], made when it is asked for.
#[derive(Clone, Default)]
pub struct Segments {
    /// The URIs, one behind the other; one that repeats the URI before it is not written again.
    uris: String,
    records: Vec<Record>,
    /// Empty when no segment has one; else as long as `records`, [`WHOLE`] where there is none.
    byte_ranges: Vec<ByteRange>,
    /// EXT-X-BITRATE: index of the first segment it is for, and bits per second.
    bitrates: Vec<(u32, u64)>,
    /// Number of the first segment.
    first_sequence: u64,
    /// Discontinuity sequence number before the first segment.
    first_discontinuity_sequence: u64,
}

/// One media segment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Segment<'p> {
    /// As written in the playlist, variables substituted. [`super::MediaPlaylist::resolve`] makes it
    /// a URL.
    pub uri: &'p str,
    /// EXTINF in seconds.
    pub duration_seconds: f64,
    /// EXT-X-BYTERANGE, offset made explicit.
    pub byte_range: Option<ByteRange>,
    /// Index into [`super::MediaPlaylist::key_sets`].
    pub key_set: u32,
    /// Index into [`super::MediaPlaylist::maps`].
    pub map: Option<u32>,
    /// Media sequence number, from which the implicit IV is made (RFC 8216 §5.2).
    pub sequence: u64,
    /// EXT-X-DISCONTINUITY stood before it.
    pub discontinuity: bool,
    /// Discontinuity sequence number (RFC 8216 §6.2.1): segments of the same number are of one
    /// timeline.
    pub discontinuity_sequence: u64,
    /// EXT-X-GAP: the segment is absent.
    pub gap: bool,
    /// EXT-X-BITRATE in bits per second, of about 10 % precision (rfc8216bis §4.4.4.8).
    pub bitrate_bits_per_second: Option<u64>,
}

/// A [`Segment`] without the numbers that come from its place.
pub(super) struct NewSegment<'t> {
    pub uri: &'t str,
    pub duration_seconds: f64,
    pub byte_range: Option<ByteRange>,
    pub key_set: u32,
    pub map: Option<u32>,
    pub discontinuity: bool,
    pub gap: bool,
}

#[derive(Clone, Copy)]
struct Record {
    duration_seconds: f64,
    uri_start: u32,
    uri_end: u32,
    key_set: u32,
    /// [`NO_MAP`], or an index.
    map: u32,
    /// EXT-X-DISCONTINUITY up to here, its own one counted.
    discontinuities: u32,
    discontinuity: bool,
    gap: bool,
}

const NO_MAP: u32 = u32::MAX;
/// No byte range has length 0.
const WHOLE: ByteRange = ByteRange { offset: 0, length: 0 };

impl Segments {
    /// Number of segments.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The segment at `index`, from 0.
    pub fn get(&self, index: usize) -> Option<Segment<'_>> {
        self.records.get(index).map(|record| self.segment(index, record))
    }

    /// The segment at `index`, from 0.
    ///
    /// # Panics
    /// When there is none, as indexing does.
    pub fn at(&self, index: usize) -> Segment<'_> {
        self.segment(index, &self.records[index])
    }

    /// The last segment.
    pub fn last(&self) -> Option<Segment<'_>> {
        self.get(self.len().checked_sub(1)?)
    }

    /// All segments, in playlist order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Segment<'_>> + DoubleEndedIterator + Clone {
        self.records.iter().enumerate().map(|(index, record)| self.segment(index, record))
    }

    fn segment(&self, index: usize, record: &Record) -> Segment<'_> {
        Segment {
            uri: self.uri(record),
            duration_seconds: record.duration_seconds,
            byte_range: self.byte_ranges.get(index).copied().filter(|range| *range != WHOLE),
            key_set: record.key_set,
            map: Some(record.map).filter(|map| *map != NO_MAP),
            sequence: self.first_sequence.saturating_add(index as u64),
            discontinuity: record.discontinuity,
            discontinuity_sequence: self.first_discontinuity_sequence.saturating_add(record.discontinuities.into()),
            gap: record.gap,
            bitrate_bits_per_second: self.bitrate(index),
        }
    }

    /// It is for segments that are whole resources only.
    fn bitrate(&self, index: usize) -> Option<u64> {
        let before = self.bitrates.partition_point(|(first, _)| *first as usize <= index).checked_sub(1)?;
        let is_whole = self.byte_ranges.get(index).is_none_or(|range| *range == WHOLE);
        is_whole.then_some(self.bitrates[before].1)
    }

    fn uri(&self, record: &Record) -> &str {
        &self.uris[record.uri_start as usize..record.uri_end as usize]
    }

    /// Sum of all EXTINF, in seconds.
    pub fn duration_seconds(&self) -> f64 {
        self.records.iter().map(|record| record.duration_seconds).sum()
    }

    /// Adds a segment; `false` when there is no room: the URIs together are at most 4 GiB.
    pub(super) fn push(&mut self, segment: NewSegment) -> bool {
        let last = self.records.last().copied();
        let (uri_start, uri_end) = match last {
            Some(last) if self.uri(&last) == segment.uri => (last.uri_start, last.uri_end),
            _ => {
                let start = self.uris.len();
                // Both fit when the end does.
                let Ok(end) = u32::try_from(start + segment.uri.len()) else { return false };
                self.uris.push_str(segment.uri);
                (start as u32, end)
            }
        };
        let before = last.map_or(0, |last| last.discontinuities);
        let discontinuities = before.saturating_add(segment.discontinuity.into());
        if segment.byte_range.is_some() || !self.byte_ranges.is_empty() {
            self.byte_ranges.resize(self.records.len(), WHOLE);
            self.byte_ranges.push(segment.byte_range.unwrap_or(WHOLE));
        }
        self.records.push(Record {
            duration_seconds: segment.duration_seconds,
            uri_start,
            uri_end,
            key_set: segment.key_set,
            map: segment.map.unwrap_or(NO_MAP),
            discontinuities,
            discontinuity: segment.discontinuity,
            gap: segment.gap,
        });
        true
    }

    /// Sets the bit rate of the segments that are still to come.
    pub(super) fn set_bitrate(&mut self, bits_per_second: u64) {
        let first = self.records.len() as u32;
        if self.bitrates.last().is_some_and(|last| last.0 == first) {
            self.bitrates.pop();
        }
        if self.bitrates.last().is_none_or(|last| last.1 != bits_per_second) {
            self.bitrates.push((first, bits_per_second));
        }
    }

    /// Gives the segments their numbers and what was reserved back.
    pub(super) fn finish(&mut self, first_sequence: u64, first_discontinuity_sequence: u64) {
        (self.first_sequence, self.first_discontinuity_sequence) = (first_sequence, first_discontinuity_sequence);
        self.uris.shrink_to_fit();
        self.records.shrink_to_fit();
        self.byte_ranges.shrink_to_fit();
        self.bitrates.shrink_to_fit();
    }
}

impl fmt::Debug for Segments {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(uri: &str, byte_range: Option<ByteRange>, discontinuity: bool) -> NewSegment<'_> {
        NewSegment { uri, duration_seconds: 6.0, byte_range, key_set: 0, map: None, discontinuity, gap: false }
    }

    /// The process may use 24 MiB beside its buffer, with 100,000 segments too.
    #[test]
    fn a_segment_costs_32_bytes_and_its_uri_once() {
        assert!(size_of::<Record>() <= 32);
        let mut segments = Segments::default();
        for n in 0..1000u64 {
            assert!(segments.push(segment("all.mp4", Some(ByteRange { offset: n, length: 1 }), false)));
        }
        for n in 0..1000 {
            assert!(segments.push(segment(&format!("{n:010}"), None, false)));
        }
        segments.finish(0, 0);
        assert_eq!(segments.uris.capacity(), "all.mp4".len() + 1000 * 10);
        assert_eq!((segments.records.capacity(), segments.byte_ranges.capacity()), (2000, 2000));
        assert_eq!(segments.at(999).byte_range, Some(ByteRange { offset: 999, length: 1 }));
        assert_eq!((segments.at(1999).uri, segments.at(1999).byte_range), ("0000000999", None));
    }

    #[test]
    fn numbers_come_from_the_place() {
        let mut segments = Segments::default();
        for joint in [true, false, true] {
            segments.push(segment("x", None, joint));
        }
        segments.push(segment("y", Some(ByteRange { offset: 7, length: 1 }), false));
        segments.finish(10, 3);
        let numbers: Vec<_> = segments.iter().map(|s| (s.sequence, s.discontinuity_sequence, s.byte_range)).collect();
        let range = Some(ByteRange { offset: 7, length: 1 });
        assert_eq!(numbers, [(10, 4, None), (11, 4, None), (12, 5, None), (13, 5, range)]);
        assert_eq!((segments.get(4), segments.last().unwrap().uri), (None, "y"));
    }
}
