//! Sound that comes apart from the picture, and an ffmpeg that does not do its part.

use std::path::Path;

use crate::run::{Workspace, run};
use crate::support::media::{self, Container, Stream, duration_seconds, hashes, hashes_of, start_seconds, track_kinds};
use crate::support::publish::publish_separate_audio;
use crate::support::{Fault, Origin, Publish};

/// Without its first segments: it begins later on the same clock.
fn later(stream: &Stream, count: usize) -> Stream {
    Stream { segments: stream.segments[count..].into(), durations: stream.durations[count..].into(), ..stream.clone() }
}

/// How much later the sound begins than the picture, in seconds.
fn offset(path: &Path) -> f64 {
    let starts = start_seconds(path);
    starts["audio"] - starts["video"]
}

#[test]
fn separate_sound_is_muxed_in_sync() {
    let origin = Origin::start();
    for (number, container) in [Container::Ts, Container::Fmp4].into_iter().enumerate() {
        for (delay, encrypted) in [(0, true), (2, false)] {
            let name = format!("{container:?}, sound {delay} s later");
            let space = Workspace::new();
            let (picture, sound) = (media::video_only(container), later(media::audio_only(container), delay));
            let shape = |stream: &Stream| if encrypted { Publish::of(stream).encrypted() } else { Publish::of(stream) };
            let base = format!("/{number}/{delay}");
            let published = publish_separate_audio(&origin, &base, &shape(picture), &shape(&sound));
            run(&mut space.fetch(&published.url, "out.mp4", &[])).made(&name, &space.path("out.mp4"));
            let path = space.path("out.mp4");
            assert_eq!(track_kinds(&path), ["video", "audio"], "{name}");
            let made = hashes(&path);
            assert_eq!(made.picture, hashes_of(&published.video.truth).picture, "{name}");
            assert_eq!(made.sound, hashes_of(&published.audio.truth).sound, "{name}");
            assert!((offset(&path) - delay as f64).abs() < 0.1, "{name}: the offset is {}", offset(&path));
            assert!((duration_seconds(&path) - 8.0).abs() < 0.2, "{name}");
            assert_eq!(space.files(), ["out.mp4"], "{name}");
        }
    }
}

#[test]
fn separate_sound_without_a_remux_lies_beside_the_picture() {
    let origin = Origin::start();
    let space = Workspace::new();
    let (picture, sound) = (media::video_only(Container::Ts), media::audio_only(Container::Ts));
    let published = publish_separate_audio(&origin, "/x", &Publish::of(picture), &Publish::of(sound).encrypted());
    run(&mut space.fetch(&published.url, "out.ts", &[])).made("ts", &space.path("out.ts"));
    assert!(space.read("out.ts") == published.video.truth);
    assert!(space.read("out.audio.ts") == published.audio.truth);
    assert_eq!(space.files(), ["out.audio.ts", "out.ts"]);
}

#[test]
fn a_broken_sound_leaves_no_picture_without_sound() {
    let origin = Origin::start();
    let space = Workspace::new();
    let (picture, sound) = (media::video_only(Container::Ts), media::audio_only(Container::Ts));
    let published = publish_separate_audio(&origin, "/x", &Publish::of(picture), &Publish::of(sound));
    let broken = &published.audio.segment_paths[2];
    origin.fault(broken, Fault::Status(404));
    for output in ["out.mp4", "out.ts"] {
        let ended = run(&mut space.fetch(&published.url, output, &[]));
        ended.failed(output, "not_found", &["segment 2 ", &origin.url(broken), "audio"]);
        space.has_only_partial_files(output);
    }
    origin.heal(broken);
    run(&mut space.fetch(&published.url, "out.mp4", &[])).succeeded("mended");
    assert_eq!(hashes(space.path("out.mp4")).sound, hashes_of(&published.audio.truth).sound);
}

#[test]
fn a_stream_that_is_shorter_than_its_playlist_says_fails() {
    let origin = Origin::start();
    let space = Workspace::new();
    let mut stream = media::ts().clone();
    stream.durations[7] = 60.0;
    let published = Publish::of(&stream).at(&origin, "/x");
    let ended = run(&mut space.fetch(&published.url, "out.mp4", &[]));
    ended.failed("shorter", "remux_failed", &["8.0 s", "67.0 s"]);
    space.has_only_partial_files("shorter");
}

#[test]
fn line_40_an_ffmpeg_that_crashes_or_lies_makes_no_file() {
    let (origin, space) = (Origin::start(), Workspace::new());
    let published = Publish::of(&media::ts().first(3)).at(&origin, "/x");
    let program = space.path("programs/ffmpeg");
    std::fs::create_dir(space.path("programs")).unwrap();
    let fetch = |arguments: &[&str]| {
        let ffmpeg = format!("remux.ffmpeg={}", program.display());
        run(space
            .fetch(&published.url, "out.mp4", &[&["--set", &ffmpeg], arguments].concat())
            .current_dir(space.path("")))
    };
    for (name, script, says) in [
        ("crashes", "kill -SEGV $$", "signal: 11"),
        ("takes all memory", "head -c 1G /dev/zero | tail -n 1", "memory"),
        ("says that it is done", "exit 0", ""),
        ("cuts what it has made", "ffmpeg \"$@\" && for last; do :; done && truncate -s -5000 \"$last\"", ""),
    ] {
        let script = format!("#!/bin/sh\n[ \"$1\" = -version ] && exec ffmpeg \"$@\"\n{script}\n");
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let ended = fetch(&["--set", "remux.max_memory_bytes=268435456"]);
        ended.failed(name, "remux_failed", &[says]);
        // Nor a core file.
        assert_eq!(space.files(), ["out.mp4.part", "out.mp4.part.journal", "programs/ffmpeg"], "{name}");
    }
    std::fs::write(&program, "#!/bin/sh\nexec ffmpeg \"$@\"\n").unwrap();
    fetch(&[]).made("an honest one", &space.path("out.mp4"));
    assert!(published.segment_paths.iter().all(|path| origin.count(path) == 1), "the download was kept");
}
