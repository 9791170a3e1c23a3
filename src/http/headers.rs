//! Which headers go with which request of one stream.

use std::sync::Arc;

use reqwest::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue};
use url::{Origin, Url};

use super::{CookieJar, CookiesFor};
use crate::failure::{Failure, FailureKind, Result};

/// Headers that say how a transfer is made, not what for: a list that was copied from a browser
/// holds some of them, and each would break a request (a body in an encoding, a part of it, none).
const OURS: [&str; 14] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "keep-alive",
    "range",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Headers for a stream and everything below it (playlists, keys, segments).
#[derive(Debug, Clone)]
pub struct RequestHeaders {
    /// For every host: players send these (Referer, User-Agent) to the media hosts too.
    everywhere: HeaderMap,
    /// Credentials: only for the origin that they were given for.
    credentials: HeaderMap,
    origin: Origin,
    cookies: Arc<CookieJar>,
}

impl RequestHeaders {
    /// `pairs` were given for `url`. Those that say how a transfer is made are passed over.
    ///
    /// # Errors
    /// `manifest_invalid` for what is not a header.
    pub fn new(url: &Url, pairs: &[(String, String)], cookies: Arc<CookieJar>) -> Result<Self> {
        let mut headers = RequestHeaders {
            everywhere: HeaderMap::new(),
            credentials: HeaderMap::new(),
            origin: url.origin(),
            cookies,
        };
        for (name, value) in pairs {
            if OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
                continue;
            }
            let invalid = |_| Failure::new(FailureKind::ManifestInvalid, format!("{name:?} is not a valid header"));
            let header = HeaderName::try_from(name).map_err(|error| invalid(error.to_string()))?;
            let mut value = HeaderValue::try_from(value).map_err(|error| invalid(error.to_string()))?;
            if is_credential(&header) {
                value.set_sensitive(true);
                headers.credentials.append(header, value);
            } else {
                headers.everywhere.append(header, value);
            }
        }
        Ok(headers)
    }

    /// The headers of a request for `url`.
    pub fn for_url(&self, url: &Url) -> HeaderMap {
        let mut headers = self.everywhere.clone();
        if url.origin() == self.origin {
            headers.extend(self.credentials.clone());
        }
        if !headers.contains_key(COOKIE)
            && let Some(cookie) = self.cookies.header_for(url)
        {
            headers.insert(COOKIE, cookie);
        }
        headers
    }

    /// The same, with this `Authorization` for the origin of the URL that they were given for.
    pub fn with_authorization(mut self, value: Option<HeaderValue>) -> Self {
        self.credentials.extend(value.map(|value| (AUTHORIZATION, value)));
        self
    }

    /// Keeps the cookies that an answer from `url` sets.
    pub fn store_cookies(&self, url: &Url, answer: &HeaderMap) {
        self.cookies.store(url, answer);
    }

    /// The cookies of our file that a request for `url` is made with, or would be if they had not
    /// expired; nothing when none belong there, or when it shows other credentials, which are not ours
    /// to renew.
    pub fn login_for(&self, url: &Url) -> Option<CookiesFor> {
        if url.origin() == self.origin && !self.credentials.is_empty() {
            return None;
        }
        self.cookies.of_file(Some(url)).filter(|cookies| cookies.count > 0)
    }
}

/// Whether a header only goes to the origin that it was given for.
fn is_credential(name: &HeaderName) -> bool {
    *name == AUTHORIZATION || *name == COOKIE
}

/// The headers among `pairs`, which were given for `url`, that may be sent to `target` as well.
pub fn headers_for<'a>(
    pairs: &'a [(String, String)],
    url: &Url,
    target: &Url,
) -> impl Iterator<Item = &'a (String, String)> {
    let at_home = url.origin() == target.origin();
    pairs.iter().filter(move |(name, _)| at_home || !HeaderName::try_from(name).is_ok_and(|name| is_credential(&name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_stay_at_their_origin() {
        let url = Url::parse("https://learn.example.com/a.m3u8").unwrap();
        let pairs =
            [("Referer".to_owned(), "https://x/".to_owned()), ("authorization".to_owned(), "Bearer t".to_owned())];
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), ".example.com\tTRUE\t/\tFALSE\t0\ts\tv\n").unwrap();
        let cookies = Arc::new(CookieJar::open(file.path()).unwrap());
        let headers = RequestHeaders::new(&url, &pairs, cookies).unwrap();
        let names = |url: &str| {
            let map = headers.for_url(&Url::parse(url).unwrap());
            let mut names: Vec<String> = map.keys().map(ToString::to_string).collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!(names("https://learn.example.com/k"), "authorization cookie referer");
        assert_eq!(names("https://cdn.example.com/k"), "cookie referer");
        assert_eq!(names("https://learn.example.com:444/k"), "cookie referer");
        assert_eq!(names("https://cdn.example.net/k"), "referer");
        assert!(!format!("{headers:?}").contains("Bearer t"));
        let ours = |url: &str| headers.login_for(&Url::parse(url).unwrap()).is_some();
        assert!(ours("https://cdn.example.com/k") && !ours("https://cdn.example.net/k"));
        assert!(!ours("https://learn.example.com/k"), "the token was somebody else's");
    }

    #[test]
    fn headers_of_the_transfer_are_ours() {
        let url = Url::parse("https://h/").unwrap();
        let pairs = ["Host", "range", "Accept-Encoding", "Accept"].map(|name| (name.to_owned(), "x".to_owned()));
        let headers = RequestHeaders::new(&url, &pairs, Arc::default()).unwrap().for_url(&url);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let url = Url::parse("https://h/").unwrap();
        let pairs = [("X\n".to_owned(), "v".to_owned())];
        assert!(RequestHeaders::new(&url, &pairs, Arc::default()).is_err());
    }
}
