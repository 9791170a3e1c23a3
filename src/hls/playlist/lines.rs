//! Text into numbered lines: LF, CRLF and CR all end one, and the last needs no end.

/// Iterates over the lines of a text, in one pass and without allocating.
pub(super) struct Lines<'a> {
    rest: &'a [u8],
    number: u32,
}

/// One line without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// From 1.
    pub number: u32,
    pub bytes: &'a [u8],
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Lines { rest: text, number: 0 }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let (bytes, end) = self.rest.split_at(end_of_line(self.rest));
        self.rest = match end {
            [b'\r', b'\n', rest @ ..] | [_, rest @ ..] => rest,
            [] => &[],
        };
        self.number = self.number.saturating_add(1);
        Some(Line { number: self.number, bytes })
    }
}

/// Where the first CR or LF stands, or the length of the text.
fn end_of_line(bytes: &[u8]) -> usize {
    const CHUNK: usize = 16;
    let ends_line = |byte: &u8| matches!(byte, b'\n' | b'\r');
    let mut start = 0;
    for chunk in bytes.chunks_exact(CHUNK) {
        // No early exit inside a chunk, so that the compiler can compare its bytes at once.
        if chunk.iter().fold(false, |found, byte| found | ends_line(byte)) {
            break;
        }
        start += CHUNK;
    }
    bytes[start..].iter().position(ends_line).map_or(bytes.len(), |position| start + position)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<(u32, String)> {
        let line = |line: Line| (line.number, String::from_utf8(line.bytes.to_vec()).unwrap());
        Lines::new(text.as_bytes()).map(line).collect()
    }

    #[test]
    fn every_line_end_counts_once() {
        let expected: Vec<_> = [(1, "a"), (2, ""), (3, "b"), (4, "c")].map(|(n, t)| (n, t.to_owned())).into();
        for end in ["\n", "\r\n", "\r"] {
            assert_eq!(split(&["a", "", "b", "c"].join(end)), expected, "{end:?}");
            assert_eq!(split(&format!("{}{end}", ["a", "", "b", "c"].join(end))), expected, "{end:?}");
        }
        assert_eq!(split("a\r\r\nb\nc"), expected);
        assert!(split("").is_empty());
    }

    #[test]
    fn an_end_is_found_at_every_place_of_a_chunk() {
        for length in 0..70 {
            let text = format!("{}\nx", "y".repeat(length));
            assert_eq!(split(&text), [(1, "y".repeat(length)), (2, "x".to_owned())]);
        }
    }
}
