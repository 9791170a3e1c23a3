//! One stream to one finished file: download, remux, final name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::config::Container;
use crate::disk::{self, beside};
use crate::failure::{Failure, FailureKind, Result};
use crate::hls::{Engine, MediaKind, Spool, StreamRequest, Subtitles, Track, Tracks, journal_path, language_tag};
use crate::progress::Progress;
use crate::remux::{self, Expected, Input, InputFormat, Remux, timeline};

/// What a finished lecture can be called.
const EXTENSIONS: [&str; 3] = ["mp4", "ts", "aac"];

/// Picture and sound of a lecture may differ by so much in length before that is told: in seconds, and as a share.
const LENGTHS_APART_SECONDS: f64 = 2.0;
const LENGTHS_APART_SHARE: f64 = 0.05;

/// What stands behind the tag of subtitles while they grow, journals first.
const SUBTITLE_PARTS: &[&str] = &["subtitles.part.journal", "subtitles.part", "stitched.part"];

/// Makes finished files out of streams.
pub struct StreamDownload {
    pub engine: Arc<Engine>,
    /// `None` when there is no ffmpeg on this host.
    pub remux: Option<Remux>,
    pub container: Container,
}

/// Where a stream goes.
#[derive(Debug, Clone)]
pub enum Target {
    /// `<stem>.<extension>`, the extension by what the stream turns out to be.
    Stem(PathBuf),
    /// Exactly this file.
    File(PathBuf),
}

/// A whole stream under its final name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedStream {
    pub path: PathBuf,
    /// The sound, where it came apart and stayed so.
    pub audio: Option<PathBuf>,
    /// WebVTT files.
    pub subtitles: Vec<PathBuf>,
    /// Tags of subtitles that were left out: they are not WebVTT.
    pub skipped_subtitles: Vec<String>,
}

impl Target {
    /// What partial files are called after.
    fn stem(&self) -> &Path {
        match self {
            Target::Stem(path) | Target::File(path) => path,
        }
    }

    /// What subtitles are called after.
    fn subtitle_stem(&self) -> PathBuf {
        match self {
            Target::Stem(stem) => stem.clone(),
            Target::File(path) => path.with_extension(""),
        }
    }

    fn named(&self, extension: &str) -> PathBuf {
        match self {
            Target::Stem(stem) => beside(stem, &format!(".{extension}")),
            Target::File(path) => path.clone(),
        }
    }

    /// Where the sound goes that stays apart.
    fn audio_of(finished: &Path, extension: &str) -> PathBuf {
        beside(&finished.with_extension(""), &format!(".audio.{extension}"))
    }

    /// What an earlier call has finished, if it has. An empty file is nothing finished: `mktemp`
    /// makes them.
    pub fn existing(&self) -> Option<FinishedStream> {
        let is_finished = |path: &PathBuf| path.metadata().is_ok_and(|data| data.is_file() && data.len() > 0);
        let path = EXTENSIONS.iter().map(|extension| self.named(extension)).find(is_finished)?;
        let audio = EXTENSIONS.iter().map(|extension| Target::audio_of(&path, extension)).find(is_finished);
        let subtitles = beside_stem(&self.subtitle_stem(), "vtt");
        Some(FinishedStream { path, audio, subtitles, skipped_subtitles: Vec::new() })
    }
}

impl StreamDownload {
    /// Downloads a stream to its target, going on where an earlier call ended; returns the final
    /// path. A file that is there is finished: nothing gets a final name before it is whole.
    ///
    /// # Errors
    /// What the engine, ffmpeg or the disk failed with; nothing is left under the final name.
    pub async fn run(
        &self,
        request: &StreamRequest,
        target: &Target,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Result<FinishedStream> {
        let stem = target.stem();
        let part = beside(stem, ".part");
        if target.existing().is_none() && part.exists() {
            // What another download is about to finish need not be fetched again.
            disk::blocking(move || disk::open_part(&part).map(drop)).await?;
        }
        if let Some(finished) = target.existing() {
            clean_up(target).await?;
            return Ok(finished);
        }
        let mut tracks =
            self.engine.download(request, stem, &target.subtitle_stem(), self.makes_mp4(), progress).await?;
        let remux = self.remux_with(&tracks)?;
        let mut inputs = inputs(&tracks);
        // A transport stream that stays one may begin its timestamps anew; an .mp4 may not.
        if remux.is_some() || tracks.main.kind == MediaKind::FragmentedMp4 {
            inputs = timeline::joined(inputs, cancel).await?;
        }
        let lecture = inputs.first().map_or(tracks.main.part.as_path(), |input| input.path.as_path());
        let subtitles = stitched(std::mem::take(&mut tracks.subtitles), &tracks.main, lecture, target).await?;
        let mut finished = match remux {
            Some(remux) => {
                let remuxed = beside(stem, ".remux.part");
                remux.to_mp4(&inputs, &remuxed, cancel).await?;
                let subtitles = publish_subtitles(&subtitles, target).await?;
                let path = target.named("mp4");
                disk::publish(&remuxed, &path).await?;
                FinishedStream { path, audio: None, subtitles, skipped_subtitles: Vec::new() }
            }
            None => self.publish(&tracks, &inputs, &subtitles, target).await?,
        };
        tell_of_other_length(&tracks);
        clean_up(target).await?;
        // Until here nobody else may open the parts.
        finished.skipped_subtitles = tracks.skipped_subtitles;
        Ok(finished)
    }

    /// Whether transport streams become .mp4.
    fn makes_mp4(&self) -> bool {
        match self.container {
            Container::Ts => false,
            Container::Mp4 => true,
            Container::Auto => self.remux.is_some(),
        }
    }

    /// The remuxer, if the tracks need it to become what is wanted.
    fn remux_with(&self, tracks: &Tracks) -> Result<Option<&Remux>> {
        let is_mp4 = tracks.main.kind == MediaKind::FragmentedMp4 && tracks.audio.is_none();
        match (self.container, &self.remux) {
            (Container::Ts, _) => Ok(None),
            _ if is_mp4 => Ok(None),
            (_, Some(remux)) => Ok(Some(remux)),
            (Container::Auto, None) => Ok(None),
            (Container::Mp4, None) => {
                let message = "remux.container is mp4, but there is no ffmpeg on this host";
                Err(Failure::new(FailureKind::RemuxFailed, message))
            }
        }
    }

    /// Gives the tracks their final names as they came.
    async fn publish(
        &self,
        tracks: &Tracks,
        inputs: &[Input],
        subtitles: &[Subtitles],
        target: &Target,
    ) -> Result<FinishedStream> {
        for input in inputs.iter().filter(|input| input.format == InputFormat::FragmentedMp4) {
            remux::verify_fragments(&input.path, input.expected).await?;
        }
        let subtitles = publish_subtitles(subtitles, target).await?;
        let path = target.named(extension(tracks.main.kind));
        let audio = tracks.audio.as_ref().map(|audio| Target::audio_of(&path, extension(audio.kind)));
        if let (Some(path), [_, input]) = (&audio, inputs) {
            disk::publish(&input.path, path).await?;
        }
        if let [input, ..] = inputs {
            disk::publish(&input.path, &path).await?;
        }
        Ok(FinishedStream { path, audio, subtitles, skipped_subtitles: Vec::new() })
    }
}

/// Sound that is far longer or shorter than the picture stays so, on the common timeline.
fn tell_of_other_length(tracks: &Tracks) {
    let Some(audio) = &tracks.audio else { return };
    let (picture, sound) = (tracks.main.duration_seconds, audio.duration_seconds);
    if (picture - sound).abs() > f64::max(LENGTHS_APART_SECONDS, picture * LENGTHS_APART_SHARE) {
        let part = tracks.main.part.display();
        tracing::warn!("{part}: by their playlists the picture is {picture:.1} s long and the sound {sound:.1} s");
    }
}

fn extension(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::FragmentedMp4 => "mp4",
        MediaKind::TransportStream => "ts",
        MediaKind::PackedAudio => "aac",
        MediaKind::WebVtt => "vtt",
    }
}

/// The picture first.
fn inputs(tracks: &Tracks) -> Vec<Input> {
    let input = |track: &Track| Input {
        path: track.part.clone(),
        format: format(track.kind),
        sections: track.sections.clone(),
        is_joined: false,
        expected: Some(Expected {
            seconds: track.duration_seconds,
            rounding_seconds: track.rounding_seconds,
            gap_seconds: track.gaps.seconds,
        }),
    };
    std::iter::once(&tracks.main).chain(&tracks.audio).map(input).collect()
}

fn format(kind: MediaKind) -> InputFormat {
    match kind {
        MediaKind::TransportStream => InputFormat::MpegTs,
        MediaKind::FragmentedMp4 => InputFormat::FragmentedMp4,
        MediaKind::PackedAudio | MediaKind::WebVtt => InputFormat::PackedAudio,
    }
}

/// Puts subtitles on the timeline of the lecture, one rendition after the other.
async fn stitched(spools: Vec<Spool>, main: &Track, lecture: &Path, target: &Target) -> Result<Vec<Subtitles>> {
    let mut subtitles = Vec::new();
    for spool in spools {
        let part = beside(&target.subtitle_stem(), &format!(".{}.stitched.part", spool.tag));
        subtitles.push(spool.stitch(main, lecture, part).await?);
    }
    Ok(subtitles)
}

/// Gives the subtitles their final names, before the lecture gets its own: where that is there, they
/// are.
async fn publish_subtitles(subtitles: &[Subtitles], target: &Target) -> Result<Vec<PathBuf>> {
    let mut published = Vec::new();
    for subtitles in subtitles {
        let path = beside(&target.subtitle_stem(), &format!(".{}.vtt", subtitles.tag));
        disk::publish(&subtitles.part, &path).await?;
        published.push(path);
    }
    Ok(published)
}

/// The files `<stem>.<tag>.<extension>`, sorted. Only a tag that [`language_tag`] can give.
fn beside_stem(stem: &Path, extension: &str) -> Vec<PathBuf> {
    let directory = stem.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = format!("{}.", stem.file_name().unwrap_or_default().to_string_lossy());
    let is_one = |found: &str| {
        let tagged = found.strip_prefix(&name).and_then(|rest| rest.split_once('.'));
        tagged.is_some_and(|(tag, rest)| language_tag(tag) == tag && rest == extension)
    };
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut found: Vec<PathBuf> = names.filter(|name| is_one(name)).map(|name| stem.with_file_name(name)).collect();
    found.sort();
    found
}

/// Removes what was only needed on the way. Missing files are no error.
async fn clean_up(target: &Target) -> Result<()> {
    let stem = target.stem();
    for extension in SUBTITLE_PARTS {
        for path in beside_stem(&target.subtitle_stem(), extension) {
            disk::remove(&path).await?;
        }
    }
    for suffix in [".part", ".audio.part", ".remux.part"] {
        let part = beside(stem, suffix);
        // The journal first: without it nobody believes what is left of the part.
        disk::remove(&journal_path(&part)).await?;
        disk::remove(&part).await?;
        disk::remove(&timeline::joined_path(&part)).await?;
    }
    Ok(())
}
