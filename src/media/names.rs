//! Names on disk: `<Course>/<NN Section>/<NNN Lecture>.mp4`, captions and assets beside it.
//!
//! Pure: the same course gives the same names on every host and at every attempt, which is what
//! makes resuming possible. A name depends on its position, never on which download came first.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use sanitise_file_name::{Options, sanitise_with_options};
use unicode_normalization::UnicodeNormalization;

use crate::hls::{MAX_TAG_BYTES, language_tag};
use crate::resolver::{Course, Lecture};

#[cfg(test)]
mod tests;

/// Longest name of a file or directory, in bytes (ext4, XFS and most others).
const MAX_NAME_BYTES: usize = 255;
/// Room for what is put behind a name while it grows; the longest in use is `.part.journal`.
const SUFFIX_BYTES: usize = 16;
/// Room behind a lecture's stem: an extension (`.audio.mp4`) or a language (`.zh-Hant.vtt`, and
/// `.zh-Hant.subtitles` on the way).
const EXTENSION_BYTES: usize = MAX_TAG_BYTES + 16;
/// Room around a course folder: delivery makes `.<name> (Task <id>).hauld-<id>.partial` of it.
const DELIVERY_BYTES: usize = 72;
/// Longest part of an asset's name that is its own, not its lecture's.
const MAX_ASSET_BYTES: usize = 120;

/// Where the files of one lecture go. All paths are relative to the task's sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LecturePaths {
    /// Index into [`Course::sections`].
    pub section: usize,
    /// Index into the section's lectures.
    pub lecture: usize,
    /// `<Course>/<NN Section>`.
    pub directory: PathBuf,
    /// `<Course>/<NN Section>/<NNN Lecture>`, without extension; it may hold dots.
    pub stem: PathBuf,
    /// One for each of the lecture's captions, in their order.
    pub captions: Vec<PathBuf>,
    /// One for each of the lecture's assets, in their order.
    pub assets: Vec<PathBuf>,
}

impl LecturePaths {
    /// The lecture's media file with an extension (`mp4`, `ts`).
    pub fn media(&self, extension: &str) -> PathBuf {
        let mut path = self.stem.clone().into_os_string();
        path.push(".");
        path.push(extension);
        path.into()
    }
}

/// The name of a course's folder.
pub fn course_folder(title: &str) -> String {
    let name = safe(title, MAX_NAME_BYTES - DELIVERY_BYTES, false);
    if name == NOTHING_LEFT { "Course".into() } else { name }
}

/// The names of everything in a course, in its order.
pub fn plan(course: &Course) -> Vec<LecturePaths> {
    let course_directory = PathBuf::from(course_folder(&course.title));
    let section_digits = digits(course.sections.len(), 2);
    let mut paths = Vec::new();
    for (section_index, section) in course.sections.iter().enumerate() {
        let name = numbered(section_index + 1, section_digits, &section.title, MAX_NAME_BYTES);
        let directory = course_directory.join(name);
        let lecture_digits = digits(section.lectures.len(), 3);
        let mut taken = Taken::default();
        for (lecture_index, lecture) in section.lectures.iter().enumerate() {
            let room = MAX_NAME_BYTES - SUFFIX_BYTES - EXTENSION_BYTES;
            let stem = numbered(lecture_index + 1, lecture_digits, &lecture.title, room);
            for extension in ["mp4", "ts", "m4a"] {
                taken.claim(&format!("{stem}.{extension}"));
            }
            let captions = caption_names(&stem, lecture, &mut taken);
            let assets = asset_names(&stem, lecture, &mut taken);
            paths.push(LecturePaths {
                section: section_index,
                lecture: lecture_index,
                stem: directory.join(stem),
                captions: captions.iter().map(|name| directory.join(name)).collect(),
                assets: assets.iter().map(|name| directory.join(name)).collect(),
                directory: directory.clone(),
            });
        }
    }
    paths
}

fn caption_names(stem: &str, lecture: &Lecture, taken: &mut Taken) -> Vec<String> {
    let name = |language: &str| {
        let tag = language_tag(language);
        taken.first_free(|copy| match copy {
            1 => format!("{stem}.{tag}.vtt"),
            _ => format!("{stem}.{tag}-{copy}.vtt"),
        })
    };
    lecture.captions.iter().map(|caption| caption.language.as_str()).map(name).collect()
}

fn asset_names(stem: &str, lecture: &Lecture, taken: &mut Taken) -> Vec<String> {
    let name = |asset: &str| {
        let asset = safe(asset, MAX_ASSET_BYTES, true);
        let (base, extension) = match asset.rfind('.') {
            Some(dot) if dot > 0 => asset.split_at(dot),
            _ => (asset.as_str(), ""),
        };
        // Ten bytes for the number of a copy, three for the separator.
        let lecture = cut(stem, MAX_NAME_BYTES - SUFFIX_BYTES - MAX_ASSET_BYTES - 13);
        taken.first_free(|copy| match copy {
            1 => format!("{lecture} - {asset}"),
            _ => format!("{lecture} - {base} ({copy}){extension}"),
        })
    };
    lecture.assets.iter().map(|asset| asset.name.as_str()).map(name).collect()
}

/// Names in one directory, compared as the least distinguishing file system would.
#[derive(Default)]
struct Taken {
    names: HashSet<String>,
    /// Which copy of a name is the next one that may be free: a lecture may have a thousand equal ones.
    next: HashMap<String, usize>,
}

impl Taken {
    /// Claims a name and what it is called while it grows; `false` when any of them is taken.
    fn claim(&mut self, name: &str) -> bool {
        let folded = folded(name);
        let names = ["", ".part", ".part.meta", ".part.journal"].map(|suffix| format!("{folded}{suffix}"));
        let free = !names.iter().any(|name| self.names.contains(name));
        if free {
            self.names.extend(names);
        }
        free
    }

    /// Claims the first free one of the names for copy 1, 2, 3 …
    fn first_free(&mut self, name: impl Fn(usize) -> String) -> String {
        let first = folded(&name(1));
        let mut copy = self.next.get(&first).copied().unwrap_or(1);
        loop {
            let name = name(copy);
            copy += 1;
            if self.claim(&name) {
                self.next.insert(first, copy);
                return name;
            }
        }
    }
}

/// What is the same for the least distinguishing file system.
fn folded(name: &str) -> String {
    name.nfkc().flat_map(char::to_lowercase).collect()
}

/// What the sanitiser returns when no character of a name can stay.
const NOTHING_LEFT: &str = "_";

/// One path component of at most `room` bytes: no separators, controls or reserved names, no
/// leading dot, not empty.
fn safe(name: &str, room: usize, has_extension: bool) -> String {
    let options = Options { length_limit: room, extension_cleverness: has_extension, ..Options::DEFAULT };
    let visible: String = name.chars().filter(|&c| !is_invisible(c)).nfc().collect();
    sanitise_with_options(&visible, &options)
}

/// `<number> <title>`, or the number alone. The number stands in front before the name is made
/// safe: that keeps the dot of ".NET".
fn numbered(number: usize, digits: usize, title: &str, room: usize) -> String {
    safe(&format!("{number:0digits$} {title}"), room, false)
}

fn digits(count: usize, least: usize) -> usize {
    count.checked_ilog10().map_or(least, |log| (log as usize + 1).max(least))
}

/// Cuts on a character boundary, and leaves no space at the end.
fn cut(text: &str, room: usize) -> &str {
    text[..text.floor_char_boundary(room)].trim_end()
}

/// Characters that show nothing, so that two names look the same: zero-width ones, directional
/// marks, the soft hyphen, tags. (The sanitiser takes the other bidirectional controls.)
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2065}'
        | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}
