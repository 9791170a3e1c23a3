//! What m3u8-rs 6.0.1 gets wrong without saying so, one test for each kind. Here it must be right.

use super::*;

#[test]
fn method_none_is_not_lost() {
    let playlist = media("#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:1,\na\n#EXT-X-KEY:METHOD=NONE\n#EXTINF:1,\nb");
    assert_eq!(playlist.segments.iter().map(|s| playlist.keys(s.key_set).len()).collect::<Vec<_>>(), [1, 0]);
}

#[test]
fn all_keys_of_a_segment_are_there() {
    let playlist = media(
        "#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"d\",KEYFORMAT=\"x\"\n#EXTINF:1,\na",
    );
    assert_eq!(playlist.keys(playlist.segments.at(0).key_set).len(), 2);
}

#[test]
fn keys_and_maps_are_inherited() {
    let playlist = media("#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXT-X-MAP:URI=\"i\"\n#EXTINF:1,\na\n#EXTINF:1,\nb");
    assert_eq!((playlist.segments.at(1).key_set, playlist.segments.at(1).map), (1, Some(0)));
}

#[test]
fn a_comma_in_a_title_makes_no_segment() {
    assert_eq!(uris(&media("#EXTINF:1,Hello, world, again\na.ts\n")), ["a.ts"]);
}

#[test]
fn odd_numbers_make_no_segments() {
    let playlist = read(
        "#EXTM3U x-tvg-url=\"y\"\n#EXT-X-TARGETDURATION:6.5\n#EXT-X-VERSION:7.1\n#EXT-X-DISCONTINUITY-SEQUENCE: 7\n#EXTINF:1,\na.ts",
    );
    let Ok(Playlist::Media(playlist)) = playlist else { panic!("{playlist:?}") };
    assert_eq!(uris(&playlist), ["a.ts"]);
    assert_eq!((playlist.target_duration_seconds, playlist.discontinuity_sequence), (6.5, 7));
    assert!(!playlist.segments.at(0).discontinuity);
    assert_fails(try_media("#EXTINF:1,\n#EXT-X-BYTERANGE:100@\na.ts"), PlaylistInvalid, "\"100@\" is no byte range");
}

#[test]
fn a_last_line_without_end_is_what_it_is() {
    for last in ["# a comment", "#EXT-X-UNKNOWN", "#EXT-X-ENDLIST"] {
        assert_eq!(uris(&media(&format!("#EXTINF:1,\na.ts\n{last}"))), ["a.ts"]);
    }
    assert!(media("#EXTINF:1,\na.ts\n#EXT-X-ENDLIST").end_list);
}

#[test]
fn odd_attributes_drop_no_variant() {
    let playlist = multivariant(
        "#EXT-X-STREAM-INF:CODECS=\"\"\na\n#EXT-X-STREAM-INF:BANDWIDTH=1.5\nb\n#EXT-X-STREAM-INF:BANDWIDTH=1,RESOLUTION=\"1x2\"\nc\n\
         #EXT-X-STREAM-INF:BANDWIDTH=1,RESOLUTION=1X2\nd\n#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=x\ne\n",
    );
    let uris: Vec<_> = playlist.variants.iter().map(|variant| variant.uri.path()).collect();
    assert_eq!(uris, ["/a/a", "/a/b", "/a/c", "/a/d", "/a/e"]);
}

#[test]
fn a_stray_uri_replaces_no_variant() {
    let playlist = multivariant(
        "#EXT-X-STREAM-INF:BANDWIDTH=1\na\n#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=\"i\"\ni\n#EXT-X-STREAM-INF:BANDWIDTH=2\nb\n",
    );
    let uris: Vec<_> = playlist.variants.iter().map(|variant| variant.uri.path()).collect();
    assert_eq!(uris, ["/a/a", "/a/b"]);
}

#[test]
fn odd_attributes_drop_no_rendition() {
    let lists = [
        "FORCED=YES,NAME=\"n\"",
        "DEFAULT=\"YES\",NAME=\"n\"",
        "DEFAULT=yes,NAME=\"n\"",
        "LANGUAGE=\"\",NAME=\"n\"",
        "",
    ];
    for list in lists {
        let playlist = multivariant(&format!("#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",{list}\n"));
        assert_eq!(playlist.renditions.len(), 1, "{list}");
        assert_eq!(playlist.renditions[0].default, list.contains("DEFAULT"), "{list}");
        assert_eq!(playlist.renditions[0].language, None, "{list}");
    }
}

#[test]
fn nothing_ends_the_reading_early() {
    let text = b"#EXTM3U\n#EXTINF:1,\xff\na.ts\n#EXTINF:1,\nb.ts\n";
    assert!(matches!(read(text), Ok(Playlist::Media(playlist)) if playlist.segments.len() == 2));
    let text = "#EXTM3U\r#EXTINF:1,\ra.ts\r#EXTINF:1,\rb.ts\r#EXT-X-ENDLIST";
    assert!(matches!(read(text), Ok(Playlist::Media(playlist)) if playlist.segments.len() == 2 && playlist.end_list));
}

#[test]
fn a_map_with_an_unquoted_byte_range_is_read() {
    let playlist = media("#EXT-X-MAP:URI=\"i\",BYTERANGE=10@20\n#EXTINF:1,\na");
    assert_eq!(playlist.maps[0].byte_range, Some(ByteRange { offset: 20, length: 10 }));
}

#[test]
fn blanks_around_values_and_uris_are_not_part_of_them() {
    let playlist = media("#EXTINF: 6.25 ,\n  a.ts \t\n");
    assert_eq!((uris(&playlist), playlist.duration_seconds()), (vec!["a.ts"], 6.25));
}

#[test]
fn gaps_are_seen() {
    assert!(media("#EXT-X-GAP\n#EXTINF:1,\na").segments.at(0).gap);
}

#[test]
fn an_attribute_ends_with_its_line() {
    assert_fails(try_media("#EXT-X-KEY:METHOD\n#EXTINF:1,\nx=a.ts"), PlaylistInvalid, "line 2: ");
}

/// Both took m3u8-rs four times as long for twice the lines. Here the work is bounded by the limits:
/// a loop over what came before would not end within the patience of anybody.
#[test]
fn line_03_hostile_repetition_is_read_in_one_pass() {
    let variants = "#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=\"i\"\nx\n".repeat(200_000);
    assert!(multivariant(&variants).variants.is_empty());
    let keys: String =
        (0..100_000).map(|n| format!("#EXT-X-KEY:METHOD=AES-128,URI=\"k{n}\"\n#EXTINF:1,\na\n")).collect();
    assert_eq!(media(&keys).key_sets.len(), 100_001);
    let quotes = format!("#EXT-X-STREAM-INF:{}\n", "A=\"".repeat(20_000)).repeat(100);
    assert!(multivariant(&quotes).variants.is_empty());
}

#[test]
fn line_09_overflow_is_never_taken_for_zero() {
    assert_fails(try_media("#EXT-X-MEDIA-SEQUENCE:99999999999999999999\n#EXTINF:1,\na"), PlaylistInvalid, "line 2");
    assert_fails(try_media("#EXTINF:1,\n#EXT-X-BYTERANGE:99999999999999999999@0\na"), PlaylistInvalid, "line 3");
}
