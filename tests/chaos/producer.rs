//! Pushes elements all the time, as a backend does.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, RedisResult};
use tokio::time::sleep;

use crate::element::{self, Kind, Pushed};
use crate::plan::{Shares, pick};
use crate::world::World;

pub const LIST: &str = "rq:queue:downloads";
/// The numbers of the elements that the server has accepted: written in one transaction with the push, so that a
/// push whose answer was lost is not in doubt.
pub const ACCEPTED: &str = "chaos:accepted";
/// As many may wait; more would only make the end longer.
const MOST_WAITING: u64 = 30;
/// Of a hundred orders so many come twice.
const DOUBLES: u32 = 6;
/// Between two of the last orders, in ms.
const LAST_ORDERS: std::ops::Range<u64> = 5..60;

/// Pushes until the instances are left in peace, and then a few more for those.
pub async fn produce(world: Arc<World>) -> Vec<Pushed> {
    let mut rng = world.rng(200);
    let mut pushed: Vec<Pushed> = Vec::new();
    let mut connection = None;
    let mut last_orders = 12;
    let mut pace = world.plan.orders.clone();
    while last_orders > 0 {
        if !world.goes_on() {
            last_orders -= 1;
            pace = LAST_ORDERS;
        }
        sleep(Duration::from_millis(rng.u64(pace.clone()))).await;
        let Some(redis) = connected(&world, &mut connection).await else { continue };
        match redis.llen::<_, u64>(LIST).await {
            Ok(waiting) if waiting >= MOST_WAITING => continue,
            Ok(_) => {}
            Err(_) => {
                connection = None;
                continue;
            }
        }
        let orders = orders(&mut rng, world.plan.kinds, &pushed);
        for order in orders.iter().filter(|order| order.kind.death().is_some()) {
            order.task.inspect(|task| world.doom(*task));
        }
        if push(redis, &orders).await.is_err() {
            connection = None;
        }
        pushed.extend(orders);
    }
    pushed
}

async fn connected<'a>(
    world: &World,
    connection: &'a mut Option<MultiplexedConnection>,
) -> Option<&'a mut MultiplexedConnection> {
    if connection.is_none() {
        *connection = world.connect().await.ok();
    }
    connection.as_mut()
}

/// One order; sometimes with its double, sometimes the double of an earlier one.
fn orders(rng: &mut fastrand::Rng, kinds: Shares<Kind>, pushed: &[Pushed]) -> Vec<Pushed> {
    let number = pushed.len() as u64 + 1;
    let is_delivered = |order: &&Pushed| order.kind.death().is_none();
    if rng.u32(..100) < DOUBLES {
        let earlier = pushed[pushed.len().saturating_sub(8)..].iter().find(is_delivered);
        let again = |order: &Pushed, number: u64, rng: &mut fastrand::Rng| {
            let task = order.task.expect("what is delivered has a task");
            let bytes = match rng.bool() {
                true => order.bytes.clone(),
                false => element::job(task, order.kind, &format!("again-{number}")),
            };
            Pushed { number, bytes, ..order.clone() }
        };
        return match earlier {
            Some(order) if rng.bool() => vec![again(order, number, rng)],
            _ => {
                let first = new_order(number, Kind::Quick);
                let second = again(&first, number + 1, rng);
                vec![first, second]
            }
        };
    }
    vec![new_order(number, pick(rng, kinds))]
}

fn new_order(number: u64, kind: Kind) -> Pushed {
    let task = (kind != Kind::Rubbish).then_some(number);
    let bytes = match task {
        Some(task) => element::job(task, kind, &format!("task-{task}")),
        None => element::rubbish(number),
    };
    Pushed { number, kind, task, bytes }
}

async fn push(redis: &mut MultiplexedConnection, orders: &[Pushed]) -> RedisResult<()> {
    let mut transaction = redis::pipe();
    transaction.atomic();
    for order in orders {
        // The double of a task comes to a row that is there already.
        if let Some(task) = order.task {
            transaction.hset_nx(format!("hauld:task:{task}"), "status", "enrolled").ignore();
        }
        transaction.lpush(LIST, &order.bytes).ignore();
        transaction.sadd(ACCEPTED, order.number).ignore();
    }
    transaction.query_async(redis).await
}
