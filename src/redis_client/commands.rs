//! The connection for everything that does not block.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, PubSub};
use redis::cluster_routing::Route;
use redis::{Client, Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, Value};

use super::cluster;
use super::link::{Link, Live, Way};
use super::server::Server;
use super::{BlockingConnection, CONNECT_TIMEOUT};

/// Runs commands that do not block, on whatever server `redis.url` leads to. Clones share one
/// connection. It is opened when it is needed, and anew after an error that calls for it; the
/// command that had the error is not repeated, for it may have been carried out.
#[derive(Clone)]
pub struct Commands {
    link: Arc<Link>,
    home: Option<Route>,
}

impl Commands {
    pub(super) fn new(server: Server) -> Commands {
        Commands { link: Link::new(server), home: None }
    }

    /// In a Cluster, commands that have no key (`INFO`, `CONFIG GET`) go to the node that has this
    /// one.
    pub fn near(mut self, key: &str) -> Commands {
        self.home = Some(cluster::route(key));
        self
    }

    /// Opens a connection of its own for a command that blocks, to the server that has `key`.
    /// A command on it fails when no answer comes within `answer_within`, which must be longer
    /// than the command blocks.
    ///
    /// # Errors
    /// The server cannot be reached now.
    pub async fn blocking(&self, key: &str, answer_within: Duration) -> Result<BlockingConnection, RedisError> {
        let live = self.link.live().await?;
        let opened = async {
            let client = self.client(&live, key).await?;
            BlockingConnection::open(client, answer_within, self.link.clone(), live.clone()).await
        };
        opened.await.inspect_err(|error| self.link.judge(&live, error))
    }

    /// The server that has `key`.
    async fn client(&self, live: &Live, key: &str) -> Result<Client, RedisError> {
        match &*live.way {
            Way::Server(client, _) => Ok(client.clone()),
            Way::Cluster(connection) => self.node_of(key, connection.clone()).await,
        }
    }

    async fn node_of(
        &self,
        key: &str,
        mut connection: redis::cluster_async::ClusterConnection,
    ) -> Result<Client, RedisError> {
        match &self.link.server {
            Server::Cluster(nodes, _) => cluster::node_of(&mut connection, &nodes[0], key).await,
            // cannot happen: only Server::Cluster opens the way of a Cluster
            _ => Err((ErrorKind::Client, "not a Cluster").into()),
        }
    }

    /// Opens a connection of its own for what is published, to the server that has `key`. In a Cluster
    /// each node hears what is published on any.
    ///
    /// # Errors
    /// The server cannot be reached now.
    pub async fn pubsub(&self, key: &str) -> Result<PubSub, RedisError> {
        let live = self.link.live().await?;
        let opening = async { self.client(&live, key).await?.get_async_pubsub().await };
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, opening).await;
        let opened = opened.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()));
        opened.inspect_err(|error| self.link.judge(&live, error))
    }
}

impl ConnectionLike for Commands {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let live = self.link.live().await?;
            let answer = match &*live.way {
                Way::Server(_, connection) => connection.clone().req_packed_command(command).await,
                Way::Cluster(connection) => {
                    cluster::run(&mut connection.clone(), &self.link.scripts, self.home, command).await
                }
            };
            self.link.judge_answers(&live, answer.as_ref().map(std::slice::from_ref));
            answer
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let live = self.link.live().await?;
            let answers = match &*live.way {
                Way::Server(_, connection) => connection.clone().req_packed_commands(pipeline, offset, count).await,
                Way::Cluster(connection) => cluster::run_all(connection, pipeline, offset, count).await,
            };
            self.link.judge_answers(&live, answers.as_deref());
            answers
        })
    }

    fn get_db(&self) -> i64 {
        match &self.link.server {
            Server::Alone(info) => info.redis_settings().db(),
            _ => 0,
        }
    }
}
