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
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::cluster::{self, KnownScripts};
use super::sentinels::Switch;
use super::server::Server;
use super::{CONNECT_TIMEOUT, OPEN_CONNECTIONS, RESPONSE_TIMEOUT};
use crate::metrics::Counted;

/// How long a sentinel may still name the primary of before.
const DISAGREEMENT: Duration = Duration::from_secs(30);
/// How long finding the server and connecting to it may take in all.
const OPEN_TIMEOUT: Duration = Duration::from_secs(8);
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
    /// Who is no longer the primary, since when.
    left: Option<(String, Instant)>,
    /// Listens to the sentinels.
    listener: Option<AbortOnDropHandle<()>>,
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
    /// Cancelled when another server has become the primary.
    pub(super) moved: CancellationToken,
    _counted: Arc<Counted>,
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
        let state = State { connection, failures: 0, last_address: None, left: None, listener: None };
        Arc::new(Link { server, scripts: KnownScripts::default(), state: Mutex::new(state) })
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
                    let link = Arc::clone(self);
                    let opening = task.map(move |opened| match opened {
                        Ok(opened) => opened,
                        // It panicked, or the runtime ends.
                        Err(_) => Err(link.failed(not_connected())),
                    });
                    let opening = opening.boxed().shared();
                    state.connection = Connection::Opening(opening.clone());
                    opening
                }
            }
        };
        opening.await
    }

    /// Gives the connection up if the error is one of the connection and not of the command.
    pub(super) fn judge(&self, live: &Live, error: &RedisError) {
        if spoils(error) {
            self.close(live);
        }
    }

    /// As [`Link::judge`], for answers, each of which may be an error of the server.
    pub(super) fn judge_answers(&self, live: &Live, answers: Result<&[Value], &RedisError>) {
        match answers {
            Err(error) => self.judge(live, error),
            Ok(values) => {
                for value in values {
                    if let Value::ServerError(error) = value {
                        self.judge(live, &RedisError::from(error.clone()));
                    }
                }
            }
        }
    }

    /// What to do when the connection could not be opened.
    fn failed(&self, error: RedisError) -> RedisError {
        let mut state = self.lock();
        state.failures += 1;
        state.connection = Connection::Closed { not_before: Instant::now() + pause(state.failures) };
        error
    }

    /// What the sentinels say.
    pub(super) async fn hear(&self, switch: Option<Switch>) {
        match switch {
            Some(Switch { from, to }) => {
                self.lock().left = Some((from, Instant::now()));
                self.leave_all_but(&to);
            }
            None => {
                if let Server::Sentinels(sentinels) = &self.server
                    && let Ok(primary) = sentinels.primary().await
                {
                    self.leave_all_but(&address(&primary));
                }
            }
        }
    }

    /// Gives the connection up unless it leads there.
    fn leave_all_but(&self, primary: &str) {
        let live = {
            let state = self.lock();
            match &state.connection {
                // The sentinel that was asked may be one that has not heard of the last switch.
                _ if state.is_left(primary) => return,
                Connection::Open(live) => live.clone(),
                _ => return,
            }
        };
        if let Way::Server(client, _) = &*live.way
            && address(client) != primary
        {
            self.close(&live);
            live.moved.cancel();
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
    let way = opened.map_err(|error| link.failed(error))?;
    let live = Live {
        way: Arc::new(way),
        opened: Instant::now(),
        moved: CancellationToken::new(),
        _counted: Arc::new(OPEN_CONNECTIONS.one()),
    };
    let mut state = link.lock();
    if let Way::Server(client, _) = &*live.way {
        let found = address(client);
        if state.is_left(&found) {
            drop(state);
            let message = "a sentinel still names the server that is no longer the primary";
            return Err(link.failed((ErrorKind::MasterNameNotFoundBySentinel, message).into()));
        }
        state.note_address(found);
    }
    state.connection = Connection::Open(live.clone());
    if let Server::Sentinels(sentinels) = &link.server
        && state.listener.is_none()
    {
        let listening = Arc::clone(sentinels).listen(Arc::downgrade(&link));
        state.listener = Some(AbortOnDropHandle::new(tokio::spawn(listening)));
    }
    drop(state);
    Ok(live)
}

impl State {
    /// Whether it was said lately that this server is no longer the primary.
    fn is_left(&self, address: &str) -> bool {
        self.left.as_ref().is_some_and(|(left, since)| left == address && since.elapsed() < DISAGREEMENT)
    }

    /// One line when the sentinels have named another server than before.
    fn note_address(&mut self, address: String) {
        match &self.last_address {
            Some(last) if *last != address => {
                tracing::info!(from = last, to = address, "Redis has another primary now");
            }
            _ => {}
        }
        self.last_address = Some(address);
    }
}

impl Server {
    /// Finds the server and connects to it.
    async fn open(&self) -> Result<Way, RedisError> {
        let client = match self {
            Server::Alone(info) => Client::open(info.clone())?,
            Server::Sentinels(sentinels) => sentinels.primary().await?,
            Server::Cluster(nodes, certificates) => {
                return cluster::open(nodes, certificates.clone()).await.map(Way::Cluster);
            }
        };
        let connection = connect(&client, RESPONSE_TIMEOUT).await?;
        Ok(Way::Server(client, connection))
    }
}

/// `host:port`, or the path of a socket.
fn address(client: &Client) -> String {
    client.get_connection_info().addr().to_string()
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

pub(super) fn not_connected() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::NotConnected).into()
}
