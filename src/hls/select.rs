//! Which variant and which renditions of a multivariant playlist are downloaded. Pure.

use std::cmp::Reverse;

use crate::failure::{Failure, FailureKind, Result};

use super::playlist::{MultivariantPlaylist, Rendition, RenditionKind, Variant};

/// The variant to download: the best height not above `quality_lines`, else the lowest there is;
/// among equals the highest bandwidth, and then the one that is listed first (the others are copies
/// of it on other hosts).
///
/// A variant without RESOLUTION counts as lower than all that have one. Among several of them the
/// bandwidth stands in for the height: the highest that is usual for `quality_lines`
/// (8 bit/s for each line squared: 1.8 Mbit/s for 480, 4.1 for 720, 9.3 for 1080), else the lowest.
/// Variants with sound only are taken when there is nothing else.
///
/// # Errors
/// [`FailureKind::PlaylistInvalid`] when the playlist has no variants.
pub fn variant(playlist: &MultivariantPlaylist, quality_lines: u32) -> Result<&Variant> {
    let mut candidates: Vec<&Variant> = playlist.variants.iter().filter(|variant| !is_audio_only(variant)).collect();
    if candidates.is_empty() {
        candidates = playlist.variants.iter().collect();
    }
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
}
