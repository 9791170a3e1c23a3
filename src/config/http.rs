//! The settings of outgoing requests.

use super::{HttpSettings, MinimumRate, NetworkSettings, ProxySettings, Source, seconds};
use crate::http::AllowedHost;
use crate::redis_client::read_certificates;

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
        user_agent: s.text(
            "http.user_agent",
            concat!("hauld/", env!("CARGO_PKG_VERSION")),
            "User-Agent of every request (default: hauld and its version).",
        ),
        network: NetworkSettings {
            allow: read_allow(s),
            typed: Vec::new(),
            max_redirects: s.integer(
                "network.max_redirects",
                5,
                0..=20,
                "Redirects of one request; of a request for a key at most 3.",
            ) as usize,
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
