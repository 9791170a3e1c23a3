//! Our playlist parser against m3u8-rs, on playlists clean enough that both must agree. Where m3u8-rs
//! is known to be wrong, the unit tests of the parser say what is right instead.

use std::path::Path;

use hauld::hls::playlist::{self, Limits, MediaPlaylist, MultivariantPlaylist, Playlist, RenditionKind};
use proptest::prelude::*;
use url::Url;

fn base() -> Url {
    Url::parse("https://h.example/a/b.m3u8").unwrap()
}

fn compare(text: &[u8]) {
    let ours = playlist::parse(text, &base(), &Limits::default()).unwrap_or_else(|failure| panic!("{failure}"));
    let theirs = m3u8_rs::parse_playlist_res(text).unwrap_or_else(|error| panic!("m3u8-rs: {error:?}"));
    match (ours, theirs) {
        (Playlist::Media(ours), m3u8_rs::Playlist::MediaPlaylist(theirs)) => compare_media(&ours, &theirs),
        (Playlist::Multivariant(ours), m3u8_rs::Playlist::MasterPlaylist(theirs)) => {
            compare_multivariant(&ours, &theirs);
        }
        (ours, theirs) => panic!("different kinds: {ours:?} {theirs:?}"),
    }
}

fn compare_media(ours: &MediaPlaylist, theirs: &m3u8_rs::MediaPlaylist) {
    assert_eq!(ours.media_sequence, theirs.media_sequence);
    assert_eq!(ours.discontinuity_sequence, theirs.discontinuity_sequence);
    assert_eq!(ours.end_list, theirs.end_list);
    assert_eq!(ours.i_frames_only, theirs.i_frames_only);
    assert_eq!(ours.target_duration_seconds, theirs.target_duration as f64);
    assert_eq!(ours.segments.len(), theirs.segments.len());
    // m3u8-rs says what stands at a segment; what is in force is carried forward here.
    let mut key = None;
    let mut map = None;
    let mut previous: Option<(&str, u64)> = None;
    for (ours_one, theirs_one) in ours.segments.iter().zip(&theirs.segments) {
        assert_eq!(ours_one.uri, theirs_one.uri);
        assert!((ours_one.duration_seconds - f64::from(theirs_one.duration)).abs() < 1e-3);
        assert_eq!(ours_one.discontinuity, theirs_one.discontinuity);

        let range = theirs_one.byte_range.as_ref().map(|range| {
            let implicit = || previous.filter(|(uri, _)| *uri == theirs_one.uri).map(|(_, end)| end);
            (range.offset.or_else(implicit).expect("a clean playlist"), range.length)
        });
        assert_eq!(ours_one.byte_range.map(|range| (range.offset, range.length)), range);
        previous = range.map(|(offset, length)| (theirs_one.uri.as_str(), offset + length));

        map = theirs_one.map.as_ref().or(map);
        let ours_map = ours_one.map.map(|map| &ours.maps[map as usize]);
        assert_eq!(ours_map.map(|map| &*map.uri), map.map(|map| map.uri.as_str()));
        let map_range = map.and_then(|map| map.byte_range.as_ref());
        assert_eq!(
            ours_map.and_then(|map| map.byte_range).map(|range| (range.offset, range.length)),
            map_range.map(|range| (range.offset.expect("a clean playlist"), range.length))
        );

        key = theirs_one.key.as_ref().or(key);
        let ours_keys = ours.keys(ours_one.key_set);
        assert_eq!(ours_keys.len(), usize::from(key.is_some()));
        if let (Some(key), [ours_key]) = (key, ours_keys) {
            assert_eq!(*ours_key.method, key.method.to_string());
            let uri = key.uri.as_ref().map(|uri| base().join(uri).unwrap().to_string());
            assert_eq!(ours_key.uri.as_deref(), uri.as_deref());
            let iv = key.iv.as_ref().map(|iv| u128::from_str_radix(&iv[2..], 16).unwrap().to_be_bytes());
            assert_eq!(ours_key.iv, iv);
        }
    }
}

fn compare_multivariant(ours: &MultivariantPlaylist, theirs: &m3u8_rs::MasterPlaylist) {
    // Ours leaves out I-frame variants, which nobody downloads.
    let variants: Vec<_> = theirs.variants.iter().filter(|variant| !variant.is_i_frame).collect();
    assert_eq!(ours.variants.len(), variants.len());
    for (ours_one, theirs_one) in ours.variants.iter().zip(variants) {
        assert_eq!(ours_one.uri, base().join(&theirs_one.uri).unwrap());
        assert_eq!(ours_one.bandwidth_bits_per_second, theirs_one.bandwidth);
        let resolution = theirs_one.resolution.map(|resolution| (resolution.width, resolution.height));
        assert_eq!(ours_one.width.map(u64::from).zip(ours_one.height.map(u64::from)), resolution);
        assert_eq!(ours_one.codecs.as_deref(), theirs_one.codecs.as_deref());
        assert_eq!(ours_one.audio.as_deref(), theirs_one.audio.as_deref());
        assert_eq!(ours_one.subtitles.as_deref(), theirs_one.subtitles.as_deref());
    }
    assert_eq!(ours.renditions.len(), theirs.alternatives.len());
    for (ours_one, theirs_one) in ours.renditions.iter().zip(&theirs.alternatives) {
        let kind = match ours_one.kind {
            RenditionKind::Audio => "AUDIO",
            RenditionKind::Video => "VIDEO",
            RenditionKind::Subtitles => "SUBTITLES",
            RenditionKind::ClosedCaptions => "CLOSED-CAPTIONS",
        };
        assert_eq!(kind, theirs_one.media_type.to_string());
        assert_eq!((&*ours_one.group, &*ours_one.name), (&*theirs_one.group_id, &*theirs_one.name));
        assert_eq!(ours_one.language.as_deref(), theirs_one.language.as_deref());
        assert_eq!(ours_one.uri, theirs_one.uri.as_ref().map(|uri| base().join(uri).unwrap()));
        let flags = (theirs_one.default, theirs_one.autoselect, theirs_one.forced);
        assert_eq!((ours_one.default, ours_one.autoselect, ours_one.forced), flags);
    }
    assert_eq!(ours.session_keys.len(), theirs.session_key.len());
}

#[test]
fn both_agree_on_the_samples() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/playlists");
    let mut compared = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "m3u8") {
            println!("{}", path.display());
            compare(&std::fs::read(path).unwrap());
            compared += 1;
        }
    }
    assert_eq!(compared, 13);
}

/// What may stand between two segments of a clean playlist. METHOD=NONE, keys of several formats and
/// commas in titles are missing: m3u8-rs gets them wrong.
#[derive(Debug, Clone)]
struct CleanSegment {
    milliseconds: u32,
    title: String,
    resource: u8,
    range: Option<(u32, Option<u32>)>,
    discontinuity: bool,
    key: Option<(u8, Option<u128>)>,
    map: Option<(u8, Option<(u32, u32)>)>,
}

fn clean_segment() -> impl Strategy<Value = CleanSegment> {
    use proptest::option;
    let range = option::weighted(0.5, (1..u32::MAX, option::of(any::<u32>())));
    let key = option::weighted(0.2, (any::<u8>(), option::of(any::<u128>())));
    let map = option::weighted(0.2, (any::<u8>(), option::of((1..u32::MAX, any::<u32>()))));
    (1..20_000u32, "[a-zA-Z0-9][a-zA-Z0-9 ]{0,8}", 0..3u8, range, any::<bool>(), key, map).prop_map(
        |(milliseconds, title, resource, range, discontinuity, key, map)| CleanSegment {
            milliseconds,
            title,
            resource,
            range,
            discontinuity,
            key,
            map,
        },
    )
}

fn clean_media(sequence: u64, end_list: bool, segments: &[CleanSegment]) -> String {
    let mut text = format!("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:20\n#EXT-X-MEDIA-SEQUENCE:{sequence}\n");
    let mut previous: Option<u8> = None;
    for segment in segments {
        if let Some((n, iv)) = segment.key {
            let iv = iv.map(|iv| format!(",IV=0x{iv:032x}")).unwrap_or_default();
            text += &format!("#EXT-X-KEY:METHOD=AES-128,URI=\"keys/{n}?t=1\"{iv}\n");
        }
        if let Some((n, range)) = segment.map {
            let range = range.map(|(length, offset)| format!(",BYTERANGE=\"{length}@{offset}\"")).unwrap_or_default();
            text += &format!("#EXT-X-MAP:URI=\"init{n}.mp4\"{range}\n");
        }
        if segment.discontinuity {
            text += "#EXT-X-DISCONTINUITY\n";
        }
        let seconds = f64::from(segment.milliseconds) / 1000.0;
        text += &format!("#EXTINF:{seconds:.3},{}\n", segment.title);
        if let Some((length, offset)) = segment.range {
            // An implicit offset is clean only behind a range of the same resource.
            let implicit = offset.is_none() && previous == Some(segment.resource);
            let offset = if implicit { String::new() } else { format!("@{}", offset.unwrap_or(0)) };
            text += &format!("#EXT-X-BYTERANGE:{length}{offset}\n");
        }
        previous = segment.range.map(|_| segment.resource);
        text += &format!("media/{}.mp4?sig=a,b\n", segment.resource);
    }
    if end_list {
        text += "#EXT-X-ENDLIST\n";
    }
    text
}

fn clean_multivariant() -> impl Strategy<Value = String> {
    let rendition = ("(AUDIO|SUBTITLES|VIDEO)", "[a-z]{1,4}", "[A-Za-z, =]{1,8}", any::<bool>(), any::<bool>()).prop_map(
        |(kind, group, name, default, auto)| {
            let yes = |flag| if flag { "YES" } else { "NO" };
            format!(
                "#EXT-X-MEDIA:TYPE={kind},GROUP-ID=\"{group}\",NAME=\"{name}\",LANGUAGE=\"en\",DEFAULT={},AUTOSELECT={},URI=\"{group}.m3u8\"\n",
                yes(default),
                yes(auto)
            )
        },
    );
    let resolution = proptest::option::of((1..8000u32, 1..8000u32));
    let variant = (1..u64::MAX, resolution, proptest::option::of("[a-z]{1,4}"), "[a-z]{1,8}").prop_map(
        |(bandwidth, resolution, audio, uri)| {
            let resolution = resolution.map(|(w, h)| format!(",RESOLUTION={w}x{h}")).unwrap_or_default();
            let audio = audio.map(|group| format!(",AUDIO=\"{group}\"")).unwrap_or_default();
            format!("#EXT-X-STREAM-INF:BANDWIDTH={bandwidth}{resolution},CODECS=\"avc1.64001f,mp4a.40.2\"{audio}\n{uri}.m3u8\n")
        },
    );
    (proptest::collection::vec(rendition, 0..5), proptest::collection::vec(variant, 1..8))
        .prop_map(|(renditions, variants)| format!("#EXTM3U\n{}{}", renditions.concat(), variants.concat()))
}

proptest! {
    #[test]
    fn both_agree_on_clean_media_playlists(
        sequence in 0..u64::MAX / 2,
        end_list: bool,
        segments in proptest::collection::vec(clean_segment(), 1..20),
    ) {
        compare(clean_media(sequence, end_list, &segments).as_bytes());
    }

    #[test]
    fn both_agree_on_clean_multivariant_playlists(text in clean_multivariant()) {
        compare(text.as_bytes());
    }
}
