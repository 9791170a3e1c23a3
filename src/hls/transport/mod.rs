//! MPEG transport streams (ISO/IEC 13818-1), one segment at a time, as its bytes pass through: is
//! every packet there, and what is inside?
//!
//! ffmpeg's exit status says nothing about lost packets, so that a hole has to be seen here. Of each
//! packet of 188 bytes only head and end are touched, and nothing is copied but the packet that lies
//! across two slices.

mod bits;
mod codec;
mod facts;
mod survey;
#[cfg(test)]
mod tests;

pub use codec::{Codec, Configuration};
pub use facts::{Damage, Facts, StreamFacts};

use crate::failure::{Failure, FailureKind, Result};
use survey::Survey;
pub(super) use survey::crc32;

/// Length of a packet in bytes.
pub const PACKET: usize = 188;
/// The first byte of every packet.
pub const SYNC: u8 = 0x47;
/// Packets of this PID fill the stream up and mean nothing.
const NULL_PID: usize = 0x1fff;
/// PIDs below belong to tables (ISO/IEC 13818-1 table 2-3, and DVB): never to picture or sound.
const FIRST_MEDIA_PID: usize = 0x20;

type Packet = [u8; PACKET];

/// What is known of each PID, one byte each: the last continuity counter and flags.
struct Pids(Box<[u8; 0x2000]>);

impl Pids {
    const COUNTER: u8 = 0x0f;
    /// The counter is one that was seen.
    const SEEN: u8 = 0x10;
    /// The survey still wants payload of this PID.
    const WATCHED: u8 = 0x20;
    /// A program map: sent again and again, so that a missing packet is no hole.
    const TABLE: u8 = 0x40;

    fn set(&mut self, pid: u16, flag: u8) {
        self.0[usize::from(pid) & NULL_PID] |= flag;
    }

    fn clear(&mut self, pid: u16, flag: u8) {
        self.0[usize::from(pid) & NULL_PID] &= !flag;
    }
}

/// Looks at one segment.
pub struct Inspector {
    pids: Pids,
    /// The last bytes of the last packet of each PID: they tell a duplicate from the sixteenth packet
    /// after it, and lie beside the head of the next packet, so that they cost nothing.
    ends: Box<[u32; 0x2000]>,
    /// Bytes seen.
    offset: u64,
    /// The packet that has begun in an earlier slice, and how much of it is there.
    begun: Packet,
    begun_length: usize,
    damage: Option<Damage>,
    survey: Survey,
}

impl Default for Inspector {
    fn default() -> Self {
        Inspector::new()
    }
}

impl Inspector {
    /// Begins a segment. Continuity counters may begin anywhere.
    pub fn new() -> Inspector {
        let mut pids = Pids(Box::new([0; 0x2000]));
        pids.set(survey::PROGRAM_ASSOCIATION, Pids::WATCHED | Pids::TABLE);
        Inspector {
            pids,
            ends: Box::new([0; 0x2000]),
            offset: 0,
            begun: [0; PACKET],
            begun_length: 0,
            damage: None,
            survey: Survey::default(),
        }
    }

    /// Looks at the next clear bytes of the segment, however they are cut.
    ///
    /// # Errors
    /// `segment_invalid` where a packet does not begin with the sync byte, `drm_protected` for
    /// scrambled packets.
    pub fn inspect(&mut self, mut bytes: &[u8]) -> Result<()> {
        if self.begun_length > 0 {
            let (now, later) = bytes.split_at((PACKET - self.begun_length).min(bytes.len()));
            self.begun[self.begun_length..][..now.len()].copy_from_slice(now);
            self.begun_length += now.len();
            bytes = later;
            if self.begun_length < PACKET {
                return Ok(());
            }
            self.begun_length = 0;
            let packet = self.begun;
            self.packets(&[packet])?;
        }
        let (packets, rest) = bytes.as_chunks::<PACKET>();
        self.packets(packets)?;
        self.begun[..rest.len()].copy_from_slice(rest);
        self.begun_length = rest.len();
        if rest.first().is_some_and(|byte| *byte != SYNC) {
            return Err(out_of_sync(rest[0], self.offset));
        }
        Ok(())
    }

    fn packets(&mut self, packets: &[Packet]) -> Result<()> {
        for packet in packets {
            let head = u32::from_be_bytes([packet[0], packet[1], packet[2], packet[3]]);
            let pid = (head >> 8) as usize & NULL_PID;
            let state = &mut self.pids.0[pid];
            let counter = head as u8 & Pids::COUNTER;
            // What nearly every packet is: in sync, no error, not scrambled, only payload, the
            // next one of a PID of which nothing more is to be learnt.
            if head & 0xff80_00f0 == 0x4700_0010 && *state == (Pids::SEEN | (counter.wrapping_sub(1) & Pids::COUNTER)) {
                *state = Pids::SEEN | counter;
                self.ends[pid] = end_of(packet);
            } else {
                self.packet(packet)?;
            }
            self.offset += PACKET as u64;
        }
        Ok(())
    }

    /// A packet at which more may be of interest.
    #[inline(never)]
    fn packet(&mut self, packet: &Packet) -> Result<()> {
        let offset = self.offset;
        if packet[0] != SYNC {
            return Err(out_of_sync(packet[0], offset));
        }
        let pid = usize::from(u16::from_be_bytes([packet[1], packet[2]])) & NULL_PID;
        if pid == NULL_PID {
            return Ok(());
        }
        let (has_error, is_start) = (packet[1] & 0x80 != 0, packet[1] & 0x40 != 0);
        let is_scrambled = packet[3] & 0xc0 != 0;
        let (has_adaptation, has_payload) = (packet[3] & 0x20 != 0, packet[3] & 0x10 != 0);
        let counter = packet[3] & Pids::COUNTER;
        if is_scrambled && !has_error && pid >= FIRST_MEDIA_PID {
            let message =
                format!("the packet at byte {offset} is scrambled (PID {pid:#x}); protection is not worked around");
            return Err(Failure::new(FailureKind::DrmProtected, message));
        }
        let may_jump = has_adaptation && packet[4] > 0 && packet[5] & 0x80 != 0;
        let state = self.pids.0[pid];
        let flags = state & (Pids::WATCHED | Pids::TABLE);
        self.pids.0[pid] = flags | Pids::SEEN | counter;
        if has_error {
            self.note_damage(1, pid);
        } else if state & Pids::SEEN != 0 && !may_jump && flags & Pids::TABLE == 0 && pid >= FIRST_MEDIA_PID {
            let last = state & Pids::COUNTER;
            // Packets without payload do not count (§2.4.3.3).
            let expected = if has_payload { last.wrapping_add(1) & Pids::COUNTER } else { last };
            let is_duplicate = counter == last && self.ends[pid] == end_of(packet);
            if counter != expected && !is_duplicate {
                // At least so many: the counter begins again after 16.
                self.note_damage(u64::from(counter.wrapping_sub(expected) & Pids::COUNTER), pid);
            }
        }
        self.ends[pid] = end_of(packet);
        if flags & Pids::WATCHED != 0 && has_payload && !has_error {
            self.survey.packet(pid as u16, is_start, payload(packet), &mut self.pids)?;
        }
        Ok(())
    }

    fn note_damage(&mut self, packets: u64, pid: usize) {
        let damage = self.damage.get_or_insert(Damage { packets: 0, pid: pid as u16, offset: self.offset });
        damage.packets += packets;
    }

    /// Ends the segment.
    ///
    /// # Errors
    /// `segment_invalid` when it ends in the middle of a packet.
    pub fn finish(self) -> Result<Facts> {
        if self.begun_length > 0 {
            let message = format!(
                "the segment ends in the middle of a packet: {} of {PACKET} bytes at byte {}",
                self.begun_length, self.offset
            );
            return Err(Failure::new(FailureKind::SegmentInvalid, message));
        }
        Ok(Facts { streams: self.survey.into_streams(), damage: self.damage, leading_bytes: 0 })
    }
}

fn end_of(packet: &Packet) -> u32 {
    u32::from_be_bytes([packet[184], packet[185], packet[186], packet[187]])
}

/// What stands behind the head and the adaptation field; empty when the field fills the packet.
fn payload(packet: &Packet) -> &[u8] {
    let start = if packet[3] & 0x20 != 0 { 5 + usize::from(packet[4]) } else { 4 };
    packet.get(start..).unwrap_or_default()
}

fn out_of_sync(byte: u8, offset: u64) -> Failure {
    let message = format!("no transport stream packet begins at byte {offset}: 0x{byte:02x} stands there");
    Failure::new(FailureKind::SegmentInvalid, message)
}
