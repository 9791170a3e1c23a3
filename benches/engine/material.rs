//! What is downloaded: encrypted transport streams, made as they are sent. Every segment is another
//! one, with program tables, timestamps and continuity counters as they should be; only the pictures
//! are noise.

use std::fmt::Write;
use std::sync::LazyLock;

use aes::Aes128;
use cbc::cipher::array::Array;
use cbc::cipher::consts::U16;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};

pub const KEY: [u8; 16] = *b"sixteen key byte";

const PACKET: usize = 188;
const PROGRAM_MAP_PID: u16 = 0x1000;
const VIDEO_PID: u16 = 0x100;
/// Program association and program map, at the head of each segment.
const TABLE_PACKETS: usize = 2;
/// Packets of one picture.
const FRAME_PACKETS: usize = 64;
const FRAMES_PER_SECOND: usize = 25;
/// Of the 90 kHz clock.
const TICKS_PER_FRAME: u64 = 3600;
/// Packets that are made at once; their bytes are a multiple of the cipher's 16.
const PIECE_PACKETS: usize = 1024;
/// Parameter sets of H.264 Main, 1280x720, from x264.
const SEQUENCE_PARAMETERS: &[u8] =
    b"\x67\x4d\x40\x1f\xec\xa0\x28\x02\xdd\x80\x88\x00\x00\x03\x00\x08\x00\x00\x03\x01\x90\x78\xc1\x8c\xb0";
const PICTURE_PARAMETERS: &[u8] = b"\x68\xeb\xe3\xcb\x20";

/// Noise without a zero byte, so that no start code is in it.
static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = fastrand::Rng::with_seed(7);
    (0..1 << 20).map(|_| random.u8(1..)).collect()
});

/// A stream of segments of equal size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Material {
    pub segments: usize,
    packets: usize,
}

impl Material {
    /// Segments of about `bytes` bytes.
    pub fn new(segments: usize, bytes: usize) -> Material {
        Material { segments, packets: (bytes / PACKET).max(TABLE_PACKETS + 1) }
    }

    /// From what its [`Display`](std::fmt::Display) writes.
    pub fn parse(text: &str) -> Option<Material> {
        let (segments, packets) = text.split_once('x')?;
        Some(Material { segments: segments.parse().ok()?, packets: packets.parse().ok()? })
    }

    /// Bytes of the whole stream in the clear.
    pub fn bytes(&self) -> u64 {
        (self.segments * self.packets * PACKET) as u64
    }

    /// Bytes of a segment as it is sent: with padding, 1 to 16 bytes.
    pub fn sent_segment_bytes(&self) -> usize {
        self.packets * PACKET / 16 * 16 + 16
    }

    pub fn playlist(&self) -> String {
        let frames = (self.packets - TABLE_PACKETS).div_ceil(FRAME_PACKETS);
        let seconds = frames as f64 / FRAMES_PER_SECOND as f64;
        let target = seconds.ceil();
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:{target}\n#EXT-X-MEDIA-SEQUENCE:0\n\
             #EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-KEY:METHOD=AES-128,URI=\"key\"\n"
        );
        for index in 0..self.segments {
            write!(text, "#EXTINF:{seconds:.3},\nseg{index:06}.ts\n").expect("a String takes everything");
        }
        text + "#EXT-X-ENDLIST\n"
    }

    /// Segment `index`, encrypted with the implicit IV (RFC 8216 §5.2).
    pub fn segment(&self, index: usize) -> Pieces {
        let iv = (index as u128).to_be_bytes();
        let encryptor = cbc::Encryptor::new(&KEY.into(), &iv.into());
        Pieces { material: *self, index, packet: 0, buffer: Vec::new(), encryptor }
    }
}

impl std::fmt::Display for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{}x{}", self.segments, self.packets)
    }
}

/// A segment, piece by piece.
pub struct Pieces {
    material: Material,
    index: usize,
    packet: usize,
    buffer: Vec<u8>,
    encryptor: cbc::Encryptor<Aes128>,
}

impl Pieces {
    /// The next piece; nothing after the last.
    pub fn next(&mut self) -> Option<&[u8]> {
        if self.packet == self.material.packets {
            return None;
        }
        self.buffer.clear();
        let end = self.material.packets.min(self.packet + PIECE_PACKETS);
        while self.packet < end {
            self.append_packet();
            self.packet += 1;
        }
        if end == self.material.packets {
            let padding = 16 - self.buffer.len() % 16;
            self.buffer.resize(self.buffer.len() + padding, padding as u8);
        }
        let (blocks, _) = Array::<u8, U16>::slice_as_chunks_mut(&mut self.buffer);
        self.encryptor.encrypt_blocks(blocks);
        Some(&self.buffer)
    }

    fn append_packet(&mut self) {
        let begin = self.buffer.len();
        match self.packet {
            0 => {
                self.head(0, true, self.index);
                let [high, low] = (0xe000 | PROGRAM_MAP_PID).to_be_bytes();
                self.section(&[0x00, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, high, low]);
                self.buffer.resize(begin + PACKET, 0xff);
            }
            1 => {
                self.head(PROGRAM_MAP_PID, true, self.index);
                let [high, low] = (0xe000 | VIDEO_PID).to_be_bytes();
                self.section(&[0x02, 0xb0, 18, 0, 1, 0xc1, 0, 0, high, low, 0xf0, 0, 0x1b, high, low, 0xf0, 0]);
                self.buffer.resize(begin + PACKET, 0xff);
            }
            _ => {
                let number = self.packet - TABLE_PACKETS;
                let is_start = number.is_multiple_of(FRAME_PACKETS);
                self.head(VIDEO_PID, is_start, self.index * (self.material.packets - TABLE_PACKETS) + number);
                if is_start {
                    self.access_unit(number / FRAME_PACKETS);
                }
                let from = (self.index * 7919 + number * 184) % (NOISE.len() - PACKET);
                let room = begin + PACKET - self.buffer.len();
                self.buffer.extend_from_slice(&NOISE[from..from + room]);
            }
        }
    }

    fn head(&mut self, pid: u16, is_start: bool, count: usize) {
        let [high, low] = pid.to_be_bytes();
        self.buffer.extend([0x47, high | if is_start { 0x40 } else { 0 }, low, 0x10 | (count % 16) as u8]);
    }

    /// A table behind its pointer field, with its check sum (ISO/IEC 13818-1 annex A).
    fn section(&mut self, bytes: &[u8]) {
        let checksum = bytes.iter().fold(u32::MAX, |crc, byte| {
            let shift = |crc: u32, _| if crc >> 31 == 1 { crc << 1 ^ 0x04c1_1db7 } else { crc << 1 };
            (0..8).fold(crc ^ u32::from(*byte) << 24, shift)
        });
        self.buffer.push(0);
        self.buffer.extend_from_slice(bytes);
        self.buffer.extend(checksum.to_be_bytes());
    }

    /// The head of a PES packet with a timestamp, and the head of a picture.
    fn access_unit(&mut self, frame: usize) {
        let frames = (self.material.packets - TABLE_PACKETS).div_ceil(FRAME_PACKETS);
        let pts = (self.index * frames + frame) as u64 * TICKS_PER_FRAME;
        self.buffer.extend(b"\0\0\x01\xe0\0\0\x80\x80\x05");
        let bits = |shift: u32| (pts >> shift << 1) as u8 | 1;
        self.buffer.extend([0x20 | bits(30) & 0x0f, (pts >> 22) as u8, bits(15), (pts >> 7) as u8, bits(0)]);
        self.buffer.extend(b"\0\0\0\x01\x09\xf0");
        if frame == 0 {
            for parameters in [SEQUENCE_PARAMETERS, PICTURE_PARAMETERS] {
                self.buffer.extend(b"\0\0\0\x01");
                self.buffer.extend(parameters);
            }
        }
        self.buffer.extend(if frame == 0 { b"\0\0\x01\x65" } else { b"\0\0\x01\x41" });
    }
}
