//! Our playlist parser on every playlist that the packages of `tests/corpora` ship, against what
//! m3u8-parser expects of its own 60 and makes of the others. Every difference is listed with its
//! reason, and one that is gone is an error too.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use hauld::hls::playlist::{
    self, ByteRange, Key, Limits, MediaPlaylist, MultivariantPlaylist, Playlist, PlaylistType, RenditionKind,
};
use serde_json::{Value, json};
use url::Url;

fn base() -> Url {
    Url::parse("https://h.example/a/b.m3u8").unwrap()
}

fn absolute(uri: &Value) -> Value {
    uri.as_str().map_or(Value::Null, |uri| base().join(uri.trim()).unwrap().as_str().into())
}

fn range(range: Option<ByteRange>) -> Value {
    range.map_or(Value::Null, |range| json!([range.offset, range.length]))
}

/// m3u8-parser knows one key for each segment, the one of the identity format.
fn key(keys: &[Key]) -> Value {
    let identity = keys.iter().find(|key| key.key_format == "identity");
    identity.map_or(Value::Null, |key| json!({ "method": key.method, "uri": key.uri, "iv": key.iv.map(hex::encode) }))
}

fn media(playlist: &MediaPlaylist) -> Value {
    let segment = |segment: playlist::Segment| {
        let map = segment.map.map(|map| &playlist.maps[map as usize]);
        json!({
            "uri": segment.uri,
            "duration": segment.duration_seconds,
            "byte_range": range(segment.byte_range),
            "key": key(playlist.keys(segment.key_set)),
            "map": map.map(|map| json!({ "uri": map.uri, "byte_range": range(map.byte_range) })),
            "discontinuity": segment.discontinuity,
        })
    };
    json!({
        "media_sequence": playlist.media_sequence,
        "discontinuity_sequence": playlist.discontinuity_sequence,
        "end_list": playlist.end_list,
        "i_frames_only": playlist.i_frames_only,
        "playlist_type": playlist.playlist_type.map(|kind| match kind {
            PlaylistType::Vod => "VOD",
            PlaylistType::Event => "EVENT",
        }),
        "target_duration": playlist.target_duration_seconds,
        "segments": playlist.segments.iter().map(segment).collect::<Vec<_>>(),
    })
}

fn multivariant(playlist: &MultivariantPlaylist) -> Value {
    let variant = |variant: &playlist::Variant| {
        json!({
            "uri": variant.uri.as_str(),
            "bandwidth": variant.bandwidth_bits_per_second,
            "resolution": variant.width.zip(variant.height).map(|(width, height)| [width, height]),
            "codecs": variant.codecs,
            "frame_rate": variant.frame_rate,
            "audio": variant.audio,
            "subtitles": variant.subtitles,
        })
    };
    let rendition = |rendition: &playlist::Rendition| {
        let kind = match rendition.kind {
            RenditionKind::Audio => "AUDIO",
            RenditionKind::Video => "VIDEO",
            RenditionKind::Subtitles => "SUBTITLES",
            RenditionKind::ClosedCaptions => "CLOSED-CAPTIONS",
        };
        json!({
            "type": kind,
            "group": rendition.group,
            "name": rendition.name,
            "language": rendition.language,
            "uri": rendition.uri.as_ref().map(Url::as_str),
            "default": rendition.default,
            // DEFAULT=YES includes it (RFC 8216 §4.3.4.1).
            "autoselect": rendition.autoselect || rendition.default,
        })
    };
    json!({
        "variants": playlist.variants.iter().map(variant).collect::<Vec<_>>(),
        "renditions": sorted(playlist.renditions.iter().map(rendition).collect()),
    })
}

/// m3u8-parser keeps renditions by type, group and name.
fn sorted(mut renditions: Vec<Value>) -> Vec<Value> {
    renditions
        .sort_by_key(|one| ["type", "group", "name"].map(|name| one[name].as_str().unwrap_or_default().to_owned()));
    renditions
}

/// Brings what m3u8-parser expects into our form: URIs that we make absolute are, numbers are of one kind.
fn expected(mut entry: Value) -> Option<Value> {
    let kind = ["media", "multivariant"].into_iter().find(|kind| !entry[kind].is_null())?;
    let mut value = entry[kind].take();
    for segment in value["segments"].as_array_mut().into_iter().flatten() {
        if !segment["key"].is_null() {
            segment["key"]["uri"] = absolute(&segment["key"]["uri"]);
        }
    }
    for listed in ["variants", "renditions"] {
        for entry in value[listed].as_array_mut().into_iter().flatten() {
            entry["uri"] = absolute(&entry["uri"]);
        }
    }
    if let Some(renditions) = value["renditions"].as_array_mut() {
        *renditions = sorted(std::mem::take(renditions));
    }
    Some(value)
}

/// Where two values differ, as paths with both; numbers are compared as numbers.
fn differences(ours: &Value, theirs: &Value, path: &str, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            let names: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
            for name in names {
                let of = |object: &serde_json::Map<String, Value>| object.get(name).cloned().unwrap_or_default();
                differences(&of(ours), &of(theirs), &format!("{path}.{name}"), found);
            }
        }
        (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
            for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                differences(ours, theirs, &format!("{path}[{index}]"), found);
            }
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            found.push(format!("{path}: {} for {}", ours.len(), theirs.len()));
        }
        (Value::Number(ours), Value::Number(theirs)) if ours.as_f64() == theirs.as_f64() => {}
        (ours, theirs) if ours == theirs => {}
        (ours, theirs) => found.push(format!("{path}: {ours} for {theirs}")),
    }
}

/// Where ours is deliberately another reading, and why. What stands here and no more.
const DIFFERENT: &[(&str, &str, &str)] = &[
    (
        "@eyevinn/hls-vodtolive/testvectors/hls_noaudioonly/master.m3u8",
        ".variants: 5 for 6",
        "a line of curl's output at the end: no EXT-X-STREAM-INF announces a variant",
    ),
    ("iptv-playlist-parser/tests/__data__/input/base.m3u", ".segments: 6 for 7", UNANNOUNCED),
    ("iptv-playlist-parser/tests/__data__/input/comment.m3u", ".segments: 1 for 2", UNANNOUNCED),
    ("iptv-playlist-parser/tests/__data__/input/vlcopt.m3u", ".segments[0].duration: 0.0 for 0.01", ZERO),
    (
        "m3u8-parser/test/fixtures/integration/extinf.m3u8",
        ".segments[1].duration: 0.0 for 10, .segments[16].duration: 0.0 for 10",
        "EXTINF without a number: the target duration would be a guess",
    ),
    ("m3u8-parser/test/fixtures/integration/liveMissingSegmentDuration.m3u8", ".segments: 1 for 3", UNANNOUNCED),
    ("m3u8-parser/test/fixtures/integration/missingExtinf.m3u8", ".segments: 2 for 3", UNANNOUNCED),
    ("m3u8-parser/test/fixtures/integration/missingSegmentDuration.m3u8", ".segments: 1 for 4", UNANNOUNCED),
    ("m3u8-parser/test/fixtures/integration/multipleTargetDurations.m3u8", ".segments: 1 for 4", UNANNOUNCED),
    (
        "m3u8-parser/test/fixtures/integration/negativeMediaSequence.m3u8",
        ".media_sequence: 0 for -11",
        "a sequence number is not negative (RFC 8216 §4.3.3.2)",
    ),
    ("m3u8-parser/test/fixtures/integration/zeroDuration.m3u8", ".segments[0].duration: 0.0 for 0.01", ZERO),
];
const UNANNOUNCED: &str = "each segment must have an EXTINF (RFC 8216 §4.3.2.1): players leave others out";
const ZERO: &str = "m3u8-parser makes 0.01 of a duration of 0";

/// What ours refuses, and the beginning of what it says.
const REFUSED: &[(&str, &str)] = &[
    // The other file that the implicit offset would be in is not the one before.
    (
        "m3u8-parser/test/fixtures/integration/byteRange.m3u8",
        "line 13: EXT-X-BYTERANGE without an offset, and no range of the same URI before it",
    ),
    ("m3u8-parser/test/fixtures/integration/empty.m3u8", "not a playlist: the answer is empty"),
    (
        "m3u8-parser/test/fixtures/integration/headerOnly.m3u8",
        "not an HLS playlist: #EXTM3U, but neither EXTINF nor EXT-X-STREAM-INF follows",
    ),
    ("m3u8-parser/test/fixtures/integration/llhls-byte-range.m3u8", "line 7: \"587500@\" is no byte range"),
    ("m3u8-parser/test/fixtures/integration/llhls-delta-byte-range.m3u8", "line 7: EXT-X-SKIP: a delta update"),
    ("m3u8-parser/test/fixtures/integration/llhlsDelta.m3u8", "line 8: EXT-X-SKIP: a delta update"),
    ("m3u8-parser/test/fixtures/integration/manifestNoExtM3u.m3u8", NO_HEADER),
    ("m3u8-parser/test/fixtures/integration/master.m3u8", NO_HEADER),
    ("m3u8-parser/test/fixtures/integration/start.m3u8", NO_HEADER),
    ("m3u8-parser/test/fixtures/integration/streamInfInvalid.m3u8", NO_HEADER),
    // Variants, and then the segments of another playlist.
    ("m3u8-reader/test.m3u8", "line 11: mixed playlist: it lists segments (line 11) and variants (line 5)"),
];
const NO_HEADER: &str = "not a playlist: the answer begins with \"#";

/// What m3u8-parser throws on: a comma at the end of the attributes.
const ONLY_OURS: &[&str] = &[
    "@eyevinn/hls-vodtolive/testvectors/hls_subs5_preroll/master.m3u8",
    "@eyevinn/hls-vodtolive/testvectors/hls_subs6_preroll/master.m3u8",
];

#[test]
fn every_public_playlist_is_read_as_m3u8_parser_expects_or_refused_with_its_reason() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpora");
    let output = Command::new("node").arg(folder.join("expected.mjs")).output().expect("node: `make deps` installs it");
    assert!(output.status.success(), "`make deps` first? {}", String::from_utf8_lossy(&output.stderr));
    let entries: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(entries.len(), 423);
    let (mut different, mut refused, mut only_ours) = (Vec::new(), Vec::new(), Vec::new());
    for entry in entries {
        let path = entry["path"].as_str().unwrap().to_owned();
        let text = std::fs::read(folder.join("node_modules").join(&path)).unwrap();
        let ours = match playlist::parse(&text, &base(), &Limits::default()) {
            Ok(Playlist::Media(playlist)) => media(&playlist),
            Ok(Playlist::Multivariant(playlist)) => multivariant(&playlist),
            Err(failure) => {
                refused.push((path, failure.message));
                continue;
            }
        };
        let Some(theirs) = expected(entry) else {
            only_ours.push(path);
            continue;
        };
        let mut found = Vec::new();
        differences(&ours, &theirs, "", &mut found);
        if !found.is_empty() {
            different.push((path, found.join(", ")));
        }
    }
    let listed: Vec<_> = DIFFERENT.iter().map(|(path, what, _)| (path.to_string(), what.to_string())).collect();
    assert_eq!(different, listed);
    assert_eq!(only_ours, ONLY_OURS);
    assert_eq!(refused.len(), REFUSED.len(), "{refused:#?}");
    for ((path, message), (listed, begins)) in refused.iter().zip(REFUSED) {
        assert_eq!(path, listed);
        assert!(message.starts_with(begins), "{path}: {message}");
    }
}
