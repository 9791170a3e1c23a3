//! What is asked and what is answered.

use std::time::Instant;

use bytes::Bytes;

/// One request and what became of it.
#[derive(Debug, Clone)]
pub struct Request {
    /// Place among all requests to this origin, from 0, in the order of arrival.
    pub order: usize,
    /// Number of the connection it came on, from 0.
    pub connection: usize,
    /// When its head had arrived.
    pub at: Instant,
    pub method: String,
    /// Path and query as on the wire.
    pub target: String,
    /// Path as on the wire.
    pub path: String,
    /// In the order of the wire.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Status of the answer; `None` as long as no head was sent.
    pub status: Option<u16>,
    /// Bytes of the answer's body that the socket took; not all of them need to have arrived.
    pub bytes_sent: usize,
    /// The answer is over: complete, cut, or the client has left.
    pub finished: bool,
    pub(super) forgotten: bool,
}

impl Request {
    /// The value of a header, by its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The decoded value of a query parameter.
    pub fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// Whether it is for `pattern` (see [`super`]).
    pub fn matches(&self, pattern: &str) -> bool {
        match pattern.strip_suffix('*') {
            Some(prefix) => self.target.starts_with(prefix),
            None if pattern.contains('?') => self.target == pattern,
            None => self.path == pattern,
        }
    }
}

/// An answer, before a fault spoils it.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    /// Content-Length and Connection are not among them.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Reply {
    /// Status 200.
    pub fn ok(content_type: &str, body: impl Into<Bytes>) -> Reply {
        Reply::status(200).with_header("Content-Type", content_type).with_body(body)
    }

    /// Status 200 with the content type that goes with the path's extension.
    pub fn of(path: &str, body: impl Into<Bytes>) -> Reply {
        Reply::ok(content_type(path), body)
    }

    /// Status 200 and JSON.
    pub fn json(value: &serde_json::Value) -> Reply {
        Reply::ok("application/json", value.to_string())
    }

    /// A bare status.
    pub fn status(status: u16) -> Reply {
        Reply { status, headers: Vec::new(), body: Bytes::new() }
    }

    /// With another status.
    pub fn with_status(mut self, status: u16) -> Reply {
        self.status = status;
        self
    }

    /// With one header more.
    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Reply {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// With this body.
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Reply {
        self.body = body.into();
        self
    }

    /// The part that a Range header asks for (RFC 9110 §14). Only a single range of bytes is
    /// understood; of other forms, as the RFC allows, all is sent.
    pub(super) fn ranged(self, request: &Request) -> Reply {
        if self.status != 200 || request.method != "GET" {
            return self;
        }
        let tag = entity_tag(&self.body);
        let length = self.body.len();
        let reply = self.with_header("Accept-Ranges", "bytes").with_header("ETag", tag.clone());
        let wanted = request.header("Range").and_then(|text| text.strip_prefix("bytes=")?.split_once('-'));
        let Some((first, last)) = wanted else { return reply };
        if request.header("If-Range").is_some_and(|known| known != tag) {
            return reply;
        }
        let (start, end) = match (first.parse::<usize>(), last.parse::<usize>()) {
            (Ok(start), Ok(last)) if start <= last => (start, last.saturating_add(1).min(length)),
            (Ok(start), Err(_)) if last.is_empty() => (start, length),
            (Err(_), Ok(suffix)) if first.is_empty() && suffix > 0 => (length.saturating_sub(suffix), length),
            _ => return reply,
        };
        if start >= length {
            return Reply::status(416).with_header("Content-Range", format!("bytes */{length}"));
        }
        let body = reply.body.slice(start..end);
        let range = format!("bytes {start}-{}/{length}", end - 1);
        let mut reply = reply.with_header("Content-Range", range).with_body(body);
        reply.status = 206;
        reply
    }
}

/// Changes whenever the bytes do (FNV-1a).
fn entity_tag(body: &[u8]) -> String {
    let hash = body
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("\"{hash:016x}\"")
}

/// The content type that goes with an extension.
fn content_type(path: &str) -> &'static str {
    let path = path.split('?').next().unwrap_or(path);
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "m3u8" => "application/vnd.apple.mpegurl",
        "ts" => "video/mp2t",
        "m4s" => "video/iso.segment",
        "mp4" => "video/mp4",
        "aac" => "audio/aac",
        "vtt" => "text/vtt",
        "pdf" => "application/pdf",
        "json" => "application/json",
        "html" => "text/html; charset=utf-8",
        _ => "application/octet-stream",
    }
}
