//! Packed audio (RFC 8216 §3.4): each segment begins with an ID3 tag, in which a PRIV frame holds
//! the timestamp of its first sample.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{CLOCK, Section, Span};
use crate::failure::{Failure, Result};
use crate::hls::id3;

/// How far into a tag is looked: pictures stand behind, if there are any.
const TAG_BYTES: usize = 64 << 10;
/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;
/// Head of an ID3 tag, and of an ADTS frame without checksum.
const ID3_HEAD: usize = 10;
const ADTS_HEAD: usize = 7;
/// Samples per second by index (ISO/IEC 14496-3 table 1.18).
const RATES: [f64; 13] = [
    96_000.0, 88_200.0, 64_000.0, 48_000.0, 44_100.0, 32_000.0, 24_000.0, 22_050.0, 16_000.0, 12_000.0, 11_025.0,
    8_000.0, 7_350.0,
];
/// Samples of a raw data block.
const BLOCK_SAMPLES: f64 = 1024.0;

/// The timestamp in the tag at the head of `bytes`, in seconds.
pub fn timestamp(bytes: &[u8]) -> Option<f64> {
    id3::timestamp(bytes).map(|ticks| ticks as f64 / CLOCK)
}

/// The timestamp at the beginning of a file, in seconds; `None` where there is none.
///
/// # Errors
/// `disk_failed`.
pub fn first_timestamp(path: &Path) -> Result<Option<f64>> {
    let file = File::open(path).map_err(|error| Failure::disk(format_args!("opening {}", path.display()), error))?;
    Ok(timestamp(&read(&file, 0, TAG_BYTES)?))
}

/// Finds from when to when each section goes; a section without a timestamp says nothing. Where
/// the sound is not AAC, its length is not known, and the section ends where it begins.
///
/// # Errors
/// `disk_failed`.
pub(super) fn scan(file: &File, sections: &[u64]) -> Result<Vec<Section>> {
    let length = file.metadata().map_err(|error| Failure::disk("reading packed audio", error))?.len();
    let begins = std::iter::once(0).chain(sections.iter().copied());
    let ends = sections.iter().copied().chain([length]);
    let section = |(begin, end): (u64, u64)| {
        let Some(start) = timestamp(&read(file, begin, TAG_BYTES)?) else { return Ok(Section::default()) };
        let sound = Some(Span { start, end: start + adts_seconds(file, begin, end)? });
        Ok(Section { picture: None, sound })
    };
    begins.zip(ends).map(section).collect()
}

/// Length of the ADTS frames between two places, in seconds.
fn adts_seconds(file: &File, begin: u64, end: u64) -> Result<f64> {
    let mut seconds = 0.0;
    let mut at = begin;
    let (mut buffer, mut buffer_at) = (Vec::new(), 0);
    while at < end {
        let inside = (at - buffer_at) as usize;
        if at < buffer_at || inside + ID3_HEAD > buffer.len() {
            (buffer, buffer_at) = (read(file, at, CHUNK)?, at);
        }
        let head = &buffer[(at - buffer_at) as usize..];
        let step = match *head {
            [b'I', b'D', b'3', ..] => id3::tag_length(head).unwrap_or(0) as u64,
            [0xff, b, c, d, e, f, g, ..] if b & 0xf6 == 0xf0 => {
                let rate = RATES.get(usize::from(c >> 2 & 0x0f)).copied().unwrap_or(f64::INFINITY);
                seconds += BLOCK_SAMPLES * f64::from((g & 0x03) + 1) / rate;
                u64::from(d & 0x03) << 11 | u64::from(e) << 3 | u64::from(f) >> 5
            }
            _ => return Ok(seconds),
        };
        if step < ADTS_HEAD as u64 {
            return Ok(seconds);
        }
        at += step;
    }
    Ok(seconds)
}

fn read(file: &File, at: u64, length: usize) -> Result<Vec<u8>> {
    let failed = |error| Failure::disk("reading packed audio", error);
    let there = file.metadata().map_err(failed)?.len().saturating_sub(at);
    let mut bytes = vec![0; there.min(length as u64) as usize];
    file.read_exact_at(&mut bytes, at).map_err(failed)?;
    Ok(bytes)
}
