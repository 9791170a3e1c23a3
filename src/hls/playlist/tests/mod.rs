//! One test per rule. What is special to other parsers' mistakes is in `quirks`, what holds for all
//! inputs in `properties`.

mod media;
mod multivariant;
mod properties;
mod quirks;

use url::Url;

use super::*;

pub fn base() -> Url {
    Url::parse("https://h.example/a/b.m3u8?sig=1").unwrap()
}

pub fn read(text: impl AsRef<[u8]>) -> Result<Playlist> {
    parse(text.as_ref(), &base(), &Limits::default())
}

/// A media playlist of these lines after EXTM3U.
pub fn try_media(lines: &str) -> Result<MediaPlaylist> {
    match read(format!("#EXTM3U\n{lines}"))? {
        Playlist::Media(playlist) => Ok(playlist),
        Playlist::Multivariant(_) => panic!("a multivariant playlist"),
    }
}

pub fn media(lines: &str) -> MediaPlaylist {
    try_media(lines).unwrap_or_else(|failure| panic!("{failure}\n{lines}"))
}

/// A multivariant playlist of these lines after EXTM3U.
pub fn multivariant(lines: &str) -> MultivariantPlaylist {
    match read(format!("#EXTM3U\n{lines}")).unwrap_or_else(|failure| panic!("{failure}\n{lines}")) {
        Playlist::Multivariant(playlist) => playlist,
        Playlist::Media(_) => panic!("a media playlist"),
    }
}

pub fn uris(playlist: &MediaPlaylist) -> Vec<&str> {
    playlist.segments.iter().map(|segment| segment.uri).collect()
}

/// Asserts the kind of the failure and that its message has this in it.
#[track_caller]
pub fn assert_fails<T>(result: Result<T>, kind: FailureKind, message: &str) {
    let failure = result.err().unwrap_or_else(|| panic!("no failure, expected {message:?}"));
    assert_eq!(failure.kind, kind, "{failure}");
    assert!(failure.message.contains(message), "{:?} has no {message:?}", failure.message);
}

use FailureKind::{PlaylistInvalid, PlaylistTooLarge, UrlInvalid};

#[test]
fn what_is_no_playlist_is_told_by_how_it_begins() {
    assert_fails(
        read("<!DOCTYPE html>\n<html>"),
        PlaylistInvalid,
        r#"not a playlist: the answer begins with "<!DOCTYPE"#,
    );
    assert_fails(read(format!("<html>{}", "x".repeat(100_000))), PlaylistInvalid, "not a playlist");
    assert_fails(read("{\"error\":1}"), PlaylistInvalid, "begins with");
    assert_fails(read(""), PlaylistInvalid, "empty");
    assert_fails(read(" \r\n\r\n"), PlaylistInvalid, "empty");
    assert_fails(read("#EXTINF:1,\na.ts"), PlaylistInvalid, "not with #EXTM3U");
}

#[test]
fn extm3u_alone_or_with_bare_uris_is_no_hls() {
    assert_fails(read("#EXTM3U"), PlaylistInvalid, "not an HLS playlist");
    assert_fails(read("#EXTM3U\n#EXT-X-VERSION:3\na.mp3\nb.mp3"), PlaylistInvalid, "not an HLS playlist");
}

#[test]
fn a_byte_order_mark_and_blank_lines_may_come_first() {
    let playlist = read("\u{feff}\r\n  \n#EXTM3U\n#EXTINF:1,\na.ts").unwrap();
    assert!(matches!(playlist, Playlist::Media(playlist) if uris(&playlist) == ["a.ts"]));
}

/// What players take, in one list: none of it changes what is read.
#[test]
fn line_08_the_same_playlist_however_it_is_written() {
    let plain = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:5\n#EXT-X-PLAYLIST-TYPE:VOD\n\
                 #EXT-X-KEY:METHOD=AES-128,URI=\"k,1=2\",IV=0xA\n#EXT-X-MAP:URI=\"i\",BYTERANGE=\"8@0\"\n#EXTINF:6.5,\n\
                 #EXT-X-BYTERANGE:16@8\na.mp4\n#EXTINF:6,\nb.mp4\n#EXT-X-ENDLIST\n";
    let shown = |text: &str| match read(text).unwrap_or_else(|failure| panic!("{failure}\n{text}")) {
        Playlist::Media(playlist) => format!("{:?}", MediaPlaylist { diagnostics: Vec::new(), ..playlist }),
        Playlist::Multivariant(_) => panic!("a multivariant playlist"),
    };
    let expected = shown(plain);
    for (what, with) in [
        ("\n", "\r\n"),
        ("\n", "\r"),
        ("\n", "\n\n \t\n"),
        ("\n", " \n\t"),
        ("#EXT-X-ENDLIST\n", "#EXT-X-ENDLIST"),
        ("#EXTM3U", "\u{feff}#EXTM3U"),
        ("#EXTM3U", "#EXTM3U url-tvg=\"x\""),
        ("DURATION:6", "DURATION:6.0"),
        ("VERSION:7", "VERSION:7.1"),
        ("VERSION:7", "VERSION:99"),
        ("6.5,", "6.5,A title, with commas, and = \"quotes"),
        ("6.5,", "6.500"),
        ("6.5,", " 6.5 , "),
        ("METHOD=AES-128,URI=\"k,1=2\",IV=0xA", " METHOD = AES-128 , IV=0x0a,KEYFORMAT=\"identity\",URI = \"k,1=2\" ,"),
        ("IV=0xA", "IV=0X0000000000000000000000000000000A,KEYFORMATVERSIONS=\"1\",X-NEW=1"),
        ("\"8@0\"", "8@0"),
        ("TYPE:VOD", "TYPE:vod"),
        ("16@8", " 16 @ 8 "),
        ("#EXTINF:6,", "#EXT-X-NEW:x=\"\n# a comment\n#EXTINF:6,\n#EXT-X-PROGRAM-DATE-TIME:2020-01-01T00:00:00Z"),
        ("b.mp4", "b.mp4 "),
        ("EXT-X-MEDIA-SEQUENCE:5", "EXT-X-MEDIA-SEQUENCE: 005"),
    ] {
        let text = plain.replace(what, with);
        assert_ne!(text, plain, "{what:?}");
        assert_eq!(shown(&text), expected, "{with:?} for {what:?}");
    }
}

#[test]
fn line_08_utf_16_is_refused_by_name() {
    let text = "#EXTM3U\n#EXTINF:1,\na.ts\n";
    let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    for bytes in
        [little.clone(), big.clone(), [&[0xff, 0xfe], &little[..]].concat(), [&[0xfe, 0xff], &big[..]].concat()]
    {
        assert_fails(read(bytes), PlaylistInvalid, "UTF-16");
    }
}

#[test]
fn line_08_wrong_utf_8_matters_only_where_it_must_be_exact() {
    let playlist = read(b"#EXTM3U\n# \xff\n#EXT-X-FOO:\xff\n#EXTINF:1,\xff\na.ts").unwrap();
    assert!(matches!(playlist, Playlist::Media(playlist) if uris(&playlist) == ["a.ts"]));
    let playlist =
        read(b"#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"\xff\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\nx")
            .unwrap();
    assert!(matches!(playlist, Playlist::Multivariant(playlist) if &*playlist.renditions[0].name == "\u{fffd}"));
    assert_fails(read(b"#EXTM3U\n#EXTINF:1,\n\xff.ts"), PlaylistInvalid, "line 3: not UTF-8");
    assert_fails(read(b"#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"\xff\""), PlaylistInvalid, "line 2: not UTF-8");
}

#[test]
fn line_05_both_kinds_at_once_are_refused() {
    let (segment, variant) = ("#EXTINF:1,\na.ts\n", "#EXT-X-STREAM-INF:BANDWIDTH=1\nx.m3u8\n");
    let mixed = read(format!("#EXTM3U\n{segment}{variant}"));
    assert_fails(mixed, PlaylistInvalid, "line 4: mixed playlist: it lists segments (line 2) and variants (line 4)");
    assert_fails(read(format!("#EXTM3U\n{variant}{segment}")), PlaylistInvalid, "mixed playlist");
}

#[test]
fn a_stray_tag_does_not_change_the_kind() {
    let playlist = multivariant("#EXT-X-TARGETDURATION:6\n#EXT-X-STREAM-INF:BANDWIDTH=1\nx.m3u8\n#EXT-X-ENDLIST");
    assert_eq!(playlist.variants.len(), 1);
    assert_eq!(playlist.diagnostics[0].line, 2);
    let playlist = media("#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"a\"\n#EXTINF:1,\na.ts");
    assert_eq!(playlist.segments.len(), 1);
    assert_eq!(playlist.diagnostics[0].line, 2);
}

#[test]
fn line_01_limits_are_kept() {
    let limits = Limits { max_bytes: 200, max_segments: 2, max_line_bytes: 50, ..Limits::default() };
    let read = |text: &str| parse(text.as_bytes(), &base(), &limits);
    assert!(read("#EXTM3U\n#EXTINF:1,\na\n#EXTINF:1,\nb").is_ok());
    let third = read("#EXTM3U\n#EXTINF:1,\na\n#EXTINF:1,\nb\n#EXTINF:1,\nc");
    assert_fails(third, PlaylistTooLarge, "line 7: more than 2 segments");
    assert_fails(read(&format!("#EXTM3U\n#{}", "x".repeat(50))), PlaylistTooLarge, "line 2: the line has 51 bytes");
    assert_fails(read(&"\n".repeat(201)), PlaylistTooLarge, "201 bytes");
}

/// Each limit that is no setting, at it and one over.
#[test]
fn line_03_no_kind_of_thing_is_without_limit() {
    use super::limits::*;
    let session = "#EXT-X-SESSION-KEY:METHOD=AES-128,URI=\"k\"\n";
    let variant = "#EXT-X-STREAM-INF:BANDWIDTH=1\nx\n";
    let rendition = "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"a\"\n";
    let variables =
        |count: usize| (0..count).map(|n| format!("#EXT-X-DEFINE:NAME=\"{n}\",VALUE=\"\"\n")).collect::<String>();
    let formats = |count: usize| {
        let key = |n| format!("#EXT-X-KEY:METHOD=X,URI=\"k\",KEYFORMAT=\"{n}\"\n");
        (0..count).map(key).collect::<String>() + "#EXTINF:1,\na\n"
    };
    // Two in force at each segment.
    let keys = |count: usize| {
        let change = |n| format!("#EXT-X-KEY:METHOD=X,URI=\"{n}\"\n#EXTINF:1,\na\n");
        "#EXT-X-KEY:METHOD=X,KEYFORMAT=\"f\"\n".to_owned() + &(0..count.div_ceil(2)).map(change).collect::<String>()
    };
    let others = |count: usize| {
        format!("#EXT-X-STREAM-INF:BANDWIDTH=1{}\nx\n", (0..count).map(|n| format!(",X{n}=1")).collect::<String>())
    };
    let defaults = Limits::default();
    type Text<'t> = &'t dyn Fn(usize) -> String;
    let cases: &[(&str, usize, Text)] = &[
        ("variables", MAX_VARIABLES, &|count| variables(count) + "#EXTINF:1,\na\n"),
        ("key formats at once", MAX_KEY_FORMATS, &formats),
        ("keys", defaults.max_keys, &keys),
        ("variants", defaults.max_variants, &|count| variant.repeat(count)),
        ("unknown attributes", MAX_OTHER_ATTRIBUTES, &others),
        ("renditions", defaults.max_variants, &|count| rendition.repeat(count)),
        ("session keys", MAX_SESSION_KEYS, &|count| session.repeat(count)),
    ];
    for (what, limit, text) in cases {
        let read = |count| read(format!("#EXTM3U\n{}", text(count)));
        assert!(read(*limit).is_ok(), "{what}");
        assert_fails(read(limit + 1), PlaylistTooLarge, &format!("more than {limit} {what}"));
    }
    let limits = Limits { max_segments: 3, ..Limits::default() };
    let maps = |count| (0..count).map(|n| format!("#EXT-X-MAP:URI=\"{n}\"\n")).collect::<String>();
    assert!(parse(format!("#EXTM3U\n{}", maps(3)).as_bytes(), &base(), &limits).is_ok());
    let over = parse(format!("#EXTM3U\n{}", maps(4)).as_bytes(), &base(), &limits);
    assert_fails(over, PlaylistTooLarge, "line 5: more than 3 initialization sections");
}

#[test]
fn a_base_that_may_not_be_asked_is_refused() {
    let base = Url::parse("file:///etc/b.m3u8").unwrap();
    let result = parse(b"#EXTM3U\n#EXTINF:1,\na.ts", &base, &Limits::default());
    assert_fails(result, UrlInvalid, "the URL of the playlist");
}

#[test]
fn diagnostics_are_capped_and_in_order() {
    let playlist = media(&format!("{}#EXTINF:1,\na.ts", "stray.ts\n".repeat(1000)));
    assert_eq!(playlist.diagnostics.len(), 101);
    assert_eq!(playlist.diagnostics[0].line, 2);
    assert_eq!(playlist.diagnostics[100].message, "900 more like these");
}

#[test]
fn variables_reach_uris_and_attributes() {
    let playlist = media(
        "#EXT-X-DEFINE:NAME=\"p\",VALUE=\"x/y\"\n#EXT-X-DEFINE:QUERYPARAM=\"sig\"\n#EXT-X-DEFINE:NAME=\"iv\",VALUE=\"0xF\"\n\
         #EXT-X-KEY:METHOD=AES-128,URI=\"{$p}/k?{$sig}\",IV={$iv}\n#EXT-X-MAP:URI=\"{$p}/init\"\n#EXTINF:1,\n{$p}/a.ts",
    );
    assert_eq!(uris(&playlist), ["x/y/a.ts"]);
    assert_eq!(&*playlist.maps[0].uri, "x/y/init");
    let key = &playlist.keys(playlist.segments.at(0).key_set)[0];
    assert_eq!(key.uri.as_deref(), Some("https://h.example/a/x/y/k?1"));
    assert_eq!(key.iv.unwrap()[15], 15);
}

#[test]
fn variables_go_from_the_multivariant_playlist_to_the_media_playlist() {
    let parent = multivariant("#EXT-X-DEFINE:NAME=\"t\",VALUE=\"1\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{$t}.m3u8");
    assert_eq!(parent.variants[0].uri.path(), "/a/1.m3u8");
    let text = b"#EXTM3U\n#EXT-X-DEFINE:IMPORT=\"t\"\n#EXTINF:1,\n{$t}.ts";
    let child = parse_with_variables(text, &base(), &Limits::default(), &parent.variables).unwrap();
    assert!(matches!(child, Playlist::Media(child) if uris(&child) == ["1.ts"]));
    assert_fails(read(text), PlaylistInvalid, "line 2: the multivariant playlist does not define \"t\"");
}

#[test]
fn an_undefined_variable_is_refused_and_expansion_is_bounded() {
    assert_fails(try_media("#EXTINF:1,\n{$x}.ts"), PlaylistInvalid, "line 3: \"x\" is not defined");
    let limits = Limits { max_bytes: 20_000, ..Limits::default() };
    let many = format!(
        "#EXTM3U\n#EXT-X-DEFINE:NAME=\"x\",VALUE=\"{}\"\n{}",
        "y".repeat(4000),
        "#EXTINF:1,\n{$x}\n".repeat(100)
    );
    let result = parse(many.as_bytes(), &base(), &limits);
    assert_fails(result, PlaylistTooLarge, "variables make the playlist too large");
    let long = format!("#EXT-X-DEFINE:NAME=\"x\",VALUE=\"{}\"\n#EXTINF:1,\n{{$x}}{{$x}}", "y".repeat(5000));
    assert_fails(try_media(&long), PlaylistInvalid, "longer than 8192 bytes");
}

#[test]
fn line_11_uris_that_may_not_be_asked_are_refused_at_once() {
    for uri in ["file:///etc/passwd", "ftp://h/a", "data:,x", "https://u:p@h/a", "http://[", "//", "/\t/", "C:\\a"] {
        assert_fails(try_media(&format!("#EXTINF:1,\n{uri}")), UrlInvalid, "line 3: ");
        assert_fails(try_media(&format!("#EXT-X-MAP:URI=\"{uri}\"\n#EXTINF:1,\na")), UrlInvalid, "line 2: ");
    }
    let long = format!("#EXTINF:1,\n{}", "x".repeat(9000));
    assert_fails(try_media(&long), UrlInvalid, "line 3: a URI of 9000 bytes is too long");
}

#[test]
fn messages_hold_no_secrets() {
    for uri in ["https://u:SECRET@h/a?b", "ftp://h/a?SECRET", "https://h:SECRET/a?SECRET", "file:///a?SECRET"] {
        let failure = try_media(&format!("#EXTINF:1,\n{uri}")).unwrap_err();
        assert!(!failure.message.contains("SECRET"), "{failure}");
    }
    let playlist = media("https://u:SECRET@h/a?SECRET\n#EXTINF:1,\na");
    assert!(!playlist.diagnostics[0].message.contains("SECRET"), "{:?}", playlist.diagnostics);
}
