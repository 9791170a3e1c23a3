//! Pictures in front of transport streams: some hosts store only images, and some uploaders give
//! them one, with the segment behind it. Players skip it, and so does the engine.

use super::transport::{PACKET, SYNC};

/// How far the first packet is looked for.
pub const MAX_PREFIX: usize = 64 * 1024;
/// Packets in a row that are believed: 0x47 alone stands anywhere.
const ENOUGH: usize = 3;
/// Packets that are looked at where they are there. A false grid in a picture seldom goes so far.
const LOOK: usize = 8;

/// Bytes that are enough to tell, unless the unit is shorter.
pub const PREFIX_WINDOW: usize = MAX_PREFIX + LOOK * PACKET;

/// Length of the picture in front of a transport stream, when there is one and the stream follows.
/// `start` is the beginning of a unit in the clear: [`PREFIX_WINDOW`] of it, or all of it
/// (`is_all`).
pub fn image_prefix(start: &[u8], is_all: bool) -> Option<usize> {
    if !is_image(start) {
        return None;
    }
    (1..start.len().min(MAX_PREFIX + 1)).find(|at| begins_with_packets(&start[*at..], is_all))
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
            ("no picture", &b"rubbish".to_vec(), 20, false),
            ("nothing", &Vec::new(), 20, false),
        ] {
            let unit = [picture.clone(), packets(count)].concat();
            assert_eq!(image_prefix(&unit, true), found.then_some(picture.len()), "{name}");
        }
        let unit = [png.clone(), packets(2)].concat();
        assert_eq!(image_prefix(&unit, false), None, "two packets are not enough when more may follow");
        assert_eq!(image_prefix(&unit[..unit.len() - 1], true), None, "cut");
        // A lone 0x47 and two that are 188 bytes apart by chance, in the picture.
        let mut picture = png.clone();
        picture.resize(2000, 1);
        picture[500] = SYNC;
        picture[500 + PACKET] = SYNC;
        picture[500 + 2 * PACKET] = SYNC;
        let unit = [picture.clone(), packets(20)].concat();
        assert_eq!(image_prefix(&unit, true), Some(picture.len()));
    }
}
