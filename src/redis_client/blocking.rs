//! The connection for a command that blocks, and the way to end the wait.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Client, Cmd, Pipeline, RedisError, RedisFuture, Value};
use tokio::sync::Mutex;

use super::link::{Link, Live, connect, not_connected};
use super::{OPEN_CONNECTIONS, RESPONSE_TIMEOUT};
use crate::metrics::Counted;

/// A connection of its own for one command at a time, which may block. After an error it is to be
/// dropped and another to be opened.
pub struct BlockingConnection {
    connection: MultiplexedConnection,
    unblock: Unblock,
    /// What it was opened beside: an error of this one tells about that one too.
    link: Arc<Link>,
    live: Live,
    _counted: Counted,
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
    pub(super) async fn open(
        client: Client,
        answer_within: Duration,
        link: Arc<Link>,
        live: Live,
    ) -> Result<BlockingConnection, RedisError> {
        let mut connection = connect(&client, answer_within).await?;
        let client_id = match redis::cmd("CLIENT").arg("ID").query_async(&mut connection).await {
            Ok(id) => Some(id),
            Err(error) if error.code() == Some("NOPERM") => None,
            Err(error) => return Err(error),
        };
        let unblock = Unblock { client, client_id, connection: Arc::default() };
        Ok(BlockingConnection { connection, unblock, link, live, _counted: OPEN_CONNECTIONS.one() })
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

impl ConnectionLike for BlockingConnection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let answer = tokio::select! {
                biased;
                answer = self.connection.req_packed_command(command) => answer,
                // What this server hands over now is lost with all else that it is told: the
                // primary has the element still.
                () = self.live.moved.cancelled() => Err(not_connected()),
            };
            self.link.judge_answers(&self.live, answer.as_ref().map(std::slice::from_ref));
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
            let answers = self.connection.req_packed_commands(pipeline, offset, count).await;
            self.link.judge_answers(&self.live, answers.as_deref());
            answers
        })
    }

    fn get_db(&self) -> i64 {
        self.connection.get_db()
    }
}
