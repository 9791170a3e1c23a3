//! Pushing: what any producer does.

use redis::AsyncCommands;

use crate::failure::Result;
use crate::job::Element;
use crate::redis_client::{self, Commands};

/// Pushes elements onto the producers' list.
#[derive(Clone)]
pub struct Producer {
    connection: Commands,
    list: String,
}

impl Producer {
    /// Pushes to `list` (`queue.list`).
    pub fn new(connection: Commands, list: String) -> Self {
        Producer { connection, list }
    }

    /// `LPUSH`: to the end of the queue. Returns the length of the list afterwards.
    ///
    /// # Errors
    /// `queue_unavailable`; the element may have been pushed all the same when the answer was lost.
    pub async fn push(&self, element: &Element) -> Result<u64> {
        let pushed = self.connection.clone().lpush(&self.list, &element.0).await;
        pushed.map_err(|error| redis_client::failure("pushing to the queue", &error))
    }
}
