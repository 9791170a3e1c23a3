//! .ts to .mp4 without re-encoding, by the distribution's ffmpeg as a child process.
//!
//! The result is believed only after a look at it: ffmpeg ends with status 0 and no message when
//! it met a truncated packet and wrote half of the lecture.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::child::{self, ChildError};
use crate::config::RemuxSettings;
use crate::failure::{Failure, FailureKind, Result};

mod probe;
#[cfg(test)]
mod tests;

use probe::Streams;

/// ffmpeg and ffprobe as they are needed here write little to standard output.
const MAX_OUTPUT_BYTES: usize = 1 << 20;
/// Two inputs that begin further apart than this do not have the same clock.
const MAX_OFFSET_SECONDS: f64 = 30.0;
/// Limit for asking a program for its version.
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// One spool file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    pub path: PathBuf,
    pub format: InputFormat,
}

/// What is in a spool file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputFormat {
    /// MPEG transport stream.
    MpegTs,
    /// Init section and fragments, one after the other.
    FragmentedMp4,
    /// Bare AAC, AC-3 or MP3 frames (RFC 8216 §3.4). Their timestamps are not understood: they
    /// are taken to begin with the video.
    PackedAudio,
}

/// ffmpeg and ffprobe, found and working.
#[derive(Debug, Clone)]
pub struct Remux {
    ffmpeg: PathBuf,
    ffprobe: PathBuf,
    timeout: Duration,
    version: String,
    /// Since FFmpeg 5.1.
    has_isync: bool,
}

impl Remux {
    /// Looks for both programs; `None` when one of them is missing or does not run.
    pub async fn detect(settings: &RemuxSettings) -> Option<Remux> {
        let version = version_of(&settings.ffmpeg).await?;
        version_of(&settings.ffprobe).await?;
        Some(Remux {
            ffmpeg: settings.ffmpeg.clone(),
            ffprobe: settings.ffprobe.clone(),
            timeout: settings.timeout,
            has_isync: !is_older_than_5_1(&version),
            version,
        })
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
    /// streams than went in or is shorter than `expected_seconds` by more than 5 % and 2 s;
    /// [`FailureKind::DiskFull`]; [`FailureKind::Interrupted`] when cancelled. `destination_part`
    /// is gone then.
    pub async fn to_mp4(
        &self,
        inputs: &[Input],
        expected_seconds: Option<f64>,
        destination_part: &Path,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let result = self.remux_and_check(inputs, expected_seconds, destination_part, cancel).await;
        if result.is_err() {
            // It may never have been there.
            let _ = tokio::fs::remove_file(destination_part).await;
        }
        result
    }

    async fn remux_and_check(
        &self,
        inputs: &[Input],
        expected_seconds: Option<f64>,
        destination_part: &Path,
        cancel: &CancellationToken,
    ) -> Result<()> {
        if inputs.is_empty() || inputs.len() > 2 {
            return Err(failed(format!("one or two inputs are remuxed, not {}", inputs.len())));
        }
        let mut probed = Vec::new();
        for input in inputs {
            probed.push(probe::streams(&self.ffprobe, &input.path, Some(input.format), self.timeout, cancel).await?);
        }
        let arguments = self.arguments(inputs, &probed, destination_part)?;
        run(&self.ffmpeg, &arguments, self.timeout, cancel).await?;
        let made = probe::streams(&self.ffprobe, destination_part, None, self.timeout, cancel).await?;
        check(&wanted(&probed), &made, expected_seconds).map_err(|reason| {
            let name = destination_part.file_name().unwrap_or_default().to_string_lossy().into_owned();
            failed(format!("{name}: {reason}"))
        })
    }

    fn arguments(&self, inputs: &[Input], probed: &[Streams], destination: &Path) -> Result<Vec<OsString>> {
        let mut arguments = Arguments::default();
        arguments.add(&["-nostdin", "-hide_banner", "-v", "warning", "-y"]);
        let shared_clock = share_a_clock(inputs, probed);
        if shared_clock && !self.has_isync {
            arguments.add(&["-copyts"]);
        }
        for (index, input) in inputs.iter().enumerate() {
            if shared_clock && index == 1 && self.has_isync {
                arguments.add(&["-isync", "0"]);
            }
            arguments.add(probe::PROTOCOLS).add(probe::DEPTH).add(probe::format_options(input.format));
            arguments.add(&["-i"]).path(&input.path)?;
        }
        if inputs.iter().any(Input::may_have_video) {
            arguments.add(&["-map", "0:v?"]);
        }
        arguments.add(&["-map", if inputs.len() == 2 { "1:a?" } else { "0:a?" }, "-dn", "-c", "copy"]);
        if shared_clock && !self.has_isync {
            arguments.add(&["-avoid_negative_ts", "make_zero"]);
        }
        arguments.add(&["-movflags", "+faststart", "-f", "mp4"]).path(destination)?;
        Ok(arguments.0)
    }
}

impl Input {
    /// A picture in packed audio is the cover in its ID3 tag.
    fn may_have_video(&self) -> bool {
        self.format != InputFormat::PackedAudio
    }
}

/// Whether two inputs carry timestamps that mean the same. ffmpeg subtracts from each input its
/// own start time; where they share a clock, that would lose the offset between them. Where they
/// do not (another container, another epoch), keeping the offset would be what is wrong.
fn share_a_clock(inputs: &[Input], probed: &[Streams]) -> bool {
    let ([first, second], [one, two]) = (inputs, probed) else { return false };
    first.format == second.format
        && first.format != InputFormat::PackedAudio
        && one.start_seconds.zip(two.start_seconds).is_some_and(|(one, two)| (one - two).abs() < MAX_OFFSET_SECONDS)
}

/// The streams that must come out.
fn wanted(probed: &[Streams]) -> Streams {
    match probed {
        [picture, sound] => Streams { audio: sound.audio, ..picture.clone() },
        _ => probed.first().cloned().unwrap_or_default(),
    }
}

/// Compares what went in with what came out.
fn check(wanted: &Streams, made: &Streams, expected_seconds: Option<f64>) -> Result<(), String> {
    if made.video + made.audio == 0 {
        return Err("there is neither picture nor sound in it".into());
    }
    if (made.video, made.audio) != (wanted.video, wanted.audio) {
        return Err(format!(
            "{} video and {} audio streams went in, {} and {} came out",
            wanted.video, wanted.audio, made.video, made.audio
        ));
    }
    let Some(expected) = expected_seconds.filter(|seconds| seconds.is_finite()) else { return Ok(()) };
    let actual = made.seconds.unwrap_or(0.0);
    if expected - actual > f64::max(2.0, expected * 0.05) {
        return Err(format!("{actual:.1} s came out of {expected:.1} s"));
    }
    Ok(())
}

/// Runs ffmpeg or ffprobe.
async fn run(
    program: &Path,
    arguments: &[OsString],
    limit: Duration,
    cancel: &CancellationToken,
) -> Result<child::Output> {
    let output = child::run(program, arguments, limit, MAX_OUTPUT_BYTES, cancel).await.map_err(|error| {
        let kind = match error {
            ChildError::Cancelled { .. } => FailureKind::Interrupted,
            _ => FailureKind::RemuxFailed,
        };
        Failure::new(kind, error.to_string())
    })?;
    let says = |words: &str| output.stderr.windows(words.len()).any(|window| window == words.as_bytes());
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    if says("No space left on device") || says("Disk quota exceeded") {
        return Err(Failure::new(FailureKind::DiskFull, format!("{name}: {}", output.last_words())));
    }
    if !output.status.success() {
        return Err(failed(format!("{name} ended with {}: {}", output.status, output.last_words())));
    }
    Ok(output)
}

fn failed(reason: String) -> Failure {
    Failure::new(FailureKind::RemuxFailed, reason)
}

/// `ffmpeg version 5.1.9-0+deb12u1 Copyright …`: the third word. `None` when it does not run.
async fn version_of(program: &Path) -> Option<String> {
    let output = run(program, &["-version".into()], VERSION_LIMIT, &CancellationToken::new()).await.ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = text.lines().next()?.split_whitespace();
    (words.nth(1)? == "version").then(|| words.next().map(str::to_owned))?
}

/// Builds from git (`N-12345-…`, `n7.1`) are not.
fn is_older_than_5_1(version: &str) -> bool {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < (5, 1),
        (Some(Ok(major)), _) => major < 5,
        _ => false,
    }
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
