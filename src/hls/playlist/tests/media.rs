use super::*;

/// Method, URI and last IV byte of the keys of every segment.
fn keys(playlist: &MediaPlaylist) -> Vec<Vec<(&str, &str, Option<u8>)>> {
    let key = |key: &'_ Key| key.iv.map(|iv| iv[15]);
    let of = |set| playlist.keys(set).iter().map(|k| (&*k.method, k.uri.as_deref().unwrap_or_default(), key(k)));
    playlist.segments.iter().map(|segment| of(segment.key_set).collect()).collect()
}

fn ranges(playlist: &MediaPlaylist) -> Vec<Option<(u64, u64)>> {
    playlist.segments.iter().map(|segment| segment.byte_range.map(|range| (range.offset, range.length))).collect()
}

#[test]
fn everything_in_one() {
    let playlist = media(
        "#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:6\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-MEDIA-SEQUENCE:10\n\
         #EXT-X-DISCONTINUITY-SEQUENCE:3\n#EXT-X-I-FRAMES-ONLY\n#EXT-X-INDEPENDENT-SEGMENTS\n#EXTINF:6,one\na.ts\n\
         #EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2020-01-01T00:00:00Z\n#EXT-X-DATERANGE:ID=\"x\"\n#EXTINF:5.5,\n\
         #EXT-X-GAP\nb.ts\n#EXTINF:1,\nc.ts\n#EXT-X-ENDLIST\n",
    );
    assert_eq!(uris(&playlist), ["a.ts", "b.ts", "c.ts"]);
    assert_eq!(playlist.target_duration_seconds, 6.0);
    assert_eq!(playlist.playlist_type, Some(PlaylistType::Vod));
    assert_eq!((playlist.media_sequence, playlist.discontinuity_sequence), (10, 3));
    assert!(playlist.end_list && playlist.i_frames_only);
    assert_eq!(playlist.duration_seconds(), 12.5);
    let flags: Vec<_> = playlist.segments.iter().map(|s| (s.sequence, s.discontinuity, s.gap)).collect();
    assert_eq!(flags, [(10, false, false), (11, true, true), (12, false, false)]);
    assert_eq!(playlist.diagnostics, []);
    assert_eq!(playlist.resolve("c.ts").unwrap().as_str(), "https://h.example/a/c.ts");
}

#[test]
fn an_empty_list_is_still_a_media_playlist() {
    let playlist = media("#EXT-X-TARGETDURATION:6\n#EXT-X-ENDLIST");
    assert!(playlist.segments.is_empty() && playlist.end_list);
    assert_eq!((playlist.key_sets.len(), playlist.keys(0)), (1, &[][..]));
}

#[test]
fn keys_stay_in_force_until_none() {
    let playlist = media(
        "#EXTINF:1,\na\n#EXT-X-KEY:METHOD=AES-128,URI=\"k1\"\n#EXTINF:1,\nb\n#EXTINF:1,\nc\n\
         #EXT-X-KEY:METHOD=AES-128,URI=\"k2\",IV=0x7\n#EXTINF:1,\nd\n#EXT-X-KEY:METHOD=NONE\n#EXTINF:1,\ne\n",
    );
    let k1 = ("AES-128", "https://h.example/a/k1", None);
    let k2 = ("AES-128", "https://h.example/a/k2", Some(7));
    assert_eq!(keys(&playlist), [vec![], vec![k1], vec![k1], vec![k2], vec![]]);
    assert_eq!(playlist.segments.at(4).key_set, 0);
}

#[test]
fn keys_of_several_formats_are_in_force_together() {
    let playlist = media(
        "#EXT-X-KEY:METHOD=AES-128,URI=\"k1\"\n\
         #EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"skd://x\",KEYFORMAT=\"com.apple.streamingkeydelivery\"\n#EXTINF:1,\na\n\
         #EXT-X-KEY:METHOD=AES-128,URI=\"k2\",KEYFORMAT=\"identity\"\n#EXTINF:1,\nb\n",
    );
    let fairplay = ("SAMPLE-AES", "skd://x", None);
    assert_eq!(
        keys(&playlist),
        [
            vec![("AES-128", "https://h.example/a/k1", None), fairplay],
            vec![("AES-128", "https://h.example/a/k2", None), fairplay]
        ]
    );
    assert_eq!(&*playlist.key_sets[1][0].key_format, "identity");
}

#[test]
fn identity_is_one_format_however_it_is_written() {
    let playlist = media(
        "#EXT-X-KEY:METHOD=AES-128,URI=\"k1\",KEYFORMAT=\"Identity\"\n#EXTINF:1,\na\n#EXT-X-KEY:METHOD=AES-128,URI=\"k2\"\n#EXTINF:1,\nb\n",
    );
    let key = |uri| vec![("AES-128", uri, None)];
    assert_eq!(keys(&playlist), [key("https://h.example/a/k1"), key("https://h.example/a/k2")]);
    // Its IV depends on the number, too.
    let doubt = "#EXT-X-KEY:METHOD=AES-128,URI=\"k\",KEYFORMAT=\"IDENTITY\"\n#EXT-X-MEDIA-SEQUENCE:x\n#EXTINF:1,\na";
    assert_fails(try_media(doubt), PlaylistInvalid, "an IV depends on it");
}

#[test]
fn a_repeated_key_is_one_set() {
    let segment = "#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:1,\na\n";
    let playlist = media(&segment.repeat(100));
    assert_eq!(playlist.key_sets.len(), 2);
    assert!(playlist.segments.iter().all(|segment| segment.key_set == 1));
}

#[test]
fn methods_are_kept_as_written() {
    for method in ["SAMPLE-AES", "SAMPLE-AES-CTR", "AES-256", "none", "WHAT"] {
        let playlist = media(&format!("#EXT-X-KEY:METHOD={method},URI=\"k\"\n#EXTINF:1,\na"));
        assert_eq!(keys(&playlist)[0][0].0, method);
    }
}

#[test]
fn uris_of_keys_are_absolute_or_of_another_scheme() {
    let uri = |uri: &str| {
        let playlist = media(&format!("#EXT-X-KEY:METHOD=AES-128,URI=\"{uri}\"\n#EXTINF:1,\na"));
        playlist.key_sets[1][0].uri.clone().unwrap().to_string()
    };
    assert_eq!(uri("/k?t=1"), "https://h.example/k?t=1");
    assert_eq!(uri("//o.example/k"), "https://o.example/k");
    assert_eq!(uri("HTTP://O.example"), "http://o.example/");
    assert_eq!(uri("skd://ID"), "skd://ID");
    assert_eq!(uri("data:text/plain;base64,AAAA"), "data:text/plain;base64,AAAA");
    assert_eq!(uri("urn:uuid:X"), "urn:uuid:X");
}

#[test]
fn a_key_that_cannot_be_read_is_an_error() {
    let bad = [
        "#EXT-X-KEY",
        "#EXT-X-KEY:",
        "#EXT-X-KEY:x",
        "#EXT-X-KEY:METHOD=",
        "#EXT-X-KEY:URI=\"k\"",
        "#EXT-X-KEY:METHOD=AES-128",
        "#EXT-X-KEY METHOD=AES-128",
        "#EXT-X-KEY:METHOD=AES-128,URI=\"\"",
        "#EXT-X-KEY:METHOD=AES-128,URI=\"k",
        "#EXT-X-KEY:METHOD=AES-128,URI=\"k\"x",
        "#EXT-X-KEY:METHOD=AES-128,URI=\"k\",URI=\"l\"",
        "#EXT-X-KEY:METHOD=AES-128,URI=\"k\",IV=1234",
        "#EXT-X-KEY:METHOD=AES-128,URI=\"k\",IV=0xNO",
        "#EXT-X-KEY:METHOD=AES-128,URI=\"k\",IV=0x000000000000000000000000000000000",
        "#EXT-X-KEY:METHOD=AES-128,URI=\"k\",IV=",
    ];
    for line in bad {
        assert_fails(try_media(&format!("#EXTINF:1,\na\n{line}\n")), PlaylistInvalid, "line 4: ");
    }
    let line = "#EXT-X-KEY:METHOD=AES-128,URI=\"http://[\"\n";
    assert_fails(try_media(&format!("#EXTINF:1,\na\n{line}\n")), UrlInvalid, "line 4: ");
}

#[test]
fn odd_quotes_in_a_key_are_read() {
    let playlist = media("#EXT-X-KEY:METHOD=\"AES-128\",URI=k,IV=\"0x1\",KEYFORMAT=\"\"\n#EXTINF:1,\na");
    assert_eq!(keys(&playlist), [[("AES-128", "https://h.example/a/k", Some(1))]]);
    assert_eq!(&*playlist.key_sets[1][0].key_format, "identity");
    assert_eq!(playlist.diagnostics.len(), 3);
}

#[test]
fn a_map_is_under_the_keys_that_stand_before_it() {
    let playlist = media(
        "#EXT-X-MEDIA-SEQUENCE:5\n#EXT-X-MAP:URI=\"i1\"\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:1,\na\n\
         #EXT-X-MAP:URI=\"i2\",BYTERANGE=\"10@20\"\n#EXTINF:1,\nb\n#EXTINF:1,\nc\n",
    );
    assert_eq!(playlist.segments.iter().map(|segment| segment.map).collect::<Vec<_>>(), [Some(0), Some(1), Some(1)]);
    let [first, second] = &playlist.maps[..] else { panic!("{:?}", playlist.maps) };
    assert_eq!((&*first.uri, first.byte_range, first.key_set, first.sequence), ("i1", None, 0, 5));
    let range = Some(ByteRange { offset: 20, length: 10 });
    assert_eq!((&*second.uri, second.byte_range, second.key_set, second.sequence), ("i2", range, 1, 6));
}

#[test]
fn a_repeated_map_is_one_map() {
    let playlist = media(&"#EXT-X-MAP:URI=\"i\"\n#EXTINF:1,\na\n".repeat(10));
    assert_eq!(playlist.maps.len(), 1);
    assert!(playlist.segments.iter().all(|segment| segment.map == Some(0)));
}

#[test]
fn a_map_that_cannot_be_read_is_an_error() {
    for list in
        ["", "x", "URI=\"\"", "URI=\"i", "BYTERANGE=\"1@0\"", "URI=\"i\",BYTERANGE=\"x\"", "URI=\"i\",BYTERANGE=0@0"]
    {
        assert_fails(try_media(&format!("#EXT-X-MAP:{list}\n#EXTINF:1,\na")), PlaylistInvalid, "line 2: ");
    }
}

#[test]
fn byte_ranges_with_implicit_offsets() {
    let playlist = media(
        "#EXT-X-BYTERANGE:10@100\n#EXTINF:1,\na\n#EXTINF:1,\n#EXT-X-BYTERANGE:5\na\n#EXTINF:1,\n#EXT-X-BYTERANGE: 7 @ 0 \nb\n\
         #EXTINF:1,\n#EXT-X-BYTERANGE:1\nb\n#EXTINF:1,\nc\n",
    );
    assert_eq!(ranges(&playlist), [Some((100, 10)), Some((110, 5)), Some((0, 7)), Some((7, 1)), None]);
}

#[test]
fn an_implicit_offset_without_its_range_before_it_is_an_error() {
    let before = ["", "#EXTINF:1,\n#EXT-X-BYTERANGE:1@0\nother\n", "#EXTINF:1,\na\n"];
    for before in before {
        let result = try_media(&format!("{before}#EXTINF:1,\n#EXT-X-BYTERANGE:5\na"));
        assert_fails(result, PlaylistInvalid, "without an offset");
    }
}

#[test]
fn line_09_wrong_byte_ranges_are_errors() {
    for range in
        ["", "x", "-1", "0", "0@5", "1@", "@1", "1@-1", "1@x", "1.5@0", "+1@0", "1@1@1", "99999999999999999999"]
    {
        assert_fails(try_media(&format!("#EXTINF:1,\n#EXT-X-BYTERANGE:{range}\na")), PlaylistInvalid, "line 3: ");
    }
    let overflow = format!("#EXTINF:1,\n#EXT-X-BYTERANGE:1@{}\na", u64::MAX);
    assert_fails(try_media(&overflow), PlaylistInvalid, "line 4: a byte range that overflows");
    let implicit = format!("#EXTINF:1,\n#EXT-X-BYTERANGE:1@{}\na\n#EXTINF:1,\n#EXT-X-BYTERANGE:1\na", u64::MAX - 1);
    assert_fails(try_media(&implicit), PlaylistInvalid, "line 7: a byte range that overflows");
    let two = "#EXTINF:1,\n#EXT-X-BYTERANGE:1@0\n#EXT-X-BYTERANGE:2@0\na";
    assert_fails(try_media(two), PlaylistInvalid, "two different EXT-X-BYTERANGE");
}

#[test]
fn durations_are_read_leniently() {
    let cases = [
        ("6", 6.0, true),
        ("6.006,title, with, commas", 6.006, true),
        (" 6.5 , x", 6.5, true),
        ("0.000,", 0.0, true),
        ("6.5 x,", 6.5, false),
        ("-1,", 0.0, false),
        ("nan,", 0.0, false),
        ("inf,", 0.0, false),
        ("1e300,", 1.0, false),
        ("", 0.0, false),
        ("-1 tvg-id=\"x\",y", 0.0, false),
    ];
    for (value, expected, clean) in cases {
        let playlist = media(&format!("#EXTINF:{value}\na"));
        assert_eq!(playlist.segments.at(0).duration_seconds, expected, "{value}");
        assert_eq!(playlist.diagnostics.is_empty(), clean, "{value}: {:?}", playlist.diagnostics);
    }
}

#[test]
fn a_uri_needs_extinf_or_byterange() {
    let playlist =
        media("x.ts\n#EXTINF:1,\na\nb\n#EXT-X-BYTERANGE:1@0\nc\n#EXT-X-DISCONTINUITY\n#EXT-X-GAP\nd\n#EXTINF:1,\ne");
    assert_eq!(uris(&playlist), ["a", "c", "e"]);
    assert_eq!(playlist.segments.at(1).duration_seconds, 0.0);
    assert!(playlist.segments.at(2).discontinuity && !playlist.segments.at(2).gap);
    assert_eq!(playlist.diagnostics.iter().map(|d| d.line).collect::<Vec<_>>(), [2, 5, 7, 10]);
}

#[test]
fn tags_after_extinf_belong_to_the_coming_uri() {
    let playlist = media(
        "#EXTINF:1,\na\n#EXTINF:2,\n#EXT-X-DISCONTINUITY\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXT-X-MAP:URI=\"i\"\n\
         # a comment\n\n#EXT-X-UNKNOWN:x\nb\n",
    );
    let segment = &playlist.segments.at(1);
    assert_eq!(
        (segment.duration_seconds, segment.discontinuity, segment.key_set, segment.map),
        (2.0, true, 1, Some(0))
    );
    assert_eq!(playlist.segments.at(0).key_set, 0);
}

#[test]
fn what_has_no_uri_is_noted() {
    let playlist = media("#EXTINF:1,\n#EXTINF:2,\na\n#EXTINF:3,\n");
    assert_eq!((uris(&playlist), playlist.duration_seconds()), (vec!["a"], 2.0));
    assert_eq!(playlist.diagnostics.len(), 2);
}

#[test]
fn a_media_sequence_that_overflows_is_an_error() {
    let result = try_media("#EXT-X-MEDIA-SEQUENCE:18446744073709551616\n#EXTINF:1,\na");
    assert_fails(result, PlaylistInvalid, "line 2: EXT-X-MEDIA-SEQUENCE overflows");
    let result = try_media(&format!("#EXT-X-MEDIA-SEQUENCE:{}\n#EXTINF:1,\na", u64::MAX));
    assert_fails(result, PlaylistInvalid, "line 2: EXT-X-MEDIA-SEQUENCE: the numbers of the segments overflow");
    let playlist = media(&format!("#EXT-X-MEDIA-SEQUENCE: {}\n#EXTINF:1,\na", u64::MAX - 1));
    assert_eq!(playlist.segments.at(0).sequence, u64::MAX - 1);
}

#[test]
fn an_unreadable_media_sequence_is_an_error_only_when_an_iv_depends_on_it() {
    for value in ["", "x", "-1", "1.5", "+1"] {
        let playlist = media(&format!("#EXT-X-MEDIA-SEQUENCE:{value}\n#EXTINF:1,\na"));
        assert_eq!((playlist.segments.at(0).sequence, playlist.diagnostics[0].line), (0, 2), "{value}");
        let key = "#EXT-X-KEY:METHOD=AES-128,URI=\"k\"";
        let result = try_media(&format!("{key}\n#EXT-X-MEDIA-SEQUENCE:{value}\n#EXTINF:1,\na"));
        assert_fails(result, PlaylistInvalid, "line 3: EXT-X-MEDIA-SEQUENCE is no number");
    }
}

#[test]
fn a_late_media_sequence_is_an_error_only_when_an_iv_depends_on_it() {
    let late = "#EXTINF:1,\na\n#EXT-X-MEDIA-SEQUENCE:5\n#EXTINF:1,\nb\n";
    let playlist = media(late);
    assert_eq!(playlist.segments.iter().map(|segment| segment.sequence).collect::<Vec<_>>(), [5, 6]);
    assert_eq!(playlist.diagnostics[0].line, 4);
    assert!(try_media(&format!("#EXT-X-KEY:METHOD=AES-128,URI=\"k\",IV=0x1\n{late}")).is_ok());
    let result = try_media(&format!("#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n{late}"));
    assert_fails(result, PlaylistInvalid, "line 5: EXT-X-MEDIA-SEQUENCE is no number, not the first");
}

#[test]
fn what_nothing_depends_on_is_noted() {
    let playlist = media(
        "#EXT-X-TARGETDURATION:x\n#EXT-X-DISCONTINUITY-SEQUENCE:-1\n#EXT-X-PLAYLIST-TYPE:LIVE\n#EXTINF:1,\na\n#EXTM3U",
    );
    assert_eq!(playlist.diagnostics.iter().map(|d| d.line).collect::<Vec<_>>(), [2, 3, 4, 7]);
    assert_eq!(media("#EXT-X-PLAYLIST-TYPE:event\n").playlist_type, Some(PlaylistType::Event));
}

#[test]
fn low_latency_parts_are_not_segments() {
    let playlist = media(
        "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES\n#EXT-X-PART-INF:PART-TARGET=0.3\n#EXT-X-PART:DURATION=0.3,URI=\"p\"\n\
         #EXTINF:1,\na\n#EXT-X-PART:DURATION=0.3,URI=\"q\"\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"r\"\n#EXT-X-PREFETCH:s\n",
    );
    assert_eq!(uris(&playlist), ["a"]);
}

#[test]
fn a_delta_update_is_refused() {
    let result = try_media("#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n#EXTINF:1,\na");
    assert_fails(result, PlaylistInvalid, "line 2: EXT-X-SKIP");
}

#[test]
fn discontinuities_are_counted_from_the_sequence() {
    let joint = "#EXT-X-DISCONTINUITY\n";
    let lines = format!(
        "#EXT-X-DISCONTINUITY-SEQUENCE:5\n#EXTINF:1,\na\n{joint}{joint}#EXTINF:1,\nb\n#EXTINF:1,\nc\n{joint}#EXTINF:1,\nd"
    );
    let playlist = media(&lines);
    let numbers: Vec<_> = playlist.segments.iter().map(|segment| segment.discontinuity_sequence).collect();
    assert_eq!(numbers, [5, 6, 6, 7]);
    let late = media("#EXTINF:1,\na\n#EXT-X-DISCONTINUITY-SEQUENCE:5");
    assert_eq!((late.segments.at(0).discontinuity_sequence, late.diagnostics[0].line), (5, 4));
}

#[test]
fn bit_rates_are_those_of_whole_segments() {
    let playlist = media(
        "#EXTINF:1,\na\n#EXT-X-BITRATE:1\n#EXT-X-BITRATE:800\n#EXTINF:1,\nb\n#EXTINF:1,\nc\n#EXT-X-BYTERANGE:5@0\n#EXTINF:1,\nd\n\
         #EXT-X-BITRATE:fast\n#EXTINF:1,\ne\n#EXT-X-BITRATE: 900\n#EXTINF:1,\nf\n",
    );
    let rates: Vec<_> = playlist.segments.iter().map(|segment| segment.bitrate_bits_per_second).collect();
    assert_eq!(rates, [None, Some(800_000), Some(800_000), None, Some(800_000), Some(900_000)]);
    assert_eq!(playlist.diagnostics[0].message, "EXT-X-BITRATE: \"fast\" is no number: left out");
}

#[test]
fn a_map_under_a_key_without_iv_is_noted() {
    let map =
        |iv: &str| media(&format!("#EXT-X-KEY:METHOD=AES-128,URI=\"k\"{iv}\n#EXT-X-MAP:URI=\"i\"\n#EXTINF:1,\na"));
    assert_eq!(map("").diagnostics[0].line, 3);
    assert!(map(",IV=0x1").diagnostics.is_empty());
}
