//! Playlists of playlists: variants, and sound apart from the picture.

use super::super::media::Stream;
use super::super::origin::Origin;
use super::{Publish, Published};

/// A multivariant playlist on the origin.
#[derive(Debug, Clone)]
pub struct Master {
    pub url: String,
    pub path: String,
    /// In the order of the streams that were given.
    pub variants: Vec<Published>,
}

/// One variant for each stream, each in the same shape; `shape` makes it from a stream.
pub fn publish_master(origin: &Origin, base: &str, streams: &[&Stream], shape: impl Fn(&Stream) -> Publish) -> Master {
    let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-INDEPENDENT-SEGMENTS\n");
    let mut variants = Vec::new();
    for stream in streams {
        let Stream { width, height, .. } = stream;
        let published = shape(stream).at(origin, &format!("{base}/{height}p"));
        let bandwidth = bandwidth(stream);
        text.push_str(&format!(
            "#EXT-X-STREAM-INF:BANDWIDTH={bandwidth},RESOLUTION={width}x{height},CODECS=\"avc1.42c01e,mp4a.40.2\"\n"
        ));
        let relative = published.playlist_path.strip_prefix(&format!("{base}/")).expect("published below the base");
        text.push_str(&format!("{relative}\n"));
        variants.push(published);
    }
    let path = format!("{base}/master.m3u8");
    origin.put(&path, text);
    Master { url: origin.url(&path), path, variants }
}

/// Picture and sound in playlists of their own.
#[derive(Debug, Clone)]
pub struct SeparateAudio {
    pub url: String,
    pub path: String,
    pub video: Published,
    pub audio: Published,
}

/// A multivariant playlist with one variant and, in a rendition, its sound.
pub fn publish_separate_audio(origin: &Origin, base: &str, video: &Publish, audio: &Publish) -> SeparateAudio {
    let published_video = video.at(origin, &format!("{base}/video"));
    let published_audio = audio.at(origin, &format!("{base}/audio"));
    let Stream { width, height, .. } = video.stream;
    let bandwidth = bandwidth(&video.stream) + bandwidth(&audio.stream);
    let relative = |published: &Published| {
        published.playlist_path.strip_prefix(&format!("{base}/")).expect("published below the base").to_owned()
    };
    let text = format!(
        "#EXTM3U\n#EXT-X-VERSION:6\n\
         #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"sound\",NAME=\"English\",LANGUAGE=\"en\",DEFAULT=YES,AUTOSELECT=YES,URI=\"{}\"\n\
         #EXT-X-STREAM-INF:BANDWIDTH={bandwidth},RESOLUTION={width}x{height},CODECS=\"avc1.42c01e,mp4a.40.2\",AUDIO=\"sound\"\n\
         {}\n",
        relative(&published_audio),
        relative(&published_video),
    );
    let path = format!("{base}/master.m3u8");
    origin.put(&path, text);
    SeparateAudio { url: origin.url(&path), path, video: published_video, audio: published_audio }
}

/// A subtitle rendition to publish.
#[derive(Debug, Clone)]
pub struct SubtitleRendition {
    /// Of its EXT-X-MEDIA: `NAME="English",LANGUAGE="en"`.
    pub attributes: String,
    /// WebVTT.
    pub segments: Vec<String>,
    /// Lines before the first segment: a key.
    pub before: String,
}

impl SubtitleRendition {
    /// In the clear, under this language.
    pub fn new(language: &str, segments: &[String]) -> SubtitleRendition {
        let attributes = format!("NAME=\"{language}\",LANGUAGE=\"{language}\"");
        SubtitleRendition { attributes, segments: segments.to_vec(), before: String::new() }
    }
}

/// A multivariant playlist with one variant and its subtitles, in segments of one second:
/// `<base>/subtitles0/seg0.vtt`, …
pub fn publish_subtitles(origin: &Origin, base: &str, video: &Publish, subtitles: &[SubtitleRendition]) -> Master {
    let published = video.at(origin, &format!("{base}/video"));
    let mut text = String::from("#EXTM3U\n");
    for (number, SubtitleRendition { attributes, segments, before }) in subtitles.iter().enumerate() {
        let directory = format!("{base}/subtitles{number}");
        let mut playlist = format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n{before}");
        for (index, segment) in segments.iter().enumerate() {
            origin.put(&format!("{directory}/seg{index}.vtt"), segment.clone());
            if video.stream.discontinuities.contains(&index) {
                playlist.push_str("#EXT-X-DISCONTINUITY\n");
            }
            playlist.push_str(&format!("#EXTINF:1,\nseg{index}.vtt\n"));
        }
        origin.put(&format!("{directory}/index.m3u8"), playlist + "#EXT-X-ENDLIST\n");
        let uri = format!("subtitles{number}/index.m3u8");
        text.push_str(&format!("#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"subs\",{attributes},URI=\"{uri}\"\n"));
    }
    let relative = published.playlist_path.strip_prefix(&format!("{base}/")).expect("published below the base");
    let bandwidth = bandwidth(&video.stream);
    text.push_str(&format!("#EXT-X-STREAM-INF:BANDWIDTH={bandwidth},SUBTITLES=\"subs\"\n{relative}\n"));
    let path = format!("{base}/master.m3u8");
    origin.put(&path, text);
    Master { url: origin.url(&path), path, variants: vec![published] }
}

/// The highest bit rate of a segment, in bits per second.
fn bandwidth(stream: &Stream) -> u64 {
    let rates = stream.segments.iter().zip(&stream.durations);
    rates.map(|(segment, seconds)| (segment.len() as f64 * 8.0 / seconds).ceil() as u64).max().unwrap_or(1)
}
