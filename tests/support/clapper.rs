//! Films with a clapperboard: a flash in the picture and a beep in the sound at the same moments,
//! by which a decoder tells whether both are where they belong.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::{LazyLock, Mutex};

use bytes::Bytes;

use super::media::{Container, Stream, Tracks, read_back, run};

/// When it claps, in seconds; no two pauses are alike.
pub const CLAPS: [f64; 4] = [0.52, 1.32, 2.72, 3.4];
/// How long a film is, in seconds.
pub const SECONDS: f64 = 4.0;
/// Length of a picture, in seconds: what moments may be off by.
pub const FRAME: f64 = 0.04;
/// Where the clock of transport streams begins anew, in seconds.
pub const WRAP: f64 = (1_u64 << 33) as f64 / 90_000.0;

/// How a film is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Film {
    pub tracks: Tracks,
    pub container: Container,
    /// Timestamp of the first picture, in seconds.
    pub start: f64,
    /// What is cut off the beginning: the clock goes on.
    pub skip: f64,
    /// ffmpeg's options for codecs.
    pub codecs: &'static str,
}

/// H.264 with B-frames and AAC.
pub const CODECS: &str = "-c:v libx264 -preset ultrafast -bf 2 -c:a aac -b:a 64k";

impl Film {
    pub fn of(tracks: Tracks, container: Container, start: f64) -> Film {
        Film { tracks, container, start, skip: 0.0, codecs: CODECS }
    }

    /// Its segments of one second.
    pub fn stream(&self) -> Stream {
        static MADE: LazyLock<Mutex<HashMap<String, Stream>>> = LazyLock::new(Mutex::default);
        let mut made = MADE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        made.entry(format!("{self:?}")).or_insert_with(|| self.encode()).clone()
    }

    fn encode(&self) -> Stream {
        let directory = tempfile::tempdir().expect("temporary directory");
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.current_dir(&directory);
        self.input(&mut ffmpeg);
        ffmpeg.args(["-muxdelay", "0", "-f", "hls", "-hls_time", "1", "-hls_playlist_type", "vod"]);
        match self.container {
            Container::Ts => ffmpeg.args(["-hls_segment_filename", "%03d.ts"]),
            // The timestamps in the fragments, not in an edit list.
            Container::Fmp4 => ffmpeg.args([
                "-hls_segment_type",
                "fmp4",
                "-hls_segment_options",
                "movflags=+frag_discont",
                "-hls_segment_filename",
                "%03d.m4s",
            ]),
        };
        run(ffmpeg.arg("index.m3u8"));
        read_back(self.container, (160, 90), directory.path())
    }

    /// The sound as packed audio (RFC 8216 §3.4): each segment begins with the tag that holds the
    /// timestamp, if `tagged`.
    pub fn packed(&self, format: &str, tagged: bool) -> Stream {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("sound");
        let mut ffmpeg = Command::new("ffmpeg");
        Film { tracks: Tracks::Audio, ..*self }.input(&mut ffmpeg);
        run(ffmpeg.args(["-write_xing", "0", "-id3v2_version", "0", "-f", format]).arg(&path));
        let whole = std::fs::read(&path).expect("the sound of ffmpeg");
        let mut times = Command::new("ffprobe");
        times.args(["-v", "error", "-show_entries", "packet=pos,duration_time", "-of", "csv=p=0"]).arg(&path);
        let packets = run(&mut times);
        let packets = packets.lines().filter_map(|line| line.trim_end_matches(',').split_once(','));
        let packets: Vec<(f64, usize)> =
            packets.map(|(length, at)| (length.parse().expect("a duration"), at.parse().expect("a place"))).collect();
        let mut stream = Stream { container: Container::Ts, ..Film::of(Tracks::Audio, Container::Ts, 1.0).stream() };
        (stream.segments, stream.durations) = (Vec::new(), Vec::new());
        // Encoders begin a frame early.
        let mut time = self.start + self.skip - packets[0].0;
        for second in packets.chunks((1.0 / packets[0].0).round() as usize) {
            let end = second.last().expect("a packet").1;
            let end = packets.iter().map(|(_, at)| *at).find(|at| *at > end).unwrap_or(whole.len());
            let tag = if tagged { tag(time) } else { Vec::new() };
            stream.segments.push(Bytes::from([&tag, &whole[second[0].1..end]].concat()));
            let seconds = second.iter().map(|(seconds, _)| seconds).sum();
            stream.durations.push(seconds);
            time += seconds;
        }
        stream
    }

    fn input(&self, ffmpeg: &mut Command) {
        let claps = CLAPS.map(|at| format!("between(t,{:.3},{:.3})", at - 0.01, at + FRAME - 0.011)).join("+");
        let skip = self.skip;
        let picture = format!(
            // ffmpeg takes away where an input begins: what is cut off is added below.
            "testsrc2=size=160x90:rate=25:duration={SECONDS},drawbox=w=48:h=48:color=black:t=fill,\
             drawbox=w=48:h=48:color=white:t=fill:enable='{claps}',trim=start={skip}"
        );
        let claps = CLAPS.map(|at| format!("between(t,{at},{:.3})", at + FRAME)).join("+");
        let sound = format!("aevalsrc='0.8*sin(2*PI*1000*t)*({claps})':s=48000:d={SECONDS},atrim=start={skip}");
        ffmpeg.args(["-v", "error", "-nostdin", "-y"]);
        for (source, other) in [(&picture, Tracks::Audio), (&sound, Tracks::Video)] {
            if self.tracks != other {
                ffmpeg.args(["-f", "lavfi", "-i", source]);
            }
        }
        ffmpeg.args(self.codecs.split_whitespace()).args(["-pix_fmt", "yuv420p", "-g", "25", "-sc_threshold", "0"]);
        ffmpeg.args(["-fps_mode", "passthrough"]);
        ffmpeg.args(["-fflags", "+bitexact", "-flags", "+bitexact"]);
        ffmpeg.args(["-output_ts_offset", &(self.start + self.skip).to_string()]);
    }
}

/// An ID3 tag with a PRIV frame that holds a timestamp of 33 bits.
fn tag(seconds: f64) -> Vec<u8> {
    let ticks = (seconds.rem_euclid(WRAP) * 90_000.0).round() as u64;
    let frame = [&b"com.apple.streaming.transportStreamTimestamp\0"[..], &ticks.to_be_bytes()].concat();
    let head = |name: &[u8], length: usize| [name, &[0, 0, 0, length as u8], &[0, 0]].concat();
    let frame = [head(b"PRIV", frame.len()), frame].concat();
    [&b"ID3\x04\0\0\0\0\0"[..], &[frame.len() as u8], &frame].concat()
}

/// What is in a file, wherever it stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Content {
    /// MD5 of each decoded picture.
    pub pictures: Vec<String>,
    /// Number of packets of sound.
    pub sounds: usize,
}

/// Decodes the pictures of a file and counts its packets of sound.
pub fn content(path: &Path) -> Content {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-nostdin", "-copyts", "-i"]).arg(path);
    ffmpeg.args(["-map", "0:v?", "-map", "0:a?", "-c:a", "copy", "-fps_mode", "passthrough"]);
    let hashes = run(ffmpeg.args(["-f", "framehash", "-hash", "md5", "-"]));
    let mut content = Content::default();
    let mut video = None;
    for line in hashes.lines() {
        // "#media_type 0: video", then "0, dts, pts, duration, size, hash".
        if let Some((stream, "video")) = line.strip_prefix("#media_type ").and_then(|line| line.split_once(": ")) {
            video = Some(stream.to_owned());
        } else if let Some((stream, rest)) = line.split_once(',').filter(|_| !line.starts_with('#')) {
            match video.as_deref() == Some(stream) {
                true => content.pictures.push(rest.rsplit(' ').next().unwrap_or_default().to_owned()),
                false => content.sounds += 1,
            }
        }
    }
    content
}

/// When it flashes and when it beeps in a file, in seconds.
pub fn claps(path: &Path) -> (Vec<f64>, Vec<f64>) {
    let filter = |kind: &str, filter: &str, key: &str, least: f64| -> Vec<f64> {
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-v", "error", "-nostdin", "-copyts", "-i"]).arg(path).args(["-map", &format!("0:{kind}?")]);
        let filter = format!("{filter},{}metadata=print:key={key}:file=-", if kind == "a" { "a" } else { "" });
        ffmpeg.args([&format!("-filter:{kind}"), &filter, "-fps_mode", "passthrough", "-f", "null", "-"]);
        let (mut time, mut moments, mut was_one) = (0.0, Vec::new(), false);
        for line in run(&mut ffmpeg).lines() {
            if let Some((_, text)) = line.split_once("pts_time:") {
                time = text.trim().parse().expect("a time");
            } else if let Some(text) = line.strip_prefix(&format!("{key}=")) {
                // "-inf" is silence.
                let is_one = text.parse::<f64>().is_ok_and(|value| value > least);
                if is_one && !was_one {
                    moments.push(time);
                }
                was_one = is_one;
            }
        }
        moments
    };
    let flashes = filter("v", "crop=32:32:8:8,signalstats", "lavfi.signalstats.YAVG", 128.0);
    // In steps of 5 ms.
    let steps =
        "aresample=48000,asetnsamples=240,astats=metadata=1:reset=1:measure_perchannel=none:measure_overall=Peak_level";
    (flashes, filter("a", steps, "lavfi.astats.Overall.Peak_level", -12.0))
}
