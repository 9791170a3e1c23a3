//! Playlist text in, typed playlist out (RFC 8216 §4, rfc8216bis for what came later). No I/O.
//!
//! One pass over the lines. Where players forgive, so does this, and leaves a [`Diagnostic`]; where a
//! guess would give a wrong file (keys, IVs, byte ranges, maps, sequence numbers), it refuses.

mod attributes;
mod key;
mod key_sets;
mod limits;
mod lines;
mod media;
mod multivariant;
mod reading;
mod segments;
mod types;
mod uri;
mod variables;

pub use key_sets::KeySets;
pub use limits::Limits;
pub use segments::{Segment, Segments};
pub use types::*;

use url::Url;

use crate::failure::{Context, Failure, FailureKind, Result};

use lines::{Line, Lines};
use media::MediaReader;
use multivariant::MultivariantReader;
use reading::{Reading, quoted};
use variables::Variables;

/// Reads a playlist. `base` is its own URL after redirects.
///
/// # Errors
/// With the line, where there is one: [`FailureKind::PlaylistInvalid`] for what is no playlist or
/// breaks a rule that cannot be guessed around, [`FailureKind::PlaylistTooLarge`] over a limit,
/// [`FailureKind::UrlInvalid`] for a URI that may not be asked, `base` included.
pub fn parse(text: &[u8], base: &Url, limits: &Limits) -> Result<Playlist> {
    parse_with_variables(text, base, limits, &[])
}

/// The same for a media playlist that may import variables ([`MultivariantPlaylist::variables`]).
///
/// # Errors
/// As [`parse`].
pub fn parse_with_variables(
    text: &[u8],
    base: &Url,
    limits: &Limits,
    imported: &[(Box<str>, Box<str>)],
) -> Result<Playlist> {
    crate::http::check_url(base).at(|| "the URL of the playlist")?;
    if text.len() > limits.max_bytes.min(u32::MAX as usize) {
        let what = format!("the playlist has {} bytes, more than {}", text.len(), limits.max_bytes);
        return Err(Failure::new(FailureKind::PlaylistTooLarge, what));
    }
    check_encoding(text)?;
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut reader = Reader::new(base, Reading::new(base, limits, Variables::new(imported)));
    let mut begun = false;
    for Line { number, bytes } in Lines::new(text) {
        let line = bytes.trim_ascii();
        if line.is_empty() {
            continue;
        }
        reader.reading.line = number;
        if bytes.len() > limits.max_line_bytes && begun {
            let what = format!("the line has {} bytes, more than {}", bytes.len(), limits.max_line_bytes);
            return Err(reader.reading.failure(FailureKind::PlaylistTooLarge, what));
        }
        if begun {
            reader.line(line)?;
        } else if line.starts_with(b"#EXTM3U") {
            begun = true;
        } else {
            return Err(not_a_playlist(line));
        }
    }
    if !begun {
        return Err(Failure::new(FailureKind::PlaylistInvalid, "not a playlist: the answer is empty"));
    }
    reader.finish()
}

/// UTF-16 is refused by name: as bytes it would only be "not a playlist".
fn check_encoding(text: &[u8]) -> Result<()> {
    match text {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'#', 0, ..] | [0, b'#', ..] => {
            let what = "the playlist is encoded in UTF-16; HLS requires UTF-8 (RFC 8216 §4)";
            Err(Failure::new(FailureKind::PlaylistInvalid, what))
        }
        _ => Ok(()),
    }
}

fn not_a_playlist(first_line: &[u8]) -> Failure {
    let what = format!("not a playlist: the answer begins with {}, not with #EXTM3U", quoted(first_line));
    Failure::new(FailureKind::PlaylistInvalid, what)
}

/// Both kinds at once: which one it is shows only when the first telling tag comes.
struct Reader<'a> {
    reading: Reading<'a>,
    media: MediaReader,
    multivariant: MultivariantReader,
    /// First line with a tag that only a media playlist can have and none can do without.
    media_line: Option<u32>,
    /// The same for a multivariant playlist.
    multivariant_line: Option<u32>,
    /// First line with a tag of a media playlist that some packagers put into the other kind too.
    media_hint: Option<u32>,
    /// The same the other way round.
    multivariant_hint: Option<u32>,
}

impl<'a> Reader<'a> {
    fn new(base: &'a Url, reading: Reading<'a>) -> Self {
        Reader {
            reading,
            media: MediaReader::new(base),
            multivariant: MultivariantReader::default(),
            media_line: None,
            multivariant_line: None,
            media_hint: None,
            multivariant_hint: None,
        }
    }

    /// Reads a line that is not blank.
    fn line(&mut self, line: &[u8]) -> Result<()> {
        if let Some(tag) = line.strip_prefix(b"#") {
            return if tag.starts_with(b"EXT") { self.tag(tag) } else { Ok(()) };
        }
        if self.multivariant.awaits_uri() {
            self.multivariant.uri(line, &mut self.reading)
        } else {
            self.media.uri(line, &mut self.reading)
        }
    }

    fn tag(&mut self, tag: &[u8]) -> Result<()> {
        // A blank in place of the colon still names the tag: an EXT-X-KEY must never be lost.
        let end = tag.iter().position(|byte| *byte == b':' || byte.is_ascii_whitespace()).unwrap_or(tag.len());
        let (name, value) = (&tag[..end], tag.get(end + 1..).unwrap_or_default().trim_ascii());
        self.classify(name)?;
        let reading = &mut self.reading;
        match name {
            b"EXTINF" => self.media.extinf(value, reading),
            b"EXT-X-BYTERANGE" => self.media.byte_range(value, reading)?,
            b"EXT-X-KEY" => self.media.key(value, reading)?,
            b"EXT-X-MAP" => self.media.map(value, reading)?,
            b"EXT-X-DISCONTINUITY" => self.media.discontinuity(),
            b"EXT-X-GAP" => self.media.gap(),
            b"EXT-X-BITRATE" => self.media.bitrate(value, reading),
            b"EXT-X-ENDLIST" => self.media.end_list(),
            b"EXT-X-I-FRAMES-ONLY" => self.media.i_frames_only(),
            b"EXT-X-TARGETDURATION" => self.media.target_duration(value, reading),
            b"EXT-X-MEDIA-SEQUENCE" => self.media.media_sequence(value, reading)?,
            b"EXT-X-DISCONTINUITY-SEQUENCE" => self.media.discontinuity_sequence(value, reading),
            b"EXT-X-PLAYLIST-TYPE" => self.media.playlist_type(value, reading),
            b"EXT-X-STREAM-INF" => self.multivariant.stream_inf(value, reading)?,
            b"EXT-X-MEDIA" => self.multivariant.media(value, reading)?,
            b"EXT-X-SESSION-KEY" => self.multivariant.session_key(value, reading)?,
            b"EXT-X-CONTENT-STEERING" => self.multivariant.content_steering(value, reading)?,
            b"EXT-X-DEFINE" => reading.define(value)?,
            b"EXT-X-SKIP" => {
                return Err(reading.invalid("EXT-X-SKIP: a delta update, which lacks segments and was not asked for"));
            }
            b"EXTM3U" => reading.note("EXTM3U stands again: two playlists in one?"),
            _ => {}
        }
        Ok(())
    }

    /// Notes which kind of playlist a tag tells of.
    fn classify(&mut self, name: &[u8]) -> Result<()> {
        let line = Some(self.reading.line);
        match name {
            b"EXTINF" | b"EXT-X-BYTERANGE" => self.media_line = self.media_line.or(line),
            b"EXT-X-STREAM-INF" | b"EXT-X-I-FRAME-STREAM-INF" => {
                self.multivariant_line = self.multivariant_line.or(line);
            }
            b"EXT-X-KEY"
            | b"EXT-X-MAP"
            | b"EXT-X-DISCONTINUITY"
            | b"EXT-X-GAP"
            | b"EXT-X-BITRATE"
            | b"EXT-X-ENDLIST"
            | b"EXT-X-I-FRAMES-ONLY"
            | b"EXT-X-TARGETDURATION"
            | b"EXT-X-MEDIA-SEQUENCE"
            | b"EXT-X-DISCONTINUITY-SEQUENCE"
            | b"EXT-X-PLAYLIST-TYPE"
            | b"EXT-X-PART"
            | b"EXT-X-PART-INF"
            | b"EXT-X-SERVER-CONTROL" => self.media_hint = self.media_hint.or(line),
            b"EXT-X-MEDIA" | b"EXT-X-SESSION-KEY" | b"EXT-X-SESSION-DATA" | b"EXT-X-CONTENT-STEERING" => {
                self.multivariant_hint = self.multivariant_hint.or(line);
            }
            _ => return Ok(()),
        }
        match (self.media_line, self.multivariant_line) {
            (Some(media), Some(multivariant)) => Err(self.reading.invalid(format!(
                "mixed playlist: it lists segments (line {media}) and variants (line {multivariant})"
            ))),
            _ => Ok(()),
        }
    }

    fn finish(mut self) -> Result<Playlist> {
        let reading = &mut self.reading;
        let multivariant = self.multivariant_line.is_some()
            || (self.media_line.is_none() && self.media_hint.is_none() && self.multivariant_hint.is_some());
        if multivariant {
            if let Some(line) = self.media_hint {
                reading.note_at(line, "a tag of media playlists in a multivariant playlist: left out");
            }
            return Ok(Playlist::Multivariant(self.multivariant.finish(reading.base, reading)));
        }
        if self.media_line.or(self.media_hint).is_none() {
            let what = "not an HLS playlist: #EXTM3U, but neither EXTINF nor EXT-X-STREAM-INF follows";
            return Err(Failure::new(FailureKind::PlaylistInvalid, what));
        }
        if let Some(line) = self.multivariant_hint {
            reading.note_at(line, "a tag of multivariant playlists in a media playlist: left out");
        }
        Ok(Playlist::Media(self.media.finish(reading)?))
    }
}

#[cfg(test)]
mod tests;
