//! The sample course: real streams made with ffmpeg, encrypted as platforms do.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::failed;
use crate::child;
use crate::failure::{Failure, Result};

/// Seconds of each lecture.
const LECTURE_SECONDS: u32 = 8;
/// Limit of one run of ffmpeg.
const LIMIT: Duration = Duration::from_secs(120);
/// Name of the course, and so of its folder.
pub const COURSE: &str = "Introduction to Loops";
const CAPTIONS: &str =
    "WEBVTT\n\n00:00.000 --> 00:04.000\nWelcome to the course.\n\n00:04.000 --> 00:08.000\nLet us begin.\n";
const SLIDES: &str = "Slides of the first lecture: for, while, loop.\n";

/// A lecture and where its truth is.
pub struct SampleLecture {
    /// Its final place below the course folder.
    pub path: &'static str,
    /// The clear original.
    pub truth: PathBuf,
}

/// The course as its author has it.
pub struct Sample {
    pub lectures: Vec<SampleLecture>,
    /// Files that must arrive byte for byte: place below the course folder, content.
    pub files: Vec<(&'static str, &'static str)>,
}

/// Makes the course below `root`: streams in `media/`, originals in `truth/`.
pub async fn make(root: &Path) -> Result<Sample> {
    let written = |error| Failure::disk(format_args!("writing the sample below {}", root.display()), error);
    std::fs::create_dir_all(root.join("truth")).map_err(written)?;
    let sources = [("welcome", "testsrc2", 440), ("for", "mandelbrot", 550), ("while", "smptebars", 660)];
    for (name, picture, tone) in sources {
        let media = root.join("media").join(name);
        std::fs::create_dir_all(&media).map_err(written)?;
        std::fs::write(media.join("key.bin"), fastrand::u128(..).to_be_bytes()).map_err(written)?;
        // Relative key URI; the second lecture has an explicit IV, the others that of the media sequence.
        let iv = if name == "for" { "0f0e0d0c0b0a09080706050403020100\n" } else { "" };
        let key_info = format!("key.bin\n{}\n{iv}", media.join("key.bin").display());
        std::fs::write(media.join("key_info"), key_info).map_err(written)?;
        encode(root, name, picture, tone).await?;
        std::fs::write(
            media.join("master.m3u8"),
            "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=400000,RESOLUTION=640x360,CODECS=\"avc1.42c01e,mp4a.40.2\"\nindex.m3u8\n",
        )
        .map_err(written)?;
    }
    std::fs::write(root.join("media/welcome/en.vtt"), CAPTIONS).map_err(written)?;
    std::fs::write(root.join("media/welcome/slides.txt"), SLIDES).map_err(written)?;
    let lecture = |path, name: &str| SampleLecture { path, truth: root.join("truth").join(format!("{name}.ts")) };
    Ok(Sample {
        lectures: vec![
            lecture("01 Getting started/001 Welcome.mp4", "welcome"),
            lecture("02 Loops/001 The for loop.mp4", "for"),
            lecture("02 Loops/002 The while loop.mp4", "while"),
        ],
        files: vec![
            ("01 Getting started/001 Welcome.en.vtt", CAPTIONS),
            ("01 Getting started/001 Welcome - slides.txt", SLIDES),
        ],
    })
}

/// The manifest that the catalogue answers.
pub fn manifest(origin: &str) -> Value {
    let stream = |name: &str| json!({"url": format!("{origin}/media/{name}/master.m3u8")});
    json!({
        "title": COURSE,
        "sections": [
            {"title": "Getting started", "lectures": [{
                "title": "Welcome",
                "stream": stream("welcome"),
                "captions": [{"language": "en", "url": format!("{origin}/media/welcome/en.vtt")}],
                "assets": [{"name": "slides.txt", "url": format!("{origin}/media/welcome/slides.txt")}],
            }]},
            {"title": "Loops", "lectures": [
                {"title": "The for loop", "stream": stream("for")},
                {"title": "The while loop", "stream": stream("while")},
            ]},
        ],
    })
}

/// One lecture: the clear original and, from the same encoded packets, the encrypted stream. The
/// original is a transport stream too: an MP4 hides the first samples of the sound behind an edit.
async fn encode(root: &Path, name: &str, picture: &str, tone: u32) -> Result<()> {
    let truth = root.join("truth").join(format!("{name}.ts"));
    let seconds = LECTURE_SECONDS.to_string();
    let size = if picture == "smptebars" { "=size=640x360:rate=25" } else { "=s=640x360:r=25" };
    let picture = format!("{picture}{size}");
    let tone = format!("sine=frequency={tone}:sample_rate=44100");
    let mut arguments = words("-nostdin -v error -y -f lavfi -i");
    arguments.push(picture.into());
    arguments.extend(words("-f lavfi -i"));
    arguments.push(tone.into());
    arguments.extend(words("-t"));
    arguments.push(seconds.into());
    arguments.extend(words("-c:v libx264 -preset ultrafast -g 50 -pix_fmt yuv420p -c:a aac -b:a 96k"));
    arguments.push(truth.clone().into());
    ffmpeg(&arguments).await?;

    let media = root.join("media").join(name);
    let mut arguments = words("-nostdin -v error -y -i");
    arguments.push(truth.into());
    arguments.extend(words("-c copy -f hls -hls_time 2 -hls_playlist_type vod -hls_key_info_file"));
    arguments.push(media.join("key_info").into());
    arguments.push("-hls_segment_filename".into());
    arguments.push(media.join("segment%03d.ts").into());
    arguments.push(media.join("index.m3u8").into());
    ffmpeg(&arguments).await
}

fn words(text: &str) -> Vec<OsString> {
    text.split(' ').map(OsString::from).collect()
}

async fn ffmpeg(arguments: &[OsString]) -> Result<()> {
    let output = child::run(Path::new("ffmpeg"), arguments, LIMIT, 1 << 20, &CancellationToken::new()).await;
    let output = output.map_err(|error| failed(&format!("{error}; make demo installs it")))?;
    if output.status.success() { Ok(()) } else { Err(failed(&format!("ffmpeg: {}", output.last_words()))) }
}
