//! The settings of outgoing requests.

use super::{HttpSettings, NetworkSettings, Source, seconds};
use crate::http::AllowedHost;

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
        user_agent: s.text(
            "http.user_agent",
            concat!("hauld/", env!("CARGO_PKG_VERSION")),
            "User-Agent of every request (default: hauld and its version).",
        ),
        network: NetworkSettings {
            allow: read_allow(s),
            max_redirects: s.integer(
                "network.max_redirects",
                5,
                0..=20,
                "Redirects of one request; of a request for a key at most 3.",
            ) as usize,
        },
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
