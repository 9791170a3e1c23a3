//! The connection for a command that blocks, and the way to end the wait.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, RedisError, RedisFuture, Value};
use tokio::sync::Mutex;

use super::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT};

/// A connection of its own for one command at a time, which may block.
pub struct BlockingConnection {
    connection: MultiplexedConnection,
    unblock: Unblock,
}

/// Ends the wait of a [`BlockingConnection`], on the same server.
#[derive(Clone)]
pub struct Unblock {
    client: Client,
    /// `None` when we may not ask for it.
    client_id: Option<i64>,
    /// Opened when it is needed: the server may be another one by now than the one that everybody
    /// else talks to.
    connection: Arc<Mutex<Option<MultiplexedConnection>>>,
}

impl BlockingConnection {
    pub(super) async fn open(client: Client, answer_within: Duration) -> Result<BlockingConnection, RedisError> {
        let mut connection = connect(&client, answer_within).await?;
        let client_id = match redis::cmd("CLIENT").arg("ID").query_async(&mut connection).await {
            Ok(id) => Some(id),
            Err(error) if error.code() == Some("NOPERM") => None,
            Err(error) => return Err(error),
        };
        Ok(BlockingConnection { connection, unblock: Unblock { client, client_id, connection: Arc::default() } })
    }

    /// What ends the wait of this connection.
    pub fn unblock(&self) -> Unblock {
        self.unblock.clone()
    }
}

impl Unblock {
    /// Whether the server lets us end the wait. If not, it lasts as long as the command says.
    pub fn is_possible(&self) -> bool {
        self.client_id.is_some()
    }

    /// Makes the command that blocks, if there is one now, answer at once that it found nothing.
    /// To be repeated: it may overtake the command.
    ///
    /// # Errors
    /// The server cannot be reached now, or does not permit it.
    pub async fn now(&self) -> Result<(), RedisError> {
        let Some(client_id) = self.client_id else { return Ok(()) };
        let mut kept = self.connection.lock().await;
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => connect(&self.client, RESPONSE_TIMEOUT).await?,
        };
        redis::cmd("CLIENT").arg("UNBLOCK").arg(client_id).query_async::<i64>(&mut connection).await?;
        *kept = Some(connection);
        Ok(())
    }
}

async fn connect(client: &Client, answer_within: Duration) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(answer_within));
    client.get_multiplexed_async_connection_with_config(&config).await
}

impl ConnectionLike for BlockingConnection {
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
