//! WebVTT segments to one WebVTT text on the timeline of the finished lecture (RFC 8216 §3.5, W3C
//! WebVTT). Pure: no I/O.
//!
//! `segment` (bytes to cues) → `clock` and `time` (where they stand in the lecture) → `stitch` (cues
//! that several segments repeat once, in order).

mod clock;
mod segment;
mod stitch;
mod text;
mod time;

#[cfg(test)]
mod tests;

pub use clock::{Clock, nearest};
pub use stitch::{SegmentText, Stitched, stitch};

/// Most cues, comments and definitions of one rendition: a lecture of three hours has some 5,000.
pub const MAX_BLOCKS: usize = 100_000;

/// What was odd in a text and how it was read: how often, and the first few.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics {
    pub count: usize,
    pub first: Vec<String>,
}

impl Diagnostics {
    const KEPT: usize = 5;

    /// Adds one; its words are made only while they are kept.
    fn note(&mut self, words: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < Self::KEPT {
            self.first.push(words());
        }
    }

    /// Adds those of a part, each with its place in front.
    fn add(&mut self, place: &str, part: Diagnostics) {
        let room = Self::KEPT - self.first.len();
        self.first.extend(part.first.into_iter().take(room).map(|words| format!("{place}: {words}")));
        self.count += part.count;
    }
}
