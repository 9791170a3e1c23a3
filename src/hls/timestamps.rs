//! The timestamps of a finished track, for what has to be shown beside it. They are read from the
//! file, so that a download that was finished by an earlier attempt has them too.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::fmp4::{boxes, child, tracks, u32_at, u64_at};
use super::sniff::MediaKind;
use super::transport::{Inspector, PACKET};

/// How much is looked at: the first pictures and sounds of a segment are far nearer.
const WINDOW_BYTES: u64 = 2 << 20;
/// Ticks per second of MPEG-2 timestamps.
const CLOCK_HZ: i64 = 90_000;
/// 33 bits.
const TIMESTAMP_MASK: i64 = (1 << 33) - 1;
/// The owner of the ID3 tag that tells when packed audio begins (RFC 8216 §3.4).
const AUDIO_TIMESTAMP: &[u8] = b"com.apple.streaming.transportStreamTimestamp\0";

/// The earliest timestamp of picture or sound in these bytes of a part, where a segment begins; in
/// ticks of 90 kHz. That of the first is what is at 0 in a remuxed file. `None` when there is none to
/// be found.
///
/// # Errors
/// Those of reading a file.
pub fn first(file: &File, kind: MediaKind, bytes: Range<u64>) -> io::Result<Option<i64>> {
    let start = read(file, &bytes)?;
    Ok(match kind {
        MediaKind::TransportStream => of_transport_stream(&start),
        MediaKind::FragmentedMp4 if bytes.start == 0 => of_fragments(&start, &start),
        MediaKind::FragmentedMp4 => of_fragments(&read(file, &(0..bytes.start))?, &start),
        MediaKind::PackedAudio => of_packed_audio(&start),
        MediaKind::WebVtt => None,
    })
}

fn read(file: &File, range: &Range<u64>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; (range.end - range.start).min(WINDOW_BYTES) as usize];
    let mut length = 0;
    while length < bytes.len() {
        match file.read_at(&mut bytes[length..], range.start + length as u64)? {
            0 => break,
            count => length += count,
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// Of the streams that the program map names.
fn of_transport_stream(bytes: &[u8]) -> Option<i64> {
    let whole = &bytes[..bytes.len() / PACKET * PACKET];
    let mut inspector = Inspector::new();
    inspector.inspect(whole).ok()?;
    inspector.finish().ok()?.first_pts().map(|ticks| ticks as i64)
}

/// `tfdt` of the first fragment, the earliest of its tracks (ISO/IEC 14496-12 §8.8.12).
fn of_fragments(initialization: &[u8], segment: &[u8]) -> Option<i64> {
    let tracks = tracks(initialization)?;
    let fragment = child(segment, b"moof")?;
    let times = boxes(fragment).filter(|found| found.name == *b"traf").filter_map(|found| {
        let id = u32_at(child(found.body, b"tfhd")?, 4)?;
        let decode_time = child(found.body, b"tfdt")?;
        let time =
            if decode_time.first() == Some(&1) { u64_at(decode_time, 4)? } else { u32_at(decode_time, 4)?.into() };
        let timescale = tracks.iter().find(|track| track.id == id)?.timescale;
        i64::try_from(i128::from(time) * i128::from(CLOCK_HZ) / i128::from(timescale)).ok()
    });
    // So that everything that is computed with it stays small.
    times.min().map(|ticks| ticks & TIMESTAMP_MASK)
}

/// The ID3 tag in front of packed audio: 33 bits, big-endian (RFC 8216 §3.4).
fn of_packed_audio(bytes: &[u8]) -> Option<i64> {
    let tag = bytes.get(..bytes.len().min(4096)).filter(|tag| tag.starts_with(b"ID3"))?;
    let at = tag.windows(AUDIO_TIMESTAMP.len()).position(|window| window == AUDIO_TIMESTAMP)?;
    let value = tag.get(at + AUDIO_TIMESTAMP.len()..)?.first_chunk()?;
    Some(i64::from_be_bytes(*value) & TIMESTAMP_MASK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_audio_says_it_in_its_tag() {
        let tag =
            |value: i64| [b"ID3\x04\0\0\0\0\0\x3fPRIV\0\0\0\x35\0\0", AUDIO_TIMESTAMP, &value.to_be_bytes()].concat();
        assert_eq!(of_packed_audio(&tag(900_000)), Some(900_000));
        assert_eq!(of_packed_audio(&tag(900_000)[..60]), None);
        assert_eq!(of_packed_audio(b"\xff\xf1"), None);
    }
}
