use proptest::prelude::*;

use super::*;

/// Lines that lead deep into the parser, in any order.
fn line() -> impl Strategy<Value = String> {
    let text = "[ -~]{0,12}";
    prop_oneof![
        text.prop_map(String::from),
        (0.0..10.0f64).prop_map(|seconds| format!("#EXTINF:{seconds},t")),
        text.prop_map(|value| format!("#EXTINF:{value}")),
        "[a-z]{1,5}(\\.ts)?(\\?x=\\{\\$a\\})?",
        (any::<u64>(), proptest::option::of(any::<u64>())).prop_map(|(length, offset)| match offset {
            Some(offset) => format!("#EXT-X-BYTERANGE:{length}@{offset}"),
            None => format!("#EXT-X-BYTERANGE:{length}"),
        }),
        (0u32..5, "[A-Z]{2,4}=\"?[a-z,0-9]{0,5}\"?")
            .prop_map(|(n, more)| format!("#EXT-X-KEY:METHOD=AES-128,URI=\"k{n}\",IV=0x{n},{more}")),
        Just("#EXT-X-KEY:METHOD=NONE".to_owned()),
        (0u32..3).prop_map(|n| format!("#EXT-X-MAP:URI=\"i{n}\"")),
        any::<u64>().prop_map(|n| format!("#EXT-X-MEDIA-SEQUENCE:{n}")),
        Just("#EXT-X-DISCONTINUITY".to_owned()),
        Just("#EXT-X-GAP".to_owned()),
        Just("#EXT-X-ENDLIST".to_owned()),
        text.prop_map(|value| format!("#EXT-X-STREAM-INF:BANDWIDTH=1,{value}")),
        text.prop_map(|value| format!("#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",{value}")),
        "[a-z{}$]{0,8}".prop_map(|value| format!("#EXT-X-DEFINE:NAME=\"a\",VALUE=\"{value}\"")),
        (text, text).prop_map(|(name, value)| format!("#EXT-X-{name}:{value}")),
    ]
}

/// All that was read, for comparison.
fn shown(result: &Result<Playlist>) -> String {
    match result {
        Ok(playlist) => format!("{playlist:?}"),
        Err(failure) => failure.to_string(),
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes);
        let _ = read([b"#EXTM3U\n", &bytes[..]].concat());
    }

    #[test]
    fn any_lines_never_panic_and_line_ends_do_not_matter(lines in proptest::collection::vec(line(), 0..30)) {
        let with = |end: &str| read(format!("#EXTM3U{end}{}", lines.join(end)));
        let expected = with("\n");
        for end in ["\r\n", "\r"] {
            prop_assert_eq!(shown(&with(end)), shown(&expected));
        }
        let indented = lines.iter().map(|line| format!(" \t{line} ")).collect::<Vec<_>>().join("\n");
        prop_assert_eq!(shown(&read(format!("#EXTM3U\n{indented}\n\n"))), shown(&expected));
    }

    #[test]
    fn what_was_read_can_be_asked(lines in proptest::collection::vec(line(), 0..30)) {
        if let Ok(Playlist::Media(playlist)) = read(format!("#EXTM3U\n{}", lines.join("\n"))) {
            for (index, segment) in playlist.segments.iter().enumerate() {
                prop_assert!(playlist.resolve(segment.uri).is_ok(), "{:?}", segment.uri);
                prop_assert_eq!(segment.sequence, playlist.media_sequence + index as u64);
                prop_assert!((segment.key_set as usize) < playlist.key_sets.len());
                prop_assert!(segment.map.is_none_or(|map| (map as usize) < playlist.maps.len()));
                prop_assert!(segment.byte_range.is_none_or(|range| range.length > 0 && range.offset.checked_add(range.length).is_some()));
                prop_assert!(segment.duration_seconds.is_finite() && segment.duration_seconds >= 0.0);
            }
            for map in &playlist.maps {
                prop_assert!(playlist.resolve(&map.uri).is_ok());
            }
        }
    }

    #[test]
    fn uris_resolve_or_are_refused(uri in "[a-z:/\\\\?#@%. \\t\\[\\]0-9é]{1,12}") {
        if let Ok(Playlist::Media(playlist)) = read(format!("#EXTM3U\n#EXTINF:1,\n{uri}")) {
            for segment in playlist.segments.iter() {
                prop_assert!(playlist.resolve(segment.uri).is_ok(), "{uri:?}");
            }
        }
    }
}
