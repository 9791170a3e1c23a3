use std::os::unix::fs::FileExt;

use super::*;

const PID: u16 = 0x100;

/// A packet of pictures with a clock reference, a presentation and a decoding time, in ticks.
fn packet(pts: u64, dts: u64) -> Vec<u8> {
    let time = |mark: u8, time: u64| {
        let byte = |shift: u32| (time >> shift) as u8;
        [mark << 4 | byte(29) & 0x0e | 1, byte(22), byte(14) | 1, byte(7), byte(0) << 1 | 1]
    };
    let reference = dts << 15 | 0x7e00 | 0x123;
    let adaptation = [&[7, 0x10][..], &reference.to_be_bytes()[2..]].concat();
    let head = [&[0, 0, 1, 0xe0, 0, 0, 0x80, 0xc0, 10][..], &time(3, pts), &time(1, dts)].concat();
    let mut packet = [&[0x47, 0x40 | (PID >> 8) as u8, PID as u8, 0x30][..], &adaptation, &head].concat();
    packet.resize(188, 0xaa);
    packet
}

/// A transport stream input of sections, each a list of decoding times; pictures are shown two
/// frames later.
fn stream(path: PathBuf, sections: &[&[u64]]) -> Input {
    let mut bytes = Vec::new();
    let mut offsets = Vec::new();
    for times in sections {
        offsets.push(bytes.len() as u64);
        bytes.extend(times.iter().flat_map(|time| packet((time + 7200) % (1 << 33), *time)));
    }
    std::fs::write(&path, bytes).unwrap();
    Input { path, format: InputFormat::MpegTs, sections: offsets.split_off(1), is_joined: false, expected: None }
}

#[test]
fn sections_of_a_transport_stream_follow_one_another() {
    let folder = tempfile::tempdir().unwrap();
    let wrap = 1_u64 << 33;
    for (sections, expected) in [
        // Back, far ahead, and 3 s ahead; a picture lasts 3600.
        (
            vec![&[9000, 12_600][..], &[0, 3600], &[900_000, 903_600], &[300_000]],
            vec![9000, 12_600, 16_200, 19_800, 23_400, 27_000, 30_600],
        ),
        // Through the end of the clock, and the same again.
        (vec![&[wrap - 3600, 0][..], &[wrap - 3600, 0]], vec![wrap - 3600, 0, 3600, 7200]),
        // The clock has been round, which is no jump.
        (vec![&[wrap - 7200, wrap - 3600][..], &[0, 3600], &[0]], vec![wrap - 7200, wrap - 3600, 0, 3600, 7200]),
    ] {
        let input = stream(folder.path().join("a.part"), &sections);
        let part = std::fs::read(&input.path).unwrap();
        // Twice: a crash in between is no harm, as the part stays what it is.
        for _ in 0..2 {
            let joined = join(vec![input.clone()], &|| false).unwrap();
            assert!(joined[0].is_joined && joined[0].path == joined_path(&input.path));
            let packets: Vec<u8> = expected.iter().flat_map(|time| packet((time + 7200) % wrap, *time)).collect();
            assert!(std::fs::read(&joined[0].path).unwrap() == packets, "{expected:?}");
            assert!(std::fs::read(&input.path).unwrap() == part);
        }
    }
    // Nothing jumps: nothing is copied.
    let input = stream(folder.path().join("b.part"), &[&[wrap - 7200, wrap - 3600], &[0, 3600]]);
    assert_eq!(join(vec![input.clone()], &|| false).unwrap(), [input]);
    assert!(!folder.path().join("b.part.joined").exists());
}

#[test]
fn a_stream_that_cannot_be_read_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let input = stream(folder.path().join("a.part"), &[&[0, 3600], &[0]]);
    let whole = std::fs::read(&input.path).unwrap();
    let mut late = whole.clone();
    // Stuffing up to the last bytes of the packet: the timestamps do not fit behind it.
    late[4] = 170;
    late.copy_within(12..31, 175);
    for (bytes, says) in [
        ([&whole[..188], b"<html>", &whole[188..]].concat(), "no transport stream packet begins at byte 188"),
        ([&late[..188], &whole[188..]].concat(), "a timestamp lies across two packets at byte 0"),
    ] {
        std::fs::write(&input.path, bytes).unwrap();
        let failure = join(vec![input.clone()], &|| false).unwrap_err();
        assert_eq!(failure.kind, FailureKind::SegmentInvalid);
        assert!(failure.message.contains(says), "{says}: {failure}");
    }
    std::fs::write(&input.path, whole).unwrap();
    assert_eq!(join(vec![input], &|| true).unwrap_err().kind, FailureKind::Interrupted);
}

fn boxed(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 8).to_be_bytes(), &name[..], body].concat()
}

/// A file of fragments with one sample of 1,000 of 1,000 ticks each.
fn fragments_of(path: PathBuf, times: &[(u64, bool)], sections: &[usize]) -> Input {
    let numbers = |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>();
    let media = [
        boxed(b"mdhd", &numbers(&[0, 0, 0, 1000, 0, 0])),
        boxed(b"hdlr", &[&[0; 8][..], b"vide", &[0; 13]].concat()),
        boxed(b"minf", &boxed(b"stbl", &boxed(b"stsd", &numbers(&[0, 0])))),
    ];
    let track = [boxed(b"tkhd", &numbers(&[0, 0, 0, 1, 0])), boxed(b"mdia", &media.concat())].concat();
    let movie = [boxed(b"trak", &track), boxed(b"mvex", &boxed(b"trex", &numbers(&[0, 1, 1, 1000, 0, 0])))].concat();
    let mut bytes = boxed(b"moov", &movie);
    let mut offsets = Vec::new();
    for (time, is_long) in times {
        offsets.push(bytes.len() as u64);
        let time = match is_long {
            true => [&numbers(&[1 << 24])[..], &time.to_be_bytes()].concat(),
            false => numbers(&[0, *time as u32]),
        };
        let run =
            [boxed(b"tfhd", &numbers(&[0, 1])), boxed(b"tfdt", &time), boxed(b"trun", &numbers(&[0, 1]))].concat();
        bytes.extend(boxed(b"sidx", &[0; 24]));
        bytes.extend(boxed(b"moof", &boxed(b"traf", &run)));
        bytes.extend(boxed(b"mdat", b"x"));
    }
    std::fs::write(&path, bytes).unwrap();
    let sections = sections.iter().map(|index| offsets[*index]).collect();
    Input { path, format: InputFormat::FragmentedMp4, sections, is_joined: false, expected: None }
}

fn times(input: &Input) -> Vec<u64> {
    let mut times = Vec::new();
    crate::hls::fmp4::walk(&File::open(&input.path).unwrap(), |_, part| {
        match part {
            crate::hls::fmp4::Part::Fragment { runs, .. } => {
                times.extend(runs.iter().map(|run| run.time.unwrap().ticks))
            }
            crate::hls::fmp4::Part::SegmentIndex { .. } => assert!(!input.is_joined, "an index contradicts the times"),
        }
        Ok(())
    })
    .unwrap();
    times
}

#[test]
fn fragments_of_either_version_are_moved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.part");
    for is_long in [false, true] {
        let given = [5000, 6000, 0, 1000, 90_000].map(|time| (time, is_long));
        let joined = join(vec![fragments_of(path.clone(), &given, &[2, 4])], &|| false).unwrap();
        assert_eq!(times(&joined[0]), [5000, 6000, 7000, 8000, 9000], "{is_long}");
    }
    let near_the_end = [(u64::from(u32::MAX) - 500, false), (0, false)];
    let failure = join(vec![fragments_of(path.clone(), &near_the_end, &[1])], &|| false).unwrap_err();
    assert!(failure.message.contains("cannot be moved"), "{failure}");
    // Cut in the middle of a box.
    let input = fragments_of(path.clone(), &[(0, true), (0, true)], &[1]);
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    let failure = join(vec![input], &|| false).unwrap_err();
    assert!(failure.message.contains("the mdat box at byte"), "{failure}");
}

fn spans(spans: &[(f64, f64)]) -> Vec<Section> {
    let section = |(start, end): &(f64, f64)| Section { picture: None, sound: Some(Span { start: *start, end: *end }) };
    spans.iter().map(section).collect()
}

#[test]
fn the_picture_leads_and_the_sound_keeps_its_distance() {
    let picture = spans(&[(10.0, 14.0), (3.0, 7.0), (7.0, 9.0)]);
    let sound = spans(&[(9.979, 14.01), (3.2, 7.01), (7.0, 9.0)]);
    assert_eq!(moves(&[picture.clone(), sound]).unwrap().unwrap(), vec![vec![0.0, 11.0, 11.0]; 2]);
    // Of 64 bits beside 33.
    let around = spans(&[(WRAP_SECONDS - 4.0, WRAP_SECONDS), (0.0, 4.0), (0.0, 4.0)]);
    let straight = spans(&[(WRAP_SECONDS - 4.0, WRAP_SECONDS), (WRAP_SECONDS, WRAP_SECONDS + 4.0), (0.0, 4.0)]);
    let moved = moves(&[around, straight]).unwrap().unwrap();
    assert!((moved[1][1]).abs() < 1e-6 && (moved[1][2] - WRAP_SECONDS - 4.0).abs() < 1e-6, "{moved:?}");
    // Another clock.
    assert!(moves(&[picture.clone(), spans(&[(10.0, 14.0), (103.0, 107.0), (107.0, 109.0)])]).is_err());
    // Without timestamps nothing is known.
    assert!(moves(&[vec![Section::default(); 2]]).is_err());
    assert_eq!(moves(&[spans(&[(0.0, 1.0), (1.009, 2.0)])]).unwrap(), None);
}

#[test]
fn the_tag_of_packed_audio_is_read() {
    let owner = b"com.apple.streaming.transportStreamTimestamp\0";
    let tag = |ticks: u64| [&b"ID3\x04\0\0\0\0\0\x3fPRIV\0\0\0\x35\0\0"[..], owner, &ticks.to_be_bytes()].concat();
    assert_eq!(packed::timestamp(&tag(900_000)), Some(10.0));
    assert_eq!(packed::timestamp(&tag((1 << 33) - 90_000)), Some(WRAP_SECONDS - 1.0));
    assert_eq!(packed::timestamp(&tag(1 << 33)), None);
    assert_eq!(packed::timestamp(&tag(0)[..30]), None);
    assert_eq!(packed::timestamp(b"\xff\xf1\x4c\x80"), None);

    // Two frames of 1,024 samples at 48 kHz in each of two sections.
    let frame = [0xff, 0xf1, 0x4c, 0x80, 0x01, 0x7f, 0xfc, 1, 2, 3, 4];
    let section = |ticks| [&tag(ticks)[..], &frame, &frame].concat();
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&[section(900_000), section(0)].concat(), 0).unwrap();
    let sections = packed::scan(&file, &[section(0).len() as u64]).unwrap();
    let length = 2.0 * 1024.0 / 48_000.0;
    assert_eq!(sections, spans(&[(10.0, 10.0 + length), (0.0, length)]));
}
