//! The settings of outgoing requests.

use std::time::Duration;

use base64::Engine as _;
use hyper::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{Source, seconds};
use crate::http::AllowedHost;
use crate::redis_client::read_certificates;

/// Every outgoing HTTP request.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    pub connect_timeout: Duration,
    /// Silence on a connection after which a request has failed.
    pub idle_timeout: Duration,
    pub minimum_rate: MinimumRate,
    pub head: HeadLimits,
    pub user_agent: String,
    pub network: NetworkSettings,
}

/// How fast a body must come while it is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinimumRate {
    /// 0 means as slow as it likes.
    pub bytes_per_second: u64,
    /// What it is measured over.
    pub window: Duration,
}

impl Default for MinimumRate {
    fn default() -> Self {
        MinimumRate { bytes_per_second: 1024, window: Duration::from_secs(60) }
    }
}

/// How large the head of an answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// All names and values together.
    pub max_bytes: usize,
    /// Number of headers.
    pub max_headers: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        HeadLimits { max_bytes: 64 << 10, max_headers: 100 }
    }
}

/// What may be reached.
#[derive(Debug, Clone, Default)]
pub struct NetworkSettings {
    /// Hosts of our own: all others must be on the public internet.
    pub allow: Vec<AllowedHost>,
    /// What the operator has typed as the place of courses, which may be anywhere too.
    pub typed: Vec<AllowedHost>,
    /// Redirects of one request.
    pub max_redirects: usize,
    /// Of them, for a key: who gives it out is no content delivery network.
    pub max_key_redirects: usize,
    /// Certificates (PEM) of authorities that are believed beside those of this host.
    pub authorities: Option<Vec<u8>>,
    pub proxy: Option<ProxySettings>,
}

/// An HTTP proxy that all but the hosts of `network.allow` are asked through.
#[derive(Debug, Clone)]
pub struct ProxySettings {
    pub url: Url,
    /// `user:password`
    pub credentials: Option<SecretString>,
}

#[cfg(test)]
impl HttpSettings {
    /// For tests whose servers are on this host.
    pub fn loopback() -> HttpSettings {
        let allow = vec![AllowedHost::parse("127.0.0.1").expect("an address")];
        HttpSettings {
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(5),
            minimum_rate: MinimumRate::default(),
            head: HeadLimits::default(),
            user_agent: "test".into(),
            network: NetworkSettings { allow, max_redirects: 5, max_key_redirects: 3, ..NetworkSettings::default() },
        }
    }
}

impl ProxySettings {
    /// The header that shows the credentials (RFC 7617).
    pub fn authorization(&self) -> Option<HeaderValue> {
        let credentials = self.credentials.as_ref()?;
        let encoded = base64::engine::general_purpose::STANDARD.encode(credentials.expose_secret());
        let mut value = HeaderValue::try_from(format!("Basic {encoded}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl NetworkSettings {
    /// What the operator has typed may be asked wherever it is.
    pub fn allow_typed(&mut self, url: &Url) {
        self.typed.extend(AllowedHost::endpoint(url));
    }
}

/// Reads `http.*` and `network.*`.
pub(super) fn read(s: &mut Source) -> HttpSettings {
    HttpSettings {
        connect_timeout: seconds(s.integer("http.connect_timeout_seconds", 10, 1..=120, "Limit for connecting.")),
        idle_timeout: seconds(s.integer(
            "http.idle_timeout_seconds",
            30,
            1..=600,
            "Silence after which a request has failed.",
        )),
        minimum_rate: MinimumRate {
            bytes_per_second: s.integer(
                "http.min_bytes_per_second",
                MinimumRate::default().bytes_per_second,
                0..=(1 << 30),
                "What a body must bring on average while it is waited for; 0 means as little as it likes.",
            ),
            window: seconds(s.integer(
                "http.min_rate_seconds",
                MinimumRate::default().window.as_secs(),
                1..=3600,
                "What that average is taken over.",
            )),
        },
        head: HeadLimits {
            max_bytes: s.count(
                "http.max_header_bytes",
                HeadLimits::default().max_bytes,
                1024..=(1 << 20),
                "Most bytes of the headers of an answer.",
            ),
            max_headers: s.count(
                "http.max_headers",
                HeadLimits::default().max_headers,
                1..=10_000,
                "Most headers of an answer.",
            ),
        },
        user_agent: s.text(
            "http.user_agent",
            concat!("hauld/", env!("CARGO_PKG_VERSION")),
            "User-Agent of every request (default: hauld and its version).",
        ),
        network: NetworkSettings {
            allow: read_allow(s),
            typed: Vec::new(),
            max_redirects: s.count("network.max_redirects", 5, 0..=20, "Redirects of one request."),
            max_key_redirects: s.count(
                "network.max_key_redirects",
                3,
                0..=20,
                "Redirects of a request for a key, which may not have more than others either.",
            ),
            authorities: read_authorities(s),
            proxy: read_proxy(s),
        },
    }
}

fn read_proxy(s: &mut Source) -> Option<ProxySettings> {
    let url = s.optional_url(
        "network.proxy",
        None,
        "HTTP proxy (http://proxy.lan:3128) that all hosts but those of network.allow are asked through.",
    );
    let credentials = s.secret("network.proxy_credentials", None, "File with user:password for the proxy.");
    let url = url?;
    if url.scheme() != "http" {
        s.error("network.proxy", "is spoken to by http only; what goes through it may well be https");
    }
    Some(ProxySettings { url, credentials })
}

fn read_authorities(s: &mut Source) -> Option<Vec<u8>> {
    let help = "Certificates (PEM) of authorities that may sign servers' beside those of this host.";
    match read_certificates(&s.optional_path("network.ca_file", help)?) {
        Ok(authorities) => Some(authorities),
        Err(reason) => {
            s.error("network.ca_file", reason);
            None
        }
    }
}

fn read_allow(s: &mut Source) -> Vec<AllowedHost> {
    let texts = s.list(
        "network.allow",
        "Hosts that courses and media may be on though they are not on the public internet: media.lan, *.lan, 10.1.2.3, 10.1.0.0/16.",
    );
    let mut allow = Vec::new();
    for text in texts {
        match AllowedHost::parse(&text) {
            Ok(host) => allow.push(host),
            Err(reason) => s.error("network.allow", reason),
        }
    }
    allow
}
