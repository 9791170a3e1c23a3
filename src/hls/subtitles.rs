//! Subtitle renditions: which ones, under which names, and from the spooled segments to one text.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use url::Url;

use super::load::{BitRate, Loader, Source, Variables};
use super::plan::Place;
use super::playlist::{MultivariantPlaylist, Rendition, Variant};
use super::sniff::MediaKind;
use super::webvtt::{Clock, SegmentText, nearest, stitch};
use super::{StreamRequest, Track, journal_path, select, timestamps};
use crate::disk;
use crate::failure::{Context, Failure, FailureKind, Result};

/// Most bytes of one rendition: a lecture of three hours has some 300 KB.
pub const MAX_BYTES: u64 = 16 << 20;
/// A section that begins so closely to where the playlist has it goes on with the clock of the one
/// before, in seconds.
const SLACK_SECONDS: f64 = 0.5;
/// Most renditions of a variant.
const MAX_RENDITIONS: usize = 250;
/// Behind each unit of a spool: how many bytes it has, 64 bits, little endian.
pub const TRAILER_BYTES: usize = 8;
/// Longest tag in a file name (BCP 47 asks implementations for 35).
pub const MAX_TAG_BYTES: usize = 35;

/// The segments of a rendition, whole, as they came.
#[derive(Debug)]
pub struct Spool {
    /// What tells them from others of the lecture in a file name: `en`, `en-forced`.
    pub tag: String,
    pub(super) track: Track,
}

/// Subtitles on the timeline of their lecture, not yet under their final name.
#[derive(Debug)]
pub struct Subtitles {
    /// As of the [`Spool`].
    pub tag: String,
    /// A WebVTT file.
    pub part: PathBuf,
    /// Keeps others away from what they are made of.
    _spool: Track,
}

/// A subtitle rendition as the multivariant playlist lists it.
pub struct Listed {
    pub tag: String,
    url: Url,
    variables: Variables,
    /// What the multivariant playlist says of it, the address left out.
    rendition: String,
}

impl Listed {
    /// The renditions of a variant that have a playlist of their own, in playlist order.
    pub fn of(master: &MultivariantPlaylist, variant: &Variant) -> Vec<Listed> {
        let renditions = select::subtitles(master, variant);
        let tags = tags(&renditions);
        let listed = |(rendition, tag): (&Rendition, String)| {
            let Rendition { uri, name, language, forced, .. } = rendition;
            Some(Listed {
                tag,
                url: uri.clone()?,
                variables: master.variables.clone(),
                rendition: format!("{name:?} {language:?} {forced}"),
            })
        };
        renditions.into_iter().zip(tags).filter_map(listed).collect()
    }

    /// Loads its playlist.
    ///
    /// # Errors
    /// As [`Loader::load_playlist`].
    pub async fn load(self, loader: &Loader, request: &StreamRequest) -> Result<Source> {
        let Listed { url, variables, rendition, .. } = self;
        let playlist = loader.load_media(request, &url, &variables).await?;
        Ok(Source { playlist, rendition, copies: vec![url], copy: 0, variables, bits: BitRate::default() })
    }
}

/// Refuses a stream with more subtitles than there are languages.
///
/// # Errors
/// `playlist_too_large`.
pub fn check_count(listed: &[Listed]) -> Result<()> {
    if listed.len() <= MAX_RENDITIONS {
        return Ok(());
    }
    let message = format!("the variant has {} subtitle renditions, more than {MAX_RENDITIONS}", listed.len());
    Err(Failure::new(FailureKind::PlaylistTooLarge, message))
}

/// A language as it stands in a file name: letters, digits and single hyphens; `und` when nothing is
/// left (BCP 47's word for it).
pub fn language_tag(language: &str) -> String {
    let words: Vec<&str> =
        language.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let mut tag = words.join("-");
    tag.truncate(MAX_TAG_BYTES);
    let tag = tag.trim_end_matches('-');
    if tag.is_empty() { "und".into() } else { tag.into() }
}

/// One name for each rendition, no two alike: the language, else NAME; `-forced` behind it for those
/// that are; and where that is taken, NAME or a number as well.
fn tags(renditions: &[&Rendition]) -> Vec<String> {
    let mut taken = HashSet::new();
    let tag = |rendition: &&Rendition| {
        let language = rendition.language.as_deref().filter(|language| !language.is_empty());
        let forced = if rendition.forced { "-forced" } else { "" };
        let plain = language_tag(&format!("{}{forced}", language.unwrap_or(&rendition.name)));
        let named = language_tag(&format!("{plain}-{}", rendition.name));
        let short = language_tag(&plain[..plain.len().min(MAX_TAG_BYTES - 5)]);
        let numbered = (2..).map(|number| format!("{short}-{number}"));
        let free =
            [plain.clone(), named].into_iter().chain(numbered).find(|tag| taken.insert(tag.to_ascii_lowercase()));
        // cannot be none: there is no end of numbers.
        free.unwrap_or(plain)
    };
    renditions.iter().map(tag).collect()
}

impl Spool {
    /// Makes one WebVTT file, `part`. What is played is `lecture`: the part of the main track, or a
    /// copy of it with its sections on one timeline. A spool that does not give a WebVTT file is
    /// thrown away, so that the next attempt fetches it again.
    ///
    /// # Errors
    /// `segment_invalid`, `body_too_large`, `disk_full`, `disk_failed`.
    pub async fn stitch(mut self, main: &Track, lecture: &Path, part: PathBuf) -> Result<Subtitles> {
        let places = std::mem::take(&mut self.track.places);
        let timeline = Timeline {
            part: main.part.clone(),
            lecture: lecture.to_owned(),
            kind: main.kind,
            sections: main.sections.clone(),
            starts: main.section_starts.clone(),
        };
        let (from, to) = (self.track.part.clone(), part.clone());
        let finished = disk::blocking(move || {
            let reading = |path: &Path, error| Failure::disk(format_args!("reading {}", path.display()), error);
            let clock = timeline.clock().map_err(|error| reading(&timeline.part, error))?;
            let bytes = std::fs::read(&from).map_err(|error| reading(&from, error))?;
            let stitched = stitch(&segments(&bytes, &places)?, clock.as_ref())?;
            disk::no_links::write(&to, &stitched.text)
                .map_err(|error| Failure::disk(format_args!("writing {}", to.display()), error))?;
            Ok(stitched)
        })
        .await;
        if finished.is_err() {
            disk::remove(&journal_path(&self.track.part)).await?;
        }
        let Spool { tag, track } = self;
        let stitched = finished.at(|| format!("the {tag} subtitles"))?;
        tracing::debug!(cues = stitched.cues, "the {tag} subtitles are whole");
        if stitched.before_start > 0 {
            let cues = stitched.before_start;
            tracing::info!(cues, "the {tag} subtitles begin before the lecture: what ends before it is left out");
        }
        if stitched.diagnostics.count > 0 {
            let (count, first) = (stitched.diagnostics.count, stitched.diagnostics.first.join("; "));
            tracing::warn!(count, "the {tag} subtitles have oddities: {first}");
        }
        Ok(Subtitles { tag, part, _spool: track })
    }
}

/// Where the timestamps of a main track are to be found.
struct Timeline {
    part: PathBuf,
    /// The same bytes, with other timestamps if it is another file.
    lecture: PathBuf,
    kind: MediaKind,
    /// Offsets of the sections but the first.
    sections: Vec<u64>,
    /// When they begin by the playlist, in seconds.
    starts: Vec<f64>,
}

impl Timeline {
    /// Reads the first timestamp of each section. `None` when the first has none.
    fn clock(&self) -> io::Result<Option<Clock>> {
        let part = File::open(&self.part)?;
        let joined = (self.lecture != self.part).then(|| File::open(&self.lecture)).transpose()?;
        let first = |file: &File, section: usize| {
            let begin = section.checked_sub(1).map_or(0, |before| self.sections[before]);
            let end = self.sections.get(section).copied().unwrap_or(u64::MAX);
            timestamps::first(file, self.kind, begin..end)
        };
        let Some(beginning) = first(&part, 0)? else { return Ok(None) };
        let mut clock = Clock::starting_at(beginning);
        for (number, start_seconds) in self.starts.iter().enumerate().take(self.sections.len()) {
            let by_playlist = (start_seconds * 90_000.0).round() as i64;
            let timestamp = first(&part, number + 1)?;
            let lecture = match (&joined, timestamp) {
                (Some(joined), _) => {
                    first(joined, 0)?.zip(first(joined, number + 1)?).map(|(zero, there)| there - zero)
                }
                // As it is: players go by the playlist, or by the clock where that goes on.
                (None, Some(timestamp)) => {
                    let by_clock = nearest(timestamp - beginning, by_playlist);
                    let off_seconds = (by_clock - by_playlist) as f64 / 90_000.0;
                    (off_seconds.abs() <= SLACK_SECONDS).then_some(by_clock)
                }
                (None, None) => None,
            };
            clock.begin_section(lecture.map_or(by_playlist, |ticks| nearest(ticks, by_playlist)), timestamp);
        }
        Ok(Some(clock))
    }
}

/// The segments of a spool, read from its end, where the first length is.
fn segments<'a>(mut spool: &'a [u8], places: &[Place]) -> Result<Vec<SegmentText<'a>>> {
    let damaged = || Failure::new(FailureKind::Internal, "the spooled segments are not those of the playlist");
    let mut segments = Vec::with_capacity(places.len());
    for place in places.iter().rev() {
        let (rest, length) = spool.split_last_chunk::<TRAILER_BYTES>().ok_or_else(damaged)?;
        let start = usize::try_from(u64::from_le_bytes(*length)).ok().and_then(|length| rest.len().checked_sub(length));
        let (rest, bytes) = rest.split_at(start.ok_or_else(damaged)?);
        let Place { start_seconds, discontinuity, sequence } = *place;
        segments.push(SegmentText { bytes, start_seconds, discontinuity, sequence });
        spool = rest;
    }
    if !spool.is_empty() {
        return Err(damaged());
    }
    segments.reverse();
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hls::playlist::{Limits, Playlist, parse};

    fn listed(media: &[&str]) -> Vec<String> {
        let media: String =
            media.iter().map(|list| format!("#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"s\",URI=\"x\",{list}\n")).collect();
        let text = format!("#EXTM3U\n{media}#EXT-X-STREAM-INF:BANDWIDTH=1,SUBTITLES=\"s\"\nv\n");
        let base = Url::parse("https://h.example/master.m3u8").unwrap();
        let Playlist::Multivariant(master) = parse(text.as_bytes(), &base, &Limits::default()).unwrap() else {
            panic!("a media playlist")
        };
        Listed::of(&master, &master.variants[0]).into_iter().map(|listed| listed.tag).collect()
    }

    #[test]
    fn every_rendition_has_a_name_of_its_own() {
        let media = [
            "NAME=\"English\",LANGUAGE=\"en\"",
            "NAME=\"English\",LANGUAGE=\"en\",FORCED=YES",
            "NAME=\"English (SDH)\",LANGUAGE=\"en\"",
            "NAME=\"English (SDH)\",LANGUAGE=\"EN\"",
            "NAME=\"Português/BR\",LANGUAGE=\"pt_BR\"",
            "NAME=\"../Deutsch .\"",
            "NAME=\"\u{423}\u{43a}\u{440}\"",
            "NAME=\"a very long name that goes on and on and on and on\"",
        ];
        let expected = ["en", "en-forced", "en-English-SDH", "EN-2", "pt-BR", "Deutsch", "und"];
        let tags = listed(&media);
        assert_eq!(tags[..7], expected);
        assert_eq!(tags[7], "a-very-long-name-that-goes-on-and-o");
        assert_eq!(listed(&media), tags, "always the same");
    }

    #[test]
    fn a_spool_comes_apart_as_it_was_put_together() {
        let places = [(0.0, 7), (6.0, 8), (12.0, 9)].map(|(start_seconds, sequence)| Place {
            start_seconds,
            discontinuity: false,
            sequence,
        });
        let texts: [&[u8]; 3] = [b"WEBVTT", b"WEBVTT\n\n\xff\0", b"W"];
        let spool: Vec<u8> =
            texts.iter().flat_map(|text| [text, &(text.len() as u64).to_le_bytes()[..]].concat()).collect();
        let found = segments(&spool, &places).unwrap();
        assert_eq!(found.iter().map(|segment| segment.bytes).collect::<Vec<_>>(), texts);
        assert_eq!(found.iter().map(|segment| segment.sequence).collect::<Vec<_>>(), [7, 8, 9]);
        for (spool, places) in
            [(&spool[1..], &places[..]), (&spool, &places[1..]), (b"", &places), (&[0xff; 8], &places)]
        {
            assert_eq!(segments(spool, places).unwrap_err().kind, FailureKind::Internal);
        }
    }
}
