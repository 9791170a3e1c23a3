use super::*;
use crate::hls::playlist::{Limits, parse};

fn read(text: &str) -> Playlist {
    let base = Url::parse("https://h.example/a/b.m3u8?sig=SECRET").unwrap();
    parse(text.as_bytes(), &base, &Limits::default()).unwrap()
}

const MEDIA: &str = r#"#EXTM3U
#EXT-X-TARGETDURATION:6
#EXT-X-MEDIA-SEQUENCE:7
#EXT-X-DISCONTINUITY-SEQUENCE:2
#EXT-X-MAP:URI="init.mp4",BYTERANGE="720@0"
#EXT-X-KEY:METHOD=AES-128,URI="/keys/1?token=SECRET",IV=0xA
#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://1",KEYFORMAT="com.apple.streamingkeydelivery"
#EXTINF:6.006,
#EXT-X-BYTERANGE:100@720
all.mp4?sig=1
#EXT-X-KEY:METHOD=NONE
#EXT-X-DISCONTINUITY
#EXT-X-GAP
#EXTINF:4,
https://other.example/x.ts
stray.ts
#EXT-X-ENDLIST
"#;

const MULTIVARIANT: &str = r#"#EXTM3U
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="aac",NAME="English",LANGUAGE="en",DEFAULT=YES,URI="en.m3u8?sig=SECRET"
#EXT-X-MEDIA:TYPE=CLOSED-CAPTIONS,GROUP-ID="cc",NAME="CC",INSTREAM-ID="CC1"
#EXT-X-SESSION-KEY:METHOD=AES-128,URI="data:;base64,c2VjcmV0"
#EXT-X-STREAM-INF:BANDWIDTH=2800000,RESOLUTION=1280x720,CODECS="avc1.64001f,mp4a.40.2",AUDIO="aac",SUBTITLES="subs"
../720.m3u8?sig=SECRET
#EXT-X-STREAM-INF:BANDWIDTH=64000
low.m3u8
"#;

#[test]
fn media_as_json() {
    let expected = r#"{"kind":"media","media_sequence":7,"discontinuity_sequence":2,"end_list":true,"segments":[
        {"uri":"https://h.example/a/all.mp4?sig=1","duration_seconds":6.006,"byte_range":{"offset":720,"length":100},
         "keys":[{"method":"AES-128","uri":"https://h.example/keys/1?token=SECRET","iv":"0x0000000000000000000000000000000a","key_format":"identity"},
                 {"method":"SAMPLE-AES","uri":"skd://1","iv":null,"key_format":"com.apple.streamingkeydelivery"}],
         "map":{"uri":"https://h.example/a/init.mp4","byte_range":{"offset":0,"length":720}},
         "sequence":7,"discontinuity":false,"gap":false},
        {"uri":"https://other.example/x.ts","duration_seconds":4.0,"byte_range":null,"keys":[],
         "map":{"uri":"https://h.example/a/init.mp4","byte_range":{"offset":0,"length":720}},
         "sequence":8,"discontinuity":true,"gap":true}],
        "diagnostics":[{"line":16,"message":"\"stray.ts\" without EXTINF: left out"}]}"#;
    let expected: Value = serde_json::from_str(expected).unwrap();
    // As text, so that the order of the fields counts too.
    assert_eq!(to_json(&read(MEDIA)).to_string(), expected.to_string());
}

#[test]
fn multivariant_as_json() {
    let expected = r#"{"kind":"multivariant","variants":[
        {"uri":"https://h.example/720.m3u8?sig=SECRET","bandwidth_bits_per_second":2800000,"width":1280,"height":720,
         "codecs":"avc1.64001f,mp4a.40.2","audio":"aac","subtitles":"subs"},
        {"uri":"https://h.example/a/low.m3u8","bandwidth_bits_per_second":64000,"width":null,"height":null,
         "codecs":null,"audio":null,"subtitles":null}],
        "renditions":[
        {"type":"AUDIO","group":"aac","name":"English","language":"en","uri":"https://h.example/a/en.m3u8?sig=SECRET","default":true},
        {"type":"CLOSED-CAPTIONS","group":"cc","name":"CC","language":null,"uri":null,"default":false}],
        "session_keys":[{"method":"AES-128","uri":"data:;base64,c2VjcmV0","iv":null,"key_format":"identity"}],
        "diagnostics":[]}"#;
    let expected: Value = serde_json::from_str(expected).unwrap();
    assert_eq!(to_json(&read(MULTIVARIANT)).to_string(), expected.to_string());
}

#[test]
fn media_as_text() {
    let expected = "\
media playlist: 2 segments, 0:00:10, finished
  first sequence number 7, target duration 6 s, discontinuities 1, gaps 1, byte ranges 1, maps 1
  1 segments not encrypted
  1 segments with key AES-128 (identity), IV 0x0000000000000000000000000000000a, https://h.example/keys/1?…
  1 segments with key SAMPLE-AES (com.apple.streamingkeydelivery), IV from the sequence number, skd://1
line 16: \"stray.ts\" without EXTINF: left out
";
    assert_eq!(to_text(&read(MEDIA)), expected);
}

#[test]
fn multivariant_as_text_without_secrets() {
    let text = to_text(&read(MULTIVARIANT));
    assert!(text.contains("1280x720        2800  avc1.64001f,mp4a.40.2"), "{text}");
    assert!(text.contains("https://h.example/720.m3u8?…"), "{text}");
    assert!(text.contains("session key AES-128 (identity), IV from the sequence number, data:…"), "{text}");
    assert!(!text.contains("SECRET") && !text.contains("c2VjcmV0"), "{text}");
}

#[test]
fn text_cannot_move_the_terminal() {
    let text = to_text(&read(
        "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"\x1b[2J\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\nx",
    ));
    assert!(!text.contains('\x1b'), "{text:?}");
}
