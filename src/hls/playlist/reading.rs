//! What every tag reader needs: the line it is at, the base, the variables, and a place for what
//! was odd.

use std::borrow::Cow;
use std::fmt::Display;

use url::Url;

use crate::failure::{Failure, FailureKind, Result};

use super::limits::{MAX_DIAGNOSTICS, MAX_URI_BYTES, MAX_VALUE_BYTES, MAX_VARIABLES};
use super::uri::{is_plainly_relative, origin};
use super::variables::Variables;
use super::{Diagnostic, Limits};

/// The state that all tag readers share.
pub(super) struct Reading<'a> {
    pub base: &'a Url,
    pub limits: &'a Limits,
    /// The line that is being read.
    pub line: u32,
    variables: Variables<'a>,
    diagnostics: Vec<Diagnostic>,
    unsaid: usize,
    /// Bytes that variables have added so far.
    expanded_bytes: usize,
    /// `https://host:port` of the last absolute URI that was found good.
    good_origin: Box<str>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(base: &'a Url, limits: &'a Limits, variables: Variables<'a>) -> Self {
        Reading {
            base,
            limits,
            line: 0,
            variables,
            diagnostics: Vec::new(),
            unsaid: 0,
            expanded_bytes: 0,
            good_origin: Box::default(),
        }
    }

    /// Notes that the present line is odd and how it is read.
    pub(super) fn note(&mut self, message: impl Into<String>) {
        self.note_at(self.line, message);
    }

    /// The same for another line.
    pub(super) fn note_at(&mut self, line: u32, message: impl Into<String>) {
        if self.diagnostics.len() < MAX_DIAGNOSTICS {
            self.diagnostics.push(Diagnostic { line, message: message.into() });
        } else {
            self.unsaid += 1;
        }
    }

    /// What was defined, by name.
    pub(super) fn take_variables(&mut self) -> Vec<(Box<str>, Box<str>)> {
        std::mem::replace(&mut self.variables, Variables::new(&[])).into_defined()
    }

    /// What was noted, in the order of lines.
    pub(super) fn take_diagnostics(&mut self) -> Vec<Diagnostic> {
        let mut diagnostics = std::mem::take(&mut self.diagnostics);
        diagnostics.sort_by_key(|diagnostic| diagnostic.line);
        if self.unsaid > 0 {
            diagnostics.push(Diagnostic { line: self.line, message: format!("{} more like these", self.unsaid) });
        }
        diagnostics
    }

    /// The failure of the present line.
    pub(super) fn invalid(&self, what: impl Display) -> Failure {
        self.failure(FailureKind::PlaylistInvalid, what)
    }

    /// The same with another kind.
    pub(super) fn failure(&self, kind: FailureKind, what: impl Display) -> Failure {
        Failure::new(kind, format!("{}: {what}", self.place()))
    }

    /// Refuses a playlist that has more of something than it may.
    pub(super) fn at_most(&self, count: usize, limit: usize, what: &str) -> Result<()> {
        if count <= limit {
            return Ok(());
        }
        Err(self.failure(FailureKind::PlaylistTooLarge, format!("more than {limit} {what}")))
    }

    /// The present line, as messages name it.
    pub(super) fn place(&self) -> String {
        format!("line {}", self.line)
    }

    /// Text that must be exact: UTF-8, variables put in.
    pub(super) fn text<'t>(&mut self, bytes: &'t [u8]) -> Result<Cow<'t, str>> {
        let text = std::str::from_utf8(bytes).map_err(|_| self.invalid("not UTF-8"))?;
        if !bytes.contains(&b'{') {
            return Ok(Cow::Borrowed(text));
        }
        let limit = MAX_VALUE_BYTES.max(bytes.len());
        let text = self.variables.substitute(text, limit).map_err(|reason| self.invalid(reason))?;
        if let Cow::Owned(text) = &text {
            self.count_expanded(text.len())?;
        }
        Ok(text)
    }

    /// Reads one EXT-X-DEFINE.
    pub(super) fn define(&mut self, list: &[u8]) -> Result<()> {
        let bytes = self.variables.define(list, self.base, MAX_VALUE_BYTES).map_err(|reason| self.invalid(reason))?;
        self.at_most(self.variables.len(), MAX_VARIABLES, "variables")?;
        self.count_expanded(bytes)
    }

    /// One short line can stand for kilobytes: without this a small text fills the memory.
    fn count_expanded(&mut self, bytes: usize) -> Result<()> {
        self.expanded_bytes += bytes;
        if self.expanded_bytes > self.limits.max_bytes {
            return Err(self.failure(FailureKind::PlaylistTooLarge, "variables make the playlist too large"));
        }
        Ok(())
    }

    /// Text for people and for names within the playlist: what is not UTF-8 is replaced.
    pub(super) fn lossy(&mut self, bytes: &[u8]) -> Result<Box<str>> {
        match std::str::from_utf8(bytes) {
            Ok(_) => Ok(self.text(bytes)?.into()),
            Err(_) => {
                self.note("not UTF-8: the wrong bytes are replaced");
                Ok(String::from_utf8_lossy(bytes).into())
            }
        }
    }

    /// A URI of this playlist, variables put in, that is known to resolve to http or https.
    pub(super) fn uri<'t>(&mut self, bytes: &'t [u8]) -> Result<Cow<'t, str>> {
        let uri = self.uri_text(bytes)?;
        if !is_plainly_relative(&uri) && !self.has_good_origin(&uri) {
            self.resolve(&uri)?;
            self.good_origin = origin(&uri).unwrap_or_default().into();
        }
        Ok(uri)
    }

    /// A URI that need not be http: that of a key.
    pub(super) fn uri_text<'t>(&mut self, bytes: &'t [u8]) -> Result<Cow<'t, str>> {
        let uri = self.text(bytes)?;
        if uri.len() > MAX_URI_BYTES {
            return Err(self.failure(FailureKind::UrlInvalid, format!("a URI of {} bytes is too long", uri.len())));
        }
        if uri.trim_ascii().is_empty() {
            return Err(self.invalid("an empty URI"));
        }
        Ok(uri)
    }

    /// The URL that a URI of this playlist stands for.
    pub(super) fn resolve(&self, uri: &str) -> Result<Url> {
        super::uri::resolve(self.base, uri).map_err(|failure| failure.at(self.place()))
    }

    fn has_good_origin(&self, uri: &str) -> bool {
        origin(uri).is_some_and(|origin| *origin == *self.good_origin)
    }
}

/// Text from the playlist as it may stand in a message: short, and nothing that moves a terminal.
pub(super) fn quoted(bytes: &[u8]) -> String {
    const LONGEST: usize = 40;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * LONGEST)]);
    let mut cut: String = text.chars().take(LONGEST).collect();
    if cut.len() < bytes.len() && cut.len() < text.len() {
        cut.push('…');
    }
    format!("{cut:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_is_short_and_harmless() {
        assert_eq!(quoted(b"<html>\x1b[2J"), r#""<html>\u{1b}[2J""#);
        assert_eq!(quoted("ä".repeat(100).as_bytes()), format!("\"{}…\"", "ä".repeat(40)));
        assert_eq!(quoted(&[0xff, 0xfe]), "\"\u{fffd}\u{fffd}\"");
    }
}
