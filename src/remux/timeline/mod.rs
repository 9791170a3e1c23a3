//! One timeline for sections that each began their own (EXT-X-DISCONTINUITY).
//!
//! A player puts a section where the one before it ended, and moves picture and sound by the same
//! amount. ffmpeg does not: it moves each file by its own reckoning, so that the sound drifts with
//! every section, leaves out what goes back in fragmented MP4, and takes a jump of less than 10 s
//! for a pause. So the timestamps are rewritten before it sees them, into a copy: a part in which
//! half of them were new would be lost after a crash.
//!
//! * `transport`: the timestamps of MPEG transport streams
//! * `fragments`: those of fragmented MP4
//! * `packed`: those of packed audio, which can only be looked at

mod fragments;
pub(super) mod packed;
#[cfg(test)]
mod tests;
mod transport;

use std::fs::File;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::{Input, InputFormat, failed};
use crate::disk::{beside, blocking, no_links};
use crate::failure::{Context, Failure, FailureKind, Result};

/// Timestamps of transport streams and packed audio, in ticks per second (ISO/IEC 13818-1).
pub(super) const CLOCK: f64 = 90_000.0;
/// They begin anew after so many seconds: they have 33 bits.
pub(super) const WRAP_SECONDS: f64 = (1_u64 << 33) as f64 / CLOCK;
/// Sections that go on this closely need no move: less than a frame of sound.
const NO_JUMP_SECONDS: f64 = 0.010;
/// A track may pause for so long at the beginning of a section, or overlap. Beyond, its clock is
/// another one than that of the picture.
const MAX_PAUSE_SECONDS: f64 = 10.0;
/// Packed audio cannot be moved: what it may be off by.
const MAX_PACKED_ERROR_SECONDS: f64 = 0.1;

/// From when to when a track goes in one section, in seconds of the section's own clock.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Span {
    start: f64,
    end: f64,
}

/// The tracks of one file in one section.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Section {
    picture: Option<Span>,
    sound: Option<Span>,
}

impl Section {
    /// The track that the others go by.
    fn leader(&self) -> Option<Span> {
        self.picture.or(self.sound)
    }
}

/// What `<part>.joined` is called: the copy of a part with one timeline.
pub fn joined_path(part: &Path) -> PathBuf {
    beside(part, ".joined")
}

/// Puts the sections of a stream on one timeline, where they are not yet: the inputs that come
/// back are to be read in place of those given. Copies stand beside their parts, under
/// [`joined_path`].
///
/// # Errors
/// `remux_failed` when the tracks have no common timeline, `segment_invalid` when a file cannot be
/// read, `disk_full`, `disk_failed`, `interrupted`.
pub async fn joined(inputs: Vec<Input>, cancel: &CancellationToken) -> Result<Vec<Input>> {
    if inputs.iter().all(|input| input.sections.is_empty()) {
        return Ok(inputs);
    }
    // ffmpeg counts the samples of sound that is alone, which is more exact than its timestamps.
    if let [Input { format: InputFormat::PackedAudio, .. }] = inputs[..] {
        return Ok(inputs);
    }
    let cancel = cancel.clone();
    blocking(move || join(inputs, &|| cancel.is_cancelled())).await
}

pub(crate) fn join(mut inputs: Vec<Input>, is_cancelled: &dyn Fn() -> bool) -> Result<Vec<Input>> {
    let sections = inputs.iter().map(|input| scan(input, is_cancelled)).collect::<Result<Vec<_>>>()?;
    let alone = inputs.len() == 1;
    let is_transport = inputs[0].format == InputFormat::MpegTs;
    if alone && is_transport && sections[0].iter().all(|section| section.picture.is_none()) {
        return Ok(inputs);
    }
    let counts: Vec<usize> = sections.iter().map(Vec::len).collect();
    if counts.iter().any(|count| *count != counts[0]) {
        return unequal(inputs, &sections);
    }
    let Some(moves) = moves(&sections)? else { return Ok(inputs) };
    for ((input, sections), moves) in inputs.iter_mut().zip(&sections).zip(&moves) {
        if input.format == InputFormat::PackedAudio {
            packed_is_in_step(sections, moves).at(|| input.path.display())?;
            continue;
        }
        let copy = joined_path(&input.path);
        let files =
            || -> std::io::Result<(File, File)> { Ok((no_links::open(&input.path)?, no_links::create(&copy)?)) };
        let (part, copied) =
            files().map_err(|error| Failure::disk(format_args!("joining {}", copy.display()), error))?;
        let write = match input.format {
            InputFormat::MpegTs => transport::copy,
            _ => fragments::copy,
        };
        write(&part, &copied, &input.sections, moves, is_cancelled).at(|| input.path.display())?;
        input.path = copy;
        input.is_joined = true;
    }
    Ok(inputs)
}

/// Tracks with different numbers of sections have nothing in common but the playlist's word for
/// how long each section is. Harmless where no track jumps.
fn unequal(inputs: Vec<Input>, sections: &[Vec<Section>]) -> Result<Vec<Input>> {
    for track in sections {
        if moves(std::slice::from_ref(track))?.is_some() {
            let message = format!(
                "the picture has {} discontinuities and the sound {}: they have no common timeline",
                sections[0].len() - 1,
                sections.last().map_or(0, Vec::len) - 1
            );
            return Err(failed(message));
        }
    }
    Ok(inputs)
}

fn scan(input: &Input, is_cancelled: &dyn Fn() -> bool) -> Result<Vec<Section>> {
    let scan = || {
        let file = File::open(&input.path)
            .map_err(|error| Failure::disk(format_args!("opening {}", input.path.display()), error))?;
        match input.format {
            InputFormat::MpegTs => transport::scan(&file, &input.sections, is_cancelled),
            InputFormat::FragmentedMp4 => fragments::scan(&file, &input.sections),
            InputFormat::PackedAudio => packed::scan(&file, &input.sections),
        }
    };
    scan().at(|| input.path.display())
}

/// By how many seconds each section of each track is to be moved; `None` when they go on from one
/// another as they are. The first track leads: its sections follow one another without a gap.
fn moves(tracks: &[Vec<Section>]) -> Result<Option<Vec<Vec<f64>>>> {
    let mut moves = vec![vec![0.0]; tracks.len()];
    let mut is_needed = false;
    for number in 1..tracks[0].len() {
        let before = moves[0][number - 1];
        let (Some(last), Some(next)) = (tracks[0][number - 1].leader(), tracks[0][number].leader()) else {
            return Err(failed(format!("section {number} of the stream has no timestamps")));
        };
        let ideal = last.end + before - next.start;
        // What moves like the section before is in step, though the clock has been round once.
        let is_jump = (ideal - before - rounds(ideal - before)).abs() > NO_JUMP_SECONDS;
        is_needed |= is_jump;
        let amount = if is_jump { ideal } else { before };
        moves[0].push(amount);
        for (track, moves) in tracks[1..].iter().zip(&mut moves[1..]) {
            let (Some(last), Some(next)) = (track[number - 1].leader(), track[number].leader()) else {
                moves.push(amount);
                continue;
            };
            let pause = next.start + amount - last.end - moves[number - 1];
            // A clock of 64 bits beside one of 33 that has been round.
            let rounds = rounds(pause);
            is_needed |= rounds != 0.0;
            moves.push(amount - rounds);
            let pause = pause - rounds;
            if is_needed && pause.abs() > MAX_PAUSE_SECONDS {
                let message = format!(
                    "behind discontinuity {number} the sound is {pause:.1} s away from the picture: \
                     they have no common timeline"
                );
                return Err(failed(message));
            }
        }
    }
    Ok(is_needed.then_some(moves))
}

/// Whole rounds of the clock in `seconds`.
fn rounds(seconds: f64) -> f64 {
    (seconds / WRAP_SECONDS).round() * WRAP_SECONDS
}

/// Packed audio is played as it comes: each section must begin where it comes to lie anyway.
fn packed_is_in_step(sections: &[Section], moves: &[f64]) -> Result<()> {
    let Some(first) = sections.first().and_then(Section::leader) else { return Ok(()) };
    let mut position = first.start;
    for (number, (section, amount)) in sections.iter().zip(moves).enumerate() {
        let Some(Span { start, end }) = section.leader() else { continue };
        let off = start + amount - position;
        let off = off - rounds(off);
        if off.abs() > MAX_PACKED_ERROR_SECONDS {
            let message = format!("behind discontinuity {number} packed audio would be {off:.3} s off");
            return Err(failed(message));
        }
        position += end - start;
    }
    Ok(())
}

fn interrupted() -> Failure {
    Failure::new(FailureKind::Interrupted, "putting the sections on one timeline was cancelled")
}

/// Index of the section that holds the byte `offset`.
fn section_of(sections: &[u64], offset: u64) -> usize {
    sections.partition_point(|begin| *begin <= offset)
}
