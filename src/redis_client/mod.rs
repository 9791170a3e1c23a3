//! Connections to Redis, as everybody here opens them.

mod blocking;
mod commands;

use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::{Client, IntoConnectionInfo, RedisError};
use secrecy::ExposeSecret;

pub use blocking::{BlockingConnection, Unblock};
pub use commands::Commands;

use crate::config::RedisSettings;
use crate::failure::{Failure, FailureKind, Result};

/// How long a command that does not block may take.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections to the configured server. Opens none yet: whether the server is there shows with
/// the first command.
///
/// # Errors
/// [`FailureKind::QueueUnavailable`] when the URL is wrong.
pub fn commands(settings: &RedisSettings) -> Result<Commands> {
    Commands::new(client(settings)?).map_err(|error| failure("connecting", &error))
}

/// A client for the configured server. Opens nothing yet.
fn client(settings: &RedisSettings) -> Result<Client> {
    // rustls needs a provider before the first rediss:// connection; see http::client.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let open = || -> Result<Client, RedisError> {
        // The crate leaves Nagle's algorithm on; every command here waits for its answer.
        let info = settings.url.expose_secret().into_connection_info()?;
        Client::open(info.set_tcp_settings(TcpSettings::default().set_nodelay(true)))
    };
    open().map_err(|error| {
        Failure::new(FailureKind::QueueUnavailable, format!("redis.url is not a Redis URL: {}", error.kind_text()))
    })
}

/// A failed command. The text of a Redis error never holds the password.
pub fn failure(doing: &str, error: &RedisError) -> Failure {
    Failure::new(FailureKind::QueueUnavailable, format!("{doing}: Redis: {error}"))
}

/// A short text for an error whose details may repeat the URL.
trait KindText {
    fn kind_text(&self) -> String;
}

impl KindText for RedisError {
    fn kind_text(&self) -> String {
        format!("{:?}", self.kind())
    }
}
