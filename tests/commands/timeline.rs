//! Picture and sound in step, whatever their containers, clocks and discontinuities: flashes and
//! beeps are where they were, and every picture is there.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{LazyLock, Mutex};

use crate::run::{Workspace, run};
use crate::support::Origin;
use crate::support::clapper::{CLAPS, Content, FRAME, Film, SECONDS, WRAP, claps, content};
use crate::support::media::{Container, Stream, Tracks};

use Container::{Fmp4, Ts};
use Tracks::{Audio, Both, Video};

/// Sections of one playlist.
type Sections = Vec<Stream>;

/// A lecture: one playlist, or two.
struct Case {
    name: &'static str,
    main: Sections,
    audio: Option<Sections>,
    /// How much later than the picture the sound begins, in seconds.
    delay: f64,
    /// It has a picture.
    is_shown: bool,
}

impl Case {
    fn one(name: &'static str, main: Sections) -> Case {
        Case { name, main, audio: None, delay: 0.0, is_shown: true }
    }

    fn two(name: &'static str, main: Sections, audio: Sections) -> Case {
        Case { name, main, audio: Some(audio), delay: 0.0, is_shown: true }
    }
}

fn film(tracks: Tracks, container: Container, start: f64) -> Stream {
    Film::of(tracks, container, start).stream()
}

/// The same film once for each start.
fn films(tracks: Tracks, container: Container, starts: &[f64]) -> Sections {
    starts.iter().map(|start| film(tracks, container, *start)).collect()
}

fn packed(start: f64) -> Stream {
    Film::of(Audio, Ts, start).packed("adts", true)
}

/// Puts the sections below `base`, each with its own initialization section, and returns the path of
/// the playlist.
fn publish(origin: &Origin, base: &str, sections: &[Stream]) -> String {
    let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n#EXT-X-PLAYLIST-TYPE:VOD\n");
    for (number, section) in sections.iter().enumerate() {
        if number > 0 {
            text.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if let Some(init) = &section.init {
            origin.put(&format!("{base}/init{number}.mp4"), init.clone());
            text.push_str(&format!("#EXT-X-MAP:URI=\"init{number}.mp4\"\n"));
        }
        for (index, (segment, seconds)) in section.segments.iter().zip(&section.durations).enumerate() {
            origin.put(&format!("{base}/{number}-{index}"), segment.clone());
            text.push_str(&format!("#EXTINF:{seconds:.6},\n{number}-{index}\n"));
        }
    }
    text.push_str("#EXT-X-ENDLIST\n");
    let path = format!("{base}/index.m3u8");
    origin.put(&path, text);
    path
}

/// The URL of a case.
fn publish_case(origin: &Origin, base: &str, case: &Case) -> String {
    let Some(audio) = &case.audio else { return origin.url(&publish(origin, base, &case.main)) };
    publish(origin, &format!("{base}/v"), &case.main);
    publish(origin, &format!("{base}/a"), audio);
    let text = "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"a\",DEFAULT=YES,URI=\"a/index.m3u8\"\n\
                #EXT-X-STREAM-INF:BANDWIDTH=100000,RESOLUTION=160x90,AUDIO=\"a\"\nv/index.m3u8\n";
    let path = format!("{base}/master.m3u8");
    origin.put(&path, text);
    origin.url(&path)
}

/// What is in each section by itself, one after the other.
fn truth(sections: &[Stream]) -> Content {
    static KNOWN: LazyLock<Mutex<HashMap<Vec<u8>, Content>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut all = Content::default();
    for section in sections {
        let content = known.entry(section.truth()).or_insert_with_key(|bytes| {
            let file = tempfile::NamedTempFile::new().expect("temporary file");
            std::fs::write(file.path(), bytes).expect("writing a temporary file");
            content(file.path())
        });
        all.pictures.extend_from_slice(&content.pictures);
        all.sounds += content.sounds;
    }
    all
}

/// That moments are those of `count` films after one another, at most one frame off, beginning with
/// the first clap.
#[track_caller]
fn in_step(name: &str, what: &str, moments: &[f64], zero: f64, count: usize, skip: f64) {
    let ideal = (0..count).flat_map(|number| CLAPS.map(|clap| number as f64 * SECONDS + clap));
    let ideal: Vec<f64> = ideal.filter(|clap| *clap > skip).collect();
    let found: Vec<f64> = moments.iter().map(|moment| moment - zero).collect();
    assert_eq!(found.len(), ideal.len(), "{name}: {what} at {found:.3?}, not at {ideal:.3?}");
    for (found_at, ideal_at) in found.iter().zip(&ideal) {
        assert!((found_at - ideal_at).abs() <= FRAME, "{name}: {what} at {found:.3?}, not at {ideal:.3?}");
    }
}

fn check(case: &Case, path: &Path) {
    let Case { name, main, audio, delay, is_shown } = case;
    let sound = audio.as_ref().unwrap_or(main);
    let made = content(path);
    assert!(made.pictures == truth(main).pictures, "{name}: {} pictures", made.pictures.len());
    assert_eq!(made.sounds, truth(sound).sounds, "{name}: packets of sound");
    let (flashes, beeps) = claps(path);
    let first = if *is_shown { flashes[0] } else { beeps[0] };
    let zero = first - CLAPS.iter().find(|clap| **clap > -delay).expect("a clap");
    if *is_shown {
        in_step(name, "flashes", &flashes, zero, main.len(), -delay);
    }
    in_step(name, "beeps", &beeps, zero, sound.len(), *delay);
}

fn cases() -> Vec<Case> {
    let both = |starts: &[f64]| films(Both, Ts, starts);
    let later = |container, skip| Film { skip, ..Film::of(Audio, container, 10.0) };
    let delayed = |name, main, audio, delay| Case { delay, ..Case::two(name, main, audio) };
    let coded = |codecs| {
        let film = |start| Film { codecs, ..Film::of(Both, Ts, start) }.stream();
        vec![film(10.0), film(10.0)]
    };
    let sound = |format, codecs| vec![Film { codecs, ..Film::of(Audio, Ts, 10.0) }.packed(format, true)];
    let wrap = WRAP - 2.0;
    vec![
        Case::one("ts", both(&[10.0])),
        Case::one("ts: reset", both(&[10.0, 10.0])),
        Case::one("ts: wrap, reset", both(&[wrap, 10.0])),
        Case::one("ts: jump of 3 s, jump of an hour, reset", both(&[10.0, 17.0, 3600.0, 1.0])),
        Case { is_shown: false, ..Case::one("ts: sound alone, reset", films(Audio, Ts, &[10.0, 10.0])) },
        Case::one("fmp4", films(Both, Fmp4, &[10.0])),
        Case::one("fmp4: resets", films(Both, Fmp4, &[10.0, 10.0, 2.0])),
        Case::one("fmp4: jump of 3 s", films(Both, Fmp4, &[10.0, 17.0])),
        Case::two("ts + ts: resets", films(Video, Ts, &[10.0, 10.0, 3.0]), films(Audio, Ts, &[10.0, 10.0, 3.0])),
        Case::two("ts + ts: wrap", films(Video, Ts, &[wrap]), films(Audio, Ts, &[wrap])),
        Case::two("ts + ts: sound before the wrap", films(Video, Ts, &[WRAP]), films(Audio, Ts, &[WRAP])),
        Case::two("ts + ts: wrap, reset", films(Video, Ts, &[wrap, 5.0]), films(Audio, Ts, &[wrap, 5.0])),
        Case::two("fmp4 + fmp4: reset", films(Video, Fmp4, &[10.0, 4.0]), films(Audio, Fmp4, &[10.0, 4.0])),
        Case::two("ts + fmp4", films(Video, Ts, &[10.0, 30.0]), films(Audio, Fmp4, &[10.0, 30.0])),
        Case::two("fmp4 + ts", films(Video, Fmp4, &[10.0, 10.0]), films(Audio, Ts, &[10.0, 10.0])),
        Case::one(
            "ts: HEVC, AC-3, reset",
            coded("-c:v libx265 -preset ultrafast -x265-params log-level=none -c:a ac3"),
        ),
        Case::one("ts: MP3, reset", coded("-c:v libx264 -preset ultrafast -c:a libmp3lame")),
        Case::two("ts + packed", films(Video, Ts, &[10.0]), vec![packed(10.0)]),
        Case::two("fmp4 + packed, wrap", films(Video, Fmp4, &[WRAP]), vec![packed(WRAP)]),
        Case::two("ts + packed MP3", films(Video, Ts, &[10.0]), sound("mp3", "-c:a libmp3lame")),
        Case::two("ts + packed AC-3", films(Video, Ts, &[10.0]), sound("ac3", "-c:a ac3")),
        Case::two("ts + packed: reset", films(Video, Ts, &[10.0, 3.0]), vec![packed(10.0), packed(3.0)]),
        delayed("ts + ts: sound later", films(Video, Ts, &[10.0]), vec![later(Ts, 1.7).stream()], 1.7),
        delayed("fmp4 + fmp4: sound later", films(Video, Fmp4, &[10.0]), vec![later(Fmp4, 1.7).stream()], 1.7),
        delayed("ts + packed: sound later", films(Video, Ts, &[10.0]), vec![later(Ts, 1.7).packed("adts", true)], 1.7),
        delayed(
            "ts + ts: sound earlier",
            vec![Film { skip: 1.72, ..Film::of(Video, Ts, 10.0) }.stream()],
            films(Audio, Ts, &[10.0]),
            -1.72,
        ),
    ]
}

#[test]
fn line_41_picture_and_sound_are_in_step() {
    let origin = Origin::start();
    for (number, case) in cases().iter().enumerate() {
        let space = Workspace::new();
        let url = publish_case(&origin, &format!("/{number}"), case);
        run(&mut space.fetch(&url, "out.mp4", &[])).made(case.name, &space.path("out.mp4"));
        check(case, &space.path("out.mp4"));
        assert_eq!(space.files(), ["out.mp4"], "{}", case.name);
    }
}

#[test]
fn line_41_sound_that_ends_early_is_kept_and_told_of() {
    let (origin, space) = (Origin::start(), Workspace::new());
    let mut sound = film(Audio, Ts, 10.0);
    sound.segments.truncate(1);
    sound.durations.truncate(1);
    let case = Case::two("short sound", films(Video, Ts, &[10.0]), vec![sound]);
    let url = publish_case(&origin, "/x", &case);
    let ended = run(&mut space.fetch(&url, "out.mp4", &[]));
    assert!(ended.status.success() && ended.stderr.contains("by their playlists the picture is"), "{ended:?}");
    assert_eq!(space.files(), ["out.mp4"]);
}

#[test]
fn what_has_no_common_timeline_is_refused() {
    let origin = Origin::start();
    let other_size =
        Film { codecs: "-s 192x108 -c:v libx264 -preset ultrafast -c:a aac", ..Film::of(Both, Fmp4, 10.0) };
    let mut skewed = packed(3.0);
    skewed.segments.remove(0);
    skewed.durations.remove(0);
    let mut untagged = film(Both, Fmp4, 10.0);
    untagged.segments.extend(untagged.segments.clone());
    untagged.durations.extend(untagged.durations.clone());
    for (number, (case, kind, says)) in [
        (
            Case::one("another picture size", vec![film(Both, Fmp4, 10.0), other_size.stream()]),
            "codec_changed",
            "the codec configuration of track 1 (vide) changes",
        ),
        (
            Case::two("one reset only", films(Video, Ts, &[10.0, 3.0]), films(Audio, Ts, &[10.0])),
            "remux_failed",
            "the picture has 1 discontinuities and the sound 0",
        ),
        (
            Case::two("other clocks behind", films(Video, Ts, &[10.0, 10.0]), films(Audio, Fmp4, &[10.0, 500.0])),
            "remux_failed",
            "behind discontinuity 1 the sound is 490.0 s away",
        ),
        (
            Case::two("packed audio with a hole", films(Video, Ts, &[10.0, 3.0]), vec![packed(10.0), skewed]),
            "remux_failed",
            "behind discontinuity 1 packed audio would be 0.9",
        ),
        (Case::one("reset without a word", vec![untagged]), "segment_invalid", "go back by 4.0 s"),
    ]
    .into_iter()
    .enumerate()
    {
        let space = Workspace::new();
        let url = publish_case(&origin, &format!("/{number}"), &case);
        run(&mut space.fetch(&url, "out.mp4", &[])).failed(case.name, kind, &[says]);
        let files = space.files();
        assert!(files.iter().all(|file| file.contains(".part")), "{}: {files:?}", case.name);
    }
}
