//! Which variant and which renditions of a multivariant playlist are downloaded. Pure.

use std::cmp::Reverse;

use crate::failure::{Failure, FailureKind, Result};

use super::playlist::{MultivariantPlaylist, Rendition, RenditionKind, Variant};

/// Copies of one variant that are told. More hosts than that do not fail at once.
const MAX_COPIES: usize = 16;

/// The variant to download: the best height not above `quality_lines`, else the lowest there is;
/// among equals the highest bandwidth, and then the one that is listed first (the others are copies
/// of it on other hosts).
///
/// A variant without RESOLUTION counts as lower than all that have one. Among several of them the
/// bandwidth stands in for the height: the highest that is usual for `quality_lines`
/// (8 bit/s for each line squared: 1.8 Mbit/s for 480, 4.1 for 720, 9.3 for 1080), else the lowest.
/// Variants with sound only are taken when there is nothing else. When EXT-X-CONTENT-STEERING says
/// with which pathway to begin, those of the others are only copies.
///
/// # Errors
/// [`FailureKind::PlaylistInvalid`] when the playlist has no variants.
pub fn variant(playlist: &MultivariantPlaylist, quality_lines: u32) -> Result<&Variant> {
    let mut candidates: Vec<&Variant> = playlist.variants.iter().collect();
    if let Some(first) = playlist.steering.as_ref().and_then(|steering| steering.pathway.as_deref()) {
        keep_if_any(&mut candidates, |variant| pathway(variant) == first);
    }
    keep_if_any(&mut candidates, |variant| !is_audio_only(variant));
    let (known, unknown): (Vec<&Variant>, Vec<&Variant>) =
        candidates.into_iter().partition(|variant| lines(variant).is_some());
    let bandwidth = |variant: &&Variant| variant.bandwidth_bits_per_second;
    let usual_bandwidth = u64::from(quality_lines).pow(2).saturating_mul(8);

    let fitting = known.iter().copied().filter(|variant| lines(variant) <= Some(quality_lines));
    first_best(fitting, |variant| (lines(variant), bandwidth(variant)))
        .or_else(|| {
            let usual = unknown.iter().copied().filter(|variant| bandwidth(variant) <= usual_bandwidth);
            first_best(usual, bandwidth)
        })
        .or_else(|| first_best(unknown.iter().copied(), |variant| Reverse(bandwidth(variant))))
        .or_else(|| first_best(known.iter().copied(), |variant| (Reverse(lines(variant)), bandwidth(variant))))
        .ok_or_else(|| Failure::new(FailureKind::PlaylistInvalid, "the multivariant playlist has no variants"))
}

/// The audio rendition that must be downloaded beside the variant: DEFAULT=YES first, else
/// AUTOSELECT=YES, else the first of the variant's group. `None` when that one is in the variant's
/// own stream: it has no URI, or the variant's.
pub fn audio<'p>(playlist: &'p MultivariantPlaylist, variant: &Variant) -> Option<&'p Rendition> {
    // A stream with sound only is one of its group already; a second sound track is not wanted.
    if is_audio_only(variant) {
        return None;
    }
    let group = variant.audio.as_deref()?;
    let group = || of_group(playlist, RenditionKind::Audio, group);
    let chosen = group()
        .find(|rendition| rendition.default)
        .or_else(|| group().find(|rendition| rendition.autoselect))
        .or_else(|| group().next())?;
    chosen.uri.as_ref().filter(|uri| **uri != variant.uri).map(|_| chosen)
}

/// The subtitle renditions of the variant that have a playlist of their own, in playlist order.
pub fn subtitles<'p>(playlist: &'p MultivariantPlaylist, variant: &Variant) -> Vec<&'p Rendition> {
    let Some(group) = variant.subtitles.as_deref() else { return Vec::new() };
    of_group(playlist, RenditionKind::Subtitles, group).filter(|rendition| rendition.uri.is_some()).collect()
}

/// The copies of a variant, in playlist order, the first 16 of them: another URI and the same
/// attributes (RFC 8216 §6.2.4). Only PATHWAY-ID and the names of the groups may differ, and SCORE,
/// which says what its author thinks of the host.
pub fn redundant<'p>(playlist: &'p MultivariantPlaylist, variant: &Variant) -> Vec<&'p Variant> {
    let mut copies: Vec<&Variant> = Vec::new();
    for copy in playlist.variants.iter().filter(|other| is_copy(other, variant)) {
        if copies.len() < MAX_COPIES && copies.iter().all(|known| known.uri != copy.uri) {
            copies.push(copy);
        }
    }
    copies
}

/// The copies of an audio rendition of `variant`, in playlist order of the redundant variants: what
/// stands in their groups with the same NAME, LANGUAGE and CHANNELS.
pub fn redundant_audio<'p>(
    playlist: &'p MultivariantPlaylist,
    variant: &Variant,
    audio: &Rendition,
) -> Vec<&'p Rendition> {
    let what = |rendition: &Rendition| {
        let Rendition { kind, name, language, channels, .. } = rendition;
        (*kind, name.clone(), language.clone(), channels.clone())
    };
    let mut copies: Vec<&Rendition> = Vec::new();
    for group in redundant(playlist, variant).into_iter().filter_map(|copy| copy.audio.as_deref()) {
        let mut group = of_group(playlist, RenditionKind::Audio, group);
        let copy = group.find(|rendition| rendition.uri.is_some() && what(rendition) == what(audio));
        let known = |copy: &&Rendition| copy.uri == audio.uri || copies.iter().any(|known| known.uri == copy.uri);
        copies.extend(copy.filter(|copy| !known(copy)));
    }
    copies
}

/// Whether two variants are the same but for where they are. Of two without BANDWIDTH, which every
/// variant must have, nothing is known.
fn is_copy(one: &Variant, other: &Variant) -> bool {
    let bandwidth = one.bandwidth_bits_per_second;
    if one.uri == other.uri || bandwidth == 0 || bandwidth != other.bandwidth_bits_per_second {
        return false;
    }
    let comparable = |variant: &Variant| Variant {
        uri: one.uri.clone(),
        pathway: None,
        score: None,
        // A variant with sound apart is no copy of one that has it inside.
        audio: variant.audio.as_ref().map(|_| Box::default()),
        video: variant.video.as_ref().map(|_| Box::default()),
        closed_captions: variant.closed_captions.as_ref().filter(|group| ***group != *"NONE").map(|_| Box::default()),
        subtitles: None,
        ..variant.clone()
    };
    comparable(one) == comparable(other)
}

/// PATHWAY-ID; `.` when there is none (rfc8216bis §4.4.6.2).
fn pathway(variant: &Variant) -> &str {
    variant.pathway.as_deref().unwrap_or(".")
}

/// Leaves out what does not fulfil a condition, unless nothing does.
fn keep_if_any(variants: &mut Vec<&Variant>, condition: impl Fn(&Variant) -> bool) {
    if variants.iter().any(|variant| condition(variant)) {
        variants.retain(|variant| condition(variant));
    }
}

fn of_group<'p>(
    playlist: &'p MultivariantPlaylist,
    kind: RenditionKind,
    group: &str,
) -> impl Iterator<Item = &'p Rendition> {
    playlist.renditions.iter().filter(move |rendition| rendition.kind == kind && *rendition.group == *group)
}

/// The best by `rank`; among equals the first.
fn first_best<'p, R: Ord>(
    variants: impl DoubleEndedIterator<Item = &'p Variant>,
    rank: impl Fn(&&'p Variant) -> R,
) -> Option<&'p Variant> {
    // `max_by_key` gives the last of equals.
    variants.rev().max_by_key(|variant| rank(variant))
}

/// The height; 0 lines say nothing.
fn lines(variant: &Variant) -> Option<u32> {
    variant.height.filter(|&height| height > 0)
}

/// Whether CODECS names audio codecs only (RFC 6381 names; no CODECS says nothing).
fn is_audio_only(variant: &Variant) -> bool {
    const AUDIO: &[&str] = &["mp4a", "ac-3", "ec-3", "ac-4", "opus", "flac", "alac", "mp3", "vorbis"];
    let is_audio = |codec: &str| {
        let name = codec.split('.').next().unwrap_or_default().to_ascii_lowercase();
        AUDIO.contains(&name.as_str()) || name.starts_with("dts")
    };
    lines(variant).is_none()
        && variant.codecs.as_deref().is_some_and(|codecs| codecs.split(',').map(str::trim).all(is_audio))
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::hls::playlist::{Limits, Playlist, parse};

    fn playlist(lines: &str) -> MultivariantPlaylist {
        let base = Url::parse("https://h.example/master.m3u8").unwrap();
        match parse(format!("#EXTM3U\n{lines}").as_bytes(), &base, &Limits::default()).unwrap() {
            Playlist::Multivariant(playlist) => playlist,
            Playlist::Media(_) => panic!("a media playlist"),
        }
    }

    /// Variants of the given attributes, called 0, 1, 2, …
    fn variants(attributes: &[&str]) -> MultivariantPlaylist {
        let line = |(n, list): (usize, &&str)| format!("#EXT-X-STREAM-INF:{list}\n{n}\n");
        playlist(&attributes.iter().enumerate().map(line).collect::<String>())
    }

    fn chosen(attributes: &[&str], quality: u32) -> String {
        variant(&variants(attributes), quality).unwrap().uri.path().trim_start_matches('/').to_owned()
    }

    #[test]
    fn the_best_height_not_above_the_quality() {
        let list = [
            "BANDWIDTH=1,RESOLUTION=640x360",
            "BANDWIDTH=9,RESOLUTION=1920x1080",
            "BANDWIDTH=2,RESOLUTION=1280x720",
            "BANDWIDTH=3,RESOLUTION=854x480",
        ];
        for (quality, expected) in [(720, "2"), (719, "3"), (1080, "1"), (4320, "1"), (360, "0"), (144, "0"), (0, "0")]
        {
            assert_eq!(chosen(&list, quality), expected, "{quality}");
        }
    }

    #[test]
    fn among_equal_heights_the_highest_bandwidth_and_then_the_first() {
        let list = ["BANDWIDTH=1,RESOLUTION=1x720", "BANDWIDTH=2,RESOLUTION=1x720", "BANDWIDTH=2,RESOLUTION=1x720"];
        assert_eq!(chosen(&list, 720), "1");
        assert_eq!(chosen(&list, 360), "1");
    }

    #[test]
    fn an_unknown_height_is_below_all_known_ones() {
        assert_eq!(chosen(&["BANDWIDTH=9000000", "BANDWIDTH=1,RESOLUTION=1x480"], 720), "1");
        assert_eq!(chosen(&["BANDWIDTH=1,RESOLUTION=1x1080", "BANDWIDTH=5"], 720), "1");
    }

    #[test]
    fn without_heights_the_bandwidth_decides() {
        let list = ["BANDWIDTH=400000", "BANDWIDTH=3500000", "BANDWIDTH=9000000"];
        assert_eq!(chosen(&list, 720), "1");
        assert_eq!(chosen(&list, 1080), "2");
        assert_eq!(chosen(&list, 100), "0");
        assert_eq!(chosen(&["", "", ""], 720), "0");
    }

    #[test]
    fn sound_only_is_the_last_choice() {
        let list = ["BANDWIDTH=64000,CODECS=\"mp4a.40.2\"", "BANDWIDTH=9000000,CODECS=\"avc1.64001f,mp4a.40.2\""];
        assert_eq!(chosen(&list, 144), "1");
        assert_eq!(chosen(&list[..1], 720), "0");
    }

    #[test]
    fn no_variants_is_an_error() {
        let failure = variant(&playlist("#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"a\""), 720).unwrap_err();
        assert_eq!(failure.kind, FailureKind::PlaylistInvalid);
    }

    fn audio_of(media: &[&str]) -> Option<String> {
        let media: String = media
            .iter()
            .map(|list| format!("#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",{list}\n"))
            .chain(["#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"other\",NAME=\"x\",DEFAULT=YES,URI=\"other\"\n".to_owned()])
            .collect();
        let playlist = playlist(&format!("{media}#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"a\"\nv\n"));
        audio(&playlist, &playlist.variants[0]).map(|rendition| rendition.name.to_string())
    }

    #[test]
    fn the_default_audio_is_downloaded_beside_the_variant() {
        let (plain, auto, default) = (
            "NAME=\"plain\",URI=\"1\"",
            "NAME=\"auto\",AUTOSELECT=YES,URI=\"2\"",
            "NAME=\"default\",DEFAULT=YES,URI=\"3\"",
        );
        assert_eq!(audio_of(&[plain, auto, default]).unwrap(), "default");
        assert_eq!(audio_of(&[plain, auto]).unwrap(), "auto");
        assert_eq!(audio_of(&[plain, "NAME=\"second\",URI=\"4\""]).unwrap(), "plain");
        assert_eq!(audio_of(&[]), None);
    }

    #[test]
    fn audio_inside_the_stream_is_not_downloaded_again() {
        assert_eq!(audio_of(&["NAME=\"inside\",DEFAULT=YES", "NAME=\"other\",URI=\"1\""]), None);
        assert_eq!(audio_of(&["NAME=\"same\",DEFAULT=YES,URI=\"v\""]), None);
        let sound = playlist(
            "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"x\",URI=\"1\"\n#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"mp4a.40.2\",AUDIO=\"a\"\nv\n",
        );
        assert_eq!(audio(&sound, &sound.variants[0]), None);
    }

    #[test]
    fn subtitles_of_the_group_with_a_uri() {
        let playlist = playlist(
            "#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"s\",NAME=\"en\",URI=\"en\"\n\
             #EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"s\",NAME=\"none\"\n\
             #EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"t\",NAME=\"other\",URI=\"x\"\n\
             #EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"s\",NAME=\"de\",URI=\"de\"\n\
             #EXT-X-STREAM-INF:BANDWIDTH=1,SUBTITLES=\"s\"\nv\n#EXT-X-STREAM-INF:BANDWIDTH=1\nw\n",
        );
        let names: Vec<_> =
            subtitles(&playlist, &playlist.variants[0]).iter().map(|rendition| &*rendition.name).collect();
        assert_eq!(names, ["en", "de"]);
        assert!(subtitles(&playlist, &playlist.variants[1]).is_empty());
    }

    #[test]
    fn copies_differ_in_where_they_are_and_in_nothing_else() {
        let same = "BANDWIDTH=5,RESOLUTION=1x720,CODECS=\"avc1\",AUDIO=\"a\"";
        let different = [
            "BANDWIDTH=6,RESOLUTION=1x720,CODECS=\"avc1\",AUDIO=\"a\"",
            "BANDWIDTH=5,RESOLUTION=2x720,CODECS=\"avc1\",AUDIO=\"a\"",
            "BANDWIDTH=5,RESOLUTION=1x720,CODECS=\"hvc1\",AUDIO=\"a\"",
            "BANDWIDTH=5,RESOLUTION=1x720,CODECS=\"avc1\"",
            &format!("{same},FRAME-RATE=50"),
            &format!("{same},VIDEO-RANGE=PQ"),
            &format!("{same},HDCP-LEVEL=TYPE-1"),
            &format!("{same},AVERAGE-BANDWIDTH=4"),
            &format!("{same},STABLE-VARIANT-ID=\"x\""),
            &format!("{same},VIDEO=\"angle\""),
            &format!("{same},CLOSED-CAPTIONS=\"cc\""),
            &format!("{same},SUPPLEMENTAL-CODECS=\"dvh1\""),
        ];
        let copies = [
            same.replace("\"a\"", "\"b\""),
            format!("PATHWAY-ID=\"CDN-B\",{same}"),
            format!("{same},SCORE=1.5,SUBTITLES=\"s\",CLOSED-CAPTIONS=NONE"),
        ];
        let list: Vec<&str> = different.into_iter().chain([same]).chain(copies.iter().map(String::as_str)).collect();
        let mut playlist = variants(&list);
        let chosen = playlist.variants[different.len()].clone();
        // Once more with the URI of a copy, and one with its own.
        playlist.variants.extend([playlist.variants[different.len() + 1].clone(), chosen.clone()]);
        let names: Vec<_> = redundant(&playlist, &chosen).iter().map(|copy| copy.uri.path().to_owned()).collect();
        assert_eq!(names, ["/13", "/14", "/15"]);
        for (index, attributes) in different.iter().enumerate() {
            assert!(redundant(&playlist, &playlist.variants[index]).is_empty(), "{attributes}");
        }
        assert!(redundant(&variants(&["", ""]), &variants(&[""]).variants[0]).is_empty());
        let many = variants(&["BANDWIDTH=1"; 40]);
        assert_eq!(redundant(&many, &many.variants[3]).len(), MAX_COPIES);
    }

    #[test]
    fn copies_of_the_sound_are_in_the_groups_of_the_copies() {
        let media = |group: &str, list: &str| format!("#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{group}\",{list}\n");
        let (english, german) = ("NAME=\"e\",LANGUAGE=\"en\",CHANNELS=\"2\"", "NAME=\"g\",LANGUAGE=\"de\"");
        let playlist = playlist(&format!(
            "{}{}{}{}{}{}{}",
            media("a", &format!("{english},URI=\"a-en\"")),
            media("b", &format!("{german},URI=\"b-de\"")),
            media("b", &format!("{english},URI=\"b-en\"")),
            media("c", &format!("{english},URI=\"a-en\"")),
            media("d", english),
            media("e", "NAME=\"e\",LANGUAGE=\"en\",CHANNELS=\"6\",URI=\"e-en\""),
            ["a", "b", "b", "c", "d", "e"]
                .iter()
                .enumerate()
                .map(|(n, group)| format!("#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"{group}\"\n{n}\n"))
                .collect::<String>(),
        ));
        let chosen = &playlist.variants[0];
        let copies = redundant_audio(&playlist, chosen, audio(&playlist, chosen).unwrap());
        let names: Vec<_> = copies.iter().map(|copy| copy.uri.as_ref().unwrap().path()).collect();
        assert_eq!(names, ["/b-en"]);
    }

    #[test]
    fn steering_says_with_which_copy_to_begin() {
        let variants = "#EXT-X-STREAM-INF:BANDWIDTH=1,PATHWAY-ID=\"A\"\na\n#EXT-X-STREAM-INF:BANDWIDTH=1,PATHWAY-ID=\"B\"\nb\n\
                        #EXT-X-STREAM-INF:BANDWIDTH=2\nc\n";
        for (steering, expected) in [
            ("", "/c"),
            ("#EXT-X-CONTENT-STEERING:SERVER-URI=\"s\"\n", "/c"),
            ("#EXT-X-CONTENT-STEERING:SERVER-URI=\"s\",PATHWAY-ID=\"B\"\n", "/b"),
            ("#EXT-X-CONTENT-STEERING:SERVER-URI=\"s\",PATHWAY-ID=\".\"\n", "/c"),
            ("#EXT-X-CONTENT-STEERING:SERVER-URI=\"s\",PATHWAY-ID=\"nowhere\"\n", "/c"),
        ] {
            let playlist = playlist(&format!("{steering}{variants}"));
            assert_eq!(variant(&playlist, 720).unwrap().uri.path(), expected, "{steering}");
        }
    }
}
