//! Who may see the page and who may act on it.
//!
//! Whoever reaches the port may look. Acting needs the token, which a browser sends only where the page's own
//! script puts it: no other site can make it do so. Beside that, requests that another site has caused are
//! refused, and so is a host name that is not ours: a name of somebody else's that leads here (DNS rebinding)
//! would make a foreign page ours.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::page::Refusal;
use crate::admission::{Attempts, bearer_token};
use crate::config::AdminSettings;
use crate::failure::Result;
use crate::http::Bearer;
use crate::serve::Peer;

/// What decides.
pub(super) struct Access {
    /// Nobody may act without one.
    token: Option<Bearer>,
    hosts: Vec<String>,
    attempts: Attempts,
}

impl Access {
    /// # Errors
    /// `internal` when the token cannot be read.
    pub(super) fn new(settings: &AdminSettings) -> Result<Access> {
        let token = settings.token.as_ref().map(|token| Bearer::open("admin.token_file", token)).transpose()?;
        Ok(Access { token, hosts: settings.hosts.clone(), attempts: Attempts::new() })
    }

    /// Whether there is a token to act with.
    pub(super) fn lets_act(&self) -> bool {
        self.token.is_some()
    }

    /// Whether the page itself may be shown: under a name that is ours.
    pub(super) fn check_host(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let given = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host: Option<Authority> = given.and_then(|host| host.parse().ok());
        let ours = host.is_some_and(|host| {
            let name = host.host().trim_start_matches('[').trim_end_matches(']');
            let is_allowed = |allowed: &String| allowed.eq_ignore_ascii_case(name);
            name.parse::<IpAddr>().is_ok()
                || name.eq_ignore_ascii_case("localhost")
                || self.hosts.iter().any(is_allowed)
        });
        match ours {
            true => Ok(()),
            false => Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "The page answers to an IP address or to localhost. For another name, add it to admin.hosts.",
            )),
        }
    }

    /// Whether it is the page that asks, or somebody who is no browser.
    pub(super) fn check_origin(headers: &HeaderMap) -> Result<(), Refusal> {
        let text = |name| headers.get(name).map(|value: &header::HeaderValue| value.to_str().unwrap_or("?"));
        let site = text(header::HeaderName::from_static("sec-fetch-site"));
        let same_site = site.is_none_or(|site| site == "same-origin" || site == "none");
        let host = text(header::HOST).unwrap_or_default();
        let same_origin = text(header::ORIGIN).is_none_or(|origin| {
            let origin = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host))
        });
        match same_site && same_origin {
            true => Ok(()),
            false => Err(Refusal::new(StatusCode::FORBIDDEN, "Another site may not ask this.")),
        }
    }

    /// Whether the caller shows the token.
    pub(super) fn check_token(&self, headers: &HeaderMap, peer: Option<&Peer>) -> Result<(), Refusal> {
        let Some(token) = &self.token else {
            let detail = "There is no token to act with: set admin.token_file. Until then the page only shows.";
            return Err(Refusal::new(StatusCode::FORBIDDEN, detail));
        };
        let wrong = match bearer_token(headers) {
            Ok(given) if is_token(given, token) => return Ok(()),
            Ok(_) => "wrong token",
            Err(cause) => cause,
        };
        self.attempts.forget_the_quiet();
        let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |Peer(peer): &Peer| SocketAddr::ip(peer));
        match self.attempts.failed(address) {
            Ok(()) => {
                tracing::warn!(cause = wrong, "an action on the operator page was turned away");
                Err(Refusal::new(StatusCode::UNAUTHORIZED, "This is not the token."))
            }
            Err(wait) => {
                let seconds = wait.as_secs() + 1;
                let detail = format!("Too many wrong tokens; come again in {seconds} s.");
                Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, detail).after(seconds))
            }
        }
    }
}

/// Compares hashes, which have one length: how long it takes tells nothing.
fn is_token(given: &[u8], token: &Bearer) -> bool {
    let header = token.header();
    let known = header.as_bytes().strip_prefix(b"Bearer ").unwrap_or_default();
    let hash = |text: &[u8]| <[u8; 32]>::from(Sha256::digest(text));
    !known.is_empty() && bool::from(hash(given).ct_eq(&hash(known)))
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::config::{BearerSettings, Config};

    fn access(token: Option<&str>, hosts: &[&str]) -> Access {
        let mut settings = Config::load(None, Default::default(), Default::default()).unwrap().admin;
        settings.token = token.map(|token| BearerSettings { token: SecretString::from(token), file: None });
        settings.hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        Access::new(&settings).unwrap()
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_names_of_ours_show_the_page() {
        let access = access(None, &["Worker1.example"]);
        for host in ["127.0.0.1:9300", "[::1]:9300", "10.1.2.3", "localhost:9300", "LOCALHOST", "worker1.EXAMPLE:80"] {
            assert!(access.check_host(&headers(&[("host", host)])).is_ok(), "{host}");
        }
        for host in
            ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "worker1.example.evil", "", "@"]
        {
            assert!(access.check_host(&headers(&[("host", host)])).is_err(), "{host:?}");
        }
        assert!(access.check_host(&HeaderMap::new()).is_err());
    }

    #[test]
    fn no_other_site_may_ask() {
        let asks = |pairs: &[(&'static str, &str)]| {
            let mut headers = headers(pairs);
            headers.insert(header::HOST, "127.0.0.1:9300".parse().unwrap());
            Access::check_origin(&headers).is_ok()
        };
        assert!(asks(&[]), "curl");
        assert!(asks(&[("sec-fetch-site", "same-origin"), ("origin", "http://127.0.0.1:9300")]));
        assert!(asks(&[("sec-fetch-site", "none")]));
        for refused in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site")],
            &[("origin", "http://127.0.0.1:9301")],
            &[("origin", "http://evil.example")],
            &[("origin", "null")],
            &[("sec-fetch-site", "same-origin"), ("origin", "https://evil.example")],
        ] {
            assert!(!asks(refused), "{refused:?}");
        }
    }

    #[test]
    fn acting_needs_the_whole_token_and_guessing_ends_soon() {
        let status = |access: &Access, token: &str| {
            let headers = headers(&[("authorization", &format!("Bearer {token}"))]);
            access.check_token(&headers, None).err().map(|refusal| refusal.status.as_u16())
        };
        assert_eq!(status(&access(None, &[]), ""), Some(403), "no token is no open door");
        let access = access(Some("s3cret"), &[]);
        assert_eq!(status(&access, "s3cret"), None);
        assert_eq!(access.check_token(&HeaderMap::new(), None).unwrap_err().status, StatusCode::UNAUTHORIZED);
        for wrong in ["s3cre", "S3CRET", "s3crets", ""] {
            assert_eq!(status(&access, wrong), Some(401), "{wrong}");
        }
        assert!((0..40).any(|_| status(&access, "guess") == Some(429)));
        assert_eq!(status(&access, "s3cret"), None, "the right one is let in all the same");
    }
}
