//! The timestamps of a finished track, for what has to be shown beside it. They are read from the
//! file, so that a download that was finished by an earlier attempt has them too.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::fmp4::{boxes, child, tracks, u32_at, u64_at};
use super::id3;
use super::sniff::MediaKind;
use super::transport::{Inspector, PACKET};

/// How much is looked at: the first pictures and sounds of a segment are far nearer.
const WINDOW_BYTES: u64 = 2 << 20;
/// Ticks per second of MPEG-2 timestamps.
const CLOCK_HZ: i64 = 90_000;
/// 33 bits.
const TIMESTAMP_MASK: i64 = (1 << 33) - 1;

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
        MediaKind::PackedAudio => id3::timestamp(&start).map(|ticks| ticks as i64),
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
