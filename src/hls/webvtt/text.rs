//! The finished WebVTT text: what comes first, and cues in the order of time.

use std::fmt::Write;
use std::rc::Rc;

use super::segment::Content;
use super::time::Time;

/// What a WebVTT file holds.
#[derive(Default)]
pub struct Text {
    pub title: String,
    pub header: Vec<String>,
    /// STYLE and REGION blocks: they count only before the first cue.
    pub definitions: Vec<String>,
    pub entries: Vec<Entry>,
}

/// Something that has its place in the order of time.
pub struct Entry {
    pub start: Time,
    pub block: Block,
}

pub enum Block {
    /// Stands before the cue that begins then.
    Note(String),
    Cue {
        end: Time,
        content: Rc<Content>,
    },
}

impl Entry {
    fn ends_before_start(&self) -> bool {
        matches!(self.block, Block::Cue { end, .. } if end <= Time::ZERO)
    }

    fn is_cue(&self) -> bool {
        matches!(self.block, Block::Cue { .. })
    }
}

impl Text {
    /// Number of cues.
    pub fn cues(&self) -> usize {
        self.entries.iter().filter(|entry| entry.is_cue()).count()
    }

    /// Whether there are cues and none of them would be seen.
    pub fn is_before_start(&self) -> bool {
        let mut cues = self.entries.iter().filter(|entry| entry.is_cue()).peekable();
        cues.peek().is_some() && cues.all(Entry::ends_before_start)
    }

    /// Removes the cues that end before the lecture begins, cuts those that begin before, and says
    /// how many it removed.
    pub fn begin_at_zero(&mut self) -> usize {
        let before = self.entries.len();
        self.entries.retain(|entry| !entry.ends_before_start());
        for entry in &mut self.entries {
            entry.start = entry.start.max(Time::ZERO);
        }
        before - self.entries.len()
    }

    /// Writes it, cues that begin together in the order in which they came.
    pub fn write(mut self) -> String {
        self.entries.sort_by_key(|entry| entry.start);
        let mut text = String::from("WEBVTT");
        if !self.title.is_empty() {
            text.extend([" ", &self.title]);
        }
        text.push('\n');
        for line in &self.header {
            text.extend([line, "\n"]);
        }
        for definition in &self.definitions {
            text.extend(["\n", definition, "\n"]);
        }
        for Entry { start, block } in &self.entries {
            text.push('\n');
            match block {
                Block::Note(note) => text.extend([note, "\n"]),
                Block::Cue { end, content: cue } => {
                    let Content { id, settings, payload } = &**cue;
                    if !id.is_empty() {
                        text.extend([id, "\n"]);
                    }
                    let space = if settings.is_empty() { "" } else { " " };
                    // cannot fail: a String takes everything.
                    let _ = writeln!(text, "{start} --> {end}{space}{settings}");
                    if !payload.is_empty() {
                        text.extend([payload, "\n"]);
                    }
                }
            }
        }
        text
    }
}
