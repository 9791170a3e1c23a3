//! The tags of a multivariant playlist (RFC 8216 §4.3.4).

use url::Url;

use crate::failure::Result;

use super::attributes::{Attribute, Attributes};
use super::key;
use super::limits::{MAX_OTHER_ATTRIBUTES, MAX_SESSION_KEYS};
use super::reading::{Reading, quoted};
use super::{ContentSteering, Key, MultivariantPlaylist, Rendition, RenditionKind, Variant};

/// A multivariant playlist while it is read.
#[derive(Default)]
pub(super) struct MultivariantReader {
    variants: Vec<Variant>,
    renditions: Vec<Rendition>,
    session_keys: Vec<Key>,
    steering: Option<ContentSteering>,
    /// EXT-X-STREAM-INF, whose URI is still to come. Until then it has that of the playlist.
    pending: Option<Variant>,
}

impl MultivariantReader {
    /// EXT-X-STREAM-INF. What cannot be read is left out; the variant stays.
    pub(super) fn stream_inf(&mut self, list: &[u8], reading: &mut Reading) -> Result<()> {
        let mut stream = without_attributes(reading.base.clone());
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
                b"BANDWIDTH" => {
                    let bits = number(bandwidth, name, value, reading);
                    (stream.bandwidth_bits_per_second, has_bandwidth) = (bits.unwrap_or_default(), bits.is_some());
                }
                b"AVERAGE-BANDWIDTH" => {
                    stream.average_bandwidth_bits_per_second = number(bandwidth, name, value, reading);
                }
                b"RESOLUTION" => {
                    (stream.width, stream.height) = number(resolution, name, value, reading).unzip();
                }
                b"FRAME-RATE" => stream.frame_rate = number(decimal, name, value, reading),
                b"CODECS" => stream.codecs = text(value, reading)?,
                b"VIDEO-RANGE" => stream.video_range = text(value, reading)?,
                b"HDCP-LEVEL" => stream.hdcp_level = text(value, reading)?,
                b"SCORE" => stream.score = number(decimal, name, value, reading),
                b"STABLE-VARIANT-ID" => stream.stable_id = text(value, reading)?,
                b"AUDIO" => stream.audio = text(value, reading)?,
                b"SUBTITLES" => stream.subtitles = text(value, reading)?,
                b"VIDEO" => stream.video = text(value, reading)?,
                b"CLOSED-CAPTIONS" => stream.closed_captions = text(value, reading)?,
                b"PATHWAY-ID" => stream.pathway = text(value, reading)?,
                _ => {
                    reading.at_most(stream.others.len() + 1, MAX_OTHER_ATTRIBUTES, "unknown attributes")?;
                    stream.others.push((reading.lossy(name)?, reading.lossy(value)?));
                }
            }
        }
        stream.others.sort();
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
        reading.at_most(self.variants.len() + 1, reading.limits.max_variants, "variants")?;
        self.variants.extend(self.pending.take().map(|stream| Variant { uri, ..stream }));
        Ok(())
    }

    /// EXT-X-MEDIA. One of an unknown TYPE is left out, as the specification wants it.
    pub(super) fn media(&mut self, list: &[u8], reading: &mut Reading) -> Result<()> {
        let mut kind = None;
        let (mut group, mut name, mut language, mut channels, mut uri) = (None, None, None, None, None);
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
                b"CHANNELS" => channels = text(value, reading)?,
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
        reading.at_most(self.renditions.len() + 1, reading.limits.max_variants, "renditions")?;
        self.renditions.push(Rendition { kind, group, name, language, channels, uri, default, autoselect, forced });
        Ok(())
    }

    /// EXT-X-SESSION-KEY: only a hint, the media playlists say again which keys they need.
    pub(super) fn session_key(&mut self, list: &[u8], reading: &mut Reading) -> Result<()> {
        match key::parse("EXT-X-SESSION-KEY", list, reading) {
            Ok(Some(key)) => self.session_keys.push(key),
            Ok(None) => reading.note("EXT-X-SESSION-KEY with METHOD=NONE: left out"),
            Err(failure) => reading.note(format!("left out: {failure}")),
        }
        reading.at_most(self.session_keys.len(), MAX_SESSION_KEYS, "session keys")
    }

    /// EXT-X-CONTENT-STEERING.
    pub(super) fn content_steering(&mut self, list: &[u8], reading: &mut Reading) -> Result<()> {
        let (mut server, mut pathway) = (None, None);
        for attribute in Attributes::new(list) {
            match attribute {
                Ok(Attribute { name: b"SERVER-URI", value, .. }) if !value.is_empty() => {
                    let uri = reading.uri_text(value)?;
                    // Never asked, so that one which may not be asked does no harm.
                    server = Some(reading.resolve(&uri).map_or_else(|_| uri.into(), |url| String::from(url).into()));
                }
                Ok(Attribute { name: b"PATHWAY-ID", value, .. }) => pathway = text(value, reading)?,
                Ok(_) => {}
                Err(reason) => reading.note(format!("EXT-X-CONTENT-STEERING: {reason}: left out")),
            }
        }
        if server.is_none() {
            reading.note("EXT-X-CONTENT-STEERING without SERVER-URI");
        }
        if self.steering.replace(ContentSteering { server, pathway }).is_some() {
            reading.note("EXT-X-CONTENT-STEERING stands twice: the last one counts");
        }
        Ok(())
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
            steering: self.steering,
            diagnostics: reading.take_diagnostics(),
        }
    }
}

fn without_attributes(uri: Url) -> Variant {
    Variant {
        uri,
        bandwidth_bits_per_second: 0,
        average_bandwidth_bits_per_second: None,
        width: None,
        height: None,
        frame_rate: None,
        codecs: None,
        video_range: None,
        hdcp_level: None,
        score: None,
        stable_id: None,
        audio: None,
        subtitles: None,
        video: None,
        closed_captions: None,
        pathway: None,
        others: Vec::new(),
    }
}

/// A text attribute; empty counts as missing.
fn text(value: &[u8], reading: &mut Reading) -> Result<Option<Box<str>>> {
    let text = reading.lossy(value)?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// What `read` makes of a value; without it the attribute counts as missing.
fn number<T>(read: fn(&[u8]) -> Option<T>, name: &[u8], value: &[u8], reading: &mut Reading) -> Option<T> {
    let number = read(value);
    if number.is_none() {
        let name = String::from_utf8_lossy(name);
        reading.note(format!("EXT-X-STREAM-INF: {name} {} cannot be read: left out", quoted(value)));
    }
    number
}

/// Bits per second; some packagers write a fraction.
fn bandwidth(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value.trim_ascii()).ok()?;
    text.parse().ok().or_else(|| {
        let bits: f64 = text.parse().ok()?;
        (0.0..1e15).contains(&bits).then_some(bits as u64)
    })
}

/// A number that is not negative, whole or not.
fn decimal(value: &[u8]) -> Option<f64> {
    let number: f64 = std::str::from_utf8(value.trim_ascii()).ok()?.parse().ok()?;
    (0.0..=f64::MAX).contains(&number).then_some(number)
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
