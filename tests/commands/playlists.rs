//! Playlists that must not be downloaded: each refused before a segment is asked for.

use crate::run::{Workspace, run};
use crate::support::{Fault, Origin};

const PLAYLIST: &str = "/p/index.m3u8";

/// Name, playlist, kind, and what the line says.
const REFUSED: &[(&str, &str, &str, &str)] = &[
    ("empty", "", "playlist_invalid", ""),
    ("not a playlist", "hello\n", "playlist_invalid", ""),
    ("no segments", "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-ENDLIST\n", "playlist_invalid", "no segments"),
    ("live", "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n/s/0.ts\n", "live_unsupported", "ENDLIST"),
    (
        "gap",
        "#EXTM3U\n#EXTINF:4,\n/s/0.ts\n#EXT-X-GAP\n#EXTINF:4,\n/s/1.ts\n#EXT-X-ENDLIST\n",
        "segment_missing",
        "segment 1",
    ),
    (
        "SAMPLE-AES",
        "#EXTM3U\n#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"/k\"\n#EXTINF:4,\n/s/0.ts\n#EXT-X-ENDLIST\n",
        "drm_protected",
        "SAMPLE-AES",
    ),
    (
        "FairPlay",
        "#EXTM3U\n#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"skd://SECRET\",KEYFORMAT=\"com.apple.streamingkeydelivery\"\n#EXTINF:4,\n/s/0.ts\n#EXT-X-ENDLIST\n",
        "drm_protected",
        "FairPlay",
    ),
    (
        "skd: without a format",
        "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"skd://SECRET\"\n#EXTINF:4,\n/s/0.ts\n#EXT-X-ENDLIST\n",
        "drm_protected",
        "FairPlay",
    ),
    (
        "Widevine",
        "#EXTM3U\n#EXT-X-KEY:METHOD=SAMPLE-AES-CTR,URI=\"data:text/plain;base64,SECRET\",KEYFORMAT=\"urn:uuid:edef8ba9-79d6-4ace-a3c8-27dcd51d21ed\"\n#EXTINF:4,\n/s/0.ts\n#EXT-X-ENDLIST\n",
        "drm_protected",
        "Widevine",
    ),
    (
        "PlayReady from the second segment on",
        "#EXTM3U\n#EXTINF:4,\n/s/0.ts\n#EXT-X-KEY:METHOD=SAMPLE-AES-CTR,URI=\"x\",KEYFORMAT=\"com.microsoft.playready\"\n#EXTINF:4,\n/s/1.ts\n#EXT-X-ENDLIST\n",
        "drm_protected",
        "PlayReady",
    ),
    (
        "unknown METHOD",
        "#EXTM3U\n#EXT-X-KEY:METHOD=ROT-13,URI=\"/k\"\n#EXTINF:4,\n/s/0.ts\n#EXT-X-ENDLIST\n",
        "encryption_unsupported",
        "ROT-13",
    ),
    (
        "an IV of 17 bytes",
        "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"/k\",IV=0x0102030405060708090a0b0c0d0e0f1011\n#EXTINF:4,\n/s/0.ts\n#EXT-X-ENDLIST\n",
        "playlist_invalid",
        "line 2",
    ),
    ("a segment of this host", "#EXTM3U\n#EXTINF:4,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", "url_invalid", "line 3"),
    (
        "a key of this host",
        "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"file:///etc/machine-id\"\n#EXTINF:4,\n/s/0.ts\n#EXT-X-ENDLIST\n",
        "url_invalid",
        "key",
    ),
    (
        "a key in the playlist",
        "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"data:;base64,SECRET\"\n#EXTINF:4,\n/s/0.ts\n#EXT-X-ENDLIST\n",
        "url_invalid",
        "key",
    ),
    (
        "a map of this host",
        "#EXTM3U\n#EXT-X-MAP:URI=\"file:///etc/passwd\"\n#EXTINF:4,\n/s/0.m4s\n#EXT-X-ENDLIST\n",
        "url_invalid",
        "line 2",
    ),
    (
        "a segment with credentials",
        "#EXTM3U\n#EXTINF:4,\nhttp://user:SECRET@127.0.0.1/0.ts\n#EXT-X-ENDLIST\n",
        "url_invalid",
        "credentials",
    ),
    (
        "variants and segments in one",
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n/p/low.m3u8\n#EXTINF:4,\n/s/0.ts\n#EXT-X-ENDLIST\n",
        "playlist_invalid",
        "mixed playlist: it lists segments (line 4) and variants (line 2)",
    ),
    (
        "itself as its variant",
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nindex.m3u8\n",
        "playlist_invalid",
        "multivariant",
    ),
    (
        "a range of 0 bytes",
        "#EXTM3U\n#EXT-X-BYTERANGE:0@0\n#EXTINF:4,\n/s/0.ts\n#EXT-X-ENDLIST\n",
        "playlist_invalid",
        "line 2",
    ),
    (
        "a range over the end of all numbers",
        "#EXTM3U\n#EXT-X-BYTERANGE:9223372036854775807@18446744073709551615\n#EXTINF:4,\n/s/0.ts\n#EXT-X-ENDLIST\n",
        "playlist_invalid",
        "line",
    ),
    (
        "an encrypted range that is no multiple of 16",
        "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"/k\"\n#EXT-X-BYTERANGE:100@0\n#EXTINF:4,\n/s/0.ts\n#EXT-X-ENDLIST\n",
        "playlist_invalid",
        "multiple of 16",
    ),
    (
        "only I-frames",
        "#EXTM3U\n#EXT-X-I-FRAMES-ONLY\n#EXTINF:4,\n/s/0.ts\n#EXT-X-ENDLIST\n",
        "playlist_invalid",
        "I-frames",
    ),
];

#[test]
fn refused_before_a_segment_is_asked_for() {
    let origin = Origin::start();
    origin.put("/k", vec![7; 16]);
    std::thread::scope(|scope| {
        for (number, (name, text, kind, says)) in REFUSED.iter().enumerate() {
            let origin = &origin;
            scope.spawn(move || {
                let space = Workspace::new();
                let path = PLAYLIST.replace("/p/", &format!("/p{number}/"));
                origin.put(&path, *text);
                let ended = run(&mut space.fetch(&format!("{}?token=SECRET", origin.url(&path)), "out.ts", &[]));
                ended.failed(name, kind, &[says, &origin.url(&path)]);
                assert!(space.files().is_empty(), "{name}: {:?}", space.files());
            });
        }
    });
    assert_eq!(origin.count("/s/*") + origin.count("/k"), 0, "{:?}", origin.counts());
}

#[test]
fn what_came_in_place_of_a_playlist() {
    let origin = Origin::start();
    origin.put(PLAYLIST, "#EXTM3U\n#EXTINF:4,\n/s/0.ts\n#EXT-X-ENDLIST\n");
    let attempts = ["--set", "hls.segment_attempts=2", "--set", "http.idle_timeout_seconds=1"];
    for (name, fault, kind, says) in [
        ("html", Fault::Html, "playlist_invalid", "<!DOCTYPE html>"),
        ("empty", Fault::Empty, "playlist_invalid", ""),
        ("404", Fault::Status(404), "not_found", "404"),
        ("403", Fault::Status(403), "link_expired", "403"),
        ("503", Fault::Status(503), "server_error", "503"),
        ("cut", Fault::CutAt(20), "body_truncated", ""),
        ("cut in chunks", Fault::CutChunkedAt(20), "body_truncated", ""),
        ("silent", Fault::StallAfter(20), "timed_out", ""),
        ("dropped", Fault::DropBeforeHead, "connection_failed", ""),
        ("UTF-16", Fault::Body(b"\xff\xfe#\0E\0X\0T\0M\x003\0U\0"[..].into()), "playlist_invalid", "UTF-16"),
    ] {
        let space = Workspace::new();
        origin.fault(PLAYLIST, fault);
        let url = format!("{}?token=SECRET", origin.url(PLAYLIST));
        run(&mut space.fetch(&url, "out.ts", &attempts)).failed(
            name,
            kind,
            &["the playlist", &origin.url(PLAYLIST), says],
        );
        assert!(space.files().is_empty(), "{name}: {:?}", space.files());
        origin.heal(PLAYLIST);
    }
    // Nobody listens.
    let gone = origin.url(PLAYLIST);
    drop(origin);
    let space = Workspace::new();
    run(&mut space.fetch(&gone, "out.ts", &attempts)).failed("gone", "connection_failed", &[&gone]);
}

#[test]
fn a_playlist_over_its_limits() {
    let origin = Origin::start();
    let space = Workspace::new();
    let mut text = String::from("#EXTM3U\n");
    (0..200).for_each(|number| text.push_str(&format!("#EXTINF:4,\n/s/{number}.ts\n")));
    text.push_str("#EXT-X-ENDLIST\n");
    origin.put(PLAYLIST, text);
    let fetch = |setting: &str| run(&mut space.fetch(&origin.url(PLAYLIST), "out.ts", &["--set", setting]));
    fetch("hls.max_playlist_bytes=1024").failed("bytes", "playlist_too_large", &["1024", PLAYLIST]);
    fetch("hls.max_segments=100").failed("segments", "playlist_too_large", &["100", PLAYLIST]);
    // What is declared does not count, what comes does.
    origin.fault(PLAYLIST, Fault::Chunked);
    fetch("hls.max_playlist_bytes=1024").failed("chunked", "playlist_too_large", &["1024", PLAYLIST]);
    assert_eq!(origin.count(PLAYLIST), 3, "asked once each time");
    assert!(space.files().is_empty());
}

#[test]
fn line_30_protected_media_behind_a_clear_playlist() {
    let origin = Origin::start();
    let space = Workspace::new();
    origin.put("/s/init.mp4", &b"\0\0\0\x10ftypiso5\0\0\0\0\0\0\0\x10moov\0\0\0\x08pssh\0\0\0\x08encv"[..]);
    origin.put(PLAYLIST, "#EXTM3U\n#EXT-X-MAP:URI=\"/s/init.mp4\"\n#EXTINF:4,\n/s/0.m4s\n#EXT-X-ENDLIST\n");
    let ended = run(&mut space.fetch(&origin.url(PLAYLIST), "out.mp4", &[]));
    ended.failed("pssh", "drm_protected", &["/s/init.mp4", "protected"]);
    space.has_only_partial_files("pssh");
}
