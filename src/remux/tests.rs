//! With the real ffmpeg.

use super::*;
use crate::config::Container;

const LIMIT: Duration = Duration::from_secs(60);
const BOUNDS: Bounds = Bounds { time: LIMIT, memory_bytes: 4 << 30 };

struct Studio {
    folder: tempfile::TempDir,
    remux: Remux,
    cancel: CancellationToken,
}

impl Studio {
    async fn new() -> Studio {
        let remux = Remux::detect(&settings("ffmpeg", "ffprobe")).await.expect("ffmpeg and ffprobe must be installed");
        Studio { folder: tempfile::tempdir().unwrap(), remux, cancel: CancellationToken::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs ffmpeg in the folder; words are separated by spaces.
    async fn ffmpeg(&self, words: &str) -> String {
        let path = |word: &str| match word.strip_prefix('@') {
            Some(name) => self.path(name).into_os_string(),
            None => word.into(),
        };
        let words = format!("-nostdin -v error -y {words}");
        let arguments: Vec<OsString> = words.split_whitespace().map(path).collect();
        let output = run(Path::new("ffmpeg"), &arguments, BOUNDS, &self.cancel).await.unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// 2 s of picture and sound with B-frames, as a transport stream that begins at 10 s.
    async fn film(&self, name: &str) {
        self.ffmpeg(&format!(
            "-f lavfi -i testsrc=size=160x90:rate=25:duration=2 -f lavfi -i sine=frequency=440:duration=2 \
             -c:v libx264 -bf 2 -g 25 -c:a aac -output_ts_offset 10 -muxdelay 0 -f mpegts @{name}"
        ))
        .await;
    }

    /// A hash of all decoded pictures and sound.
    async fn content(&self, name: &str) -> String {
        self.ffmpeg(&format!("-i @{name} -map 0:v? -map 0:a? -f md5 -")).await
    }

    /// Start times of the first video and the first audio stream.
    async fn starts(&self, name: &str) -> (f64, f64) {
        let start = async |kind: &str| -> f64 {
            let words =
                ["-v", "error", "-select_streams", kind, "-show_entries", "stream=start_time", "-of", "csv=p=0"];
            let mut arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
            arguments.push(self.path(name).into());
            let output = run(Path::new("ffprobe"), &arguments, BOUNDS, &self.cancel).await.unwrap();
            String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
        };
        (start("v:0").await, start("a:0").await)
    }

    /// `expected` is the length of each input in seconds.
    async fn to_mp4(&self, names: &[(&str, InputFormat)], expected: Option<f64>, out: &str) -> Result<()> {
        let expected = expected.map(|seconds| Expected { seconds, rounding_seconds: 0.0, gap_seconds: 0.0 });
        let input = |&(name, format): &(&str, InputFormat)| Input {
            path: self.path(name),
            format,
            sections: Vec::new(),
            is_joined: false,
            expected,
        };
        let inputs: Vec<Input> = names.iter().map(input).collect();
        self.remux.to_mp4(&inputs, &self.path(out), &self.cancel).await
    }
}

fn settings(ffmpeg: &str, ffprobe: &str) -> RemuxSettings {
    RemuxSettings {
        container: Container::Auto,
        ffmpeg: ffmpeg.into(),
        ffprobe: ffprobe.into(),
        timeout: LIMIT,
        max_memory_bytes: 4 << 30,
    }
}

use InputFormat::{FragmentedMp4, MpegTs, PackedAudio};

#[tokio::test]
async fn a_missing_program_is_no_remux() {
    assert!(Remux::detect(&settings("/nonexistent/ffmpeg", "ffprobe")).await.is_none());
    assert!(Remux::detect(&settings("ffmpeg", "/nonexistent/ffprobe")).await.is_none());
    assert!(Remux::detect(&settings("true", "ffprobe")).await.is_none());
    assert!(!Studio::new().await.remux.version().is_empty());
}

#[tokio::test]
async fn pictures_and_sound_are_the_same_and_the_index_stands_in_front() {
    let studio = Studio::new().await;
    studio.film("-odd:name.ts").await;
    // What stood there before is replaced.
    std::fs::write(studio.path("out.mp4.part"), "rubbish").unwrap();
    studio.to_mp4(&[("-odd:name.ts", MpegTs)], Some(2.0), "out.mp4.part").await.unwrap();
    assert_eq!(studio.content("out.mp4.part").await, studio.content("-odd:name.ts").await);
    let bytes = std::fs::read(studio.path("out.mp4.part")).unwrap();
    let position = |name: &[u8]| bytes.windows(4).position(|window| window == name).unwrap();
    assert!(position(b"moov") < position(b"mdat"));
}

#[tokio::test]
async fn sound_that_begins_later_stays_later() {
    let studio = Studio::new().await;
    studio.film("av.ts").await;
    studio.ffmpeg("-i @av.ts -map 0:v -c copy -copyts -muxdelay 0 -f mpegts @v.ts").await;
    studio.ffmpeg("-ss 1 -i @av.ts -map 0:a -c copy -copyts -muxdelay 0 -f mpegts @a.ts").await;
    let (video, audio) = (probe_start(&studio, "v.ts").await, probe_start(&studio, "a.ts").await);
    assert!(audio - video > 0.5, "{video} {audio}");
    studio.to_mp4(&[("v.ts", MpegTs), ("a.ts", MpegTs)], Some(2.0), "out.mp4").await.unwrap();
    let (out_video, out_audio) = studio.starts("out.mp4").await;
    assert!(((out_audio - out_video) - (audio - video)).abs() < 0.05, "{out_video} {out_audio}");

    // The same in fragmented MP4, and with one of each.
    studio.ffmpeg("-copyts -i @v.ts -c copy -f hls -hls_segment_type fmp4 -hls_flags single_file -hls_segment_filename @v.mp4 @v.m3u8").await;
    studio.ffmpeg("-copyts -i @a.ts -c copy -bsf:a aac_adtstoasc -f hls -hls_segment_type fmp4 -hls_flags single_file -hls_segment_filename @a.mp4 @a.m3u8").await;
    for inputs in [
        [("v.mp4", FragmentedMp4), ("a.mp4", FragmentedMp4)],
        [("v.ts", MpegTs), ("a.mp4", FragmentedMp4)],
        [("v.mp4", FragmentedMp4), ("a.ts", MpegTs)],
    ] {
        studio.to_mp4(&inputs, None, "out.mp4").await.unwrap();
        let (out_video, out_audio) = studio.starts("out.mp4").await;
        let off = (out_audio - out_video) - (audio - video);
        assert!(off.abs() < 0.04, "{inputs:?}: {out_video} {out_audio}");
    }
}

async fn probe_start(studio: &Studio, name: &str) -> f64 {
    let streams = probe::streams(Path::new("ffprobe"), &studio.path(name), Some(MpegTs), BOUNDS, &studio.cancel).await;
    streams.unwrap().start_seconds.unwrap()
}

#[tokio::test]
async fn packed_audio_and_unrelated_clocks_begin_with_the_video() {
    let studio = Studio::new().await;
    studio.film("av.ts").await;
    studio.ffmpeg("-i @av.ts -map 0:v -c copy -copyts -muxdelay 0 -f mpegts @v.ts").await;
    studio.ffmpeg("-i @av.ts -map 0:a -c copy -f adts @a.aac").await;
    studio.ffmpeg("-i @av.ts -map 0:a -c copy -output_ts_offset 5000 -f mpegts @far.ts").await;
    for (name, format) in [("a.aac", PackedAudio), ("far.ts", MpegTs)] {
        studio.to_mp4(&[("v.ts", MpegTs), (name, format)], Some(2.0), "out.mp4").await.unwrap();
        let (video, audio) = studio.starts("out.mp4").await;
        assert!((audio - video).abs() < 0.1, "{name}: {video} {audio}");
    }
    studio.to_mp4(&[("a.aac", PackedAudio)], Some(2.0), "sound.mp4").await.unwrap();
}

#[tokio::test]
async fn line_40_a_result_that_is_too_short_is_refused_with_both_numbers() {
    let studio = Studio::new().await;
    studio.film("av.ts").await;
    let failure = studio.to_mp4(&[("av.ts", MpegTs)], Some(30.0), "out.mp4.part").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::RemuxFailed);
    assert!(failure.message.contains("out.mp4.part: 2.0 s came out of 30.0 s"), "{failure}");
    assert!(!studio.path("out.mp4.part").exists());
    // Within max(2 s, 5 %), or longer than expected: playlists round.
    studio.to_mp4(&[("av.ts", MpegTs)], Some(3.9), "out.mp4.part").await.unwrap();
    studio.to_mp4(&[("av.ts", MpegTs)], Some(1.0), "out.mp4.part").await.unwrap();
    studio.to_mp4(&[("av.ts", MpegTs)], None, "out.mp4.part").await.unwrap();
}

#[test]
fn what_is_expected_is_as_exact_as_the_playlist() {
    for (seconds, rounding_seconds, actual, is_right) in [
        (3600.0, 0.0, 3598.1, true),
        (3600.0, 0.0, 3597.9, false),
        // 600 segments of "6" seconds: the lecture is 1 % shorter.
        (3600.0, 300.0, 3564.0, true),
        (3600.0, 300.0, 3419.0, false),
        (3600.0, 0.0, 3779.0, true),
        (3600.0, 0.0, 3781.0, false),
        (10.0, 0.0, 8.1, true),
        (10.0, 0.0, 12.1, false),
        (f64::INFINITY, 0.0, 1.0, true),
    ] {
        let checked = Expected { seconds, rounding_seconds, gap_seconds: 0.0 }.check(actual);
        assert_eq!(checked.is_ok(), is_right, "{seconds} {rounding_seconds} {actual}: {checked:?}");
    }
    Expected { seconds: 10.0, rounding_seconds: 0.0, gap_seconds: 6.0 }.check(17.0).unwrap();
}

#[test]
fn a_lost_packet_is_noticed_in_what_ffmpeg_says() {
    let says = |video: u32, audio: u32| {
        format!(
            "[verbose]   Input stream #0:0 (video): 200 packets read (6398 bytes); \n\
             [verbose]   Input stream #0:1 (audio): 7 packets read (1 bytes); \n\
             [verbose]   Input stream #1:0 (audio): 378 packets read (14596 bytes); \n\
             [verbose]   Total: 578 packets (20994 bytes) demuxed\n\
             [verbose]   Output stream #0:0 (video): {video} packets muxed (6398 bytes); \n\
             [verbose]   Output stream #0:1 (audio): {audio} packets muxed (14596 bytes); \n"
        )
    };
    verify::packets(&says(200, 378), 2).unwrap();
    assert_eq!(verify::packets(&says(199, 378), 2).unwrap_err(), "200 video packets went in, 199 came out");
    assert_eq!(verify::packets(&says(200, 377), 2).unwrap_err(), "378 audio packets went in, 377 came out");
    // Of one input its own sound counts.
    assert!(verify::packets(&says(200, 378), 1).is_err());
    verify::packets("in words that nobody knows", 2).unwrap();
}

#[tokio::test]
async fn what_is_not_media_fails_and_leaves_nothing() {
    let studio = Studio::new().await;
    std::fs::write(studio.path("page.ts"), "<html>".repeat(1000)).unwrap();
    // A playlist in place of media would make ffmpeg open what it lists.
    std::fs::write(studio.path("list.aac"), "#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/x.ts\n#EXT-X-ENDLIST\n").unwrap();
    for (name, format) in
        [("page.ts", MpegTs), ("page.ts", FragmentedMp4), ("list.aac", PackedAudio), ("missing.ts", MpegTs)]
    {
        let failure = studio.to_mp4(&[(name, format)], None, "out.mp4").await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::RemuxFailed, "{failure}");
        assert!(!studio.path("out.mp4").exists());
    }
    assert_eq!(studio.to_mp4(&[], None, "out.mp4").await.unwrap_err().kind, FailureKind::RemuxFailed);
}

#[tokio::test]
async fn line_40_lost_streams_are_noticed() {
    let wanted = Streams { video: 1, audio: 2, ..Streams::default() };
    let made = Streams { audio: 1, ..wanted.clone() };
    let reason = verify::streams(&[], &wanted, &made).unwrap_err();
    assert_eq!(reason, "1 video and 2 audio streams went in, 1 and 1 came out");
    assert!(verify::streams(&[], &Streams::default(), &Streams::default()).is_err());
}

#[tokio::test]
async fn a_full_disk_is_told_from_a_bad_stream() {
    let studio = Studio::new().await;
    let words = ["-c", "echo 'av_interleaved_write_frame(): No space left on device' >&2; exit 1"];
    let arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
    let failure = run(Path::new("sh"), &arguments, BOUNDS, &studio.cancel).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::DiskFull);
}

#[tokio::test]
async fn line_40_a_program_that_hangs_is_ended() {
    let bounds = Bounds { time: Duration::from_millis(300), ..BOUNDS };
    let failure = run(Path::new("sleep"), &["600".into()], bounds, &CancellationToken::new()).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::RemuxFailed);
    assert_eq!(failure.message, "sleep took longer than 0.3 s");
}

#[tokio::test]
async fn cancelling_interrupts_and_leaves_nothing() {
    let studio = Studio::new().await;
    studio.film("av.ts").await;
    studio.cancel.cancel();
    let failure = studio.to_mp4(&[("av.ts", MpegTs)], None, "out.mp4").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Interrupted);
    assert!(!studio.path("out.mp4").exists());
}
