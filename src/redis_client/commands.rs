//! The connection for everything that does not block.

use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, Pipeline, RedisError, RedisFuture, Value};

use super::{BlockingConnection, CONNECT_TIMEOUT, RESPONSE_TIMEOUT};

/// Runs commands that do not block. Clones share one connection, which is opened anew by itself.
#[derive(Clone)]
pub struct Commands {
    client: Client,
    connection: ConnectionManager,
}

impl Commands {
    pub(super) fn new(client: Client) -> Result<Commands, RedisError> {
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_max_delay(Duration::from_secs(1))
            .set_number_of_retries(1);
        let connection = ConnectionManager::new_lazy_with_config(client.clone(), config)?;
        Ok(Commands { client, connection })
    }

    /// Opens a connection of its own for a command that blocks, to the server that has `key`.
    /// A command on it fails when no answer comes within `answer_within`, which must be longer
    /// than the command blocks.
    ///
    /// # Errors
    /// The server cannot be reached now.
    pub async fn blocking(&self, key: &str, answer_within: Duration) -> Result<BlockingConnection, RedisError> {
        let _ = key;
        BlockingConnection::open(self.client.clone(), answer_within).await
    }
}

impl ConnectionLike for Commands {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        self.connection.req_packed_command(command)
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.connection.req_packed_commands(pipeline, offset, count)
    }

    fn get_db(&self) -> i64 {
        self.connection.get_db()
    }
}
