//! Orders in Redis: taken in once, worked on by one instance at a time, kept for a while after.
//!
//! The keys stand beside those of the queue, in its Cluster slot, so that a task's step and the push
//! of its element are one script:
//!
//! | key | type | content |
//! | --- | --- | --- |
//! | `orders` | sorted set | order id → when anybody may take it up, ms of the server's clock; only orders that are not at their end |
//! | `order:<id>` | hash | `body`, `digest`, `created`, `ended` (ms), `open` (tasks not at their end), `worker` (who has it), `task:<task id>` → JSON, what became of it |
//! | `order_key:<hash>` | string | order id and digest of the order that came with this `Idempotency-Key` |

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use redis::{AsyncCommands, RedisError, Script};

use super::order::{Order, OrderState, Place, TaskOutcome, TaskStatus};
use crate::failure::{Failure, FailureKind, Result};
use crate::job::{Element, TaskId};
use crate::queue;
use crate::redis_client::{self, Commands};

/// How long whoever works on an order may be silent before another instance takes it up.
pub(super) const CLAIM: Duration = Duration::from_secs(30);

/// What Redis says to an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepted {
    New,
    /// The same order came before.
    Known,
    /// The idempotency key came before, with another order.
    KeyConflict,
    /// The order id came before, with other tasks.
    OrderConflict,
}

/// What became of a note about a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    /// With the length of the list, after a push.
    Yes(u64),
    /// It stands there already: an earlier call whose answer was lost.
    Before,
    /// Another instance has the order.
    NotOurs,
}

/// One step of a task.
pub(super) struct Step<'a> {
    pub task_id: TaskId,
    pub from: &'a TaskOutcome,
    pub to: &'a TaskOutcome,
    /// What is pushed with it.
    pub element: Option<&'a Element>,
}

/// An order as it stands in Redis.
pub(super) struct Stored {
    pub order: Order,
    /// One for each task.
    pub outcomes: Vec<TaskOutcome>,
    created: Timestamp,
    ended: Option<Timestamp>,
}

impl Stored {
    pub(super) fn state(self) -> OrderState {
        OrderState::new(&self.order, self.outcomes, Place::Redis, self.created, self.ended)
    }
}

/// The orders in Redis.
pub(super) struct Book {
    commands: Commands,
    list: String,
    prefix: String,
    orders: String,
    kept: Duration,
    scripts: Scripts,
}

struct Scripts {
    accept: Script,
    due: Script,
    claim: Script,
    hold: Script,
    note: Script,
    retry: Script,
}

macro_rules! script {
    ($file:literal) => {
        Script::new(concat!(include_str!("../queue/scripts/clock.lua"), include_str!($file)))
    };
}

impl Book {
    /// The orders beside the queue of `list`; one that has ended is kept for so long.
    pub(super) fn new(commands: Commands, list: &str, kept: Duration) -> Book {
        let prefix = queue::key_prefix(list);
        let scripts = Scripts {
            accept: script!("scripts/accept.lua"),
            due: script!("scripts/due.lua"),
            claim: script!("scripts/claim.lua"),
            hold: script!("scripts/hold.lua"),
            note: script!("scripts/note.lua"),
            retry: script!("scripts/retry.lua"),
        };
        Book { commands, list: list.to_owned(), orders: format!("{prefix}orders"), prefix, kept, scripts }
    }

    fn order(&self, order_id: u64) -> String {
        format!("{}order:{order_id}", self.prefix)
    }

    /// Takes an order in; with a `worker` it is that one's at once. `key` is the hash of the caller's
    /// idempotency key.
    pub(super) async fn accept(&self, order: &Order, key: Option<&str>, worker: Option<&str>) -> Result<Accepted> {
        let mut call = self.scripts.accept.key(self.order(order.order_id));
        call.key(&self.orders);
        if let Some(key) = key {
            call.key(format!("{}order_key:{key}", self.prefix));
        }
        call.arg(order.order_id).arg(order.body()).arg(order.digest()).arg(order.tasks.len());
        call.arg(worker.unwrap_or_default()).arg(CLAIM.as_millis() as u64).arg(self.kept.as_secs());
        let answer: String = call.invoke_async(&mut self.commands.clone()).await.map_err(failed("storing an order"))?;
        match answer.as_str() {
            "new" => Ok(Accepted::New),
            "known" => Ok(Accepted::Known),
            "key_conflict" => Ok(Accepted::KeyConflict),
            "order_conflict" => Ok(Accepted::OrderConflict),
            _ => Err(Failure::new(FailureKind::QueueUnavailable, format!("storing an order: Redis said {answer:?}"))),
        }
    }

    /// Orders that nobody works on, the longest due first.
    pub(super) async fn due(&self, limit: usize) -> Result<Vec<u64>> {
        let due = self.scripts.due.key(&self.orders).arg(limit).invoke_async(&mut self.commands.clone()).await;
        due.map_err(failed("looking for orders"))
    }

    /// Takes one up. `false` when somebody was quicker.
    pub(super) async fn claim(&self, order_id: u64, worker: &str) -> Result<bool> {
        self.hold_by(&self.scripts.claim, order_id, worker, CLAIM).await
    }

    /// Goes on with one. `false` when it belongs to another instance now.
    pub(super) async fn hold(&self, order_id: u64, worker: &str) -> Result<bool> {
        self.hold_by(&self.scripts.hold, order_id, worker, CLAIM).await
    }

    /// Leaves one to whoever comes.
    pub(super) async fn leave(&self, order_id: u64, worker: &str) -> Result<bool> {
        self.hold_by(&self.scripts.hold, order_id, worker, Duration::ZERO).await
    }

    async fn hold_by(&self, script: &Script, order_id: u64, worker: &str, claim: Duration) -> Result<bool> {
        let mut call = script.key(&self.orders);
        call.key(self.order(order_id)).arg(order_id).arg(worker).arg(claim.as_millis() as u64);
        let held: u8 = call.invoke_async(&mut self.commands.clone()).await.map_err(failed("holding an order"))?;
        Ok(held == 1)
    }

    /// Notes a step of a task and, in the same instant, pushes its element.
    pub(super) async fn note(&self, order_id: u64, worker: &str, step: &Step<'_>) -> Result<Noted> {
        let mut call = self.scripts.note.key(self.order(order_id));
        call.key(&self.orders).key(&self.list).arg(order_id).arg(worker).arg(field(step.task_id));
        call.arg(step.from.stored()).arg(step.to.stored());
        call.arg(if step.to.status.has_ended() { "ended" } else { "" });
        call.arg(step.element.map_or(&b""[..], |element| &element.0)).arg(self.kept.as_secs());
        let noted: i64 = call.invoke_async(&mut self.commands.clone()).await.map_err(failed("noting a task's step"))?;
        Ok(match noted {
            -1 => Noted::NotOurs,
            -2 => Noted::Before,
            length => Noted::Yes(length.try_into().unwrap_or(0)),
        })
    }

    /// What is known of an order; `None` when nothing is, or not any more.
    pub(super) async fn read(&self, order_id: u64) -> Result<Option<Stored>> {
        let fields: HashMap<String, String> =
            self.commands.clone().hgetall(self.order(order_id)).await.map_err(failed("reading an order"))?;
        let Some(order) = fields.get("body").and_then(|body| Order::parse(order_id, body)) else { return Ok(None) };
        let outcome = |id| TaskOutcome::parse(fields.get(&field(id)).map_or("", String::as_str));
        let time = |name: &str| Timestamp::from_millisecond(fields.get(name)?.parse().ok()?).ok();
        Ok(Some(Stored {
            outcomes: order.tasks.iter().map(|task| outcome(task.task_id)).collect(),
            created: time("created").unwrap_or_default(),
            ended: time("ended"),
            order,
        }))
    }

    /// Opens the tasks again that have failed. Returns how many.
    pub(super) async fn retry(&self, stored: &Stored) -> Result<usize> {
        let order_id = stored.order.order_id;
        let mut call = self.scripts.retry.key(self.order(order_id));
        call.key(&self.orders).arg(order_id);
        for (task, outcome) in stored.order.tasks.iter().zip(&stored.outcomes) {
            let again = match outcome.status {
                TaskStatus::EnrollmentFailed => TaskOutcome::WAITING,
                TaskStatus::QueueFailed => outcome.then(TaskStatus::Enrolled, None),
                _ => continue,
            };
            call.arg(field(task.task_id)).arg(outcome.stored()).arg(again.stored());
        }
        call.invoke_async(&mut self.commands.clone()).await.map_err(failed("opening an order again"))
    }

    /// How many orders are not at their end.
    pub(super) async fn open(&self) -> Result<u64> {
        self.commands.clone().zcard(&self.orders).await.map_err(failed("counting orders"))
    }
}

fn field(task_id: TaskId) -> String {
    format!("task:{task_id}")
}

fn failed(doing: &'static str) -> impl Fn(RedisError) -> Failure {
    move |error| redis_client::failure(doing, &error)
}
