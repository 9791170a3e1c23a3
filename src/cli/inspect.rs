//! What the parser understood of a playlist, for programs and for people.

use std::fmt::Write as _;

use clap::Args;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use url::Url;

use super::answer::{Answer, Failed};
use super::exit::Exit;
use crate::config::Config;
use crate::failure::{Context, Failure, Result};
use crate::hls::playlist::{
    self, ByteRange, Diagnostic, Key, Map, MediaPlaylist, MultivariantPlaylist, Playlist, Rendition, RenditionKind,
    Segment, Variant,
};
use crate::hls::{Engine, StreamRequest};
use crate::http::RequestHeaders;
use crate::metrics::Metrics;

/// What a file's URIs resolve against when nobody says.
const NO_BASE: &str = "http://base.invalid/";

/// Arguments of `hauld inspect`.
#[derive(Debug, Args)]
pub struct InspectArguments {
    /// A playlist's URL or file
    #[arg(value_name = "URL|FILE")]
    pub playlist: String,
    /// What the URIs of a file are relative to
    #[arg(long, value_name = "URL", value_parser = crate::http::parse_url)]
    pub base_url: Option<Url>,
}

/// What the parser understood, as text or JSON.
///
/// # Errors
/// What loading or parsing failed with.
pub async fn run(arguments: &InspectArguments, mut config: Config, json: bool) -> Result<Answer, Failed> {
    let text = &arguments.playlist;
    let playlist = if text.starts_with("http://") || text.starts_with("https://") {
        let url = crate::http::parse_url(text)?;
        config.http.network.allow_typed(&url);
        let headers = RequestHeaders::new(&url, &[], Default::default())?;
        let engine = Engine::new(&config, Metrics::new())?;
        let allowance = engine.job_allowance();
        engine
            .load_playlist(&StreamRequest { url: url.clone(), headers, allowance, renewal: None, captions: Vec::new() })
            .await?
    } else {
        let base = arguments.base_url.clone().map_or_else(|| crate::http::parse_url(NO_BASE), Ok)?;
        let limits = config.hls.playlist_limits;
        let max_bytes = limits.max_bytes;
        let bytes = read(text, max_bytes).await.map_err(|error| Failed {
            exit: Exit::of_input(&error),
            failure: Failure::disk(format_args!("reading {text}"), error),
        })?;
        playlist::parse(&bytes, &base, &limits).at(|| text)?
    };
    let mut answer = Answer::new(json);
    answer.add_object(|| to_json(&playlist));
    answer.add_words(to_text(&playlist).trim_end());
    Ok(answer)
}

/// Reads one byte more than a playlist may have, so that the parser can refuse it.
async fn read(path: &str, max_bytes: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    tokio::fs::File::open(path).await?.take(max_bytes as u64 + 1).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// The playlist as JSON. URIs are absolute and whole, with their queries: it is meant for programs.
pub fn to_json(playlist: &Playlist) -> Value {
    match playlist {
        Playlist::Media(playlist) => media_json(playlist),
        Playlist::Multivariant(playlist) => multivariant_json(playlist),
    }
}

fn media_json(playlist: &MediaPlaylist) -> Value {
    json!({
        "kind": "media",
        "media_sequence": playlist.media_sequence,
        "discontinuity_sequence": playlist.discontinuity_sequence,
        "end_list": playlist.end_list,
        "segments": playlist.segments.iter().map(|segment| segment_json(playlist, &segment)).collect::<Vec<_>>(),
        "diagnostics": diagnostics_json(&playlist.diagnostics),
    })
}

fn segment_json(playlist: &MediaPlaylist, segment: &Segment) -> Value {
    let map = segment.map.and_then(|map| playlist.maps.get(map as usize));
    json!({
        "uri": absolute(playlist, segment.uri),
        "duration_seconds": segment.duration_seconds,
        "byte_range": byte_range_json(segment.byte_range),
        "keys": playlist.keys(segment.key_set).iter().map(key_json).collect::<Vec<_>>(),
        "map": map.map(|map| map_json(playlist, map)),
        "sequence": segment.sequence,
        "discontinuity": segment.discontinuity,
        "gap": segment.gap,
    })
}

fn map_json(playlist: &MediaPlaylist, map: &Map) -> Value {
    json!({ "uri": absolute(playlist, &map.uri), "byte_range": byte_range_json(map.byte_range) })
}

fn multivariant_json(playlist: &MultivariantPlaylist) -> Value {
    json!({
        "kind": "multivariant",
        "variants": playlist.variants.iter().map(variant_json).collect::<Vec<_>>(),
        "renditions": playlist.renditions.iter().map(rendition_json).collect::<Vec<_>>(),
        "session_keys": playlist.session_keys.iter().map(key_json).collect::<Vec<_>>(),
        "diagnostics": diagnostics_json(&playlist.diagnostics),
    })
}

fn variant_json(variant: &Variant) -> Value {
    json!({
        "uri": variant.uri.as_str(),
        "bandwidth_bits_per_second": variant.bandwidth_bits_per_second,
        "width": variant.width,
        "height": variant.height,
        "codecs": variant.codecs,
        "audio": variant.audio,
        "subtitles": variant.subtitles,
    })
}

fn rendition_json(rendition: &Rendition) -> Value {
    json!({
        "type": rendition_type(rendition.kind),
        "group": rendition.group,
        "name": rendition.name,
        "language": rendition.language,
        "uri": rendition.uri.as_ref().map(Url::as_str),
        "default": rendition.default,
    })
}

fn key_json(key: &Key) -> Value {
    json!({ "method": key.method, "uri": key.uri, "iv": key.iv.map(iv_text), "key_format": key.key_format })
}

fn byte_range_json(range: Option<ByteRange>) -> Value {
    range.map_or(Value::Null, |range| json!({ "offset": range.offset, "length": range.length }))
}

fn diagnostics_json(diagnostics: &[Diagnostic]) -> Value {
    diagnostics.iter().map(|diagnostic| json!({ "line": diagnostic.line, "message": diagnostic.message })).collect()
}

/// The parser has checked that every URI resolves; as written is the best there is otherwise.
fn absolute(playlist: &MediaPlaylist, uri: &str) -> String {
    playlist.resolve(uri).map_or_else(|_| uri.to_owned(), String::from)
}

fn iv_text(iv: [u8; 16]) -> String {
    format!("0x{}", hex::encode(iv))
}

/// TYPE as the playlist writes it.
fn rendition_type(kind: RenditionKind) -> &'static str {
    match kind {
        RenditionKind::Audio => "AUDIO",
        RenditionKind::Video => "VIDEO",
        RenditionKind::Subtitles => "SUBTITLES",
        RenditionKind::ClosedCaptions => "CLOSED-CAPTIONS",
    }
}

/// The playlist in some lines for a person: what kind, how much of it, keys, and what was odd. URLs
/// are shown without their queries.
pub fn to_text(playlist: &Playlist) -> String {
    let mut text = Text(String::new());
    let diagnostics = match playlist {
        Playlist::Media(playlist) => {
            media_text(&mut text, playlist);
            &playlist.diagnostics
        }
        Playlist::Multivariant(playlist) => {
            multivariant_text(&mut text, playlist);
            &playlist.diagnostics
        }
    };
    for diagnostic in diagnostics {
        text.line(format_args!("line {}: {}", diagnostic.line, diagnostic.message));
    }
    text.0
}

fn media_text(text: &mut Text, playlist: &MediaPlaylist) {
    let count = |is: fn(&Segment) -> bool| playlist.segments.iter().filter(is).count();
    let end = if playlist.end_list { "finished" } else { "no EXT-X-ENDLIST" };
    text.line(format_args!(
        "media playlist: {} segments, {}, {end}",
        playlist.segments.len(),
        clock(playlist.duration_seconds())
    ));
    text.line(format_args!(
        "  first sequence number {}, target duration {} s, discontinuities {}, gaps {}, byte ranges {}, maps {}",
        playlist.media_sequence,
        playlist.target_duration_seconds,
        count(|segment| segment.discontinuity),
        count(|segment| segment.gap),
        count(|segment| segment.byte_range.is_some()),
        playlist.maps.len(),
    ));
    if playlist.i_frames_only {
        text.line(format_args!("  I-frames only"));
    }
    // Rotating keys can be as many as there are segments.
    const SHOWN_SETS: usize = 5;
    for (index, keys) in playlist.key_sets.iter().enumerate().take(SHOWN_SETS) {
        let segments = playlist.segments.iter().filter(|segment| segment.key_set as usize == index).count();
        if keys.is_empty() && segments > 0 {
            text.line(format_args!("  {segments} segments not encrypted"));
        }
        for key in keys {
            text.line(format_args!("  {segments} segments with key {}", key_text(key)));
        }
    }
    if let Some(more @ 1..) = playlist.key_sets.len().checked_sub(SHOWN_SETS) {
        text.line(format_args!("  … and {more} more key changes"));
    }
}

fn multivariant_text(text: &mut Text, playlist: &MultivariantPlaylist) {
    text.line(format_args!(
        "multivariant playlist: {} variants, {} renditions",
        playlist.variants.len(),
        playlist.renditions.len()
    ));
    if !playlist.variants.is_empty() {
        text.line(format_args!("  {:>11}  {:>10}  {:<28}  URL", "resolution", "kbit/s", "codecs"));
    }
    for variant in &playlist.variants {
        let resolution = match (variant.width, variant.height) {
            (Some(width), Some(height)) => format!("{width}x{height}"),
            _ => "-".to_owned(),
        };
        text.line(format_args!(
            "  {resolution:>11}  {:>10}  {:<28}  {}",
            variant.bandwidth_bits_per_second / 1000,
            variant.codecs.as_deref().unwrap_or("-"),
            crate::http::shown(&variant.uri),
        ));
    }
    for rendition in &playlist.renditions {
        text.line(format_args!(
            "  {} \"{}\" in group \"{}\", language {}{}: {}",
            rendition_type(rendition.kind),
            rendition.name,
            rendition.group,
            rendition.language.as_deref().unwrap_or("-"),
            if rendition.default { ", default" } else { "" },
            rendition.uri.as_ref().map_or_else(|| "inside the variant".to_owned(), crate::http::shown),
        ));
    }
    for key in &playlist.session_keys {
        text.line(format_args!("  session key {}", key_text(key)));
    }
}

/// A key without what may be secret: the query of its URL, and the key itself if it is a `data:` URL.
fn key_text(key: &Key) -> String {
    let uri = match key.uri.as_deref().map(Url::parse) {
        None => "no URI".to_owned(),
        Some(Ok(url)) if url.has_host() => crate::http::shown(&url),
        Some(Ok(url)) => format!("{}:…", url.scheme()),
        Some(Err(_)) => "an unreadable URI".to_owned(),
    };
    let iv = key.iv.map_or_else(|| "IV from the sequence number".to_owned(), |iv| format!("IV {}", iv_text(iv)));
    format!("{} ({}), {iv}, {uri}", key.method, key.key_format)
}

/// Seconds as hours, minutes and seconds.
fn clock(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    format!("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60)
}

/// Lines for a terminal: control characters from the playlist are made harmless.
struct Text(String);

impl Text {
    fn line(&mut self, line: std::fmt::Arguments) {
        let mut plain = String::new();
        // Writing into a String does not fail.
        let _ = plain.write_fmt(line);
        self.0.extend(plain.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }));
        self.0.push('\n');
    }
}

#[cfg(test)]
mod tests;
