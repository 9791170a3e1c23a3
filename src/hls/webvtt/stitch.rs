//! The cues of all segments in one text: each once, in order, on the lecture's timeline.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::clock::Clock;
use super::segment::{self, Content, Cue, Item, Segment};
use super::text::{Block, Entry, Text};
use super::time::{Time, TimestampMap, milliseconds};
use super::{Diagnostics, MAX_BLOCKS};
use crate::failure::{Context, Failure, FailureKind, Result};

/// How far the times of one cue may differ between segments whose maps are rounded.
const ROUNDING_MS: i64 = 1;
/// How far the beginning of a segment may lie from where the playlist has it, for a cue that was cut
/// there.
const BORDER_MS: i64 = 500;

/// A segment as it came, decrypted.
#[derive(Debug, Clone, Copy)]
pub struct SegmentText<'a> {
    pub bytes: &'a [u8],
    /// Where it begins on the playlist's timeline, in seconds.
    pub start_seconds: f64,
    /// EXT-X-DISCONTINUITY stood before it.
    pub discontinuity: bool,
    /// Media sequence number, for messages.
    pub sequence: u64,
}

/// A whole rendition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stitched {
    /// WebVTT in UTF-8, its lines ended by LF.
    pub text: String,
    /// Cues in the text.
    pub cues: usize,
    /// Cues that end before the lecture begins, left out.
    pub before_start: usize,
    /// What was odd and how it was read.
    pub diagnostics: Diagnostics,
}

/// Makes one text of the segments of a rendition. Without a clock, the first timestamp map is taken
/// for the beginning of the lecture.
///
/// # Errors
/// `segment_invalid` for a segment that is not WebVTT or whose timestamp map is not understood,
/// `body_too_large` over [`MAX_BLOCKS`].
pub fn stitch(segments: &[SegmentText], clock: Option<&Clock>) -> Result<Stitched> {
    let stitching = Stitching::of(segments, clock)?;
    if !stitching.has_map && stitching.text.is_before_start() {
        // Nobody wrote a map, and the rule for that (MPEG-2 timestamp 0) would lose everything:
        // these are times of the lecture already.
        let mut stitching = Stitching::of(segments, Some(&Clock::starting_at(0)))?;
        stitching.diagnostics.note(|| "no X-TIMESTAMP-MAP: cues are taken to count from the first picture".into());
        return Ok(stitching.finish());
    }
    Ok(stitching.finish())
}

/// The text while it grows.
#[derive(Default)]
struct Stitching {
    clock: Option<Clock>,
    text: Text,
    /// Comments and definitions that are there already.
    seen_blocks: HashSet<String>,
    /// Each content once, with its number.
    contents: HashMap<Rc<Content>, usize>,
    /// Cues that are there already, each as it stood in a segment: number of its content, times.
    seen_cues: HashMap<(usize, Time, Time), Occurrence>,
    /// Cues that run to the very end of the last segment, by content: where they are in the text.
    running: HashMap<usize, usize>,
    /// When the last segment ends, by its last cue.
    last_end: Option<Time>,
    segments: usize,
    /// Whether any segment had a timestamp map.
    has_map: bool,
    /// Of the clock: the one that holds now.
    section: usize,
    /// As many discontinuities as the main track has: they belong together by their number.
    by_number: bool,
    diagnostics: Diagnostics,
}

/// How often a cue stands in the text and in the segment that is being read: a segment that has it
/// twice means two.
#[derive(Default)]
struct Occurrence {
    kept: usize,
    segment: usize,
    here: usize,
}

impl Stitching {
    fn of(segments: &[SegmentText], clock: Option<&Clock>) -> Result<Stitching> {
        let sections = 1 + segments.iter().skip(1).filter(|segment| segment.discontinuity).count();
        let by_number = clock.is_some_and(|clock| clock.sections() == sections);
        let mut stitching = Stitching { clock: clock.cloned(), by_number, ..Stitching::default() };
        for text in segments {
            let place = || format!("segment {}", text.sequence);
            let segment = segment::parse(text.bytes).at(place)?;
            stitching.segment(segment, text).at(place)?;
        }
        Ok(stitching)
    }

    fn segment(&mut self, segment: Segment, text: &SegmentText) -> Result<()> {
        let Segment { title, header, map, definitions, items, diagnostics, .. } = segment;
        if self.segments == 0 {
            (self.text.title, self.text.header) = (title, header);
        }
        if text.discontinuity && self.segments > 0 {
            let by_time = self.clock.as_ref().map_or(0, |clock| clock.section_at(text.start_seconds));
            self.section = if self.by_number { self.section + 1 } else { by_time };
        }
        self.segments += 1;
        self.has_map |= map.is_some();
        self.diagnostics.add(&format!("segment {}", text.sequence), diagnostics);
        for definition in definitions {
            if self.seen_blocks.insert(definition.clone()) {
                self.text.definitions.push(definition);
            }
        }
        let offset = self.offset(map.unwrap_or(TimestampMap::DEFAULT), &items, text.start_seconds);
        let cues = || items.iter().filter_map(Item::as_cue);
        let begins = cues().map(|cue| cue.start.shifted(offset)).min();
        let ends = cues().map(|cue| cue.end.shifted(offset)).max();
        let cut = begins.filter(|begins| self.is_cut(*begins, text.start_seconds));
        let mut running = HashMap::new();
        let places = places(&items, offset, Time::from_seconds(text.start_seconds));
        for (item, place) in items.into_iter().zip(places) {
            match item {
                Item::Note(note) => {
                    if self.seen_blocks.insert(note.clone()) {
                        self.text.entries.push(Entry { start: place, block: Block::Note(note) });
                    }
                }
                Item::Cue(cue) => {
                    let cue = cue.shifted(offset);
                    let (end, content) = (cue.end, self.number(&cue.content));
                    if let Some(index) = self.cue(cue, content, cut)
                        && ends.is_some_and(|ends| is_same(end, ends))
                    {
                        running.insert(content, index);
                    }
                }
            }
            if self.text.entries.len() + self.text.definitions.len() > MAX_BLOCKS {
                let message = format!("more than {MAX_BLOCKS} cues and comments");
                return Err(Failure::new(FailureKind::BodyTooLarge, message));
            }
        }
        self.running = running;
        self.last_end = ends;
        Ok(())
    }

    /// Milliseconds from the segment's times to those of the lecture. One for all of its cues: what
    /// the 33 bits leave open is settled by the place that the playlist has for the first.
    fn offset(&mut self, map: TimestampMap, items: &[Item], start_seconds: f64) -> i64 {
        let clock = self.clock.get_or_insert_with(|| Clock::starting_at(map.mpegts));
        let first = items.iter().find_map(Item::as_cue).map_or(map.local, |cue| cue.start).ticks();
        let timestamp = map.mpegts + first - map.local.ticks();
        let near = Time::from_seconds(start_seconds).ticks();
        milliseconds(clock.lecture_ticks(timestamp, self.section, near) - first)
    }

    /// Whether a cue that begins here may have been cut in two: it is the first of its segment, at
    /// the segment's beginning, where the last cue of the segment before ends.
    fn is_cut(&self, begins: Time, start_seconds: f64) -> bool {
        let border = (begins.0 - Time::from_seconds(start_seconds).0).abs() <= BORDER_MS;
        border && self.last_end.is_some_and(|end| is_same(begins, end))
    }

    fn number(&mut self, content: &Rc<Content>) -> usize {
        let next = self.contents.len();
        *self.contents.entry(content.clone()).or_insert(next)
    }

    /// Takes a cue in, unless another segment had it. Returns where it is, if it is in the text.
    fn cue(&mut self, cue: Cue, content: usize, cut: Option<Time>) -> Option<usize> {
        if self.is_repeated(&cue, content) {
            return None;
        }
        let entries = &mut self.text.entries;
        if cut.is_some_and(|cut| is_same(cut, cue.start))
            && let Some(index) = self.running.remove(&content)
            && let Block::Cue { end, .. } = &mut entries[index].block
        {
            *end = cue.end;
            return Some(index);
        }
        entries.push(Entry { start: cue.start, block: Block::Cue { end: cue.end, content: cue.content } });
        Some(entries.len() - 1)
    }

    /// Whether an earlier segment has had this cue; remembers it.
    fn is_repeated(&mut self, cue: &Cue, content: usize) -> bool {
        let near = |time: Time| (-ROUNDING_MS..=ROUNDING_MS).map(move |by| (content, time.shifted(by)));
        let known = near(cue.start)
            .flat_map(|(content, start)| near(cue.end).map(move |(_, end)| (content, start, end)))
            .find(|key| self.seen_cues.contains_key(key));
        let seen = self.seen_cues.entry(known.unwrap_or((content, cue.start, cue.end))).or_default();
        if seen.segment != self.segments {
            (seen.segment, seen.here) = (self.segments, 0);
        }
        seen.here += 1;
        let repeated = seen.here <= seen.kept;
        seen.kept = seen.kept.max(seen.here);
        repeated
    }

    fn finish(self) -> Stitched {
        let Stitching { mut text, diagnostics, .. } = self;
        let before_start = text.begin_at_zero();
        Stitched { cues: text.cues(), text: text.write(), before_start, diagnostics }
    }
}

/// Where each item stands in the lecture: a comment with the cue behind it, else behind all of them;
/// at `start` when there are none.
fn places(items: &[Item], offset: i64, start: Time) -> Vec<Time> {
    let begins = |item: &Item| item.as_cue().map(|cue| cue.start.shifted(offset));
    let mut place = items.iter().filter_map(begins).max().unwrap_or(start);
    let mut places: Vec<Time> = Vec::with_capacity(items.len());
    for item in items.iter().rev() {
        place = begins(item).unwrap_or(place);
        places.push(place);
    }
    places.reverse();
    places
}

/// The same time but for rounding.
fn is_same(one: Time, other: Time) -> bool {
    (one.0 - other.0).abs() <= ROUNDING_MS
}
