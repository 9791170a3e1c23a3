//! `hauld inspect`: what the parser understood, for programs and for people.

use serde_json::{Value, json};

use crate::run::{SECRET, Workspace, run};
use crate::support::{Fault, Origin, hauld};

const MEDIA: &str = r#"#EXTM3U
#EXT-X-TARGETDURATION:6
#EXT-X-MEDIA-SEQUENCE:7
#EXT-X-DISCONTINUITY-SEQUENCE:2
#EXT-X-MAP:URI="init.mp4",BYTERANGE="720@0"
#EXT-X-KEY:METHOD=AES-128,URI="/keys/1?token=SECRET",IV=0xA
#EXTINF:6.006,
#EXT-X-BYTERANGE:100@720
all.mp4?sig=SECRET
#EXT-X-KEY:METHOD=NONE
#EXT-X-DISCONTINUITY
#EXT-X-GAP
#EXTINF:4,
https://other.example/x.ts
stray.ts
#EXT-X-ENDLIST
"#;

const MULTIVARIANT: &str = r#"#EXTM3U
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="aac",NAME="English",LANGUAGE="en",DEFAULT=YES,URI="en.m3u8"
#EXT-X-SESSION-KEY:METHOD=AES-128,URI="k"
#EXT-X-STREAM-INF:BANDWIDTH=2800000,RESOLUTION=1280x720,CODECS="avc1.64001f,mp4a.40.2",AUDIO="aac"
../720.m3u8?sig=SECRET
#EXT-X-STREAM-INF:BANDWIDTH=64000
low.m3u8
"#;

/// What programs rely on, for [`MEDIA`] in the directory `/a` of `base`.
fn media(base: &str) -> Value {
    let map = json!({"uri": format!("{base}/a/init.mp4"), "byte_range": {"offset": 0, "length": 720}});
    let key = json!({
        "method": "AES-128", "uri": format!("{base}/keys/1?token=SECRET"),
        "iv": "0x0000000000000000000000000000000a", "key_format": "identity",
    });
    json!({
        "kind": "media", "media_sequence": 7, "discontinuity_sequence": 2, "end_list": true,
        "segments": [
            {
                "uri": format!("{base}/a/all.mp4?sig=SECRET"), "duration_seconds": 6.006,
                "byte_range": {"offset": 720, "length": 100}, "keys": [key], "map": map,
                "sequence": 7, "discontinuity": false, "gap": false,
            },
            {
                "uri": "https://other.example/x.ts", "duration_seconds": 4.0, "byte_range": null, "keys": [],
                "map": map, "sequence": 8, "discontinuity": true, "gap": true,
            },
        ],
        "diagnostics": [{"line": 15, "message": "\"stray.ts\" without EXTINF: left out"}],
    })
}

fn multivariant(base: &str) -> Value {
    json!({
        "kind": "multivariant",
        "variants": [
            {
                "uri": format!("{base}/720.m3u8?sig=SECRET"), "bandwidth_bits_per_second": 2_800_000, "width": 1280,
                "height": 720, "codecs": "avc1.64001f,mp4a.40.2", "audio": "aac", "subtitles": null,
            },
            {
                "uri": format!("{base}/a/low.m3u8"), "bandwidth_bits_per_second": 64000, "width": null,
                "height": null, "codecs": null, "audio": null, "subtitles": null,
            },
        ],
        "renditions": [{
            "type": "AUDIO", "group": "aac", "name": "English", "language": "en",
            "uri": format!("{base}/a/en.m3u8"), "default": true,
        }],
        "session_keys": [{
            "method": "AES-128", "uri": format!("{base}/a/k"), "iv": null, "key_format": "identity",
        }],
        "diagnostics": [],
    })
}

/// Compared as text, so that the order of the fields counts.
#[track_caller]
fn is_json(ended: &crate::run::Ended, expected: &Value) {
    ended.succeeded("inspect");
    assert_eq!(ended.stdout, format!("{expected}\n"));
}

#[test]
fn a_url_as_json_against_where_it_was_found() {
    let origin = Origin::start();
    for (text, expected) in [(MEDIA, media(&origin.url(""))), (MULTIVARIANT, multivariant(&origin.url("")))] {
        origin.put("/a/b.m3u8", text);
        is_json(&run(hauld().args(["inspect", "--json", &origin.url("/a/b.m3u8?token=SECRET")])), &expected);
        // After a redirect the URIs are relative to the new place.
        origin.fault("/start.m3u8", Fault::Redirect("/a/b.m3u8".into()));
        is_json(&run(hauld().args(["inspect", "--json", &origin.url("/start.m3u8")])), &expected);
    }
}

#[test]
fn a_file_as_json_against_the_base_url() {
    let space = Workspace::new();
    for (text, expected) in [(MEDIA, media("https://h.example")), (MULTIVARIANT, multivariant("https://h.example"))] {
        let file = space.write("list.m3u8", text);
        let base = ["--base-url", "https://h.example/a/b.m3u8?q=1"];
        is_json(&run(hauld().args(["inspect", "--json"]).arg(&file).args(base)), &expected);
    }
    // Without a base URL: relative URIs resolve against a host that nobody can have.
    let file = space.write("list.m3u8", MEDIA);
    let ended = run(hauld().args(["inspect", "--json"]).arg(&file));
    ended.succeeded("no base");
    let value: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(value["segments"][0]["uri"], "http://base.invalid/all.mp4?sig=SECRET");
}

#[test]
fn as_text_for_people_without_secrets() {
    let space = Workspace::new();
    let file = space.write("list.m3u8", MEDIA);
    let ended = run(hauld().arg("inspect").arg(&file).args(["--base-url", "https://h.example/a/b.m3u8"]));
    ended.succeeded("text");
    assert_eq!(
        ended.stdout,
        "media playlist: 2 segments, 0:00:10, finished\n  \
         first sequence number 7, target duration 6 s, discontinuities 1, gaps 1, byte ranges 1, maps 1\n  \
         1 segments not encrypted\n  \
         1 segments with key AES-128 (identity), IV 0x0000000000000000000000000000000a, https://h.example/keys/1?…\n\
         line 15: \"stray.ts\" without EXTINF: left out\n"
    );
    let file = space.write("list.m3u8", MULTIVARIANT);
    let ended = run(hauld().arg("inspect").arg(&file).args(["--base-url", "https://h.example/a/b.m3u8"]));
    ended.succeeded("text");
    assert!(ended.stdout.starts_with("multivariant playlist: 2 variants, 1 renditions\n"), "{}", ended.stdout);
    assert!(ended.stdout.contains("1280x720") && !ended.stdout.contains(SECRET), "{}", ended.stdout);
}

#[test]
fn what_cannot_be_inspected_is_one_line() {
    let origin = Origin::start();
    let space = Workspace::new();
    origin.put("/page.m3u8", "<html>");
    origin.put("/bad.m3u8", "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128\n#EXTINF:4,\n0.ts\n");
    let page = origin.url("/page.m3u8");
    let bad = origin.url("/bad.m3u8");
    let missing = origin.url("/missing.m3u8");
    let file = space.write("bad.m3u8", "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\",IV=0xZZ\n#EXTINF:4,\n0.ts\n");
    let (file, directory) = (file.to_str().unwrap(), space.path(""));
    for (playlist, kind, says) in [
        (format!("{page}?token=SECRET"), "playlist_invalid", page.as_str()),
        (bad.clone(), "playlist_invalid", "line 2"),
        (missing.clone(), "not_found", &missing),
        (file.to_owned(), "playlist_invalid", "line 2"),
        (format!("{file}.missing"), "disk_failed", "bad.m3u8.missing"),
        (directory.display().to_string(), "disk_failed", "directory"),
        // Endless: only as much is read as a playlist may have.
        ("/dev/zero".to_owned(), "playlist_too_large", "/dev/zero"),
        ("http://user:SECRET@h/a.m3u8".to_owned(), "url_invalid", "credentials"),
    ] {
        let ended = run(hauld().args(["inspect", &playlist, "--set", "hls.max_playlist_bytes=100000"]));
        ended.failed(&playlist, kind, &[says]);
        assert_eq!(ended.stdout, "", "{playlist}");
    }
    run(hauld().args(["inspect"])).refused_usage("no playlist", "URL|FILE");
    run(hauld().args(["inspect", file, "--base-url", "nonsense"])).refused_usage("base", "--base-url");
}
