//! Hints that the status of a task has changed: published by the backend or by whoever of us has enrolled
//! the customer. A hint is never believed, it only brings the next look forward. Without hints the gate
//! looks as often as it is set to.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use redis::RedisError;
use tokio::time::{sleep, timeout};

use super::looks::Looks;
use crate::job::TaskId;
use crate::redis_client::Commands;
use crate::store;

/// How long the server may take to confirm a subscription.
const CONFIRM_LIMIT: Duration = Duration::from_secs(3);
/// Pause after a connection that was lost, doubled up to [`LONGEST_PAUSE`] while there is none.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Listens, by one connection and only while somebody waits at the gate. Never returns.
pub(super) async fn listen(looks: Arc<Looks>, commands: Commands) {
    let mut pause = FIRST_PAUSE;
    loop {
        if looks.listening().is_empty() {
            looks.listeners_changed().await;
            continue;
        }
        let mut heard = BTreeSet::new();
        let ended = hear(&looks, &commands, &mut heard).await;
        if ended.is_ok() || !heard.is_empty() {
            pause = FIRST_PAUSE;
        }
        let Err(error) = ended else { continue };
        if pause == FIRST_PAUSE {
            tracing::debug!(%error, "the gate is not told of changes and looks by itself until it is again");
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Returns when nobody waits any more. `heard` are the tasks whose channels are subscribed.
async fn hear(looks: &Arc<Looks>, commands: &Commands, heard: &mut BTreeSet<TaskId>) -> Result<(), RedisError> {
    // In a Cluster every node is told of what is published on any of them.
    let (mut sink, mut messages) = commands.pubsub("hauld:task").await?.split();
    loop {
        let listening = looks.listening();
        if listening.is_empty() {
            return Ok(());
        }
        let gone = channels(heard.difference(&listening));
        if !gone.is_empty() {
            confirmed(sink.unsubscribe(gone)).await?;
        }
        let new: Vec<TaskId> = listening.difference(heard).copied().collect();
        if !new.is_empty() {
            confirmed(sink.subscribe(channels(&new))).await?;
            // What was published before that was not heard.
            new.iter().for_each(|task_id| looks.ask_for(*task_id));
        }
        *heard = listening;
        tokio::select! {
            message = messages.next() => {
                let message = message.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::ConnectionReset))?;
                if let Some(task_id) = task_of(message.get_channel_name()) {
                    looks.ask_for(task_id);
                }
            }
            () = looks.listeners_changed() => {}
        }
    }
}

async fn confirmed(subscribing: impl Future<Output = Result<(), RedisError>>) -> Result<(), RedisError> {
    let confirmed = timeout(CONFIRM_LIMIT, subscribing).await;
    confirmed.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
}

/// Where a change of these tasks is told: by the backend, and by us.
fn channels<'a>(task_ids: impl IntoIterator<Item = &'a TaskId>) -> Vec<String> {
    let both = |task_id: &TaskId| [format!("task:{task_id}:status"), store::enrolled_channel(*task_id)];
    task_ids.into_iter().flat_map(both).collect()
}

/// The task of one of [`channels`].
fn task_of(channel: &str) -> Option<TaskId> {
    let (task_id, _) = channel.strip_prefix("hauld:").unwrap_or(channel).strip_prefix("task:")?.split_once(':')?;
    TaskId::new(task_id.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_tells_its_task() {
        let task_ids = [1, 43].map(|id| TaskId::new(id).unwrap());
        let told: Vec<_> = channels(&task_ids).iter().map(|channel| task_of(channel).unwrap()).collect();
        assert_eq!(told, [task_ids[0], task_ids[0], task_ids[1], task_ids[1]]);
        assert_eq!(task_of("task:x:status"), None);
    }
}
