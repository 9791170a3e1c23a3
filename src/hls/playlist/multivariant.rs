//! The tags of a multivariant playlist (RFC 8216 §4.3.4).

use url::Url;

use crate::failure::Result;

use super::attributes::{Attribute, Attributes};
use super::key;
use super::reading::{Reading, quoted};
use super::{Key, MultivariantPlaylist, Rendition, RenditionKind, Variant};

/// A multivariant playlist while it is read.
#[derive(Default)]
pub(super) struct MultivariantReader {
    variants: Vec<Variant>,
    renditions: Vec<Rendition>,
    session_keys: Vec<Key>,
    pending: Option<StreamInf>,
}

/// EXT-X-STREAM-INF, whose URI is still to come.
#[derive(Default)]
struct StreamInf {
    bandwidth_bits_per_second: u64,
    resolution: Option<(u32, u32)>,
    codecs: Option<Box<str>>,
    audio: Option<Box<str>>,
    subtitles: Option<Box<str>>,
    pathway: Option<Box<str>>,
}

impl MultivariantReader {
    /// EXT-X-STREAM-INF. What cannot be read is left out; the variant stays.
    pub(super) fn stream_inf(&mut self, list: &[u8], reading: &mut Reading) -> Result<()> {
        let mut stream = StreamInf::default();
        let mut has_bandwidth = false;
        for attribute in Attributes::new(list) {
            let Attribute { name, value, .. } = match attribute {
                Ok(attribute) => attribute,
                Err(reason) => {
                    reading.note(format!("EXT-X-STREAM-INF: {reason}: left out"));
                    continue;
                }
            };
            match name {
                b"BANDWIDTH" => match bandwidth(value) {
                    Some(bits) => (stream.bandwidth_bits_per_second, has_bandwidth) = (bits, true),
                    None => reading.note(format!("BANDWIDTH: {} is no number", quoted(value))),
                },
                b"RESOLUTION" => {
                    stream.resolution = resolution(value);
                    if stream.resolution.is_none() {
                        reading.note(format!("RESOLUTION: {} is no resolution: left out", quoted(value)));
                    }
                }
                b"CODECS" => stream.codecs = text(value, reading)?,
                b"AUDIO" => stream.audio = text(value, reading)?,
                b"SUBTITLES" => stream.subtitles = text(value, reading)?,
                b"PATHWAY-ID" => stream.pathway = text(value, reading)?,
                _ => {}
            }
        }
        if !has_bandwidth {
            reading.note("EXT-X-STREAM-INF without BANDWIDTH: counts as 0");
        }
        if self.pending.replace(stream).is_some() {
            reading.note("EXT-X-STREAM-INF follows another without a URI between them: the first is left out");
        }
        Ok(())
    }

    /// Whether the next URI is that of a variant.
    pub(super) fn awaits_uri(&self) -> bool {
        self.pending.is_some()
    }

    /// The URI of a variant.
    pub(super) fn uri(&mut self, uri: &[u8], reading: &mut Reading) -> Result<()> {
        let uri = reading.uri_text(uri)?;
        let uri = reading.resolve(&uri)?;
        let stream = self.pending.take().unwrap_or_default();
        self.variants.push(Variant {
            uri,
            bandwidth_bits_per_second: stream.bandwidth_bits_per_second,
            width: stream.resolution.map(|(width, _)| width),
            height: stream.resolution.map(|(_, height)| height),
            codecs: stream.codecs,
            audio: stream.audio,
            subtitles: stream.subtitles,
            pathway: stream.pathway,
        });
        Ok(())
    }

    /// EXT-X-MEDIA. One of an unknown TYPE is left out, as the specification wants it.
    pub(super) fn media(&mut self, list: &[u8], reading: &mut Reading) -> Result<()> {
        let mut kind = None;
        let (mut group, mut name, mut language, mut uri) = (None, None, None, None);
        let (mut default, mut autoselect, mut forced) = (false, false, false);
        for attribute in Attributes::new(list) {
            let Attribute { name: attribute, value, .. } = match attribute {
                Ok(attribute) => attribute,
                Err(reason) => {
                    reading.note(format!("EXT-X-MEDIA: {reason}: left out"));
                    continue;
                }
            };
            match attribute {
                b"TYPE" => kind = rendition_kind(value),
                b"GROUP-ID" => group = text(value, reading)?,
                b"NAME" => name = text(value, reading)?,
                b"LANGUAGE" => language = text(value, reading)?,
                b"URI" if value.is_empty() => reading.note("EXT-X-MEDIA: an empty URI: counts as none"),
                b"URI" => {
                    let text = reading.uri_text(value)?;
                    uri = Some(reading.resolve(&text)?);
                }
                b"DEFAULT" => default = is_yes(value),
                b"AUTOSELECT" => autoselect = is_yes(value),
                b"FORCED" => forced = is_yes(value),
                _ => {}
            }
        }
        let Some(kind) = kind else {
            reading.note("EXT-X-MEDIA without a known TYPE: left out");
            return Ok(());
        };
        if group.is_none() {
            reading.note("EXT-X-MEDIA without GROUP-ID: no variant can refer to it");
        }
        if name.is_none() {
            reading.note("EXT-X-MEDIA without NAME");
        }
        let (group, name) = (group.unwrap_or_default(), name.unwrap_or_default());
        self.renditions.push(Rendition { kind, group, name, language, uri, default, autoselect, forced });
        Ok(())
    }

    /// EXT-X-SESSION-KEY: only a hint, the media playlists say again which keys they need.
    pub(super) fn session_key(&mut self, list: &[u8], reading: &mut Reading) {
        match key::parse("EXT-X-SESSION-KEY", list, reading) {
            Ok(Some(key)) => self.session_keys.push(key),
            Ok(None) => reading.note("EXT-X-SESSION-KEY with METHOD=NONE: left out"),
            Err(failure) => reading.note(format!("left out: {failure}")),
        }
    }

    /// The playlist, once all lines are read.
    pub(super) fn finish(self, base: &Url, reading: &mut Reading) -> MultivariantPlaylist {
        if self.pending.is_some() {
            reading.note("the last EXT-X-STREAM-INF has no URI: left out");
        }
        MultivariantPlaylist {
            base: base.clone(),
            variants: self.variants,
            renditions: self.renditions,
            session_keys: self.session_keys,
            variables: reading.take_variables(),
            diagnostics: reading.take_diagnostics(),
        }
    }
}

/// A text attribute; empty counts as missing.
fn text(value: &[u8], reading: &mut Reading) -> Result<Option<Box<str>>> {
    let text = reading.lossy(value)?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// Bits per second; some packagers write a fraction.
fn bandwidth(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value.trim_ascii()).ok()?;
    text.parse().ok().or_else(|| {
        let bits: f64 = text.parse().ok()?;
        (0.0..1e15).contains(&bits).then_some(bits as u64)
    })
}

/// `width x height`.
fn resolution(value: &[u8]) -> Option<(u32, u32)> {
    let (width, height) = std::str::from_utf8(value).ok()?.split_once(['x', 'X'])?;
    Some((width.trim().parse().ok()?, height.trim().parse().ok()?))
}

fn rendition_kind(value: &[u8]) -> Option<RenditionKind> {
    match value {
        b"AUDIO" => Some(RenditionKind::Audio),
        b"VIDEO" => Some(RenditionKind::Video),
        b"SUBTITLES" => Some(RenditionKind::Subtitles),
        b"CLOSED-CAPTIONS" => Some(RenditionKind::ClosedCaptions),
        _ => None,
    }
}

/// YES, also in quotes or lower case, which players take too.
fn is_yes(value: &[u8]) -> bool {
    value.eq_ignore_ascii_case(b"YES")
}
