//! What `redis.url` says: which kind of server, where it is, and as whom we come.
//!
//! | URL | server |
//! | --- | --- |
//! | `redis://[user:password@]host[:6379][/db]` | one server; `rediss://` with TLS |
//! | `redis+unix:///path[?db=0&user=…&pass=…]` | one server, by its socket |
//! | `redis+sentinel://[user:password@]host[:26379],host…[/db]?master=name` | the primary that the sentinels name; `rediss+sentinel://` with TLS, to the sentinels too |
//! | `redis+cluster://[user:password@]host[:6379],host…` | a Cluster; `rediss+cluster://` with TLS |
//!
//! `valkey` may stand for `redis` in each of them. Sentinels that want a password of their own get
//! it from `&sentinel_user=…&sentinel_password=…`.

use std::sync::Arc;
use std::time::Duration;

use redis::io::tcp::{TcpSettings, socket2};
use redis::{Client, ConnectionInfo, IntoConnectionInfo, RedisError, TlsCertificates};
use url::form_urlencoded;

use super::sentinels::Sentinels;

/// Silence of a connection after which the kernel asks whether the other end is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(3);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEPALIVE_PROBES: u32 = 3;
/// How long bytes may stay unacknowledged before the kernel gives the connection up.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

const FORMS: &str = "redis://, rediss://, redis+unix://, redis+sentinel://, rediss+sentinel://, redis+cluster://, \
                     rediss+cluster://";

/// Where Redis is and as whom we come. Holds passwords: has no `Debug`.
pub(super) enum Server {
    /// One server, whatever its role.
    Alone(ConnectionInfo),
    /// Whoever the sentinels say is the primary.
    Sentinels(Arc<Sentinels>),
    /// Some nodes of a Cluster.
    Cluster(Vec<ConnectionInfo>, Option<TlsCertificates>),
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Alone,
    Unix,
    Sentinels,
    Cluster,
}

/// The pieces of a URL, undecoded.
struct Parts<'a> {
    scheme: &'a str,
    kind: Kind,
    tls: bool,
    /// With the `@`, or empty.
    credentials: &'a str,
    hosts: Vec<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
}

impl Server {
    /// Reads the URL. `certificates` is for TLS.
    ///
    /// # Errors
    /// What is wrong with it, without a word of what stands in it.
    pub(super) fn parse(url: &str, certificates: Option<TlsCertificates>) -> Result<Server, String> {
        let parts = Parts::of(url)?;
        let mut options = Options::of(&parts)?;
        let several = matches!(parts.kind, Kind::Sentinels | Kind::Cluster);
        if parts.hosts.len() > 1 && !several {
            return Err(format!("names several hosts: {0}+sentinel:// and {0}+cluster:// do", parts.scheme));
        }
        if parts.kind == Kind::Unix {
            let info = format!("redis+unix://{}?{}", parts.path, parts.query.unwrap_or_default());
            return read(info).map(Server::Alone);
        }
        let port = if parts.kind == Kind::Sentinels { SENTINEL_PORT } else { REDIS_PORT };
        let nodes: Result<Vec<ConnectionInfo>, String> =
            parts.hosts.iter().map(|host| parts.node(host, port)).collect();
        let mut nodes = nodes?;
        match parts.kind {
            Kind::Alone | Kind::Unix => {
                let info = nodes.remove(0);
                match certificates.filter(|_| parts.tls) {
                    Some(certificates) => {
                        let client = Client::build_with_tls(info, certificates).map_err(|error| why(&error))?;
                        Ok(Server::Alone(client.get_connection_info().clone()))
                    }
                    None => Ok(Server::Alone(info)),
                }
            }
            Kind::Sentinels => {
                let master = options.take("master").ok_or("does not say which primary: add ?master=<its name>")?;
                let user = options.take("sentinel_user");
                let password = options.take("sentinel_password");
                let certificates = certificates.filter(|_| parts.tls);
                let sentinels = Sentinels::new(master, &nodes, (user, password), certificates);
                sentinels.map(|sentinels| Server::Sentinels(Arc::new(sentinels))).map_err(|error| why(&error))
            }
            Kind::Cluster if nodes[0].redis_settings().db() != 0 => Err("a Cluster has only database 0".into()),
            Kind::Cluster => Ok(Server::Cluster(nodes, certificates.filter(|_| parts.tls))),
        }
    }
}

/// Whether the URL asks for TLS.
pub(super) fn is_tls(url: &str) -> bool {
    Parts::of(url).is_ok_and(|parts| parts.tls)
}

/// The URL without user, password and options, for logs. `None` of one that makes no sense: there
/// the password may stand anywhere.
pub(crate) fn shown(url: &str) -> Option<String> {
    Server::parse(url, None).ok()?;
    let parts = Parts::of(url).ok()?;
    let master = form_urlencoded::parse(parts.query.unwrap_or_default().as_bytes())
        .find_map(|(name, value)| (name == "master").then(|| format!("?master={value}")));
    Some(format!("{}://{}{}{}", parts.scheme, parts.hosts.join(","), parts.path, master.unwrap_or_default()))
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Result<Parts<'a>, String> {
        let (scheme, rest) = url.trim().split_once("://").ok_or_else(|| format!("is none of {FORMS}"))?;
        let (kind, tls) = match scheme {
            "redis" | "valkey" => (Kind::Alone, false),
            "rediss" | "valkeys" => (Kind::Alone, true),
            "redis+unix" | "valkey+unix" | "unix" => (Kind::Unix, false),
            "redis+sentinel" | "valkey+sentinel" => (Kind::Sentinels, false),
            "rediss+sentinel" | "valkeys+sentinel" => (Kind::Sentinels, true),
            "redis+cluster" | "valkey+cluster" => (Kind::Cluster, false),
            "rediss+cluster" | "valkeys+cluster" => (Kind::Cluster, true),
            _ => return Err(format!("is none of {FORMS}")),
        };
        if rest.contains('#') {
            return Err("holds a #: in a password it is written %23".into());
        }
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (credentials, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        let hosts: Vec<&str> = if hosts.is_empty() { Vec::new() } else { hosts.split(',').collect() };
        match kind {
            Kind::Unix if !authority.is_empty() || path.len() < 2 => {
                return Err(format!("names no socket: {scheme}:///path/of/the.sock"));
            }
            Kind::Unix => {}
            _ if hosts.is_empty() || hosts.contains(&"") => return Err("names no host".into()),
            _ => {}
        }
        Ok(Parts { scheme, kind, tls, credentials, hosts, path, query })
    }

    /// One host as the Redis client understands it.
    fn node(&self, host: &str, default_port: u16) -> Result<ConnectionInfo, String> {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
        let port = if has_port { String::new() } else { format!(":{default_port}") };
        read(format!("{scheme}://{}{host}{port}{}", self.credentials, self.path))
    }
}

/// What stands behind the `?`.
struct Options(Vec<(String, String)>);

impl Options {
    fn of(parts: &Parts<'_>) -> Result<Options, String> {
        let known: &[&str] = match parts.kind {
            Kind::Alone | Kind::Cluster => &[],
            Kind::Unix => &["db", "user", "pass"],
            Kind::Sentinels => &["master", "sentinel_user", "sentinel_password"],
        };
        let given = form_urlencoded::parse(parts.query.unwrap_or_default().as_bytes());
        let given: Vec<(String, String)> = given.map(|(name, value)| (name.into(), value.into())).collect();
        if given.iter().any(|(name, value)| !known.contains(&name.as_str()) || value.is_empty()) {
            return Err(match known {
                [] => "holds a ?: in a password it is written %3F, and there are no options here".into(),
                _ => format!("has an option that is none of {}, or that is empty", known.join(", ")),
            });
        }
        Ok(Options(given))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let index = self.0.iter().position(|(given, _)| given == name)?;
        Some(self.0.swap_remove(index).1)
    }
}

/// A plain URL in the hands of the Redis client.
fn read(url: String) -> Result<ConnectionInfo, String> {
    let info = url.into_connection_info().map_err(|error| why(&error))?;
    if info.redis_settings().db() < 0 {
        return Err("names a database below 0".into());
    }
    // CLIENT SETINFO would be one more thing that a user must be allowed to do.
    let redis = info.redis_settings().clone().set_skip_set_lib_name();
    Ok(info.set_redis_settings(redis).set_tcp_settings(tcp()))
}

/// The texts of these errors are constants of the client: they repeat nothing of the URL.
fn why(error: &RedisError) -> String {
    format!("is not a URL of Redis: {error}")
}

fn tcp() -> TcpSettings {
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    // The client leaves Nagle's algorithm on; every command here waits for its answer.
    TcpSettings::default().set_nodelay(true).set_keepalive(keepalive).set_user_timeout(UNACKNOWLEDGED)
}

#[cfg(test)]
mod tests;
