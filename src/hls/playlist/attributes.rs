//! Attribute lists: `NAME=value,NAME="quoted, value"` (RFC 8216 §4.2).

/// One attribute, without the quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attribute<'a> {
    pub name: &'a [u8],
    pub value: &'a [u8],
    pub quoted: bool,
}

/// Why a piece of a list is no attribute.
pub(super) type Malformed = &'static str;

/// Iterates over a list. After a malformed piece it goes on behind the next comma; who may not
/// guess stops at the first.
pub(super) struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    pub(super) fn new(list: &'a [u8]) -> Self {
        Attributes { rest: list }
    }

    /// Takes what stands before the next comma, and the comma.
    fn piece(&mut self) -> &'a [u8] {
        let end = self.rest.iter().position(|&byte| byte == b',').unwrap_or(self.rest.len());
        let piece = &self.rest[..end];
        self.rest = self.rest.get(end + 1..).unwrap_or_default();
        piece.trim_ascii()
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.rest = self.rest.trim_ascii_start();
            if self.rest.is_empty() {
                return None;
            }
            let name_end = self.rest.iter().position(|&byte| matches!(byte, b'=' | b','));
            let Some(name_end) = name_end.filter(|&end| self.rest[end] == b'=') else {
                // Two commas in a row, or one at the end, say nothing.
                if self.piece().is_empty() {
                    continue;
                }
                return Some(Err("an attribute without \"=\""));
            };
            let name = self.rest[..name_end].trim_ascii();
            self.rest = self.rest[name_end + 1..].trim_ascii_start();
            if name.is_empty() {
                self.piece();
                return Some(Err("an attribute without a name"));
            }
            let Some(quoted) = self.rest.strip_prefix(b"\"") else {
                return Some(Ok(Attribute { name, value: self.piece(), quoted: false }));
            };
            let Some(end) = quoted.iter().position(|&byte| byte == b'"') else {
                self.rest = &[];
                return Some(Err("a quoted value that does not end"));
            };
            self.rest = &quoted[end + 1..];
            if !self.piece().is_empty() {
                return Some(Err("text behind a quoted value"));
            }
            return Some(Ok(Attribute { name, value: &quoted[..end], quoted: true }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &str) -> Vec<Result<(String, String, bool), Malformed>> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Attributes::new(list.as_bytes()).map(|a| a.map(|a| (text(a.name), text(a.value), a.quoted))).collect()
    }

    fn ok(name: &str, value: &str, quoted: bool) -> Result<(String, String, bool), Malformed> {
        Ok((name.to_owned(), value.to_owned(), quoted))
    }

    #[test]
    fn values_may_be_quoted_and_hold_commas_and_equals_signs() {
        assert_eq!(
            read(r#"A=1,B="x,y=z",C=a=b,D="""#),
            [ok("A", "1", false), ok("B", "x,y=z", true), ok("C", "a=b", false), ok("D", "", true)]
        );
    }

    #[test]
    fn spaces_and_spare_commas_say_nothing() {
        assert_eq!(read(r#" A = 1 , ,B = "x" ,"#), [ok("A", "1", false), ok("B", "x", true)]);
        assert_eq!(read(""), []);
        assert_eq!(read(" ,, "), []);
    }

    #[test]
    fn reading_goes_on_behind_a_malformed_piece() {
        assert_eq!(read("x,A=1"), [Err("an attribute without \"=\""), ok("A", "1", false)]);
        assert_eq!(read("=x,A=1"), [Err("an attribute without a name"), ok("A", "1", false)]);
        assert_eq!(read(r#"B="x"y,A=1"#), [Err("text behind a quoted value"), ok("A", "1", false)]);
        assert_eq!(read(r#"A=1,B="x,C=2"#), [ok("A", "1", false), Err("a quoted value that does not end")]);
    }

    #[test]
    fn a_name_is_found_whole() {
        let list = "AVERAGE-BANDWIDTH=1,BANDWIDTH=2";
        assert_eq!(read(list), [ok("AVERAGE-BANDWIDTH", "1", false), ok("BANDWIDTH", "2", false)]);
    }
}
