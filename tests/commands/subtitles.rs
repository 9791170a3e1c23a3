//! WebVTT renditions: one `.vtt` beside the lecture, its cues where the pictures are that they
//! belong to.

use crate::run::{Workspace, run};
use crate::support::media::{self, Container, Recipe, Stream, picture_times};
use crate::support::publish::{SubtitleRendition, encrypt_aes128, publish_subtitles};
use crate::support::{Fault, Origin, Publish};

/// 33 bits at 90 kHz, in seconds.
const PERIOD_SECONDS: f64 = (1_u64 << 33) as f64 / 90_000.0;

/// One cue for each segment of the stream, in a segment of its own, which begins with the segment's
/// first picture and says so by that picture's timestamp. Each repeats the cue before it.
fn subtitles(stream: &Stream, words: &str) -> Vec<String> {
    let first = |segment: &[u8]| {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let init = stream.init.as_deref().unwrap_or_default();
        std::fs::write(file.path(), [init, segment].concat()).expect("writing a temporary file");
        picture_times(file.path())[0]
    };
    let starts: Vec<f64> = stream.segments.iter().map(|segment| first(segment)).collect();
    let segment = |(number, start): (usize, &f64)| {
        let mpegts = (start.rem_euclid(PERIOD_SECONDS) * 90_000.0).round();
        let before = match number {
            _ if number == 0 || stream.discontinuities.contains(&number) => String::new(),
            _ => format!("00:59:59.000 --> 00:59:59.500\n{words} {}\n\n", number - 1),
        };
        format!(
            "WEBVTT\nX-TIMESTAMP-MAP=LOCAL:01:00:00.000,MPEGTS:{mpegts}\n\n\
             {before}01:00:00.000 --> 01:00:00.500\n{words} {number}\n"
        )
    };
    starts.iter().enumerate().map(segment).collect()
}

/// Start and text of each cue.
fn cues(text: &[u8]) -> Vec<(f64, String)> {
    let text = String::from_utf8(text.to_vec()).unwrap();
    let blocks = text.strip_prefix("WEBVTT\n\n").unwrap().trim_end().split("\n\n");
    let cue = |block: &str| {
        let (times, words) = block.split_once('\n').unwrap();
        let start = times.split_once(" --> ").unwrap().0;
        let seconds = start.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap());
        (seconds, words.to_owned())
    };
    blocks.map(cue).collect()
}

#[test]
fn cues_begin_with_the_pictures_they_belong_to() {
    let recipe =
        |container, start_seconds| media::make(Recipe { container, start_seconds, seconds: 4, ..Recipe::default() });
    let wrap = recipe(Container::Ts, PERIOD_SECONDS as u32 - 3);
    let mut late = recipe(Container::Fmp4, 0).clone();
    (late.segments, late.durations) = (late.segments.split_off(2), late.durations.split_off(2));
    // 1.4 s are ffmpeg's own: the clock wraps in the second segment.
    for (name, stream) in [
        ("ts", recipe(Container::Ts, 0)),
        ("wrap", wrap),
        ("fmp4", recipe(Container::Fmp4, 0)),
        ("fmp4 from its third segment on", &late),
        // Back, and ahead by more than 10 s; in the first through the end of the clock as well.
        ("ts with discontinuities", &wrap.first(3).then(&recipe(Container::Ts, 0).first(2)).then(&wrap.first(1))),
        ("fmp4 with a discontinuity", &recipe(Container::Fmp4, 0).first(2).then(&late)),
    ] {
        let origin = Origin::start();
        let space = Workspace::new();
        let rendition = SubtitleRendition::new("en", &subtitles(stream, "Picture"));
        let master = publish_subtitles(&origin, "/m", &Publish::of(stream), &[rendition]);
        run(&mut space.fetch(&master.url, "out.mp4", &[])).made(name, &space.path("out.mp4"));
        assert_eq!(space.files(), ["out.en.vtt", "out.mp4"], "{name}");
        let pictures = picture_times(space.path("out.mp4"));
        let (first, expected) = (pictures[0], pictures.iter().step_by(25));
        let found = cues(&space.read("out.en.vtt"));
        assert_eq!(found.len(), stream.segments.len(), "{name}: {found:?}");
        for ((number, picture), (start, words)) in expected.enumerate().zip(&found) {
            assert_eq!(*words, format!("Picture {number}"), "{name}");
            // Sound may begin up to two of its frames before the picture.
            let off = start - (picture - first);
            assert!((-0.002..0.05).contains(&off), "{name}: cue {number} is {off} s off: {start} {picture}");
        }
        // What stays a transport stream with several clocks has its cues where the playlist says.
        if stream.container == Container::Ts {
            run(&mut space.fetch(&master.url, "as_it_came.ts", &[])).succeeded(name);
            for (number, (start, _)) in cues(&space.read("as_it_came.en.vtt")).iter().enumerate() {
                assert!((start - number as f64).abs() < 0.1, "{name}: cue {number} at {start}");
            }
            for left in ["as_it_came.ts", "as_it_came.en.vtt"] {
                std::fs::remove_file(space.path(left)).unwrap();
            }
        }
        // A second run asks for nothing and leaves everything.
        origin.forget_requests();
        assert!(run(&mut space.fetch(&master.url, "out.mp4", &["--json"])).status.success(), "{name}");
        assert_eq!((origin.count("*"), space.files().len()), (0, 2), "{name}");
    }
}

#[test]
fn every_rendition_has_its_file() {
    let origin = Origin::start();
    let space = Workspace::new();
    let (key, iv) = ([7; 16], [9; 16]);
    let texts = subtitles(&media::ts().first(3), "Text");
    let attributes =
        |attributes: &str| SubtitleRendition { attributes: attributes.into(), ..SubtitleRendition::new("x", &texts) };
    let mut encrypted = attributes("NAME=\"Deutsch\",LANGUAGE=\"de\"");
    encrypted.before = format!("#EXT-X-KEY:METHOD=AES-128,URI=\"/key\",IV=0x{}\n", hex::encode(iv));
    let mut in_mp4 = attributes("NAME=\"fr\",LANGUAGE=\"fr\"");
    in_mp4.before = "#EXT-X-MAP:URI=\"/init.mp4\"\n".into();
    let renditions = [
        attributes("NAME=\"English\",LANGUAGE=\"en\""),
        attributes("NAME=\"English\",LANGUAGE=\"en\",FORCED=YES"),
        attributes("NAME=\"English SDH\",LANGUAGE=\"en\""),
        encrypted,
        in_mp4,
    ];
    let video = Publish::of(&media::ts().first(3)).encrypted();
    let master = publish_subtitles(&origin, "/m", &video, &renditions);
    origin.put("/key", key.to_vec());
    for (number, text) in texts.iter().enumerate() {
        origin.put(&format!("/m/subtitles3/seg{number}.vtt"), encrypt_aes128(text.as_bytes(), &key, &iv));
    }
    let ended = run(&mut space.fetch(&master.url, "out.ts", &["--json"]));
    assert!(ended.status.success(), "{ended:?}");
    let names = ["out.de.vtt", "out.en-English-SDH.vtt", "out.en-forced.vtt", "out.en.vtt", "out.ts"];
    assert_eq!(space.files(), names);
    for name in &names[..4] {
        assert_eq!(cues(&space.read(name)).len(), 3, "{name}");
    }
    // What is not WebVTT is left out, and said.
    assert!(ended.stderr.contains("the fr subtitles are not WebVTT"), "{ended:?}");
    assert_eq!(origin.count("/m/subtitles4/seg*"), 0);
    let last: serde_json::Value = serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap();
    let paths: Vec<String> = ["en", "en-forced", "en-English-SDH", "de"]
        .map(|tag| space.path(&format!("out.{tag}.vtt")).to_string_lossy().into_owned())
        .into();
    assert_eq!(
        (&last["subtitles"], &last["skipped_subtitles"]),
        (&serde_json::json!(paths), &serde_json::json!(["fr"]))
    );
}

#[test]
fn a_broken_rendition_fails_the_lecture_and_the_next_run_goes_on() {
    let stream = media::ts().first(4);
    let texts = subtitles(&stream, "Text");
    let not_a_map = texts[2].replace("MPEGTS:", "MPEGTS:x");
    let cases: [(&str, Fault, &str, &str, usize); 4] = [
        ("404", Fault::Status(404), "not_found", "segment 2 ", 1),
        ("html", Fault::Html, "segment_invalid", "HTML", 1),
        ("empty", Fault::Empty, "segment_invalid", "empty", 1),
        // Only seen when all is there: then nothing of it is believed.
        ("map", Fault::Body(not_a_map.into_bytes().into()), "segment_invalid", "X-TIMESTAMP-MAP", 4),
    ];
    for (name, fault, kind, says, again) in cases {
        let origin = Origin::start();
        let space = Workspace::new();
        let rendition = SubtitleRendition::new("en", &texts);
        let master = publish_subtitles(&origin, "/m", &Publish::of(&stream), &[rendition]);
        let broken = "/m/subtitles0/seg2.vtt";
        origin.fault(broken, fault.times(if name == "map" { 1 } else { 2 }));
        let fetch = || run(&mut space.fetch(&master.url, "out.ts", &["--concurrency", "1"]));
        fetch().failed(name, kind, &["the en subtitles", says]);
        space.has_only_partial_files(name);
        origin.forget_requests();
        fetch().made(name, &space.path("out.ts"));
        assert_eq!(cues(&space.read("out.en.vtt")).len(), 4, "{name}");
        assert_eq!(space.files(), ["out.en.vtt", "out.ts"], "{name}");
        let asked = origin.count("/m/subtitles0/seg*");
        assert!(asked >= again && (again == 4 || asked < 4), "{name}: {asked} segments were asked for again");
    }
}
