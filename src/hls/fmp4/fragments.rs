//! A whole file of fragments: where each fragment stands on the clock of its track.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::boxes::{Head, MAX_HEAD_BYTES, boxes, child, shown, u32_at, u64_at};
use super::init::{self, InitTrack};
use crate::failure::{Failure, FailureKind, Result};

/// Most bytes of a `moov` or `moof` box that is read into memory: an hour of samples in one
/// fragment needs a tenth.
const MAX_INDEX_BYTES: u64 = 32 << 20;

/// `tfhd`: what stands in it (ISO/IEC 14496-12 §8.8.7).
const BASE_DATA_OFFSET: u32 = 0x1;
const DESCRIPTION_INDEX: u32 = 0x2;
const DEFAULT_DURATION: u32 = 0x8;
/// `trun`: what stands in it, and of each sample (§8.8.8).
const DATA_OFFSET: u32 = 0x1;
const FIRST_FLAGS: u32 = 0x4;
const SAMPLE_DURATION: u32 = 0x100;
const SAMPLE_FIELDS: [u32; 4] = [SAMPLE_DURATION, 0x200, 0x400, 0x800];

/// The samples of one track in one fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Index into the tracks of the initialization section.
    pub track: usize,
    /// `tfdt`: where it begins, in ticks, and where in the file that is written.
    pub time: Option<DecodeTime>,
    /// Sum of the samples' durations, in ticks.
    pub duration: u64,
    pub samples: u64,
}

/// The value of a `tfdt` box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeTime {
    pub ticks: u64,
    /// Offset of the number in the file.
    pub at: u64,
    /// 64 bits (version 1), not 32.
    pub is_long: bool,
}

/// What a walk over a file meets.
#[derive(Debug)]
pub enum Part {
    /// A fragment, the `moof` box of which begins at `offset`.
    Fragment { offset: u64, runs: Vec<Run> },
    /// An index of a segment (`sidx`), the head of which begins at `offset`.
    SegmentIndex { offset: u64 },
}

/// Walks over the boxes of a file from its beginning to its end: name, offset and end of each.
///
/// # Errors
/// `segment_invalid` when the last box does not end where the file does; `disk_failed`; what `each`
/// fails with.
pub fn top_level(file: &File, mut each: impl FnMut([u8; 4], u64, u64) -> Result<()>) -> Result<()> {
    let failed = |error| Failure::disk("reading the boxes of a file", error);
    let length = file.metadata().map_err(failed)?.len();
    let mut offset = 0;
    while offset < length {
        let mut bytes = [0; MAX_HEAD_BYTES];
        let bytes = &mut bytes[..(length - offset).min(MAX_HEAD_BYTES as u64) as usize];
        file.read_exact_at(bytes, offset).map_err(failed)?;
        let Some(Head { name, size, .. }) = Head::read(bytes) else {
            return Err(invalid(format!("what stands at byte {offset} is no box")));
        };
        let end = size.map_or(Some(length), |size| offset.checked_add(size)).filter(|end| *end <= length);
        let Some(end) = end else {
            return Err(invalid(format!("the {} box at byte {offset} goes on behind the end", shown(name))));
        };
        each(name, offset, end)?;
        offset = end;
    }
    Ok(())
}

/// Walks over the fragments of a file.
///
/// # Errors
/// As [`top_level`], and `segment_invalid` when something in it cannot be read.
pub fn walk(file: &File, mut each: impl FnMut(&[InitTrack], Part) -> Result<()>) -> Result<()> {
    let mut tracks = Vec::new();
    top_level(file, |name, offset, end| {
        let cannot_be_read = || invalid(format!("the {} box at byte {offset} cannot be read", shown(name)));
        match &name {
            b"moov" if tracks.is_empty() => {
                tracks = init::tracks(&whole(file, name, offset, end)?).ok_or_else(cannot_be_read)?;
            }
            b"moof" => {
                let whole = whole(file, name, offset, end)?;
                let body = child(&whole, b"moof").ok_or_else(cannot_be_read)?;
                let runs = fragment(body, offset + offset_in(&whole, body), &tracks).ok_or_else(cannot_be_read)?;
                each(&tracks, Part::Fragment { offset, runs })?;
            }
            b"sidx" => each(&tracks, Part::SegmentIndex { offset })?,
            _ => {}
        }
        Ok(())
    })
}

/// A box that is an index.
fn whole(file: &File, name: [u8; 4], offset: u64, end: u64) -> Result<Vec<u8>> {
    if end - offset > MAX_INDEX_BYTES {
        return Err(invalid(format!("the {} box at byte {offset} has {} bytes", shown(name), end - offset)));
    }
    let mut whole = vec![0; (end - offset) as usize];
    let read = file.read_exact_at(&mut whole, offset);
    read.map_err(|error| Failure::disk("reading the boxes of a file", error))?;
    Ok(whole)
}

fn invalid(message: String) -> Failure {
    Failure::new(FailureKind::SegmentInvalid, message)
}

/// The runs of a `moof` box, the body of which begins at `at` in the file.
fn fragment(body: &[u8], at: u64, tracks: &[InitTrack]) -> Option<Vec<Run>> {
    let fragments = boxes(body).filter(|found| found.name == *b"traf");
    fragments.map(|found| run(found.body, at + offset_in(body, found.body), tracks)).collect()
}

/// Where a part of a slice begins in it.
fn offset_in(whole: &[u8], part: &[u8]) -> u64 {
    (part.as_ptr() as usize - whole.as_ptr() as usize) as u64
}

fn run(body: &[u8], at: u64, tracks: &[InitTrack]) -> Option<Run> {
    let header = child(body, b"tfhd")?;
    let flags = u32_at(header, 0)? & 0xff_ffff;
    let id = u32_at(header, 4)?;
    let track = tracks.iter().position(|track| track.id == id)?;
    let mut default_duration = tracks[track].defaults[1];
    if flags & DEFAULT_DURATION != 0 {
        let base = if flags & BASE_DATA_OFFSET != 0 { 8 } else { 0 };
        let description = if flags & DESCRIPTION_INDEX != 0 { 4 } else { 0 };
        default_duration = u32_at(header, 8 + base + description)?;
    }
    let time = match child(body, b"tfdt") {
        None => None,
        Some(time) => {
            let is_long = *time.first()? == 1;
            let ticks = if is_long { u64_at(time, 4)? } else { u64::from(u32_at(time, 4)?) };
            Some(DecodeTime { ticks, at: at + offset_in(body, time) + 4, is_long })
        }
    };
    let mut run = Run { track, time, duration: 0, samples: 0 };
    for found in boxes(body).filter(|found| found.name == *b"trun") {
        let (samples, duration) = samples(found.body, default_duration)?;
        run.samples += samples;
        run.duration = run.duration.checked_add(duration)?;
    }
    Some(run)
}

/// Number and total duration of the samples of a `trun` box.
fn samples(body: &[u8], default_duration: u32) -> Option<(u64, u64)> {
    let flags = u32_at(body, 0)? & 0xff_ffff;
    let count = u32_at(body, 4)?;
    if flags & SAMPLE_DURATION == 0 {
        return Some((u64::from(count), u64::from(count) * u64::from(default_duration)));
    }
    let optional = [DATA_OFFSET, FIRST_FLAGS].into_iter().filter(|flag| flags & flag != 0).count();
    let stride = 4 * SAMPLE_FIELDS.into_iter().filter(|flag| flags & flag != 0).count();
    let table = body.get(8 + 4 * optional..)?;
    let durations = table.chunks_exact(stride).take(count as usize).filter_map(|sample| u32_at(sample, 0));
    let (found, total) = durations.fold((0, 0), |(found, total), next| (found + 1, total + u64::from(next)));
    (found == u64::from(count)).then_some((found, total))
}
