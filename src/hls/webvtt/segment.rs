//! One WebVTT segment taken apart (W3C WebVTT §6.1, RFC 8216 §3.5).

use std::rc::Rc;

use super::time::{MAX_TIME_BYTES, Time, TimestampMap};
use super::{Diagnostics, MAX_BLOCKS};
use crate::failure::{Failure, FailureKind, Result};

/// Lines of a header or of a block; nobody reads a longer subtitle.
const MAX_BLOCK_LINES: usize = 10_000;

/// What is in one segment, in its own times.
#[derive(Debug, Default, PartialEq)]
pub struct Segment {
    /// What stands behind `WEBVTT`; usually nothing.
    pub title: String,
    /// The lines below it, the timestamp map left out.
    pub header: Vec<String>,
    /// X-TIMESTAMP-MAP, if it was there.
    pub map: Option<TimestampMap>,
    /// STYLE and REGION blocks, in their order.
    pub definitions: Vec<String>,
    /// Cues and comments, in their order.
    pub items: Vec<Item>,
    /// What was odd and how it was read.
    pub diagnostics: Diagnostics,
    has_cue: bool,
}

/// A cue or a comment.
#[derive(Debug, PartialEq)]
pub enum Item {
    Cue(Cue),
    /// A NOTE block.
    Note(String),
}

/// A cue.
#[derive(Debug, PartialEq)]
pub struct Cue {
    /// Always before `end`.
    pub start: Time,
    pub end: Time,
    pub content: Rc<Content>,
}

impl Cue {
    /// The cue so many milliseconds later, the times within its payload too.
    pub fn shifted(self, milliseconds: i64) -> Cue {
        let Cue { start, end, content } = self;
        let (start, end) = (start.shifted(milliseconds), end.shifted(milliseconds));
        let content = match shifted_tags(&content.payload, milliseconds) {
            Some(payload) => Rc::new(Content { payload, ..Content::clone(&content) }),
            None => content,
        };
        Cue { start, end, content }
    }
}

/// A payload with its timestamp tags (`<00:00:01.000>`: what follows is shown from then on) moved.
/// One before the lecture's beginning is left out. `None` when there is none.
fn shifted_tags(payload: &str, milliseconds: i64) -> Option<String> {
    let mut moved = String::new();
    let mut rest = payload;
    let mut found = false;
    while let Some((before, after)) = rest.split_once('<') {
        moved.push_str(before);
        // No time is longer; a search to the end for each `<` would take quadratic time.
        let end = after.bytes().take(MAX_TIME_BYTES + 1).position(|byte| byte == b'>');
        match end.and_then(|end| Some((Time::parse(&after[..end])?, &after[end + 1..]))) {
            Some((time, behind)) => {
                let time = time.shifted(milliseconds);
                if time > Time::ZERO {
                    moved.push_str(&format!("<{time}>"));
                }
                rest = behind;
                found = true;
            }
            None => {
                moved.push('<');
                rest = after;
            }
        }
    }
    moved.push_str(rest);
    found.then_some(moved)
}

impl Item {
    /// The cue, if it is one.
    pub fn as_cue(&self) -> Option<&Cue> {
        match self {
            Item::Cue(cue) => Some(cue),
            Item::Note(_) => None,
        }
    }
}

/// What a cue is but for its times.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Content {
    /// Identifier; empty when there is none.
    pub id: String,
    /// Cue settings as written; empty when there are none.
    pub settings: String,
    /// The lines of the payload; no line is empty.
    pub payload: String,
}

const ARROW: &str = "-->";

/// Reads a segment. What is not understood is kept as a comment, with a diagnostic: a player would
/// leave it out, and so would its reader never know.
///
/// # Errors
/// `segment_invalid` when it is not WebVTT, or when its timestamp map is not understood;
/// `body_too_large` over [`MAX_BLOCKS`] or with a block of more than 10,000 lines.
pub fn parse(bytes: &[u8]) -> Result<Segment> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut segment = Segment::default();
    let text = String::from_utf8_lossy(bytes);
    if matches!(text, std::borrow::Cow::Owned(_)) {
        segment.diagnostics.note(|| "it is not UTF-8: what could not be read is shown as \u{fffd}".into());
    }
    // NUL becomes the replacement character (W3C WebVTT §6.1, step 2).
    let text = text.replace('\0', "\u{fffd}").replace("\r\n", "\n").replace('\r', "\n");
    let mut lines = text.split('\n').peekable();
    let first = lines.next().unwrap_or_default();
    let Some(title) = first.strip_prefix("WEBVTT").filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
    else {
        return Err(not_webvtt(first));
    };
    segment.title = title.trim().to_owned();
    while let Some(line) = lines.next_if(|line| !line.is_empty() && !line.contains(ARROW)) {
        segment.header_line(line)?;
    }
    let mut block: Vec<&str> = Vec::new();
    let mut has_arrow = false;
    for line in lines {
        let arrow = line.contains(ARROW);
        // A second cue begins without an empty line before it (W3C WebVTT §6.1, "collect a block").
        if line.is_empty() || (arrow && (has_arrow || block.len() > 1)) {
            segment.block(&std::mem::take(&mut block))?;
            has_arrow = false;
        }
        if !line.is_empty() {
            within("lines of a block", block.len(), MAX_BLOCK_LINES)?;
            block.push(line);
            has_arrow |= arrow;
        }
    }
    segment.block(&block)?;
    Ok(segment)
}

fn not_webvtt(first_line: &str) -> Failure {
    let what = match first_line.trim() {
        "" => "a blank line".to_owned(),
        line => format!("{:?}", line.chars().take(40).collect::<String>()),
    };
    Failure::new(FailureKind::SegmentInvalid, format!("not WebVTT: it begins with {what}, not with WEBVTT"))
}

/// Refuses one more of what there are enough of.
fn within(what: &str, count: usize, limit: usize) -> Result<()> {
    if count < limit {
        return Ok(());
    }
    Err(Failure::new(FailureKind::BodyTooLarge, format!("more than {limit} {what}")))
}

impl Segment {
    fn header_line(&mut self, line: &str) -> Result<()> {
        match line.trim().strip_prefix("X-TIMESTAMP-MAP=") {
            Some(value) => self.set_map(value),
            None if line.trim().is_empty() => Ok(()),
            None => {
                within("lines of a header", self.header.len(), MAX_BLOCK_LINES)?;
                self.header.push(line.trim_end().to_owned());
                Ok(())
            }
        }
    }

    fn set_map(&mut self, value: &str) -> Result<()> {
        let invalid =
            |what: &str| Failure::new(FailureKind::SegmentInvalid, format!("X-TIMESTAMP-MAP={value}: {what}"));
        let map = TimestampMap::parse(value).ok_or_else(|| invalid("not understood"))?;
        match self.map.replace(map) {
            Some(before) if before != map => Err(invalid("the segment has another one")),
            _ => Ok(()),
        }
    }

    /// Lines between two blank ones. At most one holds an arrow: the first or the second.
    fn block(&mut self, lines: &[&str]) -> Result<()> {
        let Some(first) = lines.first() else { return Ok(()) };
        within("cues and comments", self.items.len() + self.definitions.len(), MAX_BLOCKS)?;
        let text = || lines.join("\n");
        let is = |word: &str| first.strip_prefix(word).is_some_and(|rest| rest.trim().is_empty());
        match lines.iter().position(|line| line.contains(ARROW)) {
            Some(place) => self.cue(lines, place),
            None if is("STYLE") || is("REGION") => {
                if self.has_cue {
                    self.diagnostics.note(|| format!("{first} behind a cue: moved to the front"));
                }
                self.definitions.push(text());
            }
            None if is("NOTE") || first.starts_with("NOTE ") || first.starts_with("NOTE\t") => {
                self.items.push(Item::Note(text()));
            }
            // Behind a blank line, where only cues may stand.
            None if self.items.is_empty() && lines.len() == 1 && first.trim().starts_with("X-TIMESTAMP-MAP=") => {
                return self.header_line(first);
            }
            None => self.keep_as_note(lines, "neither a cue nor a comment"),
        }
        Ok(())
    }

    fn cue(&mut self, lines: &[&str], place: usize) {
        let Some((start, end, settings)) = timing(lines[place]) else {
            return self.keep_as_note(lines, "not a cue's times");
        };
        if end <= start {
            return self.keep_as_note(lines, "a cue that ends before it begins");
        }
        let content = Content {
            id: lines[..place].concat(),
            settings: settings.to_owned(),
            payload: lines[place + 1..].join("\n"),
        };
        self.items.push(Item::Cue(Cue { start, end, content: Rc::new(content) }));
        self.has_cue = true;
    }

    fn keep_as_note(&mut self, lines: &[&str], why: &str) {
        let start = || lines.join(" ").chars().take(80).collect::<String>();
        self.diagnostics.note(|| format!("{:?} is {why}: kept as a comment", start()));
        // An arrow would end the comment.
        self.items.push(Item::Note(format!("NOTE {why}\n{}", lines.join("\n").replace(ARROW, "->"))));
    }
}

/// `start --> end settings`; spaces round the arrow may be missing.
fn timing(line: &str) -> Option<(Time, Time, &str)> {
    let (start, rest) = line.split_once(ARROW)?;
    let rest = rest.trim();
    let (end, settings) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
    // An arrow in the settings would be read as times again.
    let settings = Some(settings.trim()).filter(|settings| !settings.contains(ARROW))?;
    Some((Time::parse(start.trim())?, Time::parse(end)?, settings))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cue(start: i64, end: i64, id: &str, settings: &str, payload: &str) -> Item {
        let content = Content { id: id.into(), settings: settings.into(), payload: payload.into() };
        Item::Cue(Cue { start: Time(start), end: Time(end), content: Rc::new(content) })
    }

    #[test]
    fn everything_that_a_segment_can_hold() {
        let text = "\u{feff}WEBVTT - Lecture 1\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:900000\nKind: captions\n\n\
            STYLE\n::cue { color: red }\n\nREGION \nid:a\nwidth:40%\n\nNOTE one\ntwo\n\nNOTE\nthree\n\n\
            id 1\n00:01.000 --> 00:02.000 line:0 align:start\n<b>First</b>\nSecond\n\n\n\
            00:02.000-->01:00:00.000\n\n00:03.000 --> 00:04.000\nA\n00:05.000\t-->\t00:06.000\tline:1\t\nB";
        let expected = Segment {
            title: "- Lecture 1".into(),
            header: vec!["Kind: captions".into()],
            map: Some(TimestampMap { mpegts: 900_000, local: Time(0) }),
            definitions: vec!["STYLE\n::cue { color: red }".into(), "REGION \nid:a\nwidth:40%".into()],
            items: vec![
                Item::Note("NOTE one\ntwo".into()),
                Item::Note("NOTE\nthree".into()),
                cue(1000, 2000, "id 1", "line:0 align:start", "<b>First</b>\nSecond"),
                cue(2000, 3_600_000, "", "", ""),
                cue(3000, 4000, "", "", "A"),
                cue(5000, 6000, "", "line:1", "B"),
            ],
            diagnostics: Diagnostics::default(),
            has_cue: true,
        };
        for end in ["\n", "\r\n", "\r"] {
            let text = text.replace('\n', end);
            assert_eq!(parse(text.as_bytes()).unwrap(), expected, "{end:?}");
            assert_eq!(parse(format!("{text}{end}{end}").as_bytes()).unwrap(), expected, "{end:?}");
        }
    }

    #[test]
    fn only_a_header_is_an_empty_segment() {
        for text in ["WEBVTT", "WEBVTT\n", "WEBVTT\n\n", "\u{feff}WEBVTT \r\n\r\n", "WEBVTT\n\n\n\n"] {
            assert_eq!(parse(text.as_bytes()).unwrap(), Segment::default(), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_webvtt_is_refused() {
        for (text, says) in [
            ("", "a blank line"),
            ("\nWEBVTT\n", "a blank line"),
            ("WEBVTTX\n", "\"WEBVTTX\""),
            ("<!DOCTYPE html>\n<html>", "\"<!DOCTYPE html>\""),
            ("1\n00:00:01,000 --> 00:00:02,000\nSubRip\n", "\"1\""),
            ("WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:x,LOCAL:00:00.000\n", "MPEGTS:x,LOCAL:00:00.000: not understood"),
            (
                "WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:1,LOCAL:00:00.000\nX-TIMESTAMP-MAP=MPEGTS:2,LOCAL:00:00.000\n",
                "another one",
            ),
        ] {
            let failure = parse(text.as_bytes()).unwrap_err();
            assert_eq!(failure.kind, FailureKind::SegmentInvalid, "{text:?}");
            assert!(failure.message.contains(says), "{text:?}: {}", failure.message);
        }
    }

    #[test]
    fn what_is_not_understood_is_kept_as_a_comment() {
        for (block, note, says) in [
            ("00:01.000 --> soon\nA\nB", "NOTE not a cue's times\n00:01.000 -> soon\nA\nB", "not a cue's times"),
            ("id\n1 --> 2\nA", "NOTE not a cue's times\nid\n1 -> 2\nA", "not a cue's times"),
            (
                "00:02.000 --> 00:02.000\nA",
                "NOTE a cue that ends before it begins\n00:02.000 -> 00:02.000\nA",
                "ends before",
            ),
            ("Some text\nof nobody", "NOTE neither a cue nor a comment\nSome text\nof nobody", "neither"),
        ] {
            let segment = parse(format!("WEBVTT\n\n{block}\n\n00:01.000 --> 00:02.000\nC").as_bytes()).unwrap();
            assert_eq!(segment.items, [Item::Note(note.into()), cue(1000, 2000, "", "", "C")]);
            assert!(segment.diagnostics.first[0].contains(says), "{:?}", segment.diagnostics);
        }
        let segment = parse(b"WEBVTT\n\n00:01.000 --> 00:02.000\n\xff\0\n\nSTYLE\n::cue {}").unwrap();
        assert_eq!(segment.items, [cue(1000, 2000, "", "", "\u{fffd}\u{fffd}")]);
        assert_eq!(segment.definitions, ["STYLE\n::cue {}"]);
        assert_eq!(segment.diagnostics.count, 2, "{:?}", segment.diagnostics);
    }

    #[test]
    fn a_map_behind_a_blank_line_counts() {
        let segment =
            parse(b"WEBVTT\n\nX-TIMESTAMP-MAP=MPEGTS:9,LOCAL:00:00.000\n\n00:01.000 --> 00:02.000\nA").unwrap();
        assert_eq!(segment.map, Some(TimestampMap { mpegts: 9, local: Time(0) }));
        assert_eq!(segment.items, [cue(1000, 2000, "", "", "A")]);
        let direct = parse(b"WEBVTT\n00:01.000 --> 00:02.000\nA").unwrap();
        assert_eq!(direct.items, [cue(1000, 2000, "", "", "A")]);
    }
}
