//! Fragmented MP4 (ISO/IEC 14496-12), one unit at a time, as its bytes pass through: are its boxes
//! whole, is there media, and is it protected? Nothing is kept but the head of the box at hand.

use crate::failure::{Failure, FailureKind, Result};

/// Boxes that hold boxes, on the way to what says that media is protected.
const CONTAINERS: [&[u8; 4]; 7] = [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"];
/// Boxes that only protected media has (ISO/IEC 23001-7): system headers, sample entries, per-sample
/// initialization vectors.
const PROTECTED: [&[u8; 4]; 6] = [b"pssh", b"encv", b"enca", b"enct", b"encs", b"senc"];

/// Boxes within boxes that are looked into: what is known needs 6. Each costs memory.
const MAX_DEPTH: usize = 16;

/// Looks at one initialization section or media segment.
pub struct Fragment {
    is_map: bool,
    /// Bytes seen.
    at: u64,
    /// Where the next head begins.
    next: u64,
    /// The head that has begun, and how much of it is there.
    head: [u8; 16],
    head_length: usize,
    /// The ends of the boxes around the one at hand, the innermost last.
    around: Vec<Around>,
    /// The last box goes on to the end of the unit (size 0).
    is_open: bool,
    has_media: bool,
    has_movie: bool,
}

struct Around {
    end: u64,
    holds_sample_entries: bool,
}

impl Fragment {
    /// Begins a unit; `is_map` for an initialization section.
    pub fn new(is_map: bool) -> Fragment {
        Fragment {
            is_map,
            at: 0,
            next: 0,
            head: [0; 16],
            head_length: 0,
            around: Vec::new(),
            is_open: false,
            has_media: false,
            has_movie: false,
        }
    }

    /// Looks at the next clear bytes of the unit, however they are cut.
    ///
    /// # Errors
    /// `segment_invalid` where no box can begin, `drm_protected` for protected media.
    pub fn inspect(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() && !self.is_open {
            let skipped = (self.next - self.at).min(bytes.len() as u64);
            self.at += skipped;
            bytes = &bytes[skipped as usize..];
            while self.around.last().is_some_and(|around| self.at >= around.end) {
                self.around.pop();
            }
            if let Some((first, rest)) = bytes.split_first().filter(|_| self.at == self.next) {
                self.head[self.head_length] = *first;
                self.head_length += 1;
                (self.at, self.next, bytes) = (self.at + 1, self.next + 1, rest);
                self.read_head()?;
            }
        }
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Reads the head of a box once it is whole (§4.2.2).
    fn read_head(&mut self) -> Result<()> {
        let Some((&[a, b, c, d], name)) = self.head[..self.head_length].split_first_chunk::<4>() else { return Ok(()) };
        let Some(name) = name.first_chunk::<4>().copied() else { return Ok(()) };
        let size = match u32::from_be_bytes([a, b, c, d]) {
            1 => match self.head[8..self.head_length].first_chunk::<8>() {
                Some(size) => u64::from_be_bytes(*size),
                None => return Ok(()),
            },
            size => u64::from(size),
        };
        let start = self.at - self.head_length as u64;
        let length = self.head_length as u64;
        self.head_length = 0;
        let holds_sample_entries = self.around.last().is_some_and(|around| around.holds_sample_entries);
        if PROTECTED.contains(&&name) {
            let name = String::from_utf8_lossy(&name).into_owned();
            let message =
                format!("the box {name:?} at byte {start} declares protected media; DRM is not worked around");
            return Err(Failure::new(FailureKind::DrmProtected, message));
        }
        let end = start.checked_add(size).filter(|_| size >= length);
        let Some(around) = self.around.last() else {
            return self.outermost(&name, start, size, end);
        };
        match end.filter(|end| *end <= around.end) {
            Some(end) => self.enter(&name, end, holds_sample_entries),
            // What stands in there is not what it is taken for: it is passed over.
            None => self.next = around.end,
        }
        Ok(())
    }

    fn outermost(&mut self, name: &[u8; 4], start: u64, size: u64, end: Option<u64>) -> Result<()> {
        self.has_media |= name == b"mdat";
        self.has_movie |= name == b"moov";
        match end {
            Some(end) => self.enter(name, end, false),
            // To the end of the file, which only the last box may do.
            None if size == 0 && name == b"mdat" => self.is_open = true,
            None => {
                let name = name.escape_ascii();
                let message = format!("no box can begin at byte {start}: {size} bytes of \"{name}\" stand there");
                return Err(Failure::new(FailureKind::SegmentInvalid, message));
            }
        }
        Ok(())
    }

    fn enter(&mut self, name: &[u8; 4], end: u64, is_sample_entry: bool) {
        if !is_sample_entry && CONTAINERS.contains(&name) && self.around.len() < MAX_DEPTH {
            self.around.push(Around { end, holds_sample_entries: false });
        } else if !is_sample_entry && name == b"stsd" && self.at + 8 <= end {
            // Version, flags and the number of entries (§8.5.2).
            self.around.push(Around { end, holds_sample_entries: true });
            self.next = self.at + 8;
        } else {
            self.next = end;
        }
    }

    /// Ends the unit.
    ///
    /// # Errors
    /// `segment_invalid` when it ends in the middle of a box, or has no media, or, as an
    /// initialization section, no movie header.
    pub fn finish(self) -> Result<()> {
        let invalid = |message: String| Err(Failure::new(FailureKind::SegmentInvalid, message));
        let end = self.around.first().map_or(self.next, |outermost| outermost.end);
        if !self.is_open && (self.head_length > 0 || self.at < end) {
            return invalid(format!("the unit ends at byte {} in the middle of a box", self.at));
        }
        match (self.is_map, self.has_movie, self.has_media) {
            (true, false, _) => invalid("an initialization section without a movie header (moov)".into()),
            (false, _, false) => invalid("a segment without media data (mdat)".into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(name: &str, content: &[u8]) -> Vec<u8> {
        [&(content.len() as u32 + 8).to_be_bytes()[..], name.as_bytes(), content].concat()
    }

    fn nested(names: &[&str], content: &[u8]) -> Vec<u8> {
        names.iter().rev().fold(content.to_vec(), |content, name| boxed(name, &content))
    }

    /// A movie header with this sample entry.
    fn movie(entry: &str) -> Vec<u8> {
        let entries = [&[0, 0, 0, 0, 0, 0, 0, 1][..], &boxed(entry, &[0; 78])].concat();
        let track = nested(&["trak", "mdia", "minf", "stbl", "stsd"], &entries);
        boxed("moov", &[boxed("mvhd", &[0; 100]), track, boxed("mvex", &[7; 40])].concat())
    }

    fn inspect(bytes: &[u8], is_map: bool, slice: usize) -> Result<()> {
        let mut fragment = Fragment::new(is_map);
        for bytes in bytes.chunks(slice) {
            fragment.inspect(bytes)?;
        }
        fragment.finish()
    }

    #[test]
    fn whole_boxes_pass_and_all_else_does_not() {
        let map = [boxed("ftyp", b"iso5\0\0\0\0"), movie("avc1")].concat();
        let fragment = boxed("moof", &[boxed("mfhd", &[0; 8]), nested(&["traf", "trun"], b"....encvpssh")].concat());
        let media = [fragment.clone(), boxed("mdat", b"senc or not, \0\0\0\x08pssh")].concat();
        let large = [fragment.clone(), b"\0\0\0\x01mdat\0\0\0\0\0\0\0\x15media".to_vec()].concat();
        let open = [fragment.clone(), b"\0\0\0\0mdat and so on to the end".to_vec()].concat();
        let odd = [boxed("moof", &boxed("traf", b"\0\0\xff\xffodd!")), boxed("mdat", b"")].concat();
        let protected = |names: &[&str]| [nested(names, b"...."), boxed("mdat", b"")].concat();
        use FailureKind::{DrmProtected, SegmentInvalid};
        for (name, bytes, is_map, fails) in [
            ("map", map.clone(), true, None),
            ("segment", media.clone(), false, None),
            ("several fragments", [&media[..], &large].concat(), false, None),
            ("map and media in one", [&map[..], &media].concat(), false, None),
            ("an open end", open, false, None),
            ("odd inner boxes", odd, false, None),
            ("cut in the media", media[..media.len() - 1].to_vec(), false, Some((SegmentInvalid, "middle of a box"))),
            ("cut in a head", [&media[..], b"\0\0\0"].concat(), false, Some((SegmentInvalid, "middle of a box"))),
            (
                "cut in a large head",
                large[..large.len() - 7].to_vec(),
                false,
                Some((SegmentInvalid, "middle of a box")),
            ),
            ("cut between boxes", fragment.clone(), false, Some((SegmentInvalid, "mdat"))),
            ("cut in the map", map[..map.len() - 30].to_vec(), true, Some((SegmentInvalid, "middle of a box"))),
            ("no movie", boxed("ftyp", b"iso5\0\0\0\0"), true, Some((SegmentInvalid, "moov"))),
            ("rubbish", [&media[..], b"\0\0\0\x04rubb"].concat(), false, Some((SegmentInvalid, "\"rubb\""))),
            (
                "more than there can be",
                b"\0\0\0\x01mdat\xff\xff\xff\xff\xff\xff\xff\xff...".to_vec(),
                false,
                Some((SegmentInvalid, "")),
            ),
            ("encrypted pictures", movie("encv"), true, Some((DrmProtected, "\"encv\""))),
            ("encrypted sound", movie("enca"), true, Some((DrmProtected, "\"enca\""))),
            ("key system", protected(&["moof", "pssh"]), false, Some((DrmProtected, "\"pssh\" at byte 8"))),
            ("sample vectors", protected(&["moof", "traf", "senc"]), false, Some((DrmProtected, "\"senc\""))),
        ] {
            for slice in [1, 7, 1 << 20] {
                let result = inspect(&bytes, is_map, slice);
                match (result, fails) {
                    (Ok(()), None) => {}
                    (Err(failure), Some((kind, says))) if failure.kind == kind && failure.message.contains(says) => {}
                    (result, _) => panic!("{name}, in slices of {slice}: {result:?}"),
                }
            }
        }
    }

    #[test]
    fn a_tower_of_boxes_is_not_kept() {
        const STOREYS: u32 = 100_000;
        let tower = (1..=STOREYS).rev().flat_map(|storey| [&(storey * 8).to_be_bytes()[..], b"moov"].concat());
        let mut fragment = Fragment::new(true);
        fragment.inspect(&tower.collect::<Vec<_>>()[..8 * STOREYS as usize - 8]).unwrap();
        assert_eq!(fragment.around.len(), MAX_DEPTH);
    }
}
