//! Timestamps of fragmented MP4 (ISO/IEC 14496-12): `tfdt`, one for each track of a fragment.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::{Section, Span, interrupted, section_of};
use crate::failure::{Failure, FailureKind, Result};
use crate::hls::fmp4::{Part, Run, walk};

/// Bytes that are copied between two looks at whether it is still wanted.
const CHUNK: u64 = 64 << 20;

/// Finds from when to when each section goes.
///
/// # Errors
/// `segment_invalid`, `disk_failed`.
pub fn scan(file: &File, sections: &[u64]) -> Result<Vec<Section>> {
    let mut found = vec![Section::default(); sections.len() + 1];
    walk(file, |tracks, part| {
        let Part::Fragment { offset, runs } = part else { return Ok(()) };
        let section = &mut found[section_of(sections, offset)];
        for Run { track, time, duration, .. } in runs {
            let track = &tracks[track];
            let timescale = f64::from(track.timescale);
            let place = if track.is_video() { &mut section.picture } else { &mut section.sound };
            let start = time.map(|time| time.ticks as f64 / timescale);
            // Without a time it goes on where the fragment before it ended (§8.8.12).
            let start = start.or(place.map(|span| span.end)).unwrap_or(0.0);
            let span = place.get_or_insert(Span { start, end: start });
            span.end = start + duration as f64 / timescale;
        }
        Ok(())
    })?;
    Ok(found)
}

/// Copies a file and moves the times of each section by its amount, in seconds. Indices of segments
/// become free space: they would contradict.
///
/// # Errors
/// `segment_invalid` when a time leaves its range, `disk_full`, `disk_failed`, `interrupted`.
pub fn copy(
    file: &File,
    mut copy: &File,
    sections: &[u64],
    moves: &[f64],
    is_cancelled: &dyn Fn() -> bool,
) -> Result<()> {
    let failed = |error| Failure::disk("writing a joined file", error);
    let mut rest = file;
    loop {
        if is_cancelled() {
            return Err(interrupted());
        }
        if std::io::copy(&mut std::io::Read::take(&mut rest, CHUNK), &mut copy).map_err(failed)? == 0 {
            break;
        }
    }
    walk(file, |tracks, part| {
        let (offset, runs) = match part {
            Part::SegmentIndex { offset } => return copy.write_all_at(b"free", offset + 4).map_err(failed),
            Part::Fragment { offset, runs } => (offset, runs),
        };
        for run in runs {
            let Some(time) = run.time else { continue };
            let ticks = moves[section_of(sections, offset)] * f64::from(tracks[run.track].timescale);
            let moved = time.ticks.checked_add_signed(ticks.round() as i64);
            let written = match moved {
                Some(moved) if time.is_long => copy.write_all_at(&moved.to_be_bytes(), time.at),
                Some(moved) if moved <= u64::from(u32::MAX) => {
                    copy.write_all_at(&(moved as u32).to_be_bytes(), time.at)
                }
                _ => {
                    let message = format!("the time {} at byte {} cannot be moved by {ticks}", time.ticks, time.at);
                    return Err(Failure::new(FailureKind::SegmentInvalid, message));
                }
            };
            written.map_err(failed)?;
        }
        Ok(())
    })
    .map(drop)
}
