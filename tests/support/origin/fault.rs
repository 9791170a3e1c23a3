//! What an origin can do wrong, and how often.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;

use super::message::{Reply, Request};

/// One way to go wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Another status, with a short text as body.
    Status(u16),
    /// Another status with headers, such as `("Retry-After", "1")`.
    StatusWith(u16, Vec<(String, String)>),
    /// 302 to a path or URL.
    Redirect(String),
    /// Any other answer instead, with status and headers as given.
    Instead(Reply),
    /// Other bytes under the right status and type: a key of 15 bytes, garbage for a segment.
    Body(Bytes),
    /// An error page with status 200.
    Html,
    /// Status 200 and a body of 0 bytes.
    Empty,
    /// The connection is closed before the first byte of the answer.
    DropBeforeHead,
    /// The right Content-Length, so many bytes, then the connection is closed.
    CutAt(usize),
    /// No Content-Length but chunks; so many bytes, then the connection is closed in the middle.
    CutChunkedAt(usize),
    /// Neither Content-Length nor chunks, as HTTP/1.0 did: so many bytes, and the end of the connection
    /// is the end of the body.
    CloseAt(usize),
    /// All of it, in chunks, without a Content-Length: not a fault, but not what is usual.
    Chunked,
    /// The right Content-Length, so many bytes, then silence for ever.
    StallAfter(usize),
    /// So many bytes at a time with a pause after each: never silent, never fast.
    Drip { bytes: usize, pause: Duration },
    /// The answer comes late.
    Delay(Duration),
    /// The answer comes late, and is 429 while more requests than `most` are being answered.
    Crowded { most: usize, delay: Duration },
    /// All of the body under this Content-Length, shorter or longer; then the connection is closed.
    DeclareLength(usize),
    /// A Range request gets status 200 and the whole body.
    IgnoreRange,
    /// A Range request gets 206 with the bytes that were asked for, but a Content-Range that is one
    /// byte further on.
    WrongContentRange,
}

impl Fault {
    /// For the first `count` requests of each path; then all is well.
    pub fn times(self, count: usize) -> Plan {
        Plan { fault: self, skip: 0, times: Some(count) }
    }

    /// All is well for the first `count` requests of each path; then never again.
    pub fn after(self, count: usize) -> Plan {
        Plan { fault: self, skip: count, times: None }
    }

    /// `StatusWith` without the ceremony.
    pub fn status_with(status: u16, headers: &[(&str, &str)]) -> Fault {
        let own = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Fault::StatusWith(status, own.collect())
    }
}

/// A fault and when it strikes.
#[derive(Debug, Clone)]
pub struct Plan {
    fault: Fault,
    skip: usize,
    times: Option<usize>,
}

impl Plan {
    /// After what [`Fault::after`] lets through: only so often.
    pub fn times(self, count: usize) -> Plan {
        Plan { times: Some(count), ..self }
    }
}

impl From<Fault> for Plan {
    fn from(fault: Fault) -> Plan {
        Plan { fault, skip: 0, times: None }
    }
}

/// A plan at its pattern, with what each path has seen of it.
pub(super) struct Installed {
    pub(super) pattern: String,
    plan: Plan,
    seen: HashMap<String, usize>,
}

impl Installed {
    pub(super) fn new(pattern: &str, plan: Plan) -> Installed {
        Installed { pattern: pattern.to_owned(), plan, seen: HashMap::new() }
    }

    /// The fault for this request, if it is its turn; counts the request.
    /// `active` requests are being answered, this one among them.
    pub(super) fn strike(&mut self, request: &Request, active: usize) -> Option<Fault> {
        if !request.matches(&self.pattern) {
            return None;
        }
        let seen = self.seen.entry(request.path.clone()).or_default();
        let number = *seen;
        if let Some(times) = self.plan.times
            && number >= self.plan.skip + times
        {
            return None;
        }
        *seen += 1;
        (number >= self.plan.skip).then(|| match self.plan.fault.clone() {
            Fault::Crowded { most, .. } if active > most => Fault::Status(429),
            Fault::Crowded { delay, .. } => Fault::Delay(delay),
            fault => fault,
        })
    }
}

/// How an answer goes over the wire.
#[derive(Debug)]
pub(super) struct Transmission {
    pub(super) reply: Reply,
    pub(super) framing: Framing,
    /// How much of the body is sent.
    pub(super) send: usize,
    pub(super) end: End,
    /// Bytes at a time, and the pause after them.
    pub(super) pace: Option<(usize, Duration)>,
    pub(super) delay: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Length(usize),
    Chunked,
    /// Until the connection is closed.
    Close,
}

/// What follows the last byte that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The next request on this connection.
    KeepAlive,
    Close,
    /// Nothing, until the client leaves.
    Silence,
}

/// What is sent for `reply`, spoiled by `fault`; `None`: the connection is closed without a word.
pub(super) fn transmission(reply: Reply, request: &Request, fault: Option<Fault>) -> Option<Transmission> {
    let whole = |reply: Reply| {
        let length = reply.body.len();
        Transmission {
            reply,
            framing: Framing::Length(length),
            send: length,
            end: End::KeepAlive,
            pace: None,
            delay: Duration::ZERO,
        }
    };
    let Some(fault) = fault else { return Some(whole(reply.ranged(request))) };
    let transmission = match fault {
        Fault::DropBeforeHead => return None,
        Fault::Status(status) => whole(refusal(status)),
        Fault::StatusWith(status, headers) => {
            let mut reply = refusal(status);
            reply.headers.extend(headers);
            whole(reply)
        }
        Fault::Redirect(target) => whole(Reply::status(302).with_header("Location", target)),
        Fault::Instead(reply) => whole(reply),
        Fault::Body(body) => whole(reply.with_body(body).ranged(request)),
        Fault::Html => whole(Reply::ok("text/html; charset=utf-8", ERROR_PAGE)),
        Fault::Empty => whole(reply.with_body(Bytes::new())),
        Fault::IgnoreRange => whole(reply),
        Fault::WrongContentRange => {
            let mut reply = reply.ranged(request);
            for (name, value) in &mut reply.headers {
                if name == "Content-Range" {
                    *value = one_byte_on(value);
                }
            }
            whole(reply)
        }
        Fault::CutAt(bytes) => {
            let all = whole(reply.ranged(request));
            Transmission { send: bytes.min(all.send), end: End::Close, ..all }
        }
        Fault::CutChunkedAt(bytes) => {
            let all = whole(reply.ranged(request));
            Transmission { framing: Framing::Chunked, send: bytes.min(all.send), end: End::Close, ..all }
        }
        Fault::CloseAt(bytes) => {
            let all = whole(reply.ranged(request));
            Transmission { framing: Framing::Close, send: bytes.min(all.send), end: End::Close, ..all }
        }
        Fault::Chunked => Transmission { framing: Framing::Chunked, ..whole(reply.ranged(request)) },
        Fault::StallAfter(bytes) => {
            let all = whole(reply.ranged(request));
            Transmission { send: bytes.min(all.send), end: End::Silence, ..all }
        }
        Fault::Drip { bytes, pause } => {
            Transmission { pace: Some((bytes.max(1), pause)), ..whole(reply.ranged(request)) }
        }
        Fault::Delay(delay) | Fault::Crowded { delay, .. } => Transmission { delay, ..whole(reply.ranged(request)) },
        Fault::DeclareLength(length) => {
            let all = whole(reply.ranged(request));
            Transmission { framing: Framing::Length(length), end: End::Close, ..all }
        }
    };
    Some(transmission)
}

const ERROR_PAGE: &str = "<!DOCTYPE html>\n<html><head><title>Please sign in</title></head>\
    <body><h1>Your session has expired</h1></body></html>\n";

fn refusal(status: u16) -> Reply {
    Reply::status(status).with_header("Content-Type", "text/plain").with_body(format!("status {status}\n"))
}

/// `bytes 5-9/20` to `bytes 6-10/20`.
fn one_byte_on(range: &str) -> String {
    let parse = || {
        let (span, length) = range.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = span.split_once('-')?;
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        Some(format!("bytes {}-{}/{length}", first + 1, last + 1))
    };
    parse().unwrap_or_else(|| range.to_owned())
}
