//! Looking at the queue: changes nothing, needs no registration.

use std::sync::Arc;

use redis::{AsyncCommands, RedisError, Value};

use super::DeadEnvelope;
use super::keys::Keys;
use super::scripts::Scripts;
use crate::failure::Result;
use crate::redis_client::{self, Commands};

/// How many elements are where, over all instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Depths {
    /// In the producers' list.
    pub waiting: u64,
    /// In the hands of instances.
    pub running: u64,
    /// Waiting for their next attempt.
    pub delayed: u64,
    /// On the dead list.
    pub dead: u64,
    /// Done since the beginning.
    pub done: u64,
}

/// A reader of the queue.
#[derive(Clone)]
pub struct QueueView {
    pub(super) commands: Commands,
    pub(super) keys: Keys,
    pub(super) scripts: Arc<Scripts>,
}

impl QueueView {
    /// Looks at the queue of `list` (`queue.list`).
    pub fn new(commands: Commands, list: &str) -> QueueView {
        QueueView { commands: commands.near(list), keys: Keys::new(list), scripts: Arc::new(Scripts::new()) }
    }

    /// How many elements are where. Two round trips: an element that moves between them may be
    /// seen twice or not at all.
    ///
    /// # Errors
    /// `queue_unavailable`.
    pub async fn depths(&self) -> Result<Depths> {
        self.read_depths().await.map_err(|error| redis_client::failure("counting the queue", &error))
    }

    pub(super) async fn read_depths(&self) -> Result<Depths, RedisError> {
        let mut commands = self.commands.clone();
        let instances: Vec<String> = commands.zrange(&self.keys.leases, 0, -1).await?;
        let mut pipe = redis::pipe();
        pipe.llen(&self.keys.list).zcard(&self.keys.delayed).llen(&self.keys.dead).hget(&self.keys.counts, "done");
        for instance in &instances {
            pipe.llen(self.keys.claimed(instance)).hlen(self.keys.running(instance));
        }
        // An instance that goes in between leaves a tombstone, whose length is an error: it holds
        // nothing.
        let answers: Vec<Value> = pipe.ignore_errors().query_async(&mut commands).await?;
        let mut numbers = answers.into_iter().map(|answer| match answer {
            Value::ServerError(error) if error.code() != "WRONGTYPE" => Err(RedisError::from(error)),
            Value::ServerError(_) | Value::Nil => Ok(0),
            answer => redis::from_redis_value::<u64>(answer).map_err(RedisError::from),
        });
        let mut next = || numbers.next().unwrap_or(Ok(0));
        let mut depths = Depths { waiting: next()?, delayed: next()?, dead: next()?, done: next()?, running: 0 };
        for _ in 0..instances.len() * 2 {
            depths.running += next()?;
        }
        Ok(depths)
    }

    /// The newest `limit` entries of the dead list, the newest first.
    ///
    /// # Errors
    /// `queue_unavailable`.
    pub async fn dead(&self, limit: usize) -> Result<Vec<DeadEnvelope>> {
        let Some(last) = limit.checked_sub(1) else { return Ok(Vec::new()) };
        let last = isize::try_from(last).unwrap_or(isize::MAX);
        let entries: Result<Vec<Vec<u8>>, _> = self.commands.clone().lrange(&self.keys.dead, 0, last).await;
        let entries = entries.map_err(|error| redis_client::failure("reading the dead list", &error))?;
        Ok(entries.iter().map(|entry| DeadEnvelope::from_entry(entry)).collect())
    }

    /// Whether the holder of a task's guard still has its element. When not, the guard is gone too.
    pub(super) async fn guard_holds(&self, task: &str, guard: &str) -> Result<bool, RedisError> {
        let (holder, detail) = guard.split_once('/').unwrap_or_default();
        let (place, claim, member) = match holder {
            "delayed" => (self.keys.delayed.clone(), "", detail),
            instance => (self.keys.running(instance), detail, ""),
        };
        let mut call = self.scripts.contest.key(&self.keys.guards);
        call.key(place).arg(task).arg(guard).arg(claim).arg(member);
        let holds: u8 = call.invoke_async(&mut self.commands.clone()).await?;
        Ok(holds == 1)
    }

    /// Whether Redis answers now.
    ///
    /// # Errors
    /// `queue_unavailable`.
    pub async fn ping(&self) -> Result<()> {
        let answer: Result<(), RedisError> = redis::cmd("PING").query_async(&mut self.commands.clone()).await;
        answer.map_err(|error| redis_client::failure("ping", &error))
    }

    /// What in the server's configuration can lose jobs. Nothing when it may not be read.
    ///
    /// # Errors
    /// None at present; a server that does not answer has no warnings.
    pub async fn server_warnings(&self) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        if let Some(policy) = self.configured("maxmemory-policy").await
            && policy != "noeviction"
        {
            warnings
                .push(format!("Redis: maxmemory-policy is {policy}: a full server deletes jobs; set it to noeviction"));
        }
        let append_only = self.configured("appendonly").await;
        let save = self.configured("save").await;
        if append_only.as_deref() == Some("no") && save.as_deref() == Some("") {
            warnings.push(
                "Redis: no persistence (appendonly no, save \"\"): a restart loses every job; set appendonly yes"
                    .to_owned(),
            );
        }
        Ok(warnings)
    }

    async fn configured(&self, name: &str) -> Option<String> {
        let answer: Result<Vec<String>, RedisError> =
            redis::cmd("CONFIG").arg("GET").arg(name).query_async(&mut self.commands.clone()).await;
        answer.ok()?.into_iter().nth(1)
    }
}
