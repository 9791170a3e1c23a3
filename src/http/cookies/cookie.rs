//! One cookie: where it goes, and until when.

use std::fmt;

use reqwest::header::HeaderValue;
use url::Url;

/// Largest name and value together, in bytes (RFC 6265 §6.1).
const MAX_BYTES: usize = 4096;

/// What makes two cookies the same is domain, path and name (RFC 6265 §5.3). `Debug` shows no value.
#[derive(Clone, PartialEq, Eq)]
pub struct Cookie {
    /// Lower case, without the dot in front, as [`Url::host_str`] writes it.
    pub domain: String,
    pub include_subdomains: bool,
    /// Begins with a slash.
    pub path: String,
    pub secure: bool,
    /// Unix seconds; nothing for a session cookie, which does not expire.
    pub expires: Option<i64>,
    pub name: String,
    pub value: String,
    /// Of the file, whatever a server has made of it since.
    pub from_file: bool,
    /// A server has told us to forget it.
    pub is_deleted: bool,
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}{}", self.name, self.domain, self.path)
    }
}

impl Cookie {
    /// Whether it is the same cookie, maybe with another value.
    pub fn is_same(&self, other: &Cookie) -> bool {
        self.key() == other.key()
    }

    /// Domain, path and name.
    pub fn key(&self) -> [&str; 3] {
        [&self.domain, &self.path, &self.name]
    }

    /// Whether a server without TLS may not set `other`, since it would go where this one goes, which
    /// needs TLS (RFC 6265bis §5.7).
    pub fn is_shielded_from(&self, other: &Cookie) -> bool {
        let (own, others) = (&self.domain, &other.domain);
        self.secure
            && self.name == other.name
            && (own == others || is_below(own, others) || is_below(others, own))
            && path_matches(&other.path, &self.path)
    }

    /// Whether it belongs to a URL, if it has not expired: RFC 6265 §5.1.3 (domain match), §5.1.4
    /// (path match).
    pub fn goes_to(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        // Only a name has subdomains: 10.1.1.1 is not one of 1.1.1.
        let is_subdomain = || url.domain().is_some() && is_below(host, &self.domain);
        (host == self.domain || self.include_subdomains && is_subdomain())
            && path_matches(url.path(), &self.path)
            && (!self.secure || url.scheme() == "https")
    }

    /// `now` is in Unix seconds.
    pub fn has_expired(&self, now: i64) -> bool {
        self.is_deleted || self.expires.is_some_and(|expires| expires <= now)
    }

    /// Whether name and value can stand in a `Cookie` header without becoming something else there.
    pub fn fits_a_header(&self) -> bool {
        let plain = |text: &str| !text.contains(';') && HeaderValue::from_bytes(text.as_bytes()).is_ok();
        !self.name.is_empty()
            && !self.name.contains('=')
            && self.name.len() + self.value.len() <= MAX_BYTES
            && plain(&self.name)
            && plain(&self.value)
    }
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

fn path_matches(path: &str, cookie_path: &str) -> bool {
    let rest = path.strip_prefix(cookie_path);
    rest.is_some_and(|rest| rest.is_empty() || cookie_path.ends_with('/') || rest.starts_with('/'))
}
