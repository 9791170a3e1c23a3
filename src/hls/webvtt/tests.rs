use proptest::prelude::*;

use super::time::TIMESTAMP_PERIOD;
use super::*;
use crate::failure::{FailureKind, Result};

/// The first timestamp of the lectures here, 10 s, as it is with many packagers.
const START: i64 = 900_000;
const PERIOD: i64 = TIMESTAMP_PERIOD;

/// Stitches segments of 10 s; `!` in front of one stands for a discontinuity.
fn try_stitch<T: AsRef<str>>(segments: &[T], clock: Option<&Clock>) -> Result<Stitched> {
    let segment = |(index, text): (usize, &'_ T)| {
        let text = text.as_ref();
        let bytes = text.strip_prefix('!').unwrap_or(text).as_bytes().to_vec();
        (bytes, index as f64 * 10.0, text.starts_with('!'), index as u64)
    };
    let owned: Vec<_> = segments.iter().enumerate().map(segment).collect();
    let texts: Vec<SegmentText> = owned
        .iter()
        .map(|(bytes, start_seconds, discontinuity, sequence)| SegmentText {
            bytes,
            start_seconds: *start_seconds,
            discontinuity: *discontinuity,
            sequence: *sequence,
        })
        .collect();
    stitch(&texts, clock)
}

/// The cues in short: `1.000-2.000 text`, with ` | ` between them.
fn cues(stitched: &Stitched) -> String {
    let blocks = stitched.text.trim_end().split("\n\n").skip(1);
    let short = |block: &str| block.replace("00:00:", "").replace(" --> ", "-").replace('\n', " ");
    blocks.map(short).collect::<Vec<_>>().join(" | ")
}

fn mapped(map: &str, cues: &str) -> String {
    format!("WEBVTT\nX-TIMESTAMP-MAP={map}\n\n{cues}\n")
}

/// A segment whose times count from the first picture.
fn plain(cues: &str) -> String {
    mapped("MPEGTS:900000,LOCAL:00:00:00.000", cues)
}

#[test]
fn timestamp_maps_place_cues_in_the_lecture() {
    let cue = "00:11.000 --> 00:12.000\nA";
    let near_wrap = PERIOD - 90_000;
    let cases: [(&str, i64, &[String], &str); 12] = [
        ("from the first timestamp", START, &[plain(cue)], "11.000-12.000 A"),
        ("the other order", START, &[mapped("LOCAL:00:00:00.000,MPEGTS:900000", cue)], "11.000-12.000 A"),
        ("no map: timestamp 0 is time 0", START, &[format!("WEBVTT\n\n{cue}")], "01.000-02.000 A"),
        ("a later timestamp", START, &[mapped("MPEGTS:1080000,LOCAL:00:00:00.000", cue)], "13.000-14.000 A"),
        ("local times of a day", START, &[mapped("MPEGTS:945000,LOCAL:00:00:10.000", cue)], "01.500-02.500 A"),
        (
            "the map is before the wrap",
            near_wrap,
            &[mapped("MPEGTS:8589844592,LOCAL:00:00.000", cue)],
            "11.000-12.000 A",
        ),
        ("the map is behind the wrap", near_wrap, &[mapped("MPEGTS:0,LOCAL:00:10.000", cue)], "02.000-03.000 A"),
        (
            "the lecture begins behind the wrap",
            90_000,
            &[mapped("MPEGTS:8589844592,LOCAL:00:00.000", cue)],
            "09.000-10.000 A",
        ),
        (
            "a map of its own for each segment",
            START,
            &[
                mapped("MPEGTS:900000,LOCAL:00:00:00.000", "00:01.000 --> 00:02.000\nA"),
                mapped("MPEGTS:1800000,LOCAL:00:00:00.000", "00:01.000 --> 00:02.000\nB"),
            ],
            "01.000-02.000 A | 11.000-12.000 B",
        ),
        (
            "the wrap lies between two segments",
            near_wrap,
            &[
                mapped("MPEGTS:8589844592,LOCAL:00:00:00.000", "00:01.000 --> 00:02.000\nA"),
                mapped("MPEGTS:810000,LOCAL:00:00:00.000", "00:01.000 --> 00:02.000\nB"),
            ],
            "01.000-02.000 A | 11.000-12.000 B",
        ),
        (
            "to the nearest millisecond",
            44,
            &[mapped("MPEGTS:90044,LOCAL:00:00.000", "00:00.000 --> 00:01.001\nA")],
            "01.000-02.001 A",
        ),
        (
            "times within a payload",
            START,
            &[mapped(
                "MPEGTS:990000,LOCAL:00:00.000",
                "00:00.500 --> 00:03.000\nA <00:01.000>B <c.x><00:02.000>C</c> < 1",
            )],
            "01.500-04.000 A <02.000>B <c.x><03.000>C</c> < 1",
        ),
    ];
    for (name, start, segments, expected) in cases {
        let stitched = try_stitch(segments, Some(&Clock::starting_at(start))).unwrap();
        assert_eq!(cues(&stitched), expected, "{name}");
        assert_eq!((stitched.before_start, stitched.diagnostics.count), (0, 0), "{name}");
    }
}

#[test]
fn without_a_clock_the_first_map_is_the_beginning() {
    let segments = [mapped("MPEGTS:5000000,LOCAL:01:00:00.000", "01:00:02.000 --> 01:00:03.000\nA")];
    assert_eq!(cues(&try_stitch(&segments, None).unwrap()), "02.000-03.000 A");
    assert_eq!(cues(&try_stitch(&["WEBVTT\n\n00:02.000 --> 00:03.000\nA"], None).unwrap()), "02.000-03.000 A");
}

#[test]
fn maps_change_at_discontinuities() {
    let mut clock = Clock::starting_at(START);
    clock.begin_section(90_000 * 10, Some(126_000));
    clock.begin_section(90_000 * 20 + 9_000, Some(PERIOD - 90_000));
    let segments = [
        plain("00:01.000 --> 00:02.000\nA\n\n00:09.000 --> 00:10.000\nSame"),
        "!".to_owned()
            + &mapped("MPEGTS:126000,LOCAL:00:00.000", "00:00.000 --> 00:02.000\nSame\n\n00:05.000 --> 00:06.000\nB"),
        "!".to_owned() + &mapped("MPEGTS:90000,LOCAL:00:00.000", "00:01.000 --> 00:02.000\nC"),
    ];
    let stitched = try_stitch(&segments, Some(&clock)).unwrap();
    assert_eq!(cues(&stitched), "01.000-02.000 A | 09.000-12.000 Same | 15.000-16.000 B | 23.100-24.100 C");
    // By their number, however badly the playlist rounds; by time where the numbers differ.
    let mut clock = Clock::starting_at(START);
    clock.begin_section(90_000 * 16, Some(126_000));
    let late = "!".to_owned() + &mapped("MPEGTS:126000,LOCAL:00:00.000", "00:01.000 --> 00:02.000\nB");
    assert_eq!(cues(&try_stitch(&[plain(""), late.clone()], Some(&clock)).unwrap()), "17.000-18.000 B");
    clock.begin_section(90_000 * 50, Some(0));
    let stitched = try_stitch(&[plain(""), plain(""), late], Some(&clock)).unwrap();
    assert_eq!(cues(&stitched), "17.000-18.000 B");
}

#[test]
fn a_cue_that_segments_repeat_stands_once() {
    let same = "00:09.000 --> 00:12.000 line:0\nSame";
    let cases: [(&str, &[String], &str); 13] = [
        ("in both segments", &[plain(same), plain(same)], "09.000-12.000 line:0 Same"),
        (
            "twice in one segment means two",
            &[plain(&format!("{same}\n\n{same}")), plain(same)],
            "09.000-12.000 line:0 Same | 09.000-12.000 line:0 Same",
        ),
        (
            "more often in a later one",
            &[plain(same), plain(&format!("{same}\n\n{same}"))],
            "09.000-12.000 line:0 Same | 09.000-12.000 line:0 Same",
        ),
        (
            "times rounded apart",
            &[plain(same), mapped("MPEGTS:900060,LOCAL:00:00.000", same)],
            "09.000-12.000 line:0 Same",
        ),
        (
            "other settings",
            &[plain(same), plain("00:09.000 --> 00:12.000\nSame")],
            "09.000-12.000 line:0 Same | 09.000-12.000 Same",
        ),
        (
            "another id",
            &[plain(same), plain(&format!("2\n{same}"))],
            "09.000-12.000 line:0 Same | 2 09.000-12.000 line:0 Same",
        ),
        (
            "another end",
            &[plain(same), plain("00:09.000 --> 00:13.000 line:0\nSame")],
            "09.000-12.000 line:0 Same | 09.000-13.000 line:0 Same",
        ),
        (
            "cut in two, and in three, at the borders",
            &[
                plain("00:04.000 --> 00:10.000\nA\n\n00:05.000 --> 00:10.000\nB"),
                plain("00:10.000 --> 00:20.000\nA\n\n00:10.000 --> 00:11.000\nB"),
                plain("00:20.000 --> 00:21.000\nA"),
            ],
            "04.000-21.000 A | 05.000-11.000 B",
        ),
        (
            "cut in two, with other text",
            &[plain("00:04.000 --> 00:10.000\nA"), plain("00:10.000 --> 00:11.000\nB")],
            "04.000-10.000 A | 10.000-11.000 B",
        ),
        (
            "not at the border",
            &[plain("00:04.000 --> 00:08.000\nA"), plain("00:08.000 --> 00:11.000\nA")],
            "04.000-08.000 A | 08.000-11.000 A",
        ),
        (
            "not the last of its segment",
            &[plain("00:04.000 --> 00:10.000\nA\n\n00:04.000 --> 00:12.000\nB"), plain("00:10.000 --> 00:11.000\nA")],
            "04.000-10.000 A | 04.000-12.000 B | 10.000-11.000 A",
        ),
        (
            "within one segment",
            &[plain("00:04.000 --> 00:05.000\nA\n\n00:05.000 --> 00:06.000\nA")],
            "04.000-05.000 A | 05.000-06.000 A",
        ),
        (
            "a segment between",
            &[plain("00:04.000 --> 00:10.000\nA"), "WEBVTT".into(), plain("00:10.000 --> 00:11.000\nA")],
            "04.000-10.000 A | 10.000-11.000 A",
        ),
    ];
    for (name, segments, expected) in cases {
        assert_eq!(cues(&try_stitch(segments, Some(&Clock::starting_at(START))).unwrap()), expected, "{name}");
    }
}

#[test]
fn nothing_begins_before_the_lecture() {
    let text = "00:01.000 --> 00:02.000\nGone\n\n00:01.500 --> 00:03.000\n<00:01.900>Cut <00:02.500>here\n\n00:02.000 --> 00:03.000\nWhole";
    let stitched = try_stitch(&[plain(text)], Some(&Clock::starting_at(START + 2 * 90_000))).unwrap();
    assert_eq!(cues(&stitched), "00.000-01.000 Cut <00.500>here | 00.000-01.000 Whole");
    assert_eq!((stitched.before_start, stitched.cues), (1, 2));
    // A whole rendition without maps, before a picture that begins at 10 hours.
    let segments = ["WEBVTT\n\n00:01.000 --> 00:02.000\nA", "WEBVTT\n\n00:11.000 --> 00:12.000\nB"];
    let stitched = try_stitch(&segments, Some(&Clock::starting_at(36_000 * 90_000))).unwrap();
    assert_eq!(cues(&stitched), "01.000-02.000 A | 11.000-12.000 B");
    assert_eq!((stitched.before_start, stitched.diagnostics.count), (0, 1), "{:?}", stitched.diagnostics);
}

#[test]
fn everything_else_stands_once_and_in_its_place() {
    let head = "WEBVTT - One\nX-TIMESTAMP-MAP=MPEGTS:900000,LOCAL:00:00.000\nKind: captions\n\nSTYLE\n::cue { color: red }\n\n";
    let segments = [
        format!(
            "{head}NOTE about all\n\nb\n00:05.000 --> 00:06.000\nB\n\nNOTE on A\n\n00:01.000 --> 00:02.000\nA\nA\n"
        ),
        format!("{head}REGION\nid:r\n\nNOTE about all\n\nNOTE at the end"),
    ];
    let stitched = try_stitch(&segments, Some(&Clock::starting_at(START))).unwrap();
    let expected = "WEBVTT - One\nKind: captions\n\nSTYLE\n::cue { color: red }\n\nREGION\nid:r\n\n\
        NOTE on A\n\n00:00:01.000 --> 00:00:02.000\nA\nA\n\n\
        NOTE about all\n\nb\n00:00:05.000 --> 00:00:06.000\nB\n\nNOTE at the end\n";
    assert_eq!(stitched.text, expected);
    let none = try_stitch(&["WEBVTT", "WEBVTT\n\n"], Some(&Clock::starting_at(START))).unwrap();
    assert_eq!((none.text.as_str(), none.cues), ("WEBVTT\n", 0));
}

#[test]
fn a_segment_that_is_not_webvtt_is_named() {
    let good = plain("00:01.000 --> 00:02.000\nA");
    for (bad, says) in
        [("", "blank"), ("<!DOCTYPE html><html>", "<!DOCTYPE"), ("WEBVTT\nX-TIMESTAMP-MAP=1\n", "=1: not understood")]
    {
        let failure = try_stitch(&[&good, bad], None).unwrap_err();
        assert_eq!(failure.kind, FailureKind::SegmentInvalid);
        assert!(failure.message.starts_with("segment 1: ") && failure.message.contains(says), "{}", failure.message);
    }
}

#[test]
fn a_rendition_is_bounded() {
    let many = |count: usize| "NOTE\n\n".repeat(count) + &"00:01.000 --> 00:02.000\n\n".repeat(count);
    let whole = try_stitch(&[plain(&many(MAX_BLOCKS / 2))], None).unwrap();
    assert_eq!(whole.cues, MAX_BLOCKS / 2);
    let cues = |from: usize| {
        (from..from + MAX_BLOCKS * 2 / 3).map(|n| format!("00:01.000 --> 00:02.000\n{n}\n\n")).collect::<String>()
    };
    for segments in [vec![plain(&many(MAX_BLOCKS))], vec![plain(&cues(0)), plain(&cues(MAX_BLOCKS))]] {
        let failure = try_stitch(&segments, None).unwrap_err();
        assert_eq!(failure.kind, FailureKind::BodyTooLarge);
    }
    let failure = try_stitch(&["WEBVTT\n".to_owned() + &"a\n".repeat(20_000)], None).unwrap_err();
    assert_eq!(failure.kind, FailureKind::BodyTooLarge);
}

/// Cues of a lecture: start and length in milliseconds, and a text.
fn lecture() -> impl Strategy<Value = Vec<(i64, i64, String)>> {
    let cue = (0i64..90_000, 1i64..12_000, "[a-c]{1,2}");
    prop::collection::vec(cue, 0..25).prop_map(|mut cues| {
        // No two that are cuts or copies of one another: those are told apart by nobody.
        cues.sort();
        let mut last_end = std::collections::HashMap::new();
        cues.retain(|(start, length, text)| {
            let free = last_end.get(text).is_none_or(|end| start - end > 2);
            if free {
                last_end.insert(text.clone(), start + length);
            }
            free
        });
        cues
    })
}

/// How a packager puts cues into segments that they do not end in.
#[derive(Debug, Clone, Copy)]
enum Overhang {
    Repeat,
    Cut,
    Leave,
}

proptest! {
    #[test]
    fn however_a_lecture_is_cut_it_comes_back(
        lecture in lecture(),
        start in prop_oneof![0i64..PERIOD, (PERIOD - 10_000_000)..PERIOD],
        overhang in prop::sample::select(vec![Overhang::Repeat, Overhang::Cut, Overhang::Leave]),
        locals in prop::collection::vec(0i64..100_000_000, 12),
    ) {
        let time = |ms: i64| format!("{:02}:{:02}:{:02}.{:03}", ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
        let mut segments = Vec::new();
        for (index, local) in locals.iter().enumerate() {
            let (from, to) = (index as i64 * 10_000, (index as i64 + 1) * 10_000);
            // The packager's clock shows `local` where the segment begins.
            let mpegts = (start + from * 90) % PERIOD;
            let mut text = format!("WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:{mpegts},LOCAL:{}\n\n", time(*local));
            for (begin, length, words) in &lecture {
                let (mut begin, mut end) = (*begin, begin + length);
                let wanted = match overhang {
                    Overhang::Leave => (from..to).contains(&begin),
                    Overhang::Repeat => begin < to && end > from,
                    Overhang::Cut => {
                        (begin, end) = (begin.max(from), end.min(to));
                        begin < end
                    }
                };
                // A cue of an earlier segment may begin before the clock does.
                let shift = local - from;
                prop_assume!(!wanted || begin + shift >= 0);
                if wanted {
                    text += &format!("{} --> {}\n{words}\n\n", time(begin + shift), time(end + shift));
                }
            }
            segments.push(text);
        }
        let stitched = try_stitch(&segments, Some(&Clock::starting_at(start))).unwrap();
        let expected: String = lecture.iter().map(|(begin, length, words)| {
            format!("\n{} --> {}\n{words}\n", time(*begin), time(begin + length))
        }).collect();
        let mut got: Vec<&str> = stitched.text.split("\n\n").collect();
        let mut wanted: Vec<String> = format!("WEBVTT\n{expected}").split("\n\n").map(str::to_owned).collect();
        got.sort_unstable();
        wanted.sort_unstable();
        prop_assert_eq!(got, wanted, "{:?}", overhang);
        prop_assert_eq!((stitched.before_start, stitched.diagnostics.count), (0, 0));
    }

    #[test]
    fn whatever_comes_in_what_goes_out_is_webvtt(
        segments in prop::collection::vec(
            prop::collection::vec(
                prop_oneof![
                    Just(String::new()),
                    "[ -~\u{e9}\r\t<>]{0,12}",
                    (0u32..30, 0u32..30, "( line:[0-9])?").prop_map(|(a, b, more)| format!("00:{a:02}.000 --> 00:{b:02}.500{more}")),
                    (0u32..30).prop_map(|a| format!("text <00:{a:02}.000> <")),
                    Just("NOTE x".to_owned()), Just("STYLE".to_owned()), Just("a --> b".to_owned()),
                    (any::<u64>(), 0u32..60).prop_map(|(m, l)| format!("X-TIMESTAMP-MAP=MPEGTS:{m},LOCAL:00:{l:02}.000")),
                ],
                0..12,
            ),
            1..4,
        ),
        start in 0i64..PERIOD,
    ) {
        let segments: Vec<String> = segments.iter().map(|lines| format!("WEBVTT\n{}", lines.join("\n"))).collect();
        if let Ok(stitched) = try_stitch(&segments, Some(&Clock::starting_at(start))) {
            // Read once more on the lecture's own timeline, it is the same, and nothing in it is odd.
            let again = try_stitch(&[&stitched.text], Some(&Clock::starting_at(0))).unwrap();
            prop_assert_eq!(&again.text, &stitched.text);
            prop_assert_eq!((again.before_start, again.diagnostics.count), (0, 0), "{:?} {}", again.diagnostics, again.text);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let text = [b"WEBVTT\n", &bytes[..]].concat();
        for bytes in [&bytes, &text] {
            let segment = SegmentText { bytes, start_seconds: 1e9, discontinuity: true, sequence: 0 };
            let _ = stitch(&[segment, segment], None);
        }
    }
}
