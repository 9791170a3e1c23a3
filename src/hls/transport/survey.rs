//! What a segment holds: program tables, first timestamps, codec configuration. Looks at the
//! beginning only, and lets go of each PID as soon as all is known of it.

use super::Pids;
use super::codec::{self, Codec};
use super::facts::StreamFacts;
use crate::failure::{Failure, FailureKind, Result};

/// PID of the program association table.
pub const PROGRAM_ASSOCIATION: u16 = 0;
/// Longest section of a program table with its head (ISO/IEC 13818-1 §2.4.4.3).
const MAX_SECTION: usize = 1024;
/// Streams that are looked at: more than any real program has.
const MAX_STREAMS: usize = 64;
/// How much of an access unit may stand before its parameter sets end.
const MAX_WINDOW: usize = 2048;
/// Access units that are searched for a configuration: beyond that there is none.
const MAX_UNITS: u32 = 256;

/// What has been learnt of a segment.
#[derive(Default)]
pub struct Survey {
    tables: Vec<Table>,
    streams: Vec<Stream>,
}

/// A program table while its section comes.
struct Table {
    pid: u16,
    section: Vec<u8>,
}

struct Stream {
    facts: StreamFacts,
    /// The beginning of the access unit that has begun.
    window: Vec<u8>,
    units: u32,
}

impl Survey {
    /// Takes the payload of a watched PID; with `is_start` a section or an access unit begins in it.
    ///
    /// # Errors
    /// `drm_protected` when the program says that its streams are encrypted.
    pub fn packet(&mut self, pid: u16, is_start: bool, payload: &[u8], pids: &mut Pids) -> Result<()> {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.facts.pid == pid) {
            if stream.take(is_start, payload) {
                stream.window = Vec::new();
                pids.clear(pid, Pids::WATCHED);
            }
            return Ok(());
        }
        let index = self.tables.iter().position(|table| table.pid == pid).unwrap_or_else(|| {
            self.tables.push(Table { pid, section: Vec::new() });
            self.tables.len() - 1
        });
        let Some(section) = self.tables[index].take(is_start, payload) else { return Ok(()) };
        pids.clear(pid, Pids::WATCHED);
        match pid {
            PROGRAM_ASSOCIATION => {
                for map in program_maps(&section) {
                    pids.set(map, Pids::WATCHED | Pids::TABLE);
                }
                Ok(())
            }
            _ => self.program(&section, pids),
        }
    }

    /// Reads a program map (§2.4.4.8).
    fn program(&mut self, section: &[u8], pids: &mut Pids) -> Result<()> {
        let Some(body) = table_body(section, 2) else { return Ok(()) };
        let length = |at: usize| Some(usize::from(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]) & 0x0fff));
        let Some(information) = length(2) else { return Ok(()) };
        let mut at = 4 + information;
        while let (Some(&[stream_type, high, low, ..]), Some(descriptors)) = (body.get(at..), length(at + 3)) {
            let pid = u16::from_be_bytes([high, low]) & 0x1fff;
            let descriptors = body.get(at + 5..at + 5 + descriptors).unwrap_or_default();
            at += 5 + descriptors.len().max(length(at + 3).unwrap_or_default());
            // Apple's types for encrypted H.264, AAC, AC-3 and E-AC-3.
            if matches!(stream_type, 0xdb | 0xcf | 0xc1 | 0xc2) {
                let message = format!("the stream of PID {pid:#x} is protected (SAMPLE-AES); DRM is not worked around");
                return Err(Failure::new(FailureKind::DrmProtected, message));
            }
            if self.streams.len() < MAX_STREAMS && !self.streams.iter().any(|stream| stream.facts.pid == pid) {
                let codec = Codec::of(stream_type, descriptors);
                let facts = StreamFacts { pid, codec, first_pts: None, configuration: None };
                self.streams.push(Stream { facts, window: Vec::new(), units: 0 });
                pids.set(pid, Pids::WATCHED);
            }
        }
        Ok(())
    }

    pub fn into_streams(self) -> Vec<StreamFacts> {
        self.streams.into_iter().map(|stream| stream.facts).collect()
    }
}

impl Table {
    /// Collects a section; returns it once it is whole. A damaged one is passed over, as a decoder
    /// does.
    fn take(&mut self, is_start: bool, payload: &[u8]) -> Option<Vec<u8>> {
        let mut more = payload;
        if is_start {
            self.section.clear();
            let pointer = usize::from(*payload.first()?);
            more = payload.get(1 + pointer..)?;
        } else if self.section.is_empty() {
            return None;
        }
        let room = MAX_SECTION - self.section.len();
        self.section.extend_from_slice(&more[..more.len().min(room)]);
        let length = 3 + usize::from(u16::from_be_bytes([*self.section.get(1)?, *self.section.get(2)?]) & 0x0fff);
        let whole = self.section.get(..length)?;
        let section = (crc32(whole) == 0).then(|| whole.to_vec());
        self.section.clear();
        section
    }
}

impl Stream {
    /// Returns whether all is known.
    fn take(&mut self, is_start: bool, payload: &[u8]) -> bool {
        if is_start {
            self.window.clear();
            self.units += 1;
            let Some((pts, data)) = pes(payload) else { return self.units > MAX_UNITS };
            self.facts.first_pts = self.facts.first_pts.or(pts);
            self.window.extend_from_slice(data);
        } else if self.window.is_empty() || self.window.len() >= MAX_WINDOW {
            return false;
        } else {
            self.window.extend_from_slice(payload);
        }
        if self.facts.configuration.is_none() {
            self.facts.configuration = codec::configuration(self.facts.codec, &self.window);
        }
        let has_configuration = self.facts.configuration.is_some() || !self.facts.codec.has_configuration();
        (has_configuration && self.facts.first_pts.is_some()) || self.units > MAX_UNITS
    }
}

/// The timestamp and the data of a PES packet's beginning (§2.4.3.6).
fn pes(payload: &[u8]) -> Option<(Option<u64>, &[u8])> {
    let &[0, 0, 1, stream_id, _, _, flags, timestamps, header_length, ..] = payload else { return None };
    // Program stream map, padding, private 2, ECM, EMM, DSM-CC, H.222.1 type E and the directory
    // have no such head.
    if matches!(stream_id, 0xbc | 0xbe | 0xbf | 0xf0..=0xf2 | 0xf8 | 0xff) || flags & 0xc0 != 0x80 {
        return None;
    }
    let pts = match payload.get(9..14) {
        Some(&[a, b, c, d, e]) if timestamps & 0x80 != 0 && header_length >= 5 => Some(
            u64::from(a >> 1 & 7) << 30
                | u64::from(b) << 22
                | u64::from(c >> 1) << 15
                | u64::from(d) << 7
                | u64::from(e >> 1),
        ),
        _ => None,
    };
    Some((pts, payload.get(9 + usize::from(header_length)..).unwrap_or_default()))
}

/// PIDs of the program maps in a program association section (§2.4.4.3).
fn program_maps(section: &[u8]) -> Vec<u16> {
    let (programs, _) = table_body(section, 0).unwrap_or_default().as_chunks::<4>();
    // Program 0 is the network information.
    let maps = programs.iter().filter(|program| program[..2] != [0, 0]);
    maps.map(|program| u16::from_be_bytes([program[2], program[3]]) & 0x1fff).collect()
}

/// What stands between the head and the check sum of a section that is in force.
fn table_body(section: &[u8], table_id: u8) -> Option<&[u8]> {
    let is_current = section.get(5)? & 1 == 1;
    let body = section.get(8..section.len().checked_sub(4)?)?;
    (section[0] == table_id && is_current).then_some(body)
}

/// The CRC of program tables (annex A): 0 over a section with its own check sum.
pub fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte) << 24,
            |crc, _| {
                if crc & 1 << 31 == 0 { crc << 1 } else { crc << 1 ^ 0x04c1_1db7 }
            },
        )
    })
}
