//! Looking at the queue: changes nothing, needs no registration.

use std::collections::BTreeMap;
use std::sync::Arc;

use redis::{AsyncCommands, RedisError, Value};

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
    /// Delivered, and waiting until the backend accepts the finalize call.
    pub untold: u64,
    /// On the dead list.
    pub dead: u64,
    /// Done since the beginning.
    pub done: u64,
}

/// What is counted in one look.
pub(super) struct Totals {
    pub(super) depths: Depths,
    /// Since the beginning.
    pub(super) counts: BTreeMap<String, i64>,
    /// Instances with a lease.
    pub(super) instances: usize,
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

    /// How many elements are where. An element that moves meanwhile may be seen twice or not at all.
    ///
    /// # Errors
    /// `queue_unavailable`.
    pub async fn depths(&self) -> Result<Depths> {
        let totals = self.totals(redis::pipe()).await;
        totals.map(|totals| totals.depths).map_err(|error| redis_client::failure("counting the queue", &error))
    }

    /// Everything that is counted, in two round trips; the second is `pipe`. With a transaction it
    /// is one instant, but a server that is out of memory refuses those: a sweep does without.
    pub(super) async fn totals(&self, mut pipe: redis::Pipeline) -> Result<Totals, RedisError> {
        let keys = &self.keys;
        let mut commands = self.commands.clone();
        let instances: Vec<String> = commands.zrange(&keys.leases, 0, -1).await?;
        pipe.hgetall(&keys.counts).llen(&keys.list).zcard(&keys.delayed).zcard(&keys.untold).llen(&keys.dead);
        for instance in &instances {
            pipe.llen(keys.claimed(instance)).hlen(keys.running(instance));
        }
        // An instance that goes in between leaves a tombstone, whose length is an error: it holds
        // nothing.
        let answers: Vec<Value> = pipe.ignore_errors().query_async(&mut commands).await?;
        let mut answers = answers.into_iter().map(|answer| match answer {
            Value::ServerError(error) if error.code() != "WRONGTYPE" => Err(RedisError::from(error)),
            Value::ServerError(_) => Ok(Value::Int(0)),
            answer => Ok(answer),
        });
        let counts = answers.next().unwrap_or(Ok(Value::Array(Vec::new())))?;
        let counts: BTreeMap<String, i64> = redis::from_redis_value(counts)?;
        let mut next = || -> Result<u64, RedisError> {
            Ok(redis::from_redis_value(answers.next().unwrap_or(Ok(Value::Int(0)))?)?)
        };
        let mut depths =
            Depths { waiting: next()?, delayed: next()?, untold: next()?, dead: next()?, ..Depths::default() };
        for _ in 0..instances.len() * 2 {
            depths.running += next()?;
        }
        depths.done = counts.get("done").copied().unwrap_or(0).try_into().unwrap_or(0);
        Ok(Totals { depths, counts, instances: instances.len() })
    }

    /// Whether the holder of a task's guard still has its element. When not, the guard is gone too.
    pub(super) async fn guard_holds(&self, task: &str, guard: &str) -> Result<bool, RedisError> {
        let (holder, detail) = guard.split_once('/').unwrap_or_default();
        let (place, claim, member) = match holder {
            "delayed" => (self.keys.delayed.clone(), "", detail),
            "untold" => (self.keys.untold.clone(), "", detail),
            instance => (self.keys.running(instance), detail, ""),
        };
        let mut call = self.scripts.contest.key(&self.keys.guards);
        call.key(place).arg(task).arg(guard).arg(claim).arg(member);
        let holds: u8 = call.invoke_async(&mut self.commands.clone()).await?;
        Ok(holds == 1)
    }

    /// Milliseconds of the server's clock, as the scripts count them.
    pub(super) async fn server_time(&self) -> Result<f64, RedisError> {
        let time = redis::cmd("TIME").query_async(&mut self.commands.clone()).await;
        time.map(|(seconds, microseconds): (u64, u64)| (seconds * 1000 + microseconds / 1000) as f64)
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
