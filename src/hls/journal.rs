//! The small file beside a `.part` that says how far it is good.
//!
//! It holds two records at fixed places, each within one disk sector, so that a record is written
//! whole or not at all. The first is written after every unit: it is true for a process that was
//! killed, because the page cache survives it. The second is written after the data was synced to
//! disk: it is true after a power loss as well. Which one to believe is told by the boot id.
//!
//! Behind them stand the sections: where in the part timestamps may begin anew. A section is noted
//! before the first byte of it is written, so that whatever a record vouches for has its sections.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use crate::disk::no_links;

/// Distance between the two records: more than any sector.
const DURABLE_AT: u64 = 4096;
const RECORD_BYTES: usize = 256;
/// Where the sections begin.
const SECTIONS_AT: u64 = 2 * DURABLE_AT;
/// Index of the first unit and offset of its first byte, both 64 bits, little endian.
const SECTION_BYTES: usize = 16;

/// How far a part is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Index of the next unit.
    pub next: usize,
    /// Bytes of the part that are good.
    pub offset: u64,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    file: File,
    fingerprint: String,
}

impl Journal {
    /// Opens or creates the journal at `path` and reads where to go on. `fingerprint` is that of
    /// the plan: a journal of another plan says nothing.
    ///
    /// # Errors
    /// Those of opening and reading a file.
    pub fn open(path: &Path, fingerprint: String) -> io::Result<(Journal, Position)> {
        let file = no_links::open_or_create(path)?;
        let read = |at| -> io::Result<Option<(Position, bool)>> {
            let mut bytes = [0; RECORD_BYTES];
            let mut length = 0;
            while length < RECORD_BYTES {
                match file.read_at(&mut bytes[length..], at + length as u64)? {
                    0 => break,
                    count => length += count,
                }
            }
            Ok(parse(&bytes[..length], &fingerprint))
        };
        let position = match (read(0)?, read(DURABLE_AT)?) {
            (Some((position, true)), _) => position,
            (_, Some((position, _))) => position,
            _ => Position::default(),
        };
        Ok((Journal { file, fingerprint }, position))
    }

    /// Throws away what is recorded, before other bytes come into the part: a plan that is given up
    /// for another and comes back must not believe them. Both records get their place on the disk: on one
    /// that the part has filled there is none, and what it holds could not be recorded.
    pub fn begin(&self) -> io::Result<()> {
        if self.file.metadata()?.len() > 0 {
            self.file.set_len(0)?;
            self.file.sync_all()?;
        }
        self.write(0, Position::default())?;
        self.write(DURABLE_AT, Position::default())
    }

    /// Where in the first `next` units a section begins: offsets in the part, ascending.
    ///
    /// # Errors
    /// Those of reading a file.
    pub fn sections(&self, next: usize) -> io::Result<Vec<u64>> {
        let mut bytes = vec![0; self.file.metadata()?.len().saturating_sub(SECTIONS_AT) as usize];
        self.file.read_exact_at(&mut bytes, SECTIONS_AT)?;
        let mut sections = Vec::new();
        let (entries, _) = bytes.as_chunks::<SECTION_BYTES>();
        for entry in entries {
            let (unit, offset) = (u128::from_le_bytes(*entry) as u64, (u128::from_le_bytes(*entry) >> 64) as u64);
            // What follows is of a longer part that was lost, or was never written.
            if unit == 0 || unit >= next as u64 || sections.last().is_some_and(|last| *last > offset) {
                break;
            }
            sections.push(offset);
        }
        Ok(sections)
    }

    /// Notes that the section `number`, from 0, begins at `position`.
    pub fn note_section(&self, number: usize, position: Position) -> io::Result<()> {
        let entry = position.next as u128 | u128::from(position.offset) << 64;
        self.file.write_all_at(&entry.to_le_bytes(), SECTIONS_AT + (number * SECTION_BYTES) as u64)
    }

    /// The part is good up to `position` for as long as this boot lasts.
    pub fn record(&self, position: Position) -> io::Result<()> {
        self.write(0, position)
    }

    /// The part was synced to disk and is good up to `position`, whatever happens.
    pub fn record_durable(&self, position: Position) -> io::Result<()> {
        self.write(DURABLE_AT, position)?;
        self.file.sync_data()
    }

    fn write(&self, at: u64, position: Position) -> io::Result<()> {
        let text = format!("hauld-part 1 {} {} {} {}", self.fingerprint, boot_id(), position.next, position.offset);
        let mut record = format!("{text} {}\n", checksum(&text)).into_bytes();
        record.resize(RECORD_BYTES, b' ');
        self.file.write_all_at(&record, at)
    }
}

/// A record and whether it was written in this boot. `None` when it is damaged or of another plan.
pub(super) fn parse(bytes: &[u8], fingerprint: &str) -> Option<(Position, bool)> {
    let line = std::str::from_utf8(bytes).ok()?.lines().next()?;
    let (text, sum) = line.rsplit_once(' ')?;
    if checksum(text) != sum {
        return None;
    }
    let rest = text.strip_prefix("hauld-part 1 ")?.strip_prefix(fingerprint)?;
    let mut words = rest.split_ascii_whitespace();
    let same_boot = words.next()? == boot_id();
    Some((Position { next: words.next()?.parse().ok()?, offset: words.next()?.parse().ok()? }, same_boot))
}

pub(super) fn checksum(text: &str) -> String {
    hex::encode(&Sha256::digest(text)[..8])
}

/// Changes with every start of the machine.
fn boot_id() -> &'static str {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    BOOT_ID.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        // Without it nothing undurable of another process is believed: a word that nobody else has.
        text.map_or_else(|_| format!("unknown-{:016x}", fastrand::u64(..)), |text| text.trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_on_where_the_last_record_says() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.part.journal");
        let (journal, position) = Journal::open(&path, "f00".into()).unwrap();
        assert_eq!(position, Position::default());
        journal.record(Position { next: 3, offset: 3000 }).unwrap();
        journal.record_durable(Position { next: 2, offset: 2000 }).unwrap();
        let (_, position) = Journal::open(&path, "f00".into()).unwrap();
        assert_eq!(position, Position { next: 3, offset: 3000 });
        let (_, other_plan) = Journal::open(&path, "f01".into()).unwrap();
        assert_eq!(other_plan, Position::default());
    }

    #[test]
    fn sections_of_lost_units_are_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.part.journal");
        let (journal, _) = Journal::open(&path, "f00".into()).unwrap();
        assert_eq!(journal.sections(9).unwrap(), [0; 0]);
        for (number, (next, offset)) in [(3, 300), (5, 500), (8, 800)].into_iter().enumerate() {
            journal.note_section(number, Position { next, offset }).unwrap();
        }
        assert_eq!(journal.sections(9).unwrap(), [300, 500, 800]);
        assert_eq!(journal.sections(8).unwrap(), [300, 500]);
        // Its unit has not been recorded: none of its bytes may be there.
        assert_eq!(journal.sections(5).unwrap(), [300]);
        journal.begin().unwrap();
        assert_eq!(journal.sections(9).unwrap(), [0; 0]);
    }

    #[test]
    fn a_record_of_another_boot_or_a_damaged_one_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.part.journal");
        let (journal, _) = Journal::open(&path, "f00".into()).unwrap();
        journal.record(Position { next: 3, offset: 3000 }).unwrap();
        journal.record_durable(Position { next: 2, offset: 2000 }).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let text = String::from_utf8(whole[..RECORD_BYTES].to_vec()).unwrap();
        let line = text.lines().next().unwrap();
        let (old, _) = line.rsplit_once(' ').unwrap();
        let other_boot = old.replace(boot_id(), "00000000-0000-0000-0000-000000000000");
        let sum = checksum(&other_boot);
        for damaged in
            [format!("{other_boot} {sum}\n"), line.replace(" 3 ", " 9 ") + "\n", "rubbish".into(), String::new()]
        {
            let mut bytes = whole.clone();
            bytes[..RECORD_BYTES].fill(b' ');
            bytes[..damaged.len()].copy_from_slice(damaged.as_bytes());
            std::fs::write(&path, &bytes).unwrap();
            let (_, position) = Journal::open(&path, "f00".into()).unwrap();
            assert_eq!(position, Position { next: 2, offset: 2000 }, "{damaged}");
        }
    }
}
