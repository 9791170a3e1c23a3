//! What must hold for every text that is given to the playlist parser.

use hauld::failure::{Failure, FailureKind};
use hauld::hls::playlist::{
    self, Diagnostic, Key, Limits, Map, MediaPlaylist, MultivariantPlaylist, Playlist, Segment,
};
use hauld::hls::{Plan, select};
use url::Url;

/// Small enough that a text of a few kilobytes meets them.
pub const LIMITS: Limits =
    Limits { max_bytes: 64 * 1024, max_segments: 300, max_line_bytes: 4096, max_variants: 300, max_keys: 300 };

/// The playlist's own URL.
pub fn base() -> Url {
    Url::parse("https://h.example/a/b.m3u8?sig=1%2F2&x=").expect("it is a URL")
}

fn read(text: &[u8]) -> Result<Playlist, Failure> {
    playlist::parse_with_variables(text, &base(), &LIMITS, &[("parent".into(), "p/q".into())])
}

/// Panics when a rule is broken. Says whether the text is a playlist.
pub fn check(text: &[u8]) -> bool {
    match read(text) {
        Ok(Playlist::Media(playlist)) => check_media(playlist),
        Ok(Playlist::Multivariant(playlist)) => check_multivariant(&playlist),
        Err(failure) => {
            check_failure(&failure);
            return false;
        }
    }
    true
}

fn check_failure(failure: &Failure) {
    use FailureKind::{PlaylistInvalid, PlaylistTooLarge, UrlInvalid};
    assert!(matches!(failure.kind, PlaylistInvalid | PlaylistTooLarge | UrlInvalid), "{failure:?}");
    assert!(failure.message.len() < 1000 && !failure.message.contains(char::is_control), "{failure:?}");
}

fn check_media(playlist: MediaPlaylist) {
    let mut before: Option<Segment> = None;
    for segment in playlist.segments.iter() {
        check_uri(&playlist, segment.uri);
        let (sequence, joints) = match before {
            Some(before) => (before.sequence + 1, before.discontinuity_sequence),
            None => (playlist.media_sequence, playlist.discontinuity_sequence),
        };
        assert_eq!(segment.sequence, sequence);
        assert_eq!(segment.discontinuity_sequence, joints.saturating_add(segment.discontinuity.into()));
        assert!((0.0..=1e8).contains(&segment.duration_seconds), "{segment:?}");
        assert!(
            segment.byte_range.is_none_or(|range| range.length > 0 && range.offset.checked_add(range.length).is_some())
        );
        assert!((segment.key_set as usize) < playlist.key_sets.len(), "{segment:?}");
        assert!(segment.map.is_none_or(|map| (map as usize) < playlist.maps.len()), "{segment:?}");
        before = Some(segment);
    }
    for map in &playlist.maps {
        check_uri(&playlist, &map.uri);
        assert!((map.key_set as usize) < playlist.key_sets.len(), "{map:?}");
    }
    check_diagnostics(&playlist.diagnostics);
    assert!(playlist.segments.len() <= LIMITS.max_segments && playlist.maps.len() <= LIMITS.max_segments);
    if let Some(text) = written(&playlist) {
        check_same(&playlist, &text);
    }
    for allow_gaps in [false, true] {
        check_plan(&playlist, allow_gaps);
    }
}

fn check_plan(playlist: &MediaPlaylist, allow_gaps: bool) {
    match Plan::new(playlist.clone(), allow_gaps) {
        Ok(plan) => {
            assert!(plan.len() >= playlist.segments.len() || allow_gaps);
            assert_ne!(plan.fingerprint(""), plan.fingerprint("another"));
            for index in 0..plan.len() {
                let unit = plan.unit(index).unwrap_or_else(|failure| panic!("unit {index}: {failure}"));
                assert!(matches!(unit.url.scheme(), "http" | "https"), "{unit:?}");
            }
        }
        Err(failure) => assert!(!failure.message.contains(char::is_control), "{failure:?}"),
    }
}

/// As long as a terminal likes them, few, and in order.
fn check_diagnostics(diagnostics: &[Diagnostic]) {
    assert!(diagnostics.len() <= 101 && diagnostics.is_sorted_by_key(|diagnostic| diagnostic.line), "{diagnostics:?}");
    for Diagnostic { message, .. } in diagnostics {
        assert!(message.len() < 1000 && !message.contains(char::is_control), "{message:?}");
    }
}

/// What was read can be asked, and its path is what the URL parser says.
fn check_uri(playlist: &MediaPlaylist, uri: &str) {
    let url = playlist.resolve(uri).unwrap_or_else(|failure| panic!("{uri:?}: {failure}"));
    let path = playlist.path(uri).unwrap_or_else(|failure| panic!("{uri:?}: {failure}"));
    assert_eq!(path.concat(), url.path(), "{uri:?}");
}

/// The playlist as text again, with all that is implicit said; `None` when some of its text cannot
/// be written as it is (variables may bring quotes and references).
fn written(playlist: &MediaPlaylist) -> Option<String> {
    use std::fmt::Write as _;
    let plain = |text: &str| !text.contains(['"', '\r', '\n']) && !text.contains("{$") && text.trim_ascii() == text;
    let mut text = format!("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:{}\n", playlist.media_sequence);
    writeln!(text, "#EXT-X-DISCONTINUITY-SEQUENCE:{}", playlist.discontinuity_sequence).ok()?;
    let range = |range: playlist::ByteRange| format!("{}@{}", range.length, range.offset);
    let keys = |text: &mut String, keys: &[Key]| {
        *text += "#EXT-X-KEY:METHOD=NONE\n";
        for key in keys {
            let uri = key.uri.as_deref();
            if ![&key.method, &key.key_format, uri.unwrap_or_default()].into_iter().all(plain) {
                return None;
            }
            let uri = uri.map(|uri| format!(",URI=\"{uri}\"")).unwrap_or_default();
            let iv = key.iv.map(|iv| format!(",IV=0x{:x}", u128::from_be_bytes(iv))).unwrap_or_default();
            writeln!(text, "#EXT-X-KEY:METHOD=\"{}\"{uri}{iv},KEYFORMAT=\"{}\"", key.method, key.key_format).ok()?;
        }
        Some(())
    };
    let mut map_before = None;
    for segment in playlist.segments.iter() {
        if segment.map != map_before {
            let map = &playlist.maps[segment.map? as usize];
            keys(&mut text, playlist.keys(map.key_set))?;
            let byte_range = map.byte_range.map(|of| format!(",BYTERANGE=\"{}\"", range(of))).unwrap_or_default();
            writeln!(text, "#EXT-X-MAP:URI=\"{}\"{byte_range}", Some(&*map.uri).filter(|uri| plain(uri))?).ok()?;
            map_before = segment.map;
        }
        keys(&mut text, playlist.keys(segment.key_set))?;
        if let Some(bits) = segment.bitrate_bits_per_second {
            writeln!(text, "#EXT-X-BITRATE:{}", bits.div_ceil(1000)).ok()?;
        }
        let flags = [(segment.discontinuity, "DISCONTINUITY"), (segment.gap, "GAP")];
        flags.into_iter().filter(|(is, _)| *is).for_each(|(_, tag)| text += &format!("#EXT-X-{tag}\n"));
        if let Some(of) = segment.byte_range {
            writeln!(text, "#EXT-X-BYTERANGE:{}", range(of)).ok()?;
        }
        let uri = Some(segment.uri).filter(|uri| plain(uri) && !uri.starts_with('#'))?;
        writeln!(text, "#EXTINF:{},\n{uri}", segment.duration_seconds).ok()?;
    }
    Some(text)
}

/// Reading what was read gives the same again.
fn check_same(playlist: &MediaPlaylist, text: &str) {
    // All that was implicit is longer when it is written out.
    let limits = Limits { max_bytes: 1 << 24, max_line_bytes: 1 << 20, ..LIMITS };
    let again = match playlist::parse(text.as_bytes(), &playlist.base, &limits) {
        Ok(Playlist::Media(again)) => again,
        other => panic!("{other:?}\n{text}"),
    };
    assert_eq!(again.segments.len(), playlist.segments.len(), "{text}");
    for (one, two) in playlist.segments.iter().zip(again.segments.iter()) {
        let keys = |playlist: &MediaPlaylist, set| playlist.keys(set).to_vec();
        let map = |playlist: &MediaPlaylist, map: Option<u32>| {
            let Map { uri, byte_range, key_set, .. } = playlist.maps[map? as usize].clone();
            Some((uri, byte_range, keys(playlist, key_set)))
        };
        assert_eq!(keys(playlist, one.key_set), keys(&again, two.key_set), "{text}");
        assert_eq!(map(playlist, one.map), map(&again, two.map), "{text}");
        assert_eq!(Segment { key_set: 0, map: None, ..one }, Segment { key_set: 0, map: None, ..two }, "{text}");
    }
}

fn check_multivariant(playlist: &MultivariantPlaylist) {
    check_diagnostics(&playlist.diagnostics);
    for lines in [0, 720, u32::MAX] {
        let Ok(variant) = select::variant(playlist, lines) else {
            assert!(playlist.variants.is_empty());
            continue;
        };
        let copies = select::redundant(playlist, variant);
        assert!(copies.iter().all(|copy| copy.uri != variant.uri && copy.height == variant.height));
        if let Some(audio) = select::audio(playlist, variant) {
            let copies = select::redundant_audio(playlist, variant, audio);
            assert!(copies.iter().all(|copy| copy.uri.is_some() && copy.uri != audio.uri && copy.name == audio.name));
        }
        select::subtitles(playlist, variant);
    }
}
