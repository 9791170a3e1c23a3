//! Connections to Redis, as everybody here opens them: one server, whoever the sentinels name, or
//! a Cluster, by TCP, TLS or a socket, as `redis.url` says.

mod blocking;
mod cluster;
mod commands;
mod link;
mod sentinels;
mod server;

use std::path::Path;
use std::time::Duration;

use redis::{ClientTlsConfig, RedisError, TlsCertificates};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::ExposeSecret;

pub use blocking::{BlockingConnection, Unblock};
pub use commands::Commands;
pub(crate) use server::shown;

use crate::config::{RedisSettings, read_secret_file};
use crate::failure::{Failure, FailureKind, Result};
use crate::metrics::Count;
use server::Server;

/// Connections that commands go over; to a Cluster as a whole it is one.
pub static OPEN_CONNECTIONS: Count = Count::new();

/// How long a command that does not block may take.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long connecting to one server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Connections to the configured server. Opens none yet: whether the server is there shows with
/// the first command.
///
/// # Errors
/// [`FailureKind::QueueUnavailable`] when [`check`] refuses the settings.
pub fn commands(settings: &RedisSettings) -> Result<Commands> {
    // rustls needs one before the first rediss:// connection.
    crate::http::install_crypto_provider();
    let refused = |(setting, reason)| Failure::new(FailureKind::QueueUnavailable, format!("{setting} {reason}"));
    Ok(Commands::new(server(settings).map_err(refused)?))
}

/// Whether the settings make sense, and the files that they name can be read. Connects to nothing.
///
/// # Errors
/// The setting and what is wrong with it, without a word of a secret.
pub fn check(settings: &RedisSettings) -> Result<(), (&'static str, String)> {
    server(settings).map(drop)
}

fn server(settings: &RedisSettings) -> Result<Server, (&'static str, String)> {
    let url = settings.url.expose_secret();
    let server = Server::parse(url, certificates(settings)?).map_err(|reason| ("redis.url", reason))?;
    let useless = [("redis.ca_file", &settings.ca_file), ("redis.certificate_file", &settings.certificate_file)];
    match useless.into_iter().find(|(_, file)| file.is_some()) {
        Some((setting, _)) if !server::is_tls(url) => {
            Err((setting, "is of no use: redis.url does not ask for TLS (rediss://)".into()))
        }
        _ => Ok(server),
    }
}

fn certificates(settings: &RedisSettings) -> Result<Option<TlsCertificates>, (&'static str, String)> {
    let root_cert = match &settings.ca_file {
        Some(path) => Some(read_certificates(path).map_err(|reason| ("redis.ca_file", reason))?),
        None => None,
    };
    let client_tls = match (&settings.certificate_file, &settings.key_file) {
        (Some(certificate), Some(key)) => {
            let client_cert = read_certificates(certificate).map_err(|reason| ("redis.certificate_file", reason))?;
            let key = read_secret_file(key).map_err(|reason| ("redis.key_file", reason))?;
            Some(ClientTlsConfig { client_cert, client_key: key.expose_secret().as_bytes().to_vec() })
        }
        (None, None) => None,
        (None, Some(_)) => return Err(("redis.key_file", "needs redis.certificate_file beside it".into())),
        (Some(_), None) => return Err(("redis.certificate_file", "needs redis.key_file beside it".into())),
    };
    let any = root_cert.is_some() || client_tls.is_some();
    Ok(any.then_some(TlsCertificates { client_tls, root_cert }))
}

/// The certificates of a file, as they stand there (PEM).
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<u8>, String> {
    let text = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(text),
        Ok(_) => Err("holds no certificate (PEM)".into()),
        Err(error) => Err(format!("holds a damaged certificate (PEM): {error}")),
    }
}

/// A failed command. The text of a Redis error never holds the password.
pub fn failure(doing: &str, error: &RedisError) -> Failure {
    Failure::new(FailureKind::QueueUnavailable, format!("{doing}: Redis: {error}"))
}
