//! The tracks of an initialization section.

use super::boxes::{boxes, child, descend, shown, u32_at, u64_at};
use crate::failure::{Failure, FailureKind, Result};

/// Bytes of a sample entry before its boxes (ISO/IEC 14496-12 §12.1.3 and §12.2.3).
const VISUAL_ENTRY_BYTES: usize = 78;
const AUDIO_ENTRY_BYTES: usize = 28;

/// Most tracks of an initialization section. Every fragment is looked up among them.
const MAX_TRACKS: usize = 100;

/// A track as an initialization section declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitTrack {
    pub id: u32,
    /// Ticks per second.
    pub timescale: u32,
    /// `vide`, `soun`, …
    pub handler: [u8; 4],
    /// Sample entries without what does not matter to a decoder.
    entries: Vec<u8>,
    /// Of each edit where it begins in the media, and of an empty one how long it is: they move the
    /// whole track.
    edits: Vec<(i64, u64)>,
    /// Defaults of fragments: description, duration, size and flags.
    pub defaults: [u32; 4],
}

impl InitTrack {
    /// Whether it is one of pictures.
    pub fn is_video(&self) -> bool {
        self.handler == *b"vide"
    }
}

/// The tracks of the `moov` box in `bytes`; `None` when it is not there whole, lacks what every
/// track has, or has more than a hundred of them.
pub fn tracks(bytes: &[u8]) -> Option<Vec<InitTrack>> {
    let movie = child(bytes, b"moov")?;
    let extends = child(movie, b"mvex").unwrap_or_default();
    let found = boxes(movie).filter(|found| found.name == *b"trak").take(MAX_TRACKS + 1);
    let tracks = found.map(|found| track(extends, found.body)).collect::<Option<Vec<_>>>();
    tracks.filter(|tracks| (1..=MAX_TRACKS).contains(&tracks.len()))
}

/// `extends`: the defaults of fragments, of all tracks.
fn track(extends: &[u8], track: &[u8]) -> Option<InitTrack> {
    let header = child(track, b"tkhd")?;
    let media = child(track, b"mdia")?;
    let media_header = child(media, b"mdhd")?;
    // Version 1 has two times of 64 bits in front, version 0 two of 32.
    let behind_times = |body: &[u8]| u32_at(body, if body.first() == Some(&1) { 20 } else { 12 });
    let id = behind_times(header)?;
    let timescale = behind_times(media_header).filter(|timescale| *timescale > 0)?;
    let handler = *child(media, b"hdlr")?.get(8..)?.first_chunk()?;
    let descriptions = descend(media, &[b"minf", b"stbl", b"stsd"])?;
    let edits = descend(track, &[b"edts", b"elst"]).map(edits).unwrap_or_default();
    let extends = boxes(extends).find(|found| found.name == *b"trex" && u32_at(found.body, 4) == Some(id));
    let default = |index: usize| extends.and_then(|found| u32_at(found.body, 8 + 4 * index)).unwrap_or_default();
    Some(InitTrack {
        id,
        timescale,
        handler,
        entries: entries(descriptions.get(8..)?, handler),
        edits,
        defaults: std::array::from_fn(default),
    })
}

/// `media_time` of each edit, -1 for an empty one, which alone has a duration that matters
/// (ISO/IEC 14496-12 §8.6.6).
fn edits(list: &[u8]) -> Vec<(i64, u64)> {
    let long = list.first() == Some(&1);
    let entries = list.get(8..).unwrap_or_default().chunks_exact(if long { 20 } else { 12 });
    let edit = |entry: &[u8]| match long {
        true => Some((u64_at(entry, 8)? as i64, u64_at(entry, 0)?)),
        false => Some((i64::from(u32_at(entry, 4)? as i32), u64::from(u32_at(entry, 0)?))),
    };
    entries.filter_map(edit).map(|(time, duration)| (time, if time < 0 { duration } else { 0 })).collect()
}

/// The sample entries as they are compared: bit rates are what an encoder happened to need, and
/// differ between two runs of it with the same settings.
fn entries(descriptions: &[u8], handler: [u8; 4]) -> Vec<u8> {
    let mut canonical = Vec::new();
    for entry in boxes(descriptions) {
        let fixed = match &handler {
            b"vide" => VISUAL_ENTRY_BYTES,
            b"soun" => AUDIO_ENTRY_BYTES,
            _ => entry.body.len(),
        };
        let (fixed, rest) = entry.body.split_at(fixed.min(entry.body.len()));
        canonical.extend(entry.name);
        canonical.extend(fixed);
        for found in boxes(rest).filter(|found| found.name != *b"btrt") {
            canonical.extend(found.name);
            canonical.extend((found.body.len() as u64).to_be_bytes());
            let start = canonical.len();
            canonical.extend(found.body);
            if found.name == *b"esds" {
                forget_bit_rates(&mut canonical[start..]);
            }
        }
    }
    canonical
}

/// Zeroes buffer size and bit rates of the DecoderConfigDescriptor (ISO/IEC 14496-1 §7.2.6.6).
fn forget_bit_rates(elementary_stream: &mut [u8]) {
    // Version and flags, then nested descriptors: tag, length in groups of 7 bits.
    let mut at = 4;
    while let Some(tag) = elementary_stream.get(at).copied() {
        at += 1;
        while elementary_stream.get(at).is_some_and(|byte| byte & 0x80 != 0) {
            at += 1;
        }
        at += 1;
        match tag {
            // ES_ID, and flags that say what else is there.
            0x03 => {
                let flags = elementary_stream.get(at + 2).copied().unwrap_or_default();
                let url = elementary_stream.get(at + 3).map_or(0, |length| usize::from(*length) + 1);
                at += 3 + if flags & 0x80 != 0 { 2 } else { 0 };
                at += if flags & 0x40 != 0 { url } else { 0 } + if flags & 0x20 != 0 { 2 } else { 0 };
            }
            0x04 => {
                let rates = elementary_stream.get_mut(at + 2..at + 13);
                return rates.map(|rates| rates.fill(0)).unwrap_or_default();
            }
            _ => return,
        }
    }
}

/// Checks that the initialization section `other` declares the tracks that the one at the beginning
/// of `first` does, so that fragments after it are understood with either.
///
/// # Errors
/// `segment_invalid` when one of them cannot be read, `codec_changed` with what differs.
pub fn same_tracks(first: &[u8], other: &[u8]) -> Result<()> {
    let unreadable = || Failure::new(FailureKind::SegmentInvalid, "an initialization section declares no tracks");
    let (first, other) = (tracks(first).ok_or_else(unreadable)?, tracks(other).ok_or_else(unreadable)?);
    let changed = |message: String| Err(Failure::new(FailureKind::CodecChanged, message));
    if first.len() != other.len() {
        return changed(format!("{} tracks became {}", first.len(), other.len()));
    }
    for (before, after) in first.iter().zip(&other) {
        let InitTrack { id, timescale, handler, .. } = before;
        if (*id, *handler) != (after.id, after.handler) {
            let (before, after) = (shown(*handler), shown(after.handler));
            return changed(format!("track {id} ({before}) became another one ({after})"));
        }
        if *timescale != after.timescale {
            return changed(format!("the timescale of track {id} changes from {timescale} to {}", after.timescale));
        }
        if before.entries != after.entries {
            return changed(format!("the codec configuration of track {id} ({}) changes", shown(*handler)));
        }
        if before != after {
            return changed(format!("edit list or defaults of track {id} ({}) change", shown(*handler)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32 + 8).to_be_bytes(), &name[..], body].concat()
    }

    fn numbers(numbers: &[u32]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
    }

    struct Sound {
        id: u32,
        timescale: u32,
        handler: [u8; 4],
        channels: u8,
        /// Bit rates, in `esds` and in `btrt`.
        rate: u8,
        media_time: u32,
        /// Of an empty edit before it.
        empty: u32,
        default_duration: u32,
    }

    const SOUND: Sound = Sound {
        id: 1,
        timescale: 48_000,
        handler: *b"soun",
        channels: 2,
        rate: 64,
        media_time: 1024,
        empty: 80,
        default_duration: 1024,
    };

    fn init(sounds: &[Sound]) -> Vec<u8> {
        let mut movie = Vec::new();
        let mut extends = Vec::new();
        for sound in sounds {
            let Sound { id, timescale, handler, channels, rate, media_time, empty, default_duration } = *sound;
            let decoder =
                [&[0x04, 0x80, 0x80, 0x80, 17, 0x40, 0x15][..], &[rate; 11], &[0x05, 2, 0x11, channels]].concat();
            let stream = [&[0, 0, 0, 0, 0x03, 0x80, 0x80, 0x80, 27, 0, 1, 0x20, 9, 9][..], &decoder].concat();
            let entry = [vec![0; 28], make(b"esds", &stream), make(b"btrt", &[rate; 12])].concat();
            let descriptions = [numbers(&[0, 1]), make(b"mp4a", &entry)].concat();
            let media = [
                make(b"mdhd", &numbers(&[0, 0, 0, timescale, 0, 0])),
                make(b"hdlr", &[&[0; 8][..], &handler, &[0; 13]].concat()),
                make(b"minf", &make(b"stbl", &make(b"stsd", &descriptions))),
            ];
            let edits =
                make(b"edts", &make(b"elst", &numbers(&[0, 2, empty, u32::MAX, 1 << 16, 0, media_time, 1 << 16])));
            let track = [make(b"tkhd", &numbers(&[0, 0, 0, id, 0])), edits, make(b"mdia", &media.concat())];
            movie.extend(make(b"trak", &track.concat()));
            extends.extend(make(b"trex", &numbers(&[0, id, 1, default_duration, 0, 0])));
        }
        movie.extend(make(b"mvex", &extends));
        [make(b"ftyp", b"iso5\0\0\0\0"), make(b"moov", &movie)].concat()
    }

    #[test]
    fn two_runs_of_an_encoder_declare_the_same() {
        let first = init(&[SOUND]);
        let behind = [&first[..], &make(b"moof", &[0; 20])[..], b"\0\0\0\x50mdatcut"].concat();
        same_tracks(&behind, &first).unwrap();
        same_tracks(&first, &init(&[Sound { rate: 65, ..SOUND }])).unwrap();
    }

    #[test]
    fn what_a_decoder_or_the_clock_would_notice_is_a_change() {
        for (other, says) in [
            (vec![Sound { channels: 1, ..SOUND }], "the codec configuration of track 1 (soun) changes"),
            (vec![Sound { timescale: 44_100, ..SOUND }], "from 48000 to 44100"),
            (vec![Sound { id: 2, ..SOUND }], "track 1 (soun) became another one"),
            (vec![Sound { handler: *b"vide", ..SOUND }], "another one (vide)"),
            (vec![Sound { media_time: 2048, ..SOUND }], "edit list or defaults of track 1"),
            (vec![Sound { empty: 20_080, ..SOUND }], "edit list or defaults of track 1"),
            (vec![Sound { default_duration: 960, ..SOUND }], "edit list or defaults of track 1"),
            (vec![SOUND, Sound { id: 2, ..SOUND }], "1 tracks became 2"),
        ] {
            let failure = same_tracks(&init(&[SOUND]), &init(&other)).unwrap_err();
            assert_eq!(failure.kind, FailureKind::CodecChanged, "{failure}");
            assert!(failure.message.contains(says), "{says}: {failure}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_no_initialization_section() {
        let whole = init(&[SOUND]);
        for length in [0, 7, 16, 24, whole.len() - 1] {
            let failure = same_tracks(&whole, &whole[..length]).unwrap_err();
            assert_eq!(failure.kind, FailureKind::SegmentInvalid, "{length}: {failure}");
        }
        // Any cut inside must not panic.
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xff;
            let _ = same_tracks(&whole, &damaged);
        }
    }

    #[test]
    fn there_are_not_more_tracks_than_anybody_has() {
        let of = |count: u32| tracks(&init(&(1..=count).map(|id| Sound { id, ..SOUND }).collect::<Vec<_>>()));
        assert_eq!(of(100).unwrap().len(), 100);
        assert_eq!(of(101), None);
    }
}
