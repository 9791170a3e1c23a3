//! Which addresses may be connected to. Whatever a playlist, a manifest, a redirect or a caller names
//! must be on the public internet: a stranger must not reach the services beside us, or a cloud's
//! metadata service, through us. The hosts of `network.allow`, and those that the operator has typed
//! himself, may be anywhere.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::sync::Arc;

use hyper::Uri;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

use super::lookup::look_up;
use crate::config::NetworkSettings;

/// Special-purpose addresses of version 4 (RFC 6890 and the registry of IANA), and what they are.
const SPECIAL_V4: [(Ipv4Net, &str); 15] = [
    (v4([0, 0, 0, 0], 8), "an address of no host"),
    (v4([10, 0, 0, 0], 8), "a private address"),
    (v4([100, 64, 0, 0], 10), "an address behind a carrier's NAT"),
    (v4([127, 0, 0, 0], 8), "a loopback address"),
    (v4([169, 254, 0, 0], 16), "a link-local address"),
    (v4([172, 16, 0, 0], 12), "a private address"),
    (v4([192, 0, 0, 0], 24), "a special-purpose address"),
    (v4([192, 0, 2, 0], 24), "an address for documentation"),
    (v4([192, 88, 99, 0], 24), "an address of a 6to4 relay"),
    (v4([192, 168, 0, 0], 16), "a private address"),
    (v4([198, 18, 0, 0], 15), "an address for benchmarks"),
    (v4([198, 51, 100, 0], 24), "an address for documentation"),
    (v4([203, 0, 113, 0], 24), "an address for documentation"),
    (v4([224, 0, 0, 0], 4), "a multicast address"),
    (v4([240, 0, 0, 0], 4), "a reserved or broadcast address"),
];

/// Special-purpose addresses of version 6 whose place in the table says enough.
const SPECIAL_V6: [(Ipv6Net, &str); 8] = [
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), "an address of no host"),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), "a loopback address"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), "a special-purpose address"),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), "an address for documentation"),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), "an address for documentation"),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), "a private address"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "a link-local address"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "a multicast address"),
];

/// What is in use of version 6 (RFC 4291 §2.4), but for the special places in it.
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

const fn v4(address: [u8; 4], length: u8) -> Ipv4Net {
    let [a, b, c, d] = address;
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6(address: [u16; 8], length: u8) -> Ipv6Net {
    let [a, b, c, d, e, f, g, h] = address;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), length)
}

/// Hosts that may be asked wherever they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedHost {
    /// `media.lan` is that host, `*.lan` every one below it.
    Name(String),
    /// Whatever has an address in this network.
    Network(IpNet),
    /// Host and port of a URL that the operator has typed.
    Endpoint { host: String, port: u16 },
}

impl AllowedHost {
    /// Reads a host name, `*.` and a domain, an address or a network.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn parse(text: &str) -> Result<AllowedHost, String> {
        if let Ok(network) = text.parse::<IpNet>() {
            return Ok(AllowedHost::Network(network.trunc()));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(AllowedHost::Network(address.into()));
        }
        let (below, domain) = text.strip_prefix("*.").map_or(("", text), |domain| ("*.", domain));
        match Host::parse(domain) {
            Ok(Host::Domain(domain)) if !domain.contains('*') => Ok(AllowedHost::Name(format!("{below}{domain}"))),
            _ => Err(format!("{text:?} is no host name, no address and no network (10.1.0.0/16)")),
        }
    }

    /// The host and port of this URL; `None` when it has none.
    pub fn endpoint(url: &Url) -> Option<AllowedHost> {
        Some(AllowedHost::Endpoint { host: url.host_str()?.to_owned(), port: url.port_or_known_default()? })
    }

    fn is_host(&self, host: &str, port: u16) -> bool {
        match self {
            AllowedHost::Name(pattern) => is_host(pattern, host),
            AllowedHost::Network(_) => false,
            // A server that redirects from its 80 to its 443 is still the one that was typed.
            AllowedHost::Endpoint { host: typed, port: at } => {
                typed.eq_ignore_ascii_case(host) && (*at == port || [80, 443].contains(at) && [80, 443].contains(&port))
            }
        }
    }

    fn holds(&self, address: IpAddr) -> bool {
        matches!(self, AllowedHost::Network(network) if network.contains(&address.to_canonical()))
    }
}

/// `example.com` is that host, `*.example.com` every one below it.
pub fn is_host(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.to_ascii_lowercase().ends_with(&suffix.to_ascii_lowercase()),
        None => host.eq_ignore_ascii_case(pattern),
    }
}

/// What an address is that is not on the public internet; `None` of one that is.
fn special(address: IpAddr) -> Option<&'static str> {
    let address = match address {
        IpAddr::V4(address) => return special_v4(address),
        IpAddr::V6(address) => address,
    };
    if let Some(embedded) = embedded_v4(address) {
        return special_v4(embedded);
    }
    let found = SPECIAL_V6.iter().find(|(network, _)| network.contains(&address)).map(|(_, what)| *what);
    found.or_else(|| (!GLOBAL_V6.contains(&address)).then_some("an address that is not in use on the internet"))
}

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    SPECIAL_V4.iter().find(|(network, _)| network.contains(&address)).map(|(_, what)| *what)
}

/// The address of version 4 that one of version 6 leads to: mapped (RFC 4291), by NAT64 (RFC 6052), by
/// 6to4 (RFC 3056). Teredo is refused whole.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let from = |high: u16, low: u16| Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => from(g, h),
        [0x2002, high, low, ..] => from(high, low),
        _ => None,
    }
}

type Addresses = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;
type Lookup = Arc<dyn Fn(String) -> Addresses + Send + Sync>;

/// Checks every address before it is connected to; cheap to clone.
#[derive(Clone)]
pub struct Guard {
    allow: Arc<[AllowedHost]>,
    typed: Arc<[AllowedHost]>,
    lookup: Lookup,
}

impl Guard {
    /// Lets the hosts of these settings be anywhere, and all others only on the public internet.
    pub fn new(settings: &NetworkSettings) -> Guard {
        let lookup: Lookup = Arc::new(|host| Box::pin(look_up(host)));
        Guard { allow: settings.allow.as_slice().into(), typed: settings.typed.as_slice().into(), lookup }
    }

    /// The addresses of the URI's host, looked up once. Whoever connects to nothing else has connected
    /// to what was checked, whatever the name leads to a moment later.
    ///
    /// # Errors
    /// [`AddressRefused`] when one of them may not be connected to, or what the lookup failed with.
    pub async fn addresses(&self, uri: &Uri) -> Result<Vec<IpAddr>, Box<dyn std::error::Error + Send + Sync>> {
        let (host, port) = host_and_port(uri);
        let addresses = match literal(host) {
            Some(address) => vec![address],
            None => (self.lookup)(host.to_owned()).await?,
        };
        if self.allow.iter().chain(self.typed.iter()).any(|allowed| allowed.is_host(host, port)) {
            return Ok(addresses);
        }
        for address in &addresses {
            if let Some(what) = special(*address)
                && !self.allow.iter().any(|allowed| allowed.holds(*address))
            {
                return Err(AddressRefused { host: host.to_owned(), address: *address, what }.into());
            }
        }
        Ok(addresses)
    }

    /// Whether the host of this URI is one of ours, so that no proxy stands between us: a name or an
    /// address of `network.allow`, or an address that was typed.
    pub fn is_inside(&self, uri: &Uri) -> bool {
        let (host, port) = host_and_port(uri);
        let is_ours = |address| {
            self.allow.iter().any(|allowed| allowed.holds(address))
                || self.typed.iter().any(|typed| typed.is_host(host, port))
        };
        self.allow.iter().any(|allowed| allowed.is_host(host, port)) || literal(host).is_some_and(is_ours)
    }

    /// What can be said of a host that a proxy looks up: an address is checked, a name only when it
    /// means the proxy's own host.
    ///
    /// # Errors
    /// [`AddressRefused`].
    pub fn check_unresolved(&self, uri: &Uri) -> Result<(), AddressRefused> {
        let (host, _) = host_and_port(uri);
        let name = host.trim_end_matches('.');
        let is_local = is_host("localhost", name) || is_host("*.localhost", name);
        let address = literal(host).or_else(|| is_local.then_some(Ipv4Addr::LOCALHOST.into()));
        match address.and_then(|address| Some((address, special(address)?))) {
            Some((address, what)) => Err(AddressRefused { host: host.to_owned(), address, what }),
            None => Ok(()),
        }
    }
}

/// The host of a URI, and the port that it says or means.
pub fn host_and_port(uri: &Uri) -> (&str, u16) {
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    (uri.host().unwrap_or_default(), port)
}

/// The address that a host is already.
fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Why a host was not connected to.
#[derive(Debug, thiserror::Error)]
#[error("{host} is at {address}, {what}: it is not asked unless network.allow names it")]
pub struct AddressRefused {
    host: String,
    address: IpAddr,
    what: &'static str,
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    impl Guard {
        /// Looks names up in `answers`, one after the other, and counts in `lookups`.
        pub fn answering(allow: &[&str], answers: &[&[&str]], lookups: Arc<AtomicUsize>) -> Guard {
            let allow: Vec<_> = allow.iter().map(|text| AllowedHost::parse(text).unwrap()).collect();
            let answers: Vec<Vec<IpAddr>> =
                answers.iter().map(|answer| answer.iter().map(|text| text.parse().unwrap()).collect()).collect();
            let lookup = move |_| -> Addresses {
                let answer = answers[lookups.fetch_add(1, Ordering::SeqCst)].clone();
                Box::pin(async move { Ok(answer) })
            };
            Guard { allow: allow.into(), typed: Arc::default(), lookup: Arc::new(lookup) }
        }
    }

    async fn is_allowed(allow: &[&str], uri: &str, answer: &[&str]) -> bool {
        let guard = Guard::answering(allow, &[answer], Arc::default());
        guard.addresses(&uri.parse().unwrap()).await.is_ok()
    }

    #[test]
    fn only_public_addresses_are_not_special() {
        let special = |text: &str| special(text.parse().unwrap());
        for public in [
            "8.8.8.8",
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450:4001:82a::200e",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
        ] {
            assert_eq!(special(public), None, "{public}");
        }
        for private in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "2001::1",
            "2001:0:7f00:1::1",
            "2001:2::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:c0a8:101::1",
            "3fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(special(private).is_some(), "{private}");
        }
    }

    #[tokio::test]
    async fn one_bad_address_of_several_is_enough() {
        assert!(is_allowed(&[], "http://h.example/", &["93.184.215.14", "2606:4700::1111"]).await);
        assert!(!is_allowed(&[], "http://h.example/", &["93.184.215.14", "10.0.0.1"]).await);
        assert!(!is_allowed(&["10.0.0.1"], "http://h.example/", &["10.0.0.1", "10.0.0.2"]).await);
        assert!(is_allowed(&["10.0.0.0/24"], "http://h.example/", &["10.0.0.1", "10.0.0.2"]).await);
    }

    #[tokio::test]
    async fn what_is_allowed_is_that_and_nothing_beside_it() {
        let inside = &["10.0.0.1"];
        assert!(is_allowed(&["media.lan"], "https://MEDIA.lan:8443/", inside).await);
        assert!(!is_allowed(&["media.lan"], "https://x.media.lan/", inside).await);
        assert!(!is_allowed(&["media.lan"], "https://media.lan./", inside).await);
        assert!(is_allowed(&["*.lan"], "https://media.lan/", inside).await);
        assert!(!is_allowed(&["*.lan"], "https://lan/", inside).await);
        assert!(!is_allowed(&["*.lan"], "https://notlan/", inside).await);
        assert!(is_allowed(&["127.0.0.1"], "http://127.0.0.1:8080/", &[]).await);
        assert!(is_allowed(&["127.0.0.1"], "http://[::ffff:127.0.0.1]/", &[]).await);
        assert!(!is_allowed(&["127.0.0.1"], "http://127.0.0.2/", &[]).await);
        assert!(is_allowed(&["fd00::/8"], "http://[fd00::7]/", &[]).await);
        assert!(!is_allowed(&["media.lan"], "http://10.0.0.1/", inside).await);
        for text in ["", "http://h/", "h:80", "10.0.0.0/33", "a b", "*"] {
            assert!(AllowedHost::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn behind_a_proxy_only_what_is_no_name_can_be_checked() {
        let guard = Guard::answering(&["media.lan", "10.0.0.0/8"], &[], Arc::default());
        for inside in ["http://media.lan/", "https://10.1.2.3/"] {
            assert!(guard.is_inside(&inside.parse().unwrap()), "{inside}");
        }
        for refused in ["http://169.254.169.254/", "http://localhost/", "http://x.localhost./", "http://[::1]/"] {
            let uri = refused.parse().unwrap();
            assert!(!guard.is_inside(&uri) && guard.check_unresolved(&uri).is_err(), "{refused}");
        }
        for outside in ["https://h.example/", "https://8.8.8.8/", "http://notlocalhost/"] {
            let uri = outside.parse().unwrap();
            assert!(!guard.is_inside(&uri) && guard.check_unresolved(&uri).is_ok(), "{outside}");
        }
    }

    #[tokio::test]
    async fn what_was_typed_names_its_host_and_port() {
        let typed = |text: &str| AllowedHost::endpoint(&Url::parse(text).unwrap()).unwrap();
        let lets = |text: &str, host: &str, port| typed(text).is_host(host, port);
        assert!(lets("http://127.0.0.1:8000/x", "127.0.0.1", 8000));
        assert!(!lets("http://127.0.0.1:8000/x", "127.0.0.1", 6379));
        assert!(!lets("http://127.0.0.1:8000/x", "localhost", 8000));
        assert!(lets("http://media.lan/", "media.lan", 443));
        assert!(!lets("http://media.lan/", "media.lan", 8443));
        assert!(lets("http://[::1]:9/", "[::1]", 9));
    }
}
