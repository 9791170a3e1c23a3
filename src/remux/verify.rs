//! A finished file is believed only after a look at it.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use super::probe::Streams;
use super::{Input, failed};
use crate::disk::blocking;
use crate::failure::{Context, Failure, FailureKind, Result};
use crate::hls::fmp4::{Part, top_level, walk};

/// What a playlist's durations may be off by however exact they look, in seconds and as a share.
const SLACK_SECONDS: f64 = 2.0;
const SLACK_SHARE: f64 = 0.05;
/// Fragments of sound may overlap by so much, in seconds; encoders begin early.
const OVERLAP_SECONDS: f64 = 0.5;

/// How long something should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected {
    /// Sum of the segments' durations.
    pub seconds: f64,
    /// What that can be off by because the playlist rounds.
    pub rounding_seconds: f64,
    /// Of segments that are absent by permission: their time may pass all the same.
    pub gap_seconds: f64,
}

impl Expected {
    /// Compares with what came out.
    ///
    /// # Errors
    /// Both numbers, in words.
    pub fn check(&self, actual: f64) -> Result<(), String> {
        let Expected { seconds, rounding_seconds, gap_seconds } = *self;
        if !seconds.is_finite() {
            return Ok(());
        }
        let slack = f64::max(SLACK_SECONDS, seconds * SLACK_SHARE);
        // Content that is there is not thrown away for a playlist that counts badly: what is too
        // long gets all of the slack.
        if seconds - actual > slack.min(SLACK_SECONDS + rounding_seconds) || actual - seconds > slack + gap_seconds {
            return Err(format!("{actual:.1} s came out of {seconds:.1} s"));
        }
        Ok(())
    }
}

/// Compares the streams that went in with those that came out. Of two inputs each must be as long
/// as it should be; of one the longest stream.
pub fn streams(inputs: &[Input], wanted: &Streams, made: &Streams) -> Result<(), String> {
    if made.video + made.audio == 0 {
        return Err("there is neither picture nor sound in it".into());
    }
    if (made.video, made.audio) != (wanted.video, wanted.audio) {
        return Err(format!(
            "{} video and {} audio streams went in, {} and {} came out",
            wanted.video, wanted.audio, made.video, made.audio
        ));
    }
    let longest = made.video_seconds.max(made.audio_seconds);
    let actual = match inputs {
        [_, _] => vec![("the picture: ", made.video_seconds), ("the sound: ", made.audio_seconds)],
        _ => vec![("", longest)],
    };
    for (input, (what, actual)) in inputs.iter().zip(actual) {
        if let Some(expected) = input.expected {
            expected.check(actual).map_err(|reason| format!("{what}{reason}"))?;
        }
    }
    Ok(())
}

/// Compares how many packets ffmpeg read and wrote, by what it says at its end with `-v verbose`.
/// A version that says it in other words is believed.
///
/// # Errors
/// Both numbers, in words.
pub fn packets(says: &str, inputs: usize) -> Result<(), String> {
    let count = |file: &str, kind: &str, verb: &str| -> Option<u64> {
        let lines = says.lines().filter_map(|line| line.split_once(file).map(|(_, rest)| rest));
        let of_kind = lines.filter_map(|line| line.split_once(&format!(" ({kind}): ")).map(|(_, rest)| rest));
        let numbers = of_kind.filter_map(|rest| rest.split_once(verb)?.0.parse::<u64>().ok());
        numbers.fold(None, |sum: Option<u64>, number| Some(sum.unwrap_or(0) + number))
    };
    for (kind, input) in [("video", 0), ("audio", inputs.saturating_sub(1))] {
        let read = count(&format!("Input stream #{input}:"), kind, " packets read");
        let written = count("Output stream #0:", kind, " packets muxed");
        if let (Some(read), Some(written)) = (read, written)
            && written != read
        {
            return Err(format!("{read} {kind} packets went in, {written} came out"));
        }
    }
    Ok(())
}

/// Whether the index of an MP4 file stands before its media, and the last box ends where the file
/// does.
///
/// # Errors
/// `remux_failed`, `disk_failed`.
pub async fn index_in_front(path: &Path) -> Result<()> {
    let path = path.to_owned();
    blocking(move || {
        // It was there before, and empty.
        if path.metadata().map_or(0, |made| made.len()) == 0 {
            return Err(failed("nothing was made, whatever was said at the end".into()));
        }
        let file = open(&path)?;
        let mut places = HashMap::new();
        top_level(&file, |name, offset, _| {
            places.entry(name).or_insert(offset);
            Ok(())
        })
        .map_err(|failure| failed(failure.message))?;
        match (places.get(b"moov"), places.get(b"mdat")) {
            (Some(index), Some(media)) if index < media => Ok(()),
            _ => Err(failed("the index does not stand before the media".into())),
        }
    })
    .await
}

/// Checks a file of fragments that is to be published as it is: whole boxes, times that only go on,
/// and the right length.
///
/// # Errors
/// `segment_invalid`, `remux_failed`, `disk_failed`.
pub async fn fragments(path: &Path, expected: Option<Expected>) -> Result<()> {
    let path = path.to_owned();
    blocking(move || {
        let check = || fragments_of(&open(&path)?, expected);
        check().at(|| path.display())
    })
    .await
}

fn fragments_of(file: &File, expected: Option<Expected>) -> Result<()> {
    /// Of a track, in ticks.
    #[derive(Clone, Copy)]
    struct Reach {
        start: u64,
        end: u64,
        seconds: f64,
    }
    let mut reaches: HashMap<usize, Reach> = HashMap::new();
    walk(file, |tracks, part| {
        let Part::Fragment { offset, runs } = part else { return Ok(()) };
        for run in runs {
            let timescale = f64::from(tracks[run.track].timescale);
            let end = reaches.get(&run.track).map_or(0, |reach| reach.end);
            let begin = run.time.map_or(end, |time| time.ticks);
            let back = end.saturating_sub(begin) as f64 / timescale;
            if back > OVERLAP_SECONDS {
                let id = tracks[run.track].id;
                let message = format!(
                    "the timestamps of track {id} go back by {back:.1} s at byte {offset}, without EXT-X-DISCONTINUITY"
                );
                return Err(Failure::new(FailureKind::SegmentInvalid, message));
            }
            let reach = reaches.entry(run.track).or_insert(Reach { start: begin, end: begin, seconds: 0.0 });
            reach.end = begin.saturating_add(run.duration);
            reach.seconds = (reach.end - reach.start) as f64 / timescale;
        }
        Ok(())
    })?;
    let longest = reaches.values().map(|reach| reach.seconds).fold(0.0, f64::max);
    if reaches.is_empty() {
        return Err(failed("there is no fragment in it".into()));
    }
    expected.map_or(Ok(()), |expected| expected.check(longest)).map_err(failed)
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| Failure::disk(format_args!("opening {}", path.display()), error))
}
