//! The one connection behind all [`Commands`](super::Commands): opened when it is needed, shared,
//! and opened anew, after a pause, when an error says that it leads nowhere or to the wrong server.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use redis::aio::MultiplexedConnection;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::time::Instant;

use super::cluster::{self, KnownScripts};
use super::server::Server;
use super::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT};

/// How long finding the server and connecting to it may take in all.
const OPEN_TIMEOUT: Duration = Duration::from_secs(4);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A connection that lasted this long was a good one: the next is opened at once.
const STEADY: Duration = Duration::from_secs(5);

pub(super) struct Link {
    pub(super) server: Server,
    pub(super) scripts: KnownScripts,
    state: Mutex<State>,
}

struct State {
    connection: Connection,
    /// How many connections in a row could not be opened or did not last.
    failures: u32,
    /// Where the last one led.
    last_address: Option<String>,
}

enum Connection {
    Closed { not_before: Instant },
    Opening(Shared<BoxFuture<'static, Result<Live, RedisError>>>),
    Open(Live),
}

/// An open connection.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) way: Arc<Way>,
    opened: Instant,
}

/// How commands get to the server.
#[expect(clippy::large_enum_variant, reason = "there is one for each link, behind an Arc")]
pub(super) enum Way {
    /// To this one server.
    Server(Client, MultiplexedConnection),
    /// To the node that has the key.
    Cluster(ClusterConnection),
}

impl Link {
    pub(super) fn new(server: Server) -> Arc<Link> {
        let connection = Connection::Closed { not_before: Instant::now() };
        let state = Mutex::new(State { connection, failures: 0, last_address: None });
        Arc::new(Link { server, scripts: KnownScripts::default(), state })
    }

    /// The connection that is open, or the next one. All who wait for it wait for the same try.
    pub(super) async fn live(self: &Arc<Self>) -> Result<Live, RedisError> {
        let opening = {
            let mut state = self.lock();
            match &state.connection {
                Connection::Open(live) => return Ok(live.clone()),
                Connection::Opening(opening) => opening.clone(),
                Connection::Closed { not_before } => {
                    // A task, so that the try goes on when those who wait for it give up.
                    let task = tokio::spawn(open(Arc::clone(self), *not_before));
                    let opening = task.map(|opened| opened.unwrap_or_else(|_| Err(closed())));
                    let opening = opening.boxed().shared();
                    state.connection = Connection::Opening(opening.clone());
                    opening
                }
            }
        };
        opening.await
    }

    /// Gives the connection up if the error is one of the connection and not of the command.
    pub(super) fn judge<T>(&self, live: &Live, answer: &Result<T, RedisError>) {
        if answer.as_ref().is_err_and(spoils) {
            self.close(live);
        }
    }

    /// As [`Link::judge`], for answers that may be errors one by one.
    pub(super) fn judge_all(&self, live: &Live, answers: &Result<Vec<Value>, RedisError>) {
        let spoilt = match answers {
            Err(error) => spoils(error),
            Ok(values) => values.iter().any(|value| match value {
                Value::ServerError(error) => spoils(&RedisError::from(error.clone())),
                _ => false,
            }),
        };
        if spoilt {
            self.close(live);
        }
    }

    fn close(&self, live: &Live) {
        let mut state = self.lock();
        if let Connection::Open(current) = &state.connection
            && Arc::ptr_eq(&current.way, &live.way)
        {
            state.failures = if live.opened.elapsed() >= STEADY { 0 } else { state.failures + 1 };
            let not_before = live.opened + pause(state.failures);
            state.connection = Connection::Closed { not_before };
        }
    }

    /// A poisoned lock still guards a whole state: it is only replaced.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn open(link: Arc<Link>, not_before: Instant) -> Result<Live, RedisError> {
    tokio::time::sleep_until(not_before).await;
    let opened = tokio::time::timeout(OPEN_TIMEOUT, link.server.open()).await;
    let opened = opened.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()));
    let mut state = link.lock();
    match opened {
        Ok(way) => {
            tell_address(&mut state, &way);
            let live = Live { way: Arc::new(way), opened: Instant::now() };
            state.connection = Connection::Open(live.clone());
            Ok(live)
        }
        Err(error) => {
            state.failures += 1;
            state.connection = Connection::Closed { not_before: Instant::now() + pause(state.failures) };
            Err(error)
        }
    }
}

/// One line when the sentinels have named another server than before.
fn tell_address(state: &mut State, way: &Way) {
    let Way::Server(client, _) = way else { return };
    let address = client.get_connection_info().addr().to_string();
    match &state.last_address {
        Some(last) if *last != address => tracing::info!(from = last, to = address, "Redis has another primary now"),
        _ => {}
    }
    state.last_address = Some(address);
}

impl Server {
    /// Finds the server and connects to it.
    async fn open(&self) -> Result<Way, RedisError> {
        let client = match self {
            Server::Alone(info) => Client::open(info.clone())?,
            Server::Sentinels(sentinels) => sentinels.lock().await.async_get_client().await?,
            Server::Cluster(nodes, certificates) => {
                return cluster::open(nodes, certificates.clone()).await.map(Way::Cluster);
            }
        };
        let connection = connect(&client, RESPONSE_TIMEOUT).await?;
        Ok(Way::Server(client, connection))
    }
}

/// A connection of its own.
pub(super) async fn connect(client: &Client, answer_within: Duration) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(answer_within));
    client.get_multiplexed_async_connection_with_config(&config).await
}

/// None after no failure, then doubled from [`FIRST_PAUSE`] up to [`LONGEST_PAUSE`].
fn pause(failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => (FIRST_PAUSE * 2u32.pow(doublings.min(10))).min(LONGEST_PAUSE),
    }
}

/// Whether another connection may help: this one is broken or silent, or its server is not (or no
/// longer) the primary.
pub(super) fn spoils(error: &RedisError) -> bool {
    use ServerErrorKind::{BusyLoading, MasterDown, Moved, ReadOnly};
    match error.kind() {
        ErrorKind::Io | ErrorKind::Parse | ErrorKind::AuthenticationFailed | ErrorKind::ClusterConnectionNotFound => {
            true
        }
        ErrorKind::Server(ReadOnly | MasterDown | BusyLoading | Moved) => true,
        // NOREPLICAS: a primary that was cut off from its replicas, which may have another by now.
        // UNBLOCKED: a wait was ended because the primary became a replica.
        _ => {
            matches!(error.code(), Some("NOREPLICAS" | "UNBLOCKED" | "NOAUTH"))
            // Redis 6.2 wraps what a script was refused into an error of its own.
            || error.detail().is_some_and(|detail| detail.contains("-READONLY "))
        }
    }
}

fn closed() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::NotConnected).into()
}
