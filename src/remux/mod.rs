//! .ts to .mp4 without re-encoding, by the distribution's ffmpeg as a child process.
//!
//! The result is believed only after a look at it: ffmpeg ends with status 0 and no message when
//! it met a truncated packet and wrote half of the lecture.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::child::{self, Program};
use crate::config::RemuxSettings;
use crate::disk;
use crate::failure::{Context, Failure, FailureKind, Result};

mod probe;
#[cfg(test)]
mod tests;
pub mod timeline;
mod verify;

use probe::Streams;
use timeline::{WRAP_SECONDS, packed};
pub use verify::{Expected, fragments as verify_fragments};

/// ffmpeg and ffprobe as they are needed here write little to standard output.
const MAX_OUTPUT_BYTES: usize = 1 << 20;
/// Two inputs that begin further apart than this do not have the same clock.
const MAX_OFFSET_SECONDS: f64 = 30.0;
/// Limit for asking a program for its version.
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// One spool file.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    pub path: PathBuf,
    pub format: InputFormat,
    /// Where timestamps may begin anew: offsets in the file, ascending.
    pub sections: Vec<u64>,
    /// The sections have been put on one timeline: see [`timeline`].
    pub is_joined: bool,
    /// How long it should be.
    pub expected: Option<Expected>,
}

/// What is in a spool file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputFormat {
    /// MPEG transport stream.
    MpegTs,
    /// Init section and fragments, one after the other.
    FragmentedMp4,
    /// Bare AAC, AC-3 or MP3 frames (RFC 8216 §3.4). When they begin stands in the ID3 tag before
    /// them; without one they are taken to begin with the video.
    PackedAudio,
}

/// ffmpeg and ffprobe, found and working.
#[derive(Debug, Clone)]
pub struct Remux {
    ffmpeg: PathBuf,
    ffprobe: PathBuf,
    bounds: Bounds,
    version: String,
}

/// What one run of a program may use.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    time: Duration,
    memory_bytes: u64,
}

impl Remux {
    /// Looks for both programs; `None` when one of them is missing or does not run.
    pub async fn detect(settings: &RemuxSettings) -> Option<Remux> {
        let bounds = Bounds { time: settings.timeout, memory_bytes: settings.max_memory_bytes };
        let version = version_of(&settings.ffmpeg, bounds).await?;
        version_of(&settings.ffprobe, bounds).await?;
        Some(Remux { ffmpeg: settings.ffmpeg.clone(), ffprobe: settings.ffprobe.clone(), bounds, version })
    }

    /// What ffmpeg calls itself (`5.1.9-0+deb12u1`).
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Writes the streams of one spool file, or the picture of the first and the sound of the
    /// second, to `destination_part`, which is replaced. The caller renames it.
    ///
    /// # Errors
    /// [`FailureKind::RemuxFailed`] when ffmpeg fails, takes too long, or when its result has other
    /// streams or packets than went in or another length than expected (see [`Expected::check`]);
    /// [`FailureKind::DiskFull`]; [`FailureKind::Interrupted`] when cancelled. `destination_part`
    /// is gone then.
    pub async fn to_mp4(&self, inputs: &[Input], destination_part: &Path, cancel: &CancellationToken) -> Result<()> {
        let result = self.remux_and_check(inputs, destination_part, cancel).await;
        if result.is_err() {
            // It may never have been there.
            let _ = disk::remove(destination_part).await;
        }
        result
    }

    async fn remux_and_check(
        &self,
        inputs: &[Input],
        destination_part: &Path,
        cancel: &CancellationToken,
    ) -> Result<()> {
        if inputs.is_empty() || inputs.len() > 2 {
            return Err(failed(format!("one or two inputs are remuxed, not {}", inputs.len())));
        }
        let mut probed = Vec::new();
        for input in inputs {
            probed.push(probe::streams(&self.ffprobe, &input.path, Some(input.format), self.bounds, cancel).await?);
        }
        let arguments = arguments(inputs, &starts(inputs, &probed).await?, destination_part)?;
        let name = destination_part.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // ffmpeg opens what has the name, whatever it is: so it is a file of ours, before and afterwards.
        let ours = new_file(destination_part).await?;
        let output = run(&self.ffmpeg, &arguments, self.bounds, cancel).await?;
        if !disk::is_named(&ours, destination_part).unwrap_or(false) {
            return Err(failed(format!("{name}: another file has its name now")));
        }
        let mismatch = |reason| failed(format!("{name}: {reason}"));
        verify::packets(&String::from_utf8_lossy(&output.stderr), inputs.len()).map_err(mismatch)?;
        verify::index_in_front(destination_part).await.at(|| &name)?;
        let made = probe::streams(&self.ffprobe, destination_part, None, self.bounds, cancel).await?;
        verify::streams(inputs, &wanted(&probed), &made).map_err(mismatch)
    }
}

/// An empty file of this name, in place of what had it.
async fn new_file(path: &Path) -> Result<File> {
    disk::remove(path).await?;
    let path = path.to_owned();
    disk::blocking(move || {
        let created = disk::no_links::create_new(&path);
        created.map_err(|error| Failure::disk(format_args!("creating {}", path.display()), error))
    })
    .await
}

fn arguments(inputs: &[Input], starts: &[Start], destination: &Path) -> Result<Vec<OsString>> {
    let mut arguments = Arguments::default();
    // It ends with the number of packets that it read and wrote, which are compared; each line says
    // how grave it is, so that the one that matters is found.
    arguments.add(&["-nostdin", "-hide_banner", "-v", "level+verbose", "-nostats", "-y"]);
    let is_joined = inputs.iter().any(|input| input.is_joined);
    if is_joined {
        // Timestamps are right: none is corrected where sound of two sections overlaps.
        arguments.add(&["-copyts"]);
    }
    for (input, (start, delay)) in inputs.iter().zip(starts.iter().zip(delays(starts))) {
        // Without `-copyts` ffmpeg takes away where the input begins.
        let offset = if is_joined { delay - start.of_file } else { delay };
        arguments.add(&["-itsoffset", &format!("{offset:.6}")]);
        arguments.add(probe::PROTOCOLS).add(probe::DEPTH).add(probe::format_options(input.format));
        arguments.add(&["-i"]).path(&input.path)?;
    }
    if inputs.iter().any(Input::may_have_video) {
        arguments.add(&["-map", "0:v?"]);
    }
    // Pictures before the first key frame are kept, as they count.
    arguments.add(&["-map", if inputs.len() == 2 { "1:a?" } else { "0:a?" }, "-dn", "-c", "copy", "-copyinkf"]);
    arguments.add(&["-movflags", "+faststart", "-f", "mp4"]).path(destination)?;
    Ok(arguments.0)
}

/// When an input begins, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Start {
    /// As ffmpeg sees it.
    of_file: f64,
    /// On the clock that all renditions of a stream share (RFC 8216 §6.2.4).
    on_clock: Option<f64>,
}

async fn starts(inputs: &[Input], probed: &[Streams]) -> Result<Vec<Start>> {
    let mut starts = Vec::new();
    for (input, streams) in inputs.iter().zip(probed) {
        let on_clock = match input.format {
            InputFormat::MpegTs | InputFormat::FragmentedMp4 => streams.start_seconds,
            InputFormat::PackedAudio => {
                let path = input.path.clone();
                disk::blocking(move || packed::first_timestamp(&path)).await?
            }
        };
        starts.push(Start { of_file: streams.start_seconds.unwrap_or(0.0), on_clock });
    }
    Ok(starts)
}

/// By how much each input begins after the other. ffmpeg lets all begin together; where they share
/// a clock, that would lose the offset between them. The containers do not matter: the timestamps
/// of all mean the same, but for those of 33 bits, which go round. Where inputs are too far apart
/// to share a clock, keeping the offset would be what is wrong.
fn delays(starts: &[Start]) -> [f64; 2] {
    let offset = match starts {
        [Start { on_clock: Some(one), .. }, Start { on_clock: Some(two), .. }] => two - one,
        _ => 0.0,
    };
    let offset = offset - (offset / WRAP_SECONDS).round() * WRAP_SECONDS;
    let offset = if offset.abs() < MAX_OFFSET_SECONDS { offset } else { 0.0 };
    [f64::max(0.0, -offset), f64::max(0.0, offset)]
}

impl Input {
    /// A picture in packed audio is the cover in its ID3 tag.
    fn may_have_video(&self) -> bool {
        self.format != InputFormat::PackedAudio
    }
}

/// The streams that must come out.
fn wanted(probed: &[Streams]) -> Streams {
    match probed {
        [picture, sound] => Streams { audio: sound.audio, ..picture.clone() },
        _ => probed.first().cloned().unwrap_or_default(),
    }
}

/// Runs ffmpeg or ffprobe.
async fn run(
    program: &Path,
    arguments: &[OsString],
    bounds: Bounds,
    cancel: &CancellationToken,
) -> Result<child::Output> {
    let run = Program {
        path: program,
        arguments,
        environment: &[],
        limit: bounds.time,
        max_output: MAX_OUTPUT_BYTES,
        max_memory: bounds.memory_bytes,
    };
    let output = child::run_watched(run, cancel, |_| {}).await;
    let output = output.map_err(|error| Failure::new(error.kind(FailureKind::RemuxFailed), error.to_string()))?;
    let says = |words: &str| output.stderr.windows(words.len()).any(|window| window == words.as_bytes());
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    if says("No space left on device") || says("Disk quota exceeded") {
        return Err(Failure::new(FailureKind::DiskFull, format!("{name}: {}", complaint(&output))));
    }
    if !output.status.success() {
        return Err(failed(format!("{name} ended with {}: {}", output.status, complaint(&output))));
    }
    Ok(output)
}

/// What a program complained of last: among lines that say how grave they are, the last grave one.
fn complaint(output: &child::Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let grave = |line: &'_ str| {
        let said = ["[error] ", "[fatal] "].iter().find_map(|level| Some(line.split_once(level)?.1.trim()));
        said.filter(|said| !said.is_empty()).map(str::to_owned)
    };
    let Some(line) = text.lines().rev().find_map(grave) else { return output.last_words() };
    line.chars().filter(|character| !character.is_control()).take(500).collect()
}

fn failed(reason: String) -> Failure {
    Failure::new(FailureKind::RemuxFailed, reason)
}

/// `ffmpeg version 5.1.9-0+deb12u1 Copyright …`: the third word. `None` when it does not run.
async fn version_of(program: &Path, bounds: Bounds) -> Option<String> {
    let bounds = Bounds { time: VERSION_LIMIT, ..bounds };
    let output = run(program, &["-version".into()], bounds, &CancellationToken::new()).await.ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = text.lines().next()?.split_whitespace();
    (words.nth(1)? == "version").then(|| words.next().map(str::to_owned))?
}

/// Arguments of a child, in order.
#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn add(&mut self, words: &[&str]) -> &mut Self {
        self.0.extend(words.iter().map(OsString::from));
        self
    }

    /// A path that no program can take for an option or a URL.
    fn path(&mut self, path: &Path) -> Result<&mut Self> {
        let absolute = std::path::absolute(path)
            .map_err(|error| Failure::disk(format_args!("finding {}", path.display()), error))?;
        self.0.push(absolute.into_os_string());
        Ok(self)
    }
}
