//! What came against what was asked for and what was declared.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use hyper::StatusCode;
use hyper::header::{CONTENT_RANGE, HeaderMap};
use url::Url;

use super::plan::Unit;
use crate::failure::{Failure, FailureKind, Result};
use crate::http::{content_length, shown};

/// Bytes that are read and thrown away when a server ignores a byte range; beyond that every
/// segment would cost most of the file.
const SKIP_LIMIT: u64 = 16 << 20;

/// Files that ranges are asked of and that are remembered: a playlist may name any number of them.
const MAX_FILES: usize = 1024;

/// How long the files are that ranges are asked of. One that has another length later is another file: ranges of
/// both, one after the other, would be no stream. (Not by their ETag: the servers of a delivery network
/// need not agree on one.)
#[derive(Default)]
pub struct Files(Mutex<HashMap<Url, u64>>);

impl Files {
    /// Whether a file that now has `total` bytes is the one that it was before.
    ///
    /// # Errors
    /// `http_rejected`.
    pub fn check(&self, url: &Url, total: u64) -> Result<()> {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(&before) = files.get(url) else {
            if files.len() >= MAX_FILES {
                files.clear();
            }
            files.insert(url.clone(), total);
            return Ok(());
        };
        if before == total {
            return Ok(());
        }
        let message = format!("{}: the file had {before} bytes and has {total} now", shown(url));
        Err(Failure::new(FailureKind::HttpRejected, message))
    }
}

/// Counts a body against what was asked for and what was declared.
pub struct Body {
    /// Bytes to throw away before the range begins.
    skip: u64,
    /// Bytes that must come after that, if it is known.
    expected: Option<u64>,
    received: u64,
    /// The server sends more than the range: the rest is not read.
    cut: bool,
    /// Length of the file that it is a range of, if the server says it.
    pub total: Option<u64>,
}

impl Body {
    /// Reads the head of an answer.
    pub fn of(unit: &Unit, status: StatusCode, headers: &HeaderMap) -> Result<Body> {
        let declared = content_length(headers);
        let Some(range) = unit.byte_range else {
            return Ok(Body { skip: 0, expected: declared, received: 0, cut: false, total: None });
        };
        let rejected = |what: String| Failure::new(FailureKind::HttpRejected, format!("{}: {what}", shown(&unit.url)));
        let asked = format!("bytes {}-{}/", range.offset, range.offset + range.length - 1);
        if status == StatusCode::PARTIAL_CONTENT {
            let content_range = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
            if !content_range.starts_with(&asked) {
                return Err(rejected(format!("{asked}* was asked for, {content_range:?} came")));
            }
            let total = content_range[asked.len()..].parse().ok();
            return Ok(Body { skip: 0, expected: Some(range.length), received: 0, cut: false, total });
        }
        if range.offset > SKIP_LIMIT {
            return Err(rejected("the server does not answer byte ranges".into()));
        }
        Ok(Body { skip: range.offset, expected: Some(range.length), received: 0, cut: true, total: declared })
    }

    /// The part of a chunk that belongs to the unit.
    pub fn take<'a>(&mut self, chunk: &'a [u8]) -> Result<&'a [u8]> {
        let skipped = self.skip.min(chunk.len() as u64);
        self.skip -= skipped;
        let mut part = &chunk[skipped as usize..];
        if let Some(expected) = self.expected {
            let left = expected - self.received;
            if part.len() as u64 > left {
                if !self.cut {
                    let message = format!("more than the declared {expected} bytes came");
                    return Err(Failure::new(FailureKind::BodyTooLarge, message));
                }
                part = &part[..left as usize];
            }
        }
        self.received += part.len() as u64;
        Ok(part)
    }

    /// Everything that was asked for is there, though the server goes on.
    pub fn is_cut_short(&self) -> bool {
        self.cut && self.expected == Some(self.received)
    }

    pub fn check_end(&self, unit: &Unit) -> Result<()> {
        match self.expected {
            Some(expected) if expected != self.received => {
                let message = format!("{}: {} of {expected} bytes came", shown(&unit.url), self.received);
                Err(Failure::new(FailureKind::BodyTruncated, message))
            }
            _ if self.received == 0 => {
                Err(Failure::new(FailureKind::SegmentInvalid, format!("{}: the body is empty", shown(&unit.url))))
            }
            _ => Ok(()),
        }
    }
}
