//! What must be true so that a file may be continued.

use std::path::Path;

use reqwest::header::{CONTENT_RANGE, DATE, ETAG, HeaderMap, HeaderName, LAST_MODIFIED};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::disk;
use crate::failure::Result;

/// Which version of which resource the bytes of a `.part` are of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The URL without query, since signatures change from one job attempt to the next.
    source: String,
    /// A strong ETag or a Last-Modified, as `If-Range` takes it; empty when there was none.
    pub validator: String,
    /// Length of the whole file, if the server said.
    pub total: Option<u64>,
}

impl Meta {
    /// Of an answer that begins at byte 0.
    pub fn of(url: &Url, headers: &HeaderMap, total: Option<u64>) -> Meta {
        Meta { source: source(url), validator: validator(headers).unwrap_or_default(), total }
    }

    /// Reads what an earlier attempt left; `None` when a continuation cannot be asked for.
    pub async fn load(path: &Path, url: &Url) -> Option<Meta> {
        let bytes = tokio::fs::read(path).await.ok()?;
        let meta: Meta = serde_json::from_slice(&bytes).ok()?;
        (meta.source == source(url) && !meta.validator.is_empty()).then_some(meta)
    }

    /// Replaces it on disk. The `.part` is cut before bytes of this version go into it.
    pub async fn store(&self, path: &Path) -> Result<()> {
        disk::write(path, serde_json::to_vec(self).unwrap_or_default()).await
    }

    /// Whether an answer is of the same version, as far as it says.
    pub fn still_is(&self, headers: &HeaderMap) -> bool {
        let same =
            |name: HeaderName| headers.get(name).is_none_or(|value| value.as_bytes() == self.validator.as_bytes());
        if self.validator.starts_with('"') { same(ETAG) } else { same(LAST_MODIFIED) }
    }
}

fn source(url: &Url) -> String {
    url[..url::Position::AfterPath].to_owned()
}

/// `If-Range` takes no weak ETag, and a date only when it is certain that the resource did not
/// change twice within its second (RFC 9110 §8.8.2.2, §13.1.5).
fn validator(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name)?.to_str().ok();
    if let Some(etag) = text(ETAG).filter(|etag| etag.starts_with('"')) {
        return Some(etag.to_owned());
    }
    let modified = text(LAST_MODIFIED)?;
    let changed = httpdate::parse_http_date(modified).ok()?;
    let answered = httpdate::parse_http_date(text(DATE)?).ok()?;
    (answered > changed).then(|| modified.to_owned())
}

/// `Content-Range: bytes 0-9/100` (RFC 9110 §14.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRange {
    /// First byte; `None` for `bytes */100`.
    pub start: Option<u64>,
    /// Length of the whole file; `None` for `*`.
    pub total: Option<u64>,
    end: Option<u64>,
}

impl ContentRange {
    /// `None` when it is missing or not understood.
    pub fn of(headers: &HeaderMap) -> Option<ContentRange> {
        let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
        let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
        let total = if total == "*" { None } else { Some(total.parse().ok()?) };
        if range == "*" {
            return Some(ContentRange { start: None, end: None, total });
        }
        let (start, end) = range.split_once('-')?;
        Some(ContentRange { start: Some(start.parse().ok()?), end: Some(end.parse().ok()?), total })
    }

    /// Whether it runs to the end of a file as long as the one that was begun.
    pub fn continues(&self, meta: &Meta) -> bool {
        let to_the_end = self.end.zip(self.total).is_some_and(|(end, total)| end.checked_add(1) == Some(total));
        to_the_end && (meta.total.is_none() || meta.total == self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_strong_validators_are_used() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let modified = ("last-modified", "Sun, 06 Nov 1994 08:49:36 GMT");
        assert_eq!(validator(&headers(&[("etag", "\"a\""), modified])).as_deref(), Some("\"a\""));
        assert_eq!(validator(&headers(&[("etag", "W/\"a\""), modified, date])).as_deref(), Some(modified.1));
        assert_eq!(validator(&headers(&[("etag", "W/\"a\"")])), None);
        assert_eq!(validator(&headers(&[("last-modified", date.1), date])), None);
        assert_eq!(validator(&headers(&[modified])), None);
        assert_eq!(validator(&headers(&[("last-modified", "yesterday"), date])), None);
    }

    #[test]
    fn content_ranges_are_read() {
        let of = |text| ContentRange::of(&headers(&[("content-range", text)]));
        assert_eq!(of("bytes 5-9/10"), Some(ContentRange { start: Some(5), end: Some(9), total: Some(10) }));
        assert_eq!(of("bytes */10"), Some(ContentRange { start: None, end: None, total: Some(10) }));
        for bad in ["5-9/10", "bytes 5-9", "bytes -1-9/10", "bytes 5-x/10", "bytes 99999999999999999999-1/1"] {
            assert_eq!(of(bad), None, "{bad}");
        }
        let meta = Meta { source: String::new(), validator: "\"a\"".into(), total: Some(10) };
        assert!(of("bytes 5-9/10").unwrap().continues(&meta));
        for bad in ["bytes 5-8/10", "bytes 5-10/11", "bytes 5-9/*", "bytes 5-18446744073709551615/10"] {
            assert!(!of(bad).unwrap().continues(&meta), "{bad}");
        }
    }
}
