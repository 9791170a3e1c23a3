//! What stands in front of a transport stream. Some hosts store only images, and some uploaders give
//! them one, with the segment behind it: players skip it, and so does the engine. Other bytes it skips
//! only where the operator allows that. Neither goes unsaid.

use std::fmt;

use super::sniff::{MediaKind, SNIFF_BYTES};
use super::transport::{PACKET, SYNC};
use crate::failure::{Failure, FailureKind};

/// How far the first packet is looked for.
pub const MAX_PREFIX: usize = 64 * 1024;
/// Packets in a row that are believed: 0x47 alone stands anywhere.
const ENOUGH: usize = 3;
/// Packets that are looked at where they are there. A false grid in a picture seldom goes so far.
const LOOK: usize = 8;

/// Bytes that are enough to tell, unless the unit is shorter.
pub const PREFIX_WINDOW: usize = MAX_PREFIX + LOOK * PACKET;

/// Bytes in front of a transport stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leading {
    /// How many.
    pub bytes: usize,
    /// They begin as a picture does.
    pub is_picture: bool,
}

impl Leading {
    /// What stands in front of a transport stream, if anything does and the stream follows. `start` is the
    /// beginning of a unit in the clear: [`PREFIX_WINDOW`] of it, or all of it (`is_all`).
    pub fn of(start: &[u8], is_all: bool) -> Option<Leading> {
        let is_picture = is_image(start);
        if !is_picture && MediaKind::of(&start[..start.len().min(SNIFF_BYTES)]).is_ok() {
            return None;
        }
        let bytes = (1..start.len().min(MAX_PREFIX + 1)).find(|at| begins_with_packets(&start[*at..], is_all))?;
        // Whole packets that do not begin as such are packets all the same, and damaged or wrongly decrypted.
        (is_picture || !bytes.is_multiple_of(PACKET)).then_some(Leading { bytes, is_picture })
    }

    /// The failure where they may not be left out.
    pub fn refused(&self) -> Failure {
        Failure::new(FailureKind::SegmentInvalid, format!("{self} (hls.allow_leading_bytes)"))
    }
}

impl fmt::Display for Leading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_picture { "a picture" } else { "what is no media" };
        write!(f, "{what}, of {} bytes, stands in front of the transport stream", self.bytes)
    }
}

/// PNG, JPEG, GIF, BMP and WebP by their signatures.
fn is_image(bytes: &[u8]) -> bool {
    [&b"\x89PNG\r\n\x1a\n"[..], b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"BM"].iter().any(|mark| bytes.starts_with(mark))
        || bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP")
}

fn begins_with_packets(bytes: &[u8], is_all: bool) -> bool {
    if bytes[0] != SYNC {
        return false;
    }
    let (packets, rest) = bytes.as_chunks::<PACKET>();
    // A short unit has to be made of packets to its end.
    let is_enough = packets.len() >= ENOUGH || (is_all && rest.is_empty() && packets.len() == ENOUGH - 1);
    is_enough && packets.iter().take(LOOK).all(|packet| packet[0] == SYNC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_picture(bytes: usize) -> Leading {
        Leading { bytes, is_picture: true }
    }

    fn packets(count: usize) -> Vec<u8> {
        (0..count).flat_map(|_| [&[SYNC][..], &[0xaa; PACKET - 1]].concat()).collect()
    }

    #[test]
    fn line_28_pictures_before_packets_are_measured() {
        let png = [b"\x89PNG\r\n\x1a\n".to_vec(), vec![SYNC; 100], vec![0; 300]].concat();
        let long = [b"\xff\xd8\xff".to_vec(), vec![0x11; MAX_PREFIX - 3]].concat();
        let webp = b"RIFF\x04\0\0\0WEBP....".to_vec();
        for (name, picture, count, found) in [
            ("png", &png, 20, true),
            ("three packets", &png, 3, true),
            ("two packets", &png, 2, true),
            ("one packet", &png, 1, false),
            ("none", &png, 0, false),
            ("64 KiB", &long, 20, true),
            ("more", &[&long[..], b"."].concat(), 20, false),
            ("webp", &webp, 3, true),
            ("gif", &b"GIF89a.....".to_vec(), 3, true),
            ("bmp", &b"BM12345".to_vec(), 3, true),
            ("nothing", &Vec::new(), 20, false),
        ] {
            let unit = [picture.clone(), packets(count)].concat();
            assert_eq!(Leading::of(&unit, true), found.then_some(is_picture(picture.len())), "{name}");
        }
        let unit = [png.clone(), packets(2)].concat();
        assert_eq!(Leading::of(&unit, false), None, "two packets are not enough when more may follow");
        assert_eq!(Leading::of(&unit[..unit.len() - 1], true), None, "cut");
        // A lone 0x47 and two that are 188 bytes apart by chance, in the picture.
        let mut picture = png.clone();
        picture.resize(2000, 1);
        picture[500] = SYNC;
        picture[500 + PACKET] = SYNC;
        picture[500 + 2 * PACKET] = SYNC;
        let unit = [picture.clone(), packets(20)].concat();
        assert_eq!(Leading::of(&unit, true), Some(is_picture(picture.len())));
    }

    #[test]
    fn line_28_other_bytes_before_packets_are_told_from_media() {
        for (name, start, found) in [
            ("rubbish", &b"rubbish"[..], true),
            ("the end of a packet", &[0xaa; 100], true),
            ("a page", b"<html>", true),
            ("a packet without its sync byte", &[0xaa; PACKET], false),
            ("a box", b"\0\0\0\x18ftypiso5", false),
            ("subtitles", b"WEBVTT\n\n", false),
            ("sound", b"ID3\x04", false),
            ("nothing", b"", false),
        ] {
            let unit = [start, &packets(20)].concat();
            let leading = found.then_some(Leading { bytes: start.len(), is_picture: false });
            assert_eq!(Leading::of(&unit, true), leading, "{name}");
        }
    }
}
