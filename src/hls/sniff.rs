//! What the first bytes of a unit say about it, so that an error page never becomes a segment.

use crate::failure::{Failure, FailureKind, Result};

/// Bytes that have to be there to tell, unless the unit is shorter.
pub const SNIFF_BYTES: usize = 189;
/// Length of a transport stream packet, which begins with the sync byte (ISO/IEC 13818-1).
const TS_PACKET: usize = 188;
const TS_SYNC: u8 = 0x47;

/// The container of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaKind {
    /// MPEG-2 transport stream.
    TransportStream,
    /// Fragmented MP4: an initialization section or a media segment.
    FragmentedMp4,
    /// AAC (ADTS), AC-3 or MP3 frames, or an ID3 tag before them (RFC 8216 §3.4).
    PackedAudio,
    /// WebVTT.
    WebVtt,
}

impl MediaKind {
    /// Tells the container from the first bytes, up to [`SNIFF_BYTES`] of them.
    ///
    /// # Errors
    /// `segment_invalid` with what stands there instead.
    pub fn of(bytes: &[u8]) -> Result<MediaKind> {
        let invalid = |what: String| Err(Failure::new(FailureKind::SegmentInvalid, what));
        if bytes.is_empty() {
            return invalid("the body is empty".into());
        }
        if bytes[0] == TS_SYNC && bytes.get(TS_PACKET).is_none_or(|byte| *byte == TS_SYNC) {
            return Ok(MediaKind::TransportStream);
        }
        if let Some(name) = bytes.get(4..8)
            && [
                b"styp", b"ftyp", b"moof", b"moov", b"sidx", b"emsg", b"prft", b"free", b"skip", b"mdat", b"uuid",
                b"ssix",
            ]
            .iter()
            .any(|known| name == *known)
        {
            return Ok(MediaKind::FragmentedMp4);
        }
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        if text.starts_with(b"WEBVTT") {
            return Ok(MediaKind::WebVtt);
        }
        // An MPEG audio or ADTS sync word is 11 or 12 set bits; AC-3 begins with 0x0B77.
        let sync = bytes.len() > 1 && bytes[0] == 0xff && bytes[1] & 0xe0 == 0xe0;
        if bytes.starts_with(b"ID3") || sync || bytes.starts_with(&[0x0b, 0x77]) {
            return Ok(MediaKind::PackedAudio);
        }
        let visible = text.trim_ascii_start();
        if visible.starts_with(b"<") {
            return Err(page(visible));
        }
        invalid(format!("what came is not media; it begins with 0x{}", hex::encode(&bytes[..bytes.len().min(8)])))
    }
}

/// Refuses an answer that begins as a page does, before decryption makes garbage of it. Encrypted
/// bytes begin so by chance once in 2^40 segments.
///
/// # Errors
/// `segment_invalid`.
pub fn refuse_page(bytes: &[u8]) -> Result<()> {
    let visible = bytes.trim_ascii_start();
    let begins_with = |text: &[u8]| visible.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text));
    let is_page = [&b"<!doctype"[..], b"<html", b"<?xml"].into_iter().any(begins_with);
    if is_page { Err(page(visible)) } else { Ok(()) }
}

fn page(bytes: &[u8]) -> Failure {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
    Failure::new(FailureKind::SegmentInvalid, format!("an HTML or XML page came in place of media: {start:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_07_containers_are_told_from_error_pages() {
        let mut packet = vec![0u8; 400];
        packet[0] = 0x47;
        packet[188] = 0x47;
        assert_eq!(MediaKind::of(&packet[..189]).unwrap(), MediaKind::TransportStream);
        packet[188] = 0x48;
        assert!(MediaKind::of(&packet[..189]).is_err());
        assert_eq!(MediaKind::of(b"\0\0\0\x18ftypiso5").unwrap(), MediaKind::FragmentedMp4);
        assert_eq!(MediaKind::of(b"ID3\x04").unwrap(), MediaKind::PackedAudio);
        assert_eq!(MediaKind::of(b"\xff\xf1\x50\x80").unwrap(), MediaKind::PackedAudio);
        assert_eq!(MediaKind::of(b"\xef\xbb\xbfWEBVTT\n").unwrap(), MediaKind::WebVtt);
        for (bytes, says) in [
            (&b""[..], "empty"),
            (b"<!DOCTYPE html><html>", "HTML"),
            (b"  \n<Error><Code>AccessDenied", "AccessDenied"),
            (b"\x89PNG\r\n\x1a\n", "0x89504e47"),
        ] {
            let failure = MediaKind::of(bytes).unwrap_err();
            assert_eq!(failure.kind, FailureKind::SegmentInvalid);
            assert!(failure.message.contains(says), "{}", failure.message);
        }
    }
}
