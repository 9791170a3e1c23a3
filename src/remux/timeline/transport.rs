//! Timestamps of MPEG transport streams (ISO/IEC 13818-1): PTS and DTS in the heads of PES packets,
//! PCR in adaptation fields.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::{CLOCK, Section, Span, interrupted, section_of};
use crate::failure::{Failure, FailureKind, Result};

const PACKET: usize = 188;
const SYNC: u8 = 0x47;
/// Timestamps have 33 bits.
const MASK: u64 = (1 << 33) - 1;
/// Bytes that are read and written at once: whole packets.
const CHUNK: usize = PACKET * 4096;
/// PES of pictures (table 2-22).
const PICTURES: std::ops::RangeInclusive<u8> = 0xe0..=0xef;
/// PES of MPEG sound, of private streams (AC-3) and of others with a head.
const SOUND: std::ops::RangeInclusive<u8> = 0xc0..=0xdf;
const PRIVATE: [u8; 2] = [0xbd, 0xfd];

/// One elementary stream in one section.
#[derive(Debug, Clone, Copy)]
struct Timed {
    pid: u16,
    is_picture: bool,
    packets: u64,
    first: i64,
    last: i64,
    /// Between the last two.
    step: i64,
}

impl Timed {
    /// The next timestamp, near the one before it: the clock may go round in a section.
    fn add(&mut self, raw: u64) {
        let time = near(self.last, raw);
        if time > self.last {
            self.step = time - self.last;
        }
        self.last = time;
        self.packets += 1;
    }

    fn span(&self) -> Span {
        Span { start: self.first as f64 / CLOCK, end: (self.last + self.step) as f64 / CLOCK }
    }
}

/// The number that is `raw` without its upper bits and closest to `reference`.
fn near(reference: i64, raw: u64) -> i64 {
    let ahead = raw.wrapping_sub(reference as u64) & MASK;
    reference + if ahead < 1 << 32 { ahead as i64 } else { ahead as i64 - (1 << 33) }
}

/// Finds from when to when each section goes. Decoding times are what counts: they ascend.
///
/// # Errors
/// `segment_invalid` where no packet is, `disk_failed`, `interrupted`.
pub fn scan(file: &File, sections: &[u64], is_cancelled: &dyn Fn() -> bool) -> Result<Vec<Section>> {
    let mut timed: Vec<Vec<Timed>> = vec![Vec::new(); sections.len() + 1];
    each_chunk(file, is_cancelled, |offset, chunk| {
        for (index, packet) in chunk.chunks_exact(PACKET).enumerate() {
            let Some(pes) = Pes::of(packet, offset + (index * PACKET) as u64)? else { continue };
            let streams = &mut timed[section_of(sections, offset + (index * PACKET) as u64)];
            let raw = read(packet, pes.times[1].or(pes.times[0]));
            let Some(raw) = raw else { continue };
            match streams.iter_mut().find(|stream| stream.pid == pes.pid) {
                Some(stream) => stream.add(raw),
                None => {
                    let first = streams.first().map_or(raw as i64, |stream| near(stream.first, raw));
                    let is_picture = pes.is_picture;
                    streams.push(Timed { pid: pes.pid, is_picture, packets: 1, first, last: first, step: 0 });
                }
            }
        }
        Ok(())
    })?;
    let span = |streams: &[Timed], is_picture| {
        // What has most packets: subtitles and metadata have few.
        let of_kind = streams.iter().filter(|stream| stream.is_picture == is_picture);
        of_kind.max_by_key(|stream| stream.packets).map(Timed::span)
    };
    let section = |streams: &Vec<Timed>| Section { picture: span(streams, true), sound: span(streams, false) };
    Ok(timed.iter().map(section).collect())
}

/// Copies a file and moves the timestamps of each section by its amount, in seconds.
///
/// # Errors
/// As [`scan`], and `disk_full`.
pub fn copy(file: &File, copy: &File, sections: &[u64], moves: &[f64], is_cancelled: &dyn Fn() -> bool) -> Result<()> {
    let ticks: Vec<u64> = moves.iter().map(|seconds| (seconds * CLOCK).round() as i64 as u64).collect();
    each_chunk(file, is_cancelled, |offset, chunk| {
        for (index, packet) in chunk.chunks_exact_mut(PACKET).enumerate() {
            let at = offset + (index * PACKET) as u64;
            let amount = ticks[section_of(sections, at)];
            move_clock_reference(packet, amount);
            for place in Pes::of(packet, at)?.into_iter().flat_map(|pes| pes.times) {
                if let Some(raw) = read(packet, place) {
                    write(packet, place, raw.wrapping_add(amount) & MASK);
                }
            }
        }
        copy.write_all_at(chunk, offset).map_err(|error| Failure::disk("writing a joined stream", error))
    })
}

fn each_chunk(
    file: &File,
    is_cancelled: &dyn Fn() -> bool,
    mut each: impl FnMut(u64, &mut [u8]) -> Result<()>,
) -> Result<()> {
    let failed = |error| Failure::disk("reading a transport stream", error);
    let length = file.metadata().map_err(failed)?.len();
    let mut buffer = vec![0; CHUNK];
    let mut offset = 0;
    while offset < length {
        if is_cancelled() {
            return Err(interrupted());
        }
        let chunk = &mut buffer[..CHUNK.min((length - offset) as usize)];
        file.read_exact_at(chunk, offset).map_err(failed)?;
        each(offset, chunk)?;
        offset += chunk.len() as u64;
    }
    Ok(())
}

/// The head of a PES packet.
struct Pes {
    pid: u16,
    is_picture: bool,
    /// Where in the packet PTS and DTS stand.
    times: [Option<usize>; 2],
}

impl Pes {
    /// The head that begins in `packet`, if one does that can have timestamps.
    fn of(packet: &[u8], offset: u64) -> Result<Option<Pes>> {
        let invalid = |what: &str| Failure::new(FailureKind::SegmentInvalid, format!("{what} at byte {offset}"));
        if packet[0] != SYNC {
            return Err(invalid("no transport stream packet begins"));
        }
        let (begins, has_adaptation, has_payload) =
            (packet[1] & 0x40 != 0, packet[3] & 0x20 != 0, packet[3] & 0x10 != 0);
        let payload = if has_adaptation { 5 + usize::from(packet[4]) } else { 4 };
        let Some(head) = packet.get(payload..).filter(|_| begins && has_payload) else { return Ok(None) };
        // A table begins with a pointer field and its identifier: never like this.
        let &[0, 0, 1, stream_id, ..] = head else { return Ok(None) };
        if !PICTURES.contains(&stream_id) && !SOUND.contains(&stream_id) && !PRIVATE.contains(&stream_id) {
            return Ok(None);
        }
        let count = match head.get(7).map(|flags| flags >> 6) {
            Some(0b10) => 1,
            Some(0b11) => 2,
            Some(_) => 0,
            None => return Err(invalid("the head of a PES packet is cut")),
        };
        if head.len() < 9 + 5 * count {
            return Err(invalid("a timestamp lies across two packets"));
        }
        Ok(Some(Pes {
            pid: u16::from_be_bytes([packet[1] & 0x1f, packet[2]]),
            is_picture: PICTURES.contains(&stream_id),
            times: [(count > 0).then_some(payload + 9), (count > 1).then_some(payload + 14)],
        }))
    }
}

/// The timestamp of 33 bits in 5 bytes at `place` (§2.4.3.6).
fn read(packet: &[u8], place: Option<usize>) -> Option<u64> {
    let [a, b, c, d, e] = packet.get(place?..)?.first_chunk()?.map(u64::from);
    Some((a >> 1 & 0x7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1)
}

/// Writes a timestamp and leaves the marker bits between.
fn write(packet: &mut [u8], place: Option<usize>, time: u64) {
    let Some(bytes) = place.and_then(|place| packet.get_mut(place..)?.first_chunk_mut::<5>()) else { return };
    bytes[0] = bytes[0] & 0xf1 | (time >> 29) as u8 & 0x0e;
    bytes[1] = (time >> 22) as u8;
    bytes[2] = bytes[2] & 0x01 | (time >> 14) as u8 & 0xfe;
    bytes[3] = (time >> 7) as u8;
    bytes[4] = bytes[4] & 0x01 | (time << 1) as u8;
}

/// Moves the base of a program clock reference (§2.4.3.5): 33 bits at 90 kHz.
fn move_clock_reference(packet: &mut [u8], amount: u64) {
    let has_reference = packet[3] & 0x20 != 0 && packet[4] >= 7 && packet[5] & 0x10 != 0;
    if !has_reference {
        return;
    }
    let [a, b, c, d, e] = [6, 7, 8, 9, 10].map(|at| u64::from(packet[at]));
    let base = (a << 25 | b << 17 | c << 9 | d << 1 | e >> 7).wrapping_add(amount) & MASK;
    packet[6..10].copy_from_slice(&((base >> 1) as u32).to_be_bytes());
    packet[10] = packet[10] & 0x7f | (base << 7) as u8 & 0x80;
}
