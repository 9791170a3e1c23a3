//! What a segment turned out to hold, and whether another one goes on where it ended.

use super::codec::{Codec, Configuration};

/// What was found in one segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The elementary streams in the order of the program map; empty for other containers.
    pub streams: Vec<StreamFacts>,
    /// Missing or damaged packets. A hole, unless somebody has allowed it.
    pub damage: Option<Damage>,
    /// Bytes in front of the stream, such as a picture, that were left out.
    pub leading_bytes: u64,
}

/// One elementary stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamFacts {
    pub pid: u16,
    pub codec: Codec,
    /// Presentation timestamp of its first access unit in the segment, 33 bits at 90 kHz.
    pub first_pts: Option<u64>,
    /// What a decoder has to know; `None` where it was not found or is not looked for.
    pub configuration: Option<Configuration>,
}

/// Packets that were lost before they reached us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// How many packets are missing or marked as damaged, at least: the counter that tells has four
    /// bits.
    pub packets: u64,
    /// Where it was seen first.
    pub pid: u16,
    /// Byte in the clear segment.
    pub offset: u64,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Damage { packets, pid, offset } = self;
        write!(f, "at least {packets} packets are missing or damaged, the first of PID {pid:#x} at byte {offset}")
    }
}

impl Facts {
    /// The earliest presentation timestamp of picture and sound, 33 bits at 90 kHz. A segment in
    /// the middle of which the clock wraps has its earliest one before the wrap.
    pub fn first_pts(&self) -> Option<u64> {
        let media = self.streams.iter().filter(|stream| stream.codec.is_picture() || stream.codec.is_sound());
        media.filter_map(|stream| stream.first_pts).reduce(|first, second| {
            // Half of the range: which of the two is behind the other on a circle.
            if second.wrapping_sub(first) & 0x1_ffff_ffff < 1 << 32 { first } else { second }
        })
    }

    /// Takes over what a later segment says and this one did not.
    pub fn learn(&mut self, later: &Facts) {
        if self.streams.is_empty() {
            self.streams.clone_from(&later.streams);
        }
        for stream in self.streams.iter_mut().filter(|stream| stream.configuration.is_none()) {
            let same = later.streams.iter().find(|other| other.pid == stream.pid);
            stream.configuration = same.and_then(|other| other.configuration);
        }
    }

    /// Whether `later` can follow in one .mp4.
    ///
    /// # Errors
    /// What changes, in words.
    pub fn compatible(&self, later: &Facts) -> Result<(), String> {
        if self.streams.is_empty() {
            return Ok(());
        }
        for (what, of_kind) in [("picture", Codec::is_picture as fn(Codec) -> bool), ("sound", Codec::is_sound)] {
            let is_new = |stream: &&StreamFacts| !self.streams.iter().any(|known| known.pid == stream.pid);
            let is_gone = |stream: &&StreamFacts| !later.streams.iter().any(|there| there.pid == stream.pid);
            let of_kind = |stream: &&StreamFacts| of_kind(stream.codec);
            if let Some(new) = later.streams.iter().filter(of_kind).find(is_new) {
                let Some(before) = self.streams.iter().filter(of_kind).find(is_gone) else {
                    return Err(format!("a {what} track appears: {}", describe(new)));
                };
                changes(what, before, new)?;
                // ffmpeg makes another track of it, and what that holds begins in the middle.
                return Err(format!("the {what} moves from PID {:#x} to PID {:#x}", before.pid, new.pid));
            }
            for before in self.streams.iter().filter(of_kind) {
                // One that ends is no harm: its track of the .mp4 is shorter then.
                if let Some(after) = later.streams.iter().find(|after| after.pid == before.pid) {
                    changes(what, before, after)?;
                }
            }
        }
        Ok(())
    }
}

fn changes(what: &str, before: &StreamFacts, after: &StreamFacts) -> Result<(), String> {
    let same_configuration = match (&before.configuration, &after.configuration) {
        (Some(before), Some(after)) => before.is_like(after),
        // Nothing to compare with.
        _ => true,
    };
    if before.codec == after.codec && same_configuration {
        return Ok(());
    }
    Err(format!("the {what} changes from {} to {}", describe(before), describe(after)))
}

fn describe(stream: &StreamFacts) -> String {
    match &stream.configuration {
        Some(configuration) => format!("{} {configuration}", stream.codec),
        None => stream.codec.to_string(),
    }
}
