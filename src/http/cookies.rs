//! Netscape `cookies.txt`: which cookies go to which URL.

use std::fmt;
use std::path::Path;

use reqwest::header::HeaderValue;
use url::Url;

use crate::failure::{Failure, Result};

/// The cookies of one file. `Debug` shows names and domains, never values.
#[derive(Clone, Default)]
pub struct Cookies(Vec<Cookie>);

#[derive(Clone)]
struct Cookie {
    domain: String,
    include_subdomains: bool,
    path: String,
    secure: bool,
    /// Unix seconds; 0 is a session cookie, which does not expire.
    expires: i64,
    name: String,
    value: String,
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.domain)
    }
}

impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

impl Cookies {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read. Lines that are not cookies are passed over, as every reader of the
    /// format does.
    pub fn load(path: &Path) -> Result<Cookies> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::disk(format_args!("reading the cookies file {}", path.display()), error))?;
        Ok(Cookies::parse(&text))
    }

    /// Reads the seven tab-separated fields of each line: domain, subdomains, path, secure,
    /// expiry, name, value. `#HttpOnly_` before the domain is part of the format, not a comment.
    pub fn parse(text: &str) -> Cookies {
        let cookie = |line: &str| {
            let line = line.strip_prefix("#HttpOnly_").unwrap_or(line);
            if line.starts_with('#') {
                return None;
            }
            let fields: Vec<&str> = line.split('\t').collect();
            let [domain, subdomains, path, secure, expires, name, value] = fields[..] else { return None };
            Some(Cookie {
                include_subdomains: subdomains.eq_ignore_ascii_case("TRUE") || domain.starts_with('.'),
                domain: domain.trim_start_matches('.').to_ascii_lowercase(),
                path: path.to_owned(),
                secure: secure.eq_ignore_ascii_case("TRUE"),
                expires: expires.parse().ok()?,
                name: name.to_owned(),
                value: value.to_owned(),
            })
        };
        Cookies(text.lines().filter_map(cookie).collect())
    }

    /// The `Cookie` header for a URL, marked sensitive. `now` is in Unix seconds.
    pub fn header_for(&self, url: &Url, now: i64) -> Option<HeaderValue> {
        let pairs: Vec<String> = self
            .0
            .iter()
            .filter(|cookie| cookie.goes_to(url, now))
            .map(|cookie| format!("{}={}", cookie.name, cookie.value))
            .collect();
        if pairs.is_empty() {
            return None;
        }
        let mut header = HeaderValue::from_str(&pairs.join("; ")).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}

impl Cookie {
    /// RFC 6265 §5.1.3 (domain match), §5.1.4 (path match).
    fn goes_to(&self, url: &Url, now: i64) -> bool {
        let host = url.host_str().unwrap_or_default();
        let subdomain = || host.strip_suffix(self.domain.as_str()).is_some_and(|rest| rest.ends_with('.'));
        let path = url.path().strip_prefix(self.path.as_str());
        let path_matches =
            path.is_some_and(|rest| rest.is_empty() || self.path.ends_with('/') || rest.starts_with('/'));
        (host == self.domain || self.include_subdomains && subdomain())
            && path_matches
            && (!self.secure || url.scheme() == "https")
            && (self.expires == 0 || self.expires > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# Netscape HTTP Cookie File\n\
        .example.com\tTRUE\t/\tFALSE\t0\tsession\tabc\n\
        learn.example.com\tFALSE\t/course\tTRUE\t2000\ttoken\tx=y\n\
        #HttpOnly_learn.example.com\tFALSE\t/\tFALSE\t1000\thidden\th\n\
        rubbish line\n";

    fn header(url: &str, now: i64) -> Option<String> {
        let header = Cookies::parse(FILE).header_for(&Url::parse(url).unwrap(), now)?;
        Some(header.to_str().unwrap().to_owned())
    }

    #[test]
    fn cookies_go_where_they_belong() {
        assert_eq!(
            header("https://learn.example.com/course/1", 500).as_deref(),
            Some("session=abc; token=x=y; hidden=h")
        );
        assert_eq!(header("https://learn.example.com/courses", 500).as_deref(), Some("session=abc; hidden=h"));
        assert_eq!(header("http://learn.example.com/course", 1500).as_deref(), Some("session=abc"));
        assert_eq!(header("http://notexample.com/", 0), None);
        assert_eq!(header("http://a.learn.example.com/", 0).as_deref(), Some("session=abc"));
    }

    #[test]
    fn debug_shows_no_values() {
        assert!(!format!("{:?}", Cookies::parse(FILE)).contains("abc"));
    }
}
