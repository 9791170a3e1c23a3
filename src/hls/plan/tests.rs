use super::*;
use crate::hls::playlist::{self, Limits, Playlist};

fn plan(text: &str) -> Result<Plan> {
    plan_at("https://media.example.com/course/index.m3u8", text)
}

fn plan_at(base: &str, text: &str) -> Result<Plan> {
    let text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:6\n{text}\n#EXT-X-ENDLIST\n");
    let base = Url::parse(base).unwrap();
    match playlist::parse(text.as_bytes(), &base, &Limits::default()).unwrap() {
        Playlist::Media(media) => Plan::new(media, false),
        Playlist::Multivariant(_) => panic!("not a media playlist"),
    }
}

fn units(plan: &Plan) -> Vec<Unit> {
    (0..plan.len()).map(|index| plan.unit(index).unwrap()).collect()
}

fn failure(text: &str) -> Failure {
    plan(text).unwrap_err()
}

#[test]
fn the_implicit_iv_is_the_media_sequence_number() {
    let plan =
        plan("#EXT-X-MEDIA-SEQUENCE:258\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:6,\na.ts\n#EXTINF:6,\nb.ts");
    let ivs: Vec<_> = units(&plan.unwrap()).into_iter().map(|unit| unit.cipher.unwrap().iv).collect();
    assert_eq!(ivs, [258u128.to_be_bytes(), 259u128.to_be_bytes()]);
}

#[test]
fn keys_rotate_and_end_where_the_playlist_says() {
    let plan = plan(
        "#EXT-X-KEY:METHOD=AES-128,URI=\"k1\",IV=0x2\n#EXTINF:6,\na.ts\n\
         #EXT-X-KEY:METHOD=AES-128,URI=\"k2\"\n#EXTINF:6,\nb.ts\n#EXT-X-KEY:METHOD=NONE\n#EXTINF:6,\nc.ts",
    );
    let keys: Vec<_> = units(&plan.unwrap())
        .into_iter()
        .map(|unit| unit.cipher.map(|cipher| (cipher.key_url.path().to_owned(), u128::from_be_bytes(cipher.iv))))
        .collect();
    assert_eq!(keys, [Some(("/course/k1".to_owned(), 2)), Some(("/course/k2".to_owned(), 1)), None]);
}

#[test]
fn a_map_comes_before_its_first_segment_and_only_when_it_changes() {
    let plan = plan(
        "#EXT-X-MAP:URI=\"i.mp4\",BYTERANGE=\"100@0\"\n#EXTINF:6,\na.m4s\n#EXT-X-DISCONTINUITY\n#EXTINF:6,\nb.m4s\n\
         #EXT-X-MAP:URI=\"j.mp4\"\n#EXTINF:6,\nc.m4s",
    )
    .unwrap();
    let order: Vec<_> = units(&plan).iter().map(|unit| (unit.url.path().to_owned(), unit.is_map)).collect();
    let expected = [("i.mp4", true), ("a.m4s", false), ("b.m4s", false), ("j.mp4", true), ("c.m4s", false)];
    assert_eq!(order, expected.map(|(name, is_map)| (format!("/course/{name}"), is_map)));
    assert!(plan.is_fragmented_mp4());
    assert_eq!(plan.unit(0).unwrap().byte_range, Some(ByteRange { offset: 0, length: 100 }));
}

#[test]
fn encrypted_ranges_are_whole_blocks() {
    let key = "#EXT-X-KEY:METHOD=AES-128,URI=\"k\",IV=0x1\n";
    let map = plan(&format!("{key}#EXT-X-MAP:URI=\"i.mp4\",BYTERANGE=\"100@0\"\n#EXTINF:6,\na.m4s")).unwrap();
    assert_eq!(map.unit(0).unwrap().byte_range.unwrap().length, 112);
    let odd = failure(&format!("{key}#EXT-X-BYTERANGE:100@0\n#EXTINF:6,\na.ts"));
    assert_eq!(odd.kind, FailureKind::PlaylistInvalid);
    assert!(odd.message.contains("multiple of 16"), "{}", odd.message);
}

#[test]
fn protection_is_refused_by_name_before_anything_is_fetched() {
    let widevine = "urn:uuid:edef8ba9-79d6-4ace-a3c8-27dcd51d21ed";
    for (key, kind, says) in [
        (
            "METHOD=SAMPLE-AES,URI=\"skd://x\",KEYFORMAT=\"com.apple.streamingkeydelivery\"".to_owned(),
            FailureKind::DrmProtected,
            "FairPlay",
        ),
        ("METHOD=SAMPLE-AES,URI=\"k\"".to_owned(), FailureKind::DrmProtected, "SAMPLE-AES"),
        (
            format!("METHOD=SAMPLE-AES-CTR,URI=\"data:,x\",KEYFORMAT=\"{widevine}\""),
            FailureKind::DrmProtected,
            "Widevine",
        ),
        ("METHOD=AES-128,URI=\"skd://x\"".to_owned(), FailureKind::DrmProtected, "FairPlay"),
        ("METHOD=AES-256,URI=\"k\"".to_owned(), FailureKind::EncryptionUnsupported, "AES-256"),
        // Nothing that moves a terminal.
        ("METHOD=\u{1b}[2J,URI=\"k\"".to_owned(), FailureKind::EncryptionUnsupported, "METHOD=\"\\u{1b}[2J\""),
    ] {
        let failure = failure(&format!("#EXTINF:6,\nclear.ts\n#EXT-X-KEY:{key}\n#EXTINF:6,\na.ts"));
        assert_eq!(failure.kind, kind, "{key}");
        assert!(failure.message.contains(says), "{key}: {}", failure.message);
    }
}

#[test]
fn an_identity_key_beside_drm_is_used() {
    let plan = plan(
        "#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"skd://x\",KEYFORMAT=\"com.apple.streamingkeydelivery\"\n\
         #EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:6,\na.ts",
    );
    assert_eq!(plan.unwrap().unit(0).unwrap().cipher.unwrap().key_url.path(), "/course/k");
}

#[test]
fn what_would_leave_a_hole_is_refused() {
    assert_eq!(failure("#EXTINF:6,\na.ts\n#EXT-X-GAP\n#EXTINF:6,\nb.ts").kind, FailureKind::SegmentMissing);
    assert_eq!(failure("").kind, FailureKind::PlaylistInvalid);
    let unannounced = failure("#EXTINF:6,\na.ts\nb.ts\n#EXTINF:6,\nc.ts");
    assert_eq!(unannounced.kind, FailureKind::PlaylistInvalid);
    assert!(unannounced.message.starts_with("line 5: a URI without EXTINF"), "{unannounced}");
    assert_eq!(failure("#EXT-X-I-FRAMES-ONLY\n#EXTINF:6,\na.ts").kind, FailureKind::PlaylistInvalid);
    let key = failure("#EXT-X-KEY:METHOD=AES-128,URI=\"file:///etc/passwd\"\n#EXTINF:6,\na.ts");
    assert_eq!(key.kind, FailureKind::UrlInvalid);
}

#[test]
fn live_is_told_from_a_finished_stream() {
    let base = Url::parse("https://h/i.m3u8").unwrap();
    let kind = |text: &str| match playlist::parse(text.as_bytes(), &base, &Limits::default()).unwrap() {
        Playlist::Media(media) => Plan::new(media, false).err().map(|failure| failure.kind),
        Playlist::Multivariant(_) => panic!("not a media playlist"),
    };
    let list = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\na.ts\n";
    assert_eq!(kind(list), Some(FailureKind::LiveUnsupported));
    assert_eq!(kind(&format!("{list}#EXT-X-ENDLIST\n")), None);
    assert_eq!(kind(&format!("{list}#EXT-X-PLAYLIST-TYPE:VOD\n")), None);
    assert_eq!(kind(&format!("{list}#EXT-X-PLAYLIST-TYPE:EVENT\n")), None);
}

/// Media playlists of two segments and more lines between and behind.
fn event(lines: &str) -> Plan {
    let text = format!("#EXTM3U\n#EXT-X-PLAYLIST-TYPE:EVENT\n#EXTINF:6,\na.ts\n#EXTINF:5.005,\nb.ts?x=1\n{lines}");
    match playlist::parse(text.as_bytes(), &Url::parse("https://h/i.m3u8").unwrap(), &Limits::default()).unwrap() {
        Playlist::Media(media) => Plan::new(media, false).unwrap(),
        Playlist::Multivariant(_) => panic!("not a media playlist"),
    }
}

#[test]
fn an_event_grows_and_stays_the_same_download() {
    let (short, long) = (event(""), event("#EXTINF:6,\nc.ts\n#EXT-X-ENDLIST\n"));
    assert!(!short.is_complete() && long.is_complete());
    assert_eq!(short.fingerprint("x"), long.fingerprint("x"));
    short.continued_by(&long, 0).unwrap();
    assert!(long.continued_by(&short, 0).is_err(), "it does not shrink");
    let other = event("#EXT-X-DISCONTINUITY\n#EXTINF:6,\nc.ts\n#EXT-X-ENDLIST\n");
    assert!(long.continued_by(&other, 1).is_err());
    assert!(long.continued_by(&event("#EXTINF:7,\nc.ts\n#EXT-X-ENDLIST\n"), 1).is_err());
    long.continued_by(&event("#EXTINF:6.0001,\nz/c.ts?token=2\n#EXT-X-ENDLIST\n"), 1).unwrap();
}

#[test]
fn gaps_are_counted_where_they_are_allowed() {
    let text = "#EXTM3U\n#EXTINF:6,\na.ts\n#EXT-X-GAP\n#EXTINF:4,\nb.ts\n#EXTINF:5,\nc.ts\n#EXT-X-ENDLIST\n";
    let parse = |text: &str, allow| match playlist::parse(
        text.as_bytes(),
        &Url::parse("https://h/i.m3u8").unwrap(),
        &Limits::default(),
    )
    .unwrap()
    {
        Playlist::Media(media) => Plan::new(media, allow),
        Playlist::Multivariant(_) => panic!("not a media playlist"),
    };
    assert_eq!(parse(text, false).unwrap_err().kind, FailureKind::SegmentMissing);
    let plan = parse(text, true).unwrap();
    assert_eq!((plan.len(), plan.gaps(), plan.duration_seconds()), (2, Gaps { segments: 1, seconds: 4.0 }, 11.0));
    assert_eq!(units(&plan)[1].sequence, 2);
    let nothing = "#EXTM3U\n#EXT-X-GAP\n#EXTINF:6,\na.ts\n#EXT-X-ENDLIST\n";
    assert_eq!(parse(nothing, true).unwrap_err().kind, FailureKind::PlaylistInvalid);
}

#[test]
fn the_fingerprint_forgets_signatures_and_hosts_and_nothing_else() {
    let text = |query: &str, name: &str, sequence: u32| {
        format!(
            "#EXT-X-MEDIA-SEQUENCE:{sequence}\n#EXT-X-KEY:METHOD=AES-128,URI=\"k?{query}\"\n#EXTINF:6,\n{name}.ts?{query}"
        )
    };
    let of = |base: &str, text: &str| plan_at(base, text).unwrap().fingerprint("");
    let base = "https://a.example.com/c/i.m3u8";
    let first = of(base, &text("sig=1", "x", 0));
    let rendition = plan_at(base, &text("sig=1", "x", 0)).unwrap().fingerprint("another rendition");
    assert_ne!(first, rendition);
    assert_eq!(first, of(base, &text("sig=2", "x", 0)));
    assert_eq!(first, of("https://b.example.com/c/i.m3u8?token=t", &text("sig=1", "x", 0)));
    assert_ne!(first, of("https://a.example.com/other/i.m3u8", &text("sig=1", "x", 0)));
    assert_ne!(first, of(base, &text("sig=1", "y", 0)));
    assert_ne!(first, of(base, &text("sig=1", "x", 0).replace("6,", "5.9,")));
    assert_ne!(first, of(base, &text("sig=1", "x", 1)));
    assert_ne!(first, of(base, &text("sig=1", "x", 0).replace("#EXTINF", "#EXT-X-BYTERANGE:16@0\n#EXTINF")));
    // Which segment is under which key counts, and so does an IV of zeros.
    let keyed =
        |before: &str, between: &str| of(base, &format!("{before}\n#EXTINF:6,\na.ts\n{between}\n#EXTINF:6,\nb.ts"));
    let (key, zeros) = ("#EXT-X-KEY:METHOD=AES-128,URI=\"k\"", "#EXT-X-KEY:METHOD=AES-128,URI=\"k\",IV=0x0");
    let all =
        [("", ""), (key, ""), ("", key), (key, "#EXT-X-KEY:METHOD=NONE"), (zeros, ""), (zeros, key), (key, zeros)];
    let fingerprints: std::collections::BTreeSet<_> = all.iter().map(|(a, b)| keyed(a, b)).collect();
    assert_eq!(fingerprints.len(), all.len());
}

#[test]
fn a_section_begins_with_the_segment_behind_a_discontinuity() {
    let plan = plan(
        "#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"i.mp4\"\n#EXTINF:6,\na.m4s\n#EXTINF:6,\nb.m4s\n\
         #EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"j.mp4\"\n#EXTINF:6,\nc.m4s\n#EXT-X-DISCONTINUITY\n#EXTINF:6,\nd.m4s",
    )
    .unwrap();
    let begins: Vec<usize> = (0..plan.len()).filter(|index| plan.begins_section(*index)).collect();
    // i.mp4, a, b, j.mp4, c, d: nothing can be behind the first segment.
    assert_eq!(begins, [4, 5]);
}
