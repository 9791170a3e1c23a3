//! What is in a media file, according to ffprobe.

use std::path::Path;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{Arguments, Bounds, InputFormat, failed, run};
use crate::failure::Result;

/// ffmpeg opens what a file refers to; only files are allowed.
pub const PROTOCOLS: &[&str] = &["-protocol_whitelist", "file,pipe"];
/// How far streams are looked for, 50 MB or 60 s: a track that begins late and is not found would
/// be silently left out.
pub const DEPTH: &[&str] = &["-probesize", "50M", "-analyzeduration", "60M"];

/// Streams of a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Streams {
    /// Number of video streams; covers of packed audio are not.
    pub video: usize,
    /// Number of audio streams.
    pub audio: usize,
    /// Duration of the longest video stream in seconds; 0 where it is not known.
    pub video_seconds: f64,
    /// The same for audio.
    pub audio_seconds: f64,
    /// First timestamp in seconds, where it is known.
    pub start_seconds: Option<f64>,
}

/// A transport stream with rubbish in front is only found when its format is given.
pub fn format_options(format: InputFormat) -> &'static [&'static str] {
    match format {
        InputFormat::MpegTs => &["-f", "mpegts"],
        InputFormat::FragmentedMp4 => &["-f", "mp4"],
        InputFormat::PackedAudio => &[],
    }
}

/// Looks into a file; `None` as format is a file that we made.
pub async fn streams(
    ffprobe: &Path,
    path: &Path,
    format: Option<InputFormat>,
    bounds: Bounds,
    cancel: &CancellationToken,
) -> Result<Streams> {
    let mut arguments = Arguments::default();
    arguments.add(&["-hide_banner", "-v", "error"]).add(PROTOCOLS).add(DEPTH);
    arguments.add(format.map(format_options).unwrap_or_default());
    arguments.add(&["-show_entries", "stream=codec_type,duration:format=start_time", "-of", "json", "-i"]);
    arguments.path(path)?;
    let output = run(ffprobe, &arguments.0, bounds, cancel).await?;
    let document: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| failed(format!("ffprobe printed something that is not JSON: {error}")))?;
    let streams = |kind: &str| {
        let streams = document["streams"].as_array().map(Vec::as_slice).unwrap_or_default();
        let of_kind: Vec<&Value> = streams.iter().filter(|stream| stream["codec_type"] == kind).collect();
        let seconds = of_kind.iter().filter_map(|stream| number(&stream["duration"])).fold(0.0, f64::max);
        (of_kind.len(), seconds)
    };
    let (video, video_seconds) = streams("video");
    let (audio, audio_seconds) = streams("audio");
    Ok(Streams {
        video: if format == Some(InputFormat::PackedAudio) { 0 } else { video },
        audio,
        video_seconds,
        audio_seconds,
        start_seconds: number(&document["format"]["start_time"]),
    })
}

fn number(value: &Value) -> Option<f64> {
    value.as_str()?.parse().ok()
}
