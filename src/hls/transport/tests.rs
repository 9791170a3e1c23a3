//! With packets made by hand, and with streams of the real ffmpeg.

use std::process::Command;

use proptest::prelude::*;

use super::*;

const PICTURE: u16 = 0x100;
const SOUND: u16 = 0x101;

/// A packet with payload that no other has.
fn packet(pid: u16, counter: u8, content: u8) -> Packet {
    let mut packet = [content; PACKET];
    let [high, low] = pid.to_be_bytes();
    packet[..4].copy_from_slice(&[SYNC, high, low, 0x10 | counter & 0x0f]);
    packet
}

/// A packet with an adaptation field that has these flags, and payload or not.
fn adapted(pid: u16, counter: u8, flags: u8, has_payload: bool) -> Packet {
    let mut packet = packet(pid, counter, 1);
    packet[3] = if has_payload { 0x30 } else { 0x20 } | counter;
    packet[4] = if has_payload { 7 } else { 183 };
    packet[5] = flags;
    packet
}

fn inspect(bytes: &[u8], slice: usize) -> Result<Facts> {
    let mut inspector = Inspector::new();
    for bytes in bytes.chunks(slice) {
        inspector.inspect(bytes)?;
    }
    inspector.finish()
}

/// Runs of packets with the counters as given, the packets of each PID all different.
fn run(pid: u16, counters: impl IntoIterator<Item = u8>) -> Vec<Packet> {
    counters.into_iter().enumerate().map(|(index, counter)| packet(pid, counter, index as u8)).collect()
}

#[test]
fn lost_packets_are_found_and_what_is_allowed_is_not() {
    let whole = run(PICTURE, 5..60);
    let without = |from: usize, count: usize| {
        let mut packets = whole.clone();
        packets.drain(from..from + count);
        packets
    };
    let replaced = |index: usize, packet: Packet| {
        let mut packets = whole.clone();
        packets[index] = packet;
        packets
    };
    let inserted = |index: usize, packet: Packet| {
        let mut packets = whole.clone();
        packets.insert(index, packet);
        packets
    };
    let error = {
        let mut packet = whole[20];
        packet[1] |= 0x80;
        packet
    };
    let interleaved = |packets: &[Packet]| -> Vec<Packet> {
        packets.iter().zip(run(SOUND, 0..60)).flat_map(|(one, two)| [*one, two]).collect()
    };
    let repeated = [&whole[..=8], &interleaved(&whole[8..9])[1..], &whole[8..]].concat();
    let damage = |packets, at: u64| Some(Damage { packets, pid: PICTURE, offset: at * PACKET as u64 });
    let cases: Vec<(&str, Vec<Packet>, Option<Damage>)> = vec![
        ("whole", whole.clone(), None),
        ("two PIDs", interleaved(&whole), None),
        ("one lost", without(7, 1), damage(1, 7)),
        ("forty lost", without(7, 40), damage(8, 7)),
        ("fifteen lost: the same counter again", without(7, 15), damage(15, 7)),
        ("lost twice", [&whole[..9], &whole[10..20], &whole[22..]].concat(), damage(3, 9)),
        ("lost between those of another PID", interleaved(&without(7, 2)), damage(2, 14)),
        ("a duplicate", inserted(8, whole[7]), None),
        ("a duplicate, later", repeated, None),
        ("marked as damaged", replaced(20, error), damage(1, 20)),
        ("a jump that is announced", replaced(9, adapted(PICTURE, 3, 0x80, true))[..10].to_vec(), None),
        ("a jump that is not announced", replaced(9, adapted(PICTURE, 3, 0x10, true))[..10].to_vec(), damage(5, 9)),
        ("no payload, no count", inserted(9, adapted(PICTURE, (5 + 8) & 15, 0x10, false)), None),
        ("no payload after a loss", replaced(9, adapted(PICTURE, 15, 0x10, false))[..10].to_vec(), damage(2, 9)),
        ("null packets", inserted(9, packet(NULL_PID as u16, 9, 0)), None),
        ("tables", [run(0x11, [1, 1, 5, 9]), whole.clone()].concat(), None),
    ];
    for (name, packets, damage) in cases {
        for slice in [1, 100, 187, 188, 189, 400, 1 << 20] {
            let facts = inspect(packets.as_flattened(), slice).unwrap();
            assert_eq!(facts.damage, damage, "{name}, in slices of {slice}");
        }
    }
}

#[test]
fn what_is_no_transport_stream_is_refused_with_its_place() {
    let whole = run(PICTURE, 0..20);
    let bytes = whole.as_flattened();
    let mut byte_lost = bytes.to_vec();
    byte_lost.remove(700);
    let mut scrambled = whole.clone();
    scrambled[6][3] |= 0xc0;
    for (name, bytes, kind, says) in [
        ("cut", &bytes[..1000], FailureKind::SegmentInvalid, "60 of 188 bytes at byte 940"),
        ("a byte lost", &byte_lost, FailureKind::SegmentInvalid, "begins at byte 752"),
        ("scrambled", scrambled.as_flattened(), FailureKind::DrmProtected, "at byte 1128 is scrambled (PID 0x100)"),
    ] {
        for slice in [1, 188, 500, 1 << 20] {
            let failure = inspect(bytes, slice).unwrap_err();
            assert_eq!(failure.kind, kind, "{name}");
            assert!(failure.message.contains(says), "{name}: {failure}");
        }
    }
}

/// A transport stream of one second, by ffmpeg.
fn film(words: &str) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args("-nostdin -v error -f lavfi -i sine=frequency=440:sample_rate=48000:duration=1".split(' '))
        .args(words.split_whitespace())
        .args(["-f", "mpegts", "-"])
        .output()
        .expect("ffmpeg must be installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// With this picture, coded with these options, and sound.
fn with_picture(size: &str, words: &str) -> Facts {
    let film = film(&format!("-f lavfi -i testsrc=size={size}:rate=10:duration=1 {words}"));
    inspect(&film, 1000).unwrap()
}

#[test]
fn streams_of_ffmpeg_are_told_apart() {
    let facts = with_picture("1280x720", "-c:v libx264 -bf 2 -c:a aac -ac 2 -output_ts_offset 10 -muxdelay 0");
    let [picture, sound] = &facts.streams[..] else { panic!("{facts:?}") };
    assert_eq!((sound.pid, sound.codec), (0x101, Codec::Aac));
    let stereo = Configuration::Sound { object_type: 2, sample_rate: 48000, channels: 2 };
    assert_eq!(sound.configuration, Some(stereo));
    assert_eq!((picture.pid, picture.codec), (0x100, Codec::H264));
    // High 4:4:4 Predictive: what testsrc becomes.
    let high = Configuration::Picture { profile: 244, level: 31, width: 1280, height: 720 };
    assert_eq!(picture.configuration, Some(high));
    assert!(picture.first_pts.unwrap() >= 900_000 && sound.first_pts.unwrap() >= 890_000, "{facts:?}");
    assert_eq!(facts.first_pts(), sound.first_pts.min(picture.first_pts));
    assert_eq!(facts.damage, None);
    let size = |facts: &Facts| match facts.streams[0].configuration {
        Some(Configuration::Picture { profile, width, height, .. }) => (profile, width, height),
        _ => panic!("{facts:?}"),
    };
    // Sizes that are no multiple of a macro block, interlaced ones, and those of HEVC.
    for (name, words, expected) in [
        ("1920x1080", "-c:v libx264 -pix_fmt yuv420p", (100, 1920, 1080)),
        ("642x362", "-c:v libx264 -pix_fmt yuv422p", (122, 642, 362)),
        ("642x362", "-c:v libx264 -pix_fmt yuv420p -profile:v baseline", (66, 642, 362)),
        ("720x360", "-c:v libx264 -pix_fmt yuv420p -flags +ilme+ildct", (100, 720, 360)),
        ("722x362", "-c:v libx265 -x265-params log-level=none -pix_fmt yuv420p", (1, 722, 362)),
        ("722x362", "-c:v libx265 -x265-params log-level=none -pix_fmt yuv420p10", (2, 722, 362)),
    ] {
        let facts = with_picture(name, &format!("{words} -c:a aac -ac 1"));
        assert_eq!(size(&facts), expected, "{words}");
        let change = facts.compatible(&facts.clone());
        assert_eq!(change, Ok(()), "{words}");
    }
}

#[test]
fn what_changes_is_said_in_words() {
    let picture = |codec: &str, size: &str, sound: &str| {
        with_picture(size, &format!("-c:v {codec} -pix_fmt yuv420p -x265-params log-level=none {sound}"))
    };
    let first = picture("libx264", "320x180", "-c:a aac -ac 2");
    let mute = picture("libx264", "320x180", "-an");
    for (later, says) in [
        (picture("libx264", "320x180", "-c:a aac -ac 2 -g 2 -output_ts_offset 100"), ""),
        (picture("libx264", "320x180", "-c:a aac -ac 2 -g 2 -crf 50 -r 50"), ""),
        (mute.clone(), ""),
        (
            picture("libx264", "640x360", "-c:a aac -ac 2"),
            "picture changes from H.264 320x180 (profile 100) to H.264 640x360",
        ),
        (
            picture("libx265", "320x180", "-c:a aac -ac 2"),
            "picture changes from H.264 320x180 (profile 100) to HEVC 320x180",
        ),
        (
            picture("libx264", "320x180", "-c:a aac -ac 1"),
            "sound changes from AAC 48000 Hz stereo to AAC 48000 Hz mono",
        ),
        (picture("libx264", "320x180", "-c:a aac -ac 2 -ar 44100"), "to AAC 44100 Hz stereo"),
        (
            picture("libx264", "320x180", "-c:a libmp3lame -ac 2"),
            "sound changes from AAC 48000 Hz stereo to MPEG audio",
        ),
        (picture("libx264", "320x180", "-c:a ac3 -ac 2"), "to AC-3"),
    ] {
        let change = first.compatible(&later).err().unwrap_or_default();
        assert!(change.contains(says) && change.is_empty() == says.is_empty(), "{says}: {change}");
    }
    let moved = picture("libx264", "320x180", "-c:a aac -ac 2 -mpegts_start_pid 0x200");
    assert_eq!(first.compatible(&moved).unwrap_err(), "the picture moves from PID 0x100 to PID 0x200");
    assert_eq!(mute.compatible(&first).unwrap_err(), "a sound track appears: AAC 48000 Hz stereo");
}

#[test]
fn the_first_timestamp_of_several_is_that_before_a_wrap() {
    let stream = |first_pts| StreamFacts { pid: 1, codec: Codec::Aac, first_pts, configuration: None };
    let first = |pts: &[Option<u64>]| {
        Facts { streams: pts.iter().map(|pts| stream(*pts)).collect(), ..Facts::default() }.first_pts()
    };
    assert_eq!(first(&[Some(7), None, Some(5)]), Some(5));
    assert_eq!(first(&[Some(7), Some(0x1_ffff_fff0)]), Some(0x1_ffff_fff0));
    assert_eq!(first(&[None]), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nothing_that_comes_breaks_it(
        mut bytes in prop::collection::vec(any::<u8>(), 188 * 12),
        slice in 1usize..600,
        tables in any::<bool>(),
    ) {
        for (index, packet) in bytes.chunks_mut(PACKET).enumerate() {
            packet[0] = SYNC;
            packet[3] &= 0x3f;
            if tables {
                // A PID that is watched, with the start of a section or of an access unit.
                packet[1..3].copy_from_slice(&[0x40, 0]);
                packet[3] = 0x10 | index as u8;
                packet[4..9].copy_from_slice(&[0, 0, 0xb0, 0x20, 0]);
            }
        }
        let whole = inspect(&bytes, bytes.len()).unwrap();
        prop_assert_eq!(inspect(&bytes, slice).unwrap(), whole);
        for codec in [Codec::H264, Codec::Hevc, Codec::Aac] {
            let unit = [&[0, 0, 1, if codec == Codec::Hevc { 33 << 1 } else { 7 }][..], &bytes[..]].concat();
            codec::configuration(codec, &unit);
            codec::configuration(codec, &[&[0xff, 0xf1][..], &bytes[..]].concat());
        }
    }
}
