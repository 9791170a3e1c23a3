//! Real streams, made with ffmpeg once for each test binary, and what a decoder makes of a file.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::sync::{LazyLock, Mutex};

use bytes::Bytes;
use serde_json::Value;

/// What segments are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Container {
    /// MPEG-2 transport stream.
    Ts,
    /// Fragmented MP4 with an initialization section.
    Fmp4,
}

/// Which parts a stream has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tracks {
    Both,
    Video,
    Audio,
}

/// What a stream is made of: H.264 baseline and AAC, cut into segments of one second.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Recipe {
    pub container: Container,
    pub tracks: Tracks,
    pub width: u32,
    pub height: u32,
    pub frames_per_second: u32,
    pub seconds: u32,
    /// A source of ffmpeg's lavfi: `testsrc2`, `smptebars`, …
    pub pattern: &'static str,
    /// Of the sine tone, in Hz.
    pub tone: u32,
    /// Added to every timestamp.
    pub start_seconds: u32,
}

impl Default for Recipe {
    fn default() -> Recipe {
        Recipe {
            container: Container::Ts,
            tracks: Tracks::Both,
            width: 320,
            height: 180,
            frames_per_second: 25,
            seconds: 8,
            pattern: "testsrc2",
            tone: 440,
            start_seconds: 0,
        }
    }
}

/// A stream in the clear, not yet published anywhere.
#[derive(Debug, Clone)]
pub struct Stream {
    pub container: Container,
    pub width: u32,
    pub height: u32,
    pub init: Option<Bytes>,
    pub segments: Vec<Bytes>,
    /// Of each segment, in seconds.
    pub durations: Vec<f64>,
    /// Indices of the segments before which timestamps begin anew.
    pub discontinuities: Vec<usize>,
}

impl Stream {
    /// The file that a download of all of it must give, before any remux.
    pub fn truth(&self) -> Vec<u8> {
        let parts = self.init.iter().chain(&self.segments);
        parts.flat_map(|part| part.iter().copied()).collect()
    }

    /// Only the first `count` segments.
    pub fn first(&self, count: usize) -> Stream {
        let mut stream = self.clone();
        stream.segments.truncate(count);
        stream.durations.truncate(count);
        stream
    }

    /// This stream and then, after a discontinuity, `next`, which has the same init section or none.
    pub fn then(&self, next: &Stream) -> Stream {
        let mut stream = self.clone();
        stream.discontinuities.push(self.segments.len());
        stream.segments.extend(next.segments.iter().cloned());
        stream.durations.extend(&next.durations);
        stream
    }

    /// Sum of all segments, in seconds.
    pub fn seconds(&self) -> f64 {
        self.durations.iter().sum()
    }
}

/// 8 s of picture and sound in transport stream segments.
pub fn ts() -> &'static Stream {
    make(Recipe::default())
}

/// Another 4 s in transport stream segments, with another picture and tone.
pub fn other_ts() -> &'static Stream {
    make(Recipe { pattern: "smptebars", tone: 880, seconds: 4, ..Recipe::default() })
}

/// 8 s of picture and sound in fMP4 segments.
pub fn fmp4() -> &'static Stream {
    make(Recipe { container: Container::Fmp4, ..Recipe::default() })
}

/// Picture without sound, 8 s.
pub fn video_only(container: Container) -> &'static Stream {
    make(Recipe { container, tracks: Tracks::Video, ..Recipe::default() })
}

/// Sound without picture, 8 s.
pub fn audio_only(container: Container) -> &'static Stream {
    make(Recipe { container, tracks: Tracks::Audio, ..Recipe::default() })
}

/// The same 4 s with 360, 720 and 1080 lines.
pub fn ladder() -> Vec<&'static Stream> {
    [(640, 360), (1280, 720), (1920, 1080)]
        .map(|(width, height)| make(Recipe { width, height, frames_per_second: 10, seconds: 4, ..Recipe::default() }))
        .to_vec()
}

/// Makes a stream, or returns the one that was made before from the same recipe.
///
/// # Panics
/// When ffmpeg is missing or fails.
pub fn make(recipe: Recipe) -> &'static Stream {
    static MADE: LazyLock<Mutex<HashMap<Recipe, &'static Stream>>> = LazyLock::new(Mutex::default);
    let mut made = MADE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(stream) = made.get(&recipe) {
        return stream;
    }
    // Kept for the whole run: every test of the binary uses the same few streams.
    let stream: &'static Stream = Box::leak(Box::new(encode(&recipe)));
    made.insert(recipe, stream);
    stream
}

fn encode(recipe: &Recipe) -> Stream {
    let directory = tempfile::tempdir().expect("temporary directory");
    let Recipe { width, height, frames_per_second, seconds, pattern, tone, .. } = recipe;
    let picture = format!("{pattern}=size={width}x{height}:rate={frames_per_second}:duration={seconds}");
    let sound = format!("sine=frequency={tone}:sample_rate=48000:duration={seconds}");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.current_dir(&directory).args(["-v", "error", "-nostdin"]);
    if recipe.tracks != Tracks::Audio {
        ffmpeg.args(["-f", "lavfi", "-i", &picture]);
    }
    if recipe.tracks != Tracks::Video {
        ffmpeg.args(["-f", "lavfi", "-i", &sound]);
    }
    let keyframes = frames_per_second.to_string();
    ffmpeg.args(["-c:v", "libx264", "-profile:v", "baseline", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]);
    ffmpeg.args(["-g", &keyframes, "-keyint_min", &keyframes, "-sc_threshold", "0"]);
    ffmpeg.args(["-c:a", "aac", "-b:a", "64k", "-fflags", "+bitexact", "-flags", "+bitexact"]);
    ffmpeg.args(["-output_ts_offset", &recipe.start_seconds.to_string()]);
    ffmpeg.args(["-f", "hls", "-hls_time", "1", "-hls_playlist_type", "vod"]);
    match recipe.container {
        Container::Ts => ffmpeg.args(["-hls_segment_filename", "%03d.ts"]),
        Container::Fmp4 => ffmpeg.args(["-hls_segment_type", "fmp4", "-hls_segment_filename", "%03d.m4s"]),
    };
    run(ffmpeg.arg("index.m3u8"));
    read_back(recipe.container, (recipe.width, recipe.height), directory.path())
}

/// Reads the segments that ffmpeg wrote; its own playlist is simple enough for this.
pub(super) fn read_back(container: Container, (width, height): (u32, u32), directory: &Path) -> Stream {
    let playlist = std::fs::read_to_string(directory.join("index.m3u8")).expect("the playlist of ffmpeg");
    let read = |name: &str| Bytes::from(std::fs::read(directory.join(name)).expect("a segment of ffmpeg"));
    let mut stream = Stream {
        container,
        width,
        height,
        init: (container == Container::Fmp4).then(|| read("init.mp4")),
        segments: Vec::new(),
        durations: Vec::new(),
        discontinuities: Vec::new(),
    };
    for line in playlist.lines() {
        if let Some(duration) = line.strip_prefix("#EXTINF:") {
            stream.durations.push(duration.trim_end_matches(',').parse().expect("a duration"));
        } else if !line.starts_with('#') {
            stream.segments.push(read(line));
        }
    }
    assert!(stream.segments.len() >= 3 && stream.segments.len() == stream.durations.len(), "{playlist}");
    stream
}

/// A stream for tests of the engine that need no decoder: `count` segments of about `bytes` bytes
/// (whole transport stream packets of 188 bytes), no two packets alike, always the same.
pub fn synthetic(count: usize, bytes: usize) -> Stream {
    const PACKET: usize = 188;
    let packets = bytes.div_ceil(PACKET).max(1);
    let mut continuity = 0_u8;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let segments = (0..count).map(|_| {
        let mut segment = Vec::with_capacity(packets * PACKET);
        for packet in 0..packets {
            // Sync byte; payload unit start at the head of the segment; PID 0x100; payload only.
            let start = if packet == 0 { 0x40 } else { 0 };
            segment.extend([0x47, start | 0x01, 0x00, 0x10 | continuity]);
            continuity = (continuity + 1) & 0x0f;
            for _ in 0..(PACKET - 4) / 8 {
                // xorshift64: fast, and good enough for bytes that must only differ.
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                segment.extend(random.to_le_bytes());
            }
        }
        Bytes::from(segment)
    });
    Stream {
        container: Container::Ts,
        width: 320,
        height: 180,
        init: None,
        segments: segments.collect(),
        durations: vec![2.0; count],
        discontinuities: Vec::new(),
    }
}

/// What a decoder makes of a file: the same before and after a remux.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashes {
    /// MD5 of every decoded picture; empty when there is none.
    pub picture: String,
    /// MD5 of every decoded sample of sound; empty when there is none.
    pub sound: String,
}

/// Decodes a file or URL once for both hashes.
pub fn hashes(input: impl AsRef<OsStr>) -> Hashes {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-nostdin", "-i"]).arg(input.as_ref());
    // Every frame once: frame rates differ between containers, frames do not.
    ffmpeg.args(["-map", "0:v?", "-map", "0:a?", "-fps_mode", "passthrough", "-f", "streamhash", "-hash", "md5", "-"]);
    // Lines such as "0,v,MD5=…".
    let output = run(&mut ffmpeg);
    let of = |kind: &str| output.lines().filter_map(|line| line.split_once(kind)).map(|(_, hash)| hash).collect();
    Hashes { picture: of(",v,MD5="), sound: of(",a,MD5=") }
}

/// [`hashes`] of bytes, such as [`Stream::truth`].
pub fn hashes_of(bytes: &[u8]) -> Hashes {
    let file = tempfile::NamedTempFile::new().expect("temporary file");
    std::fs::write(file.path(), bytes).expect("writing a temporary file");
    hashes(file.path())
}

/// MD5 of the decoded pictures of a file or URL.
pub fn picture_hash(input: impl AsRef<OsStr>) -> String {
    hashes(input).picture
}

/// MD5 of the decoded sound of a file or URL.
pub fn sound_hash(input: impl AsRef<OsStr>) -> String {
    hashes(input).sound
}

/// Length of a file or URL as ffprobe sees it, in seconds.
pub fn duration_seconds(input: impl AsRef<OsStr>) -> f64 {
    let text = probe(input.as_ref(), &["-show_entries", "format=duration", "-of", "csv=p=0"]);
    text.trim().parse().unwrap_or_else(|_| panic!("no duration of {:?}: {text}", input.as_ref()))
}

/// When the first stream of each kind begins, in seconds.
pub fn start_seconds(input: impl AsRef<OsStr>) -> HashMap<String, f64> {
    let starts = tracks(input.as_ref()).into_iter().rev().filter_map(|track| {
        let start = track["start_time"].as_str()?.parse().ok()?;
        Some((track["codec_type"].as_str()?.to_owned(), start))
    });
    starts.collect()
}

/// When each picture of a file is shown, in seconds, in that order.
pub fn picture_times(input: impl AsRef<OsStr>) -> Vec<f64> {
    let arguments = ["-select_streams", "v:0", "-show_entries", "packet=pts_time", "-of", "csv=p=0"];
    let text = probe(input.as_ref(), &arguments);
    let mut times: Vec<f64> = text.lines().filter_map(|line| line.trim_end_matches(',').parse().ok()).collect();
    times.sort_by(f64::total_cmp);
    times
}

/// The kinds of the streams in a file or URL, in their order: `["video", "audio"]`.
pub fn track_kinds(input: impl AsRef<OsStr>) -> Vec<String> {
    let kinds = tracks(input.as_ref()).into_iter();
    kinds.map(|track| track["codec_type"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Width and height of every picture in a file or URL: one, or as many as a playlist has variants.
pub fn picture_sizes(input: impl AsRef<OsStr>) -> Vec<(u64, u64)> {
    let tracks = tracks(input.as_ref()).into_iter();
    tracks.filter_map(|track| Some((track["width"].as_u64()?, track["height"].as_u64()?))).collect()
}

fn tracks(input: &OsStr) -> Vec<Value> {
    let text = probe(input, &["-show_streams", "-of", "json"]);
    let value: Value = serde_json::from_str(&text).expect("ffprobe prints JSON");
    value["streams"].as_array().cloned().unwrap_or_default()
}

fn probe(input: &OsStr, arguments: &[&str]) -> String {
    let mut ffprobe = Command::new("ffprobe");
    ffprobe.args(["-v", "error"]).args(arguments).arg(input);
    run(&mut ffprobe)
}

pub(super) fn run(command: &mut Command) -> String {
    let output = command
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}; `make deps` installs what is missing"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
