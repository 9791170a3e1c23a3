//! Kills everything at random, and then accounts for every element.
//!
//! Three instances of the real binary, each behind a proxy of its own, take from a real Redis that
//! writes every command to disk, while a producer pushes. The drivers of the instances kill them,
//! stop them for longer than their lease, drain them, cut and freeze their connections and swallow
//! answers; the driver of the server kills, freezes and restarts Redis. When so many instances have
//! been killed, everything is left in peace until nothing waits, runs or is delayed any more. Then:
//! every element that Redis has accepted is delivered or on the dead list for its own reason, once.
//!
//! The plan of each driver follows from one seed: `CHAOS_SEED=` repeats a plan (not the moments at
//! which it meets the programs), `CHAOS_KILLS=` sets its length. `make chaos` is a long run, which
//! measures the time of recovery with the settings that are the default as well.

#[path = "../support/mod.rs"]
mod support;

mod account;
mod element;
mod instance;
mod producer;
mod recovery;
mod server;
mod world;

use std::sync::Arc;
use std::time::Duration;

use crate::support::RedisServer;
use crate::world::World;

/// Kills of a run within `make test`.
const FEW_KILLS: usize = 18;
/// From so many kills on it is a long run.
const MANY_KILLS: usize = 200;
const INSTANCES: usize = 3;
/// How long what is left may take when nothing is disturbed any more.
const PEACE_LIMIT: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_element_ends_once_whatever_dies() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}=")));
    let seed: u64 = number("CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let kills = number("CHAOS_KILLS").map_or(FEW_KILLS, |kills| kills as usize);
    println!("chaos: CHAOS_SEED={seed} CHAOS_KILLS={kills}");

    let recovery = (kills >= MANY_KILLS).then(|| tokio::spawn(recovery::measure(seed)));
    let redis = RedisServer::start_durable();
    let world = Arc::new(World::new(seed, kills, redis.port()));
    let producer = tokio::spawn(producer::produce(world.clone()));
    let server = tokio::spawn(server::drive(world.clone(), redis));
    let slots: Vec<_> = (0..INSTANCES).map(|slot| tokio::spawn(instance::drive(world.clone(), slot))).collect();

    let mut instances = Vec::new();
    for slot in slots {
        instances.push(slot.await.expect("the driver of an instance"));
    }
    let redis = server.await.expect("the driver of the server");
    let pushed = producer.await.expect("the producer");
    world.note("all", "left in peace", Duration::ZERO);
    let at_rest = account::wait_for_rest(&world, instances.len(), PEACE_LIMIT).await;
    for instance in instances {
        instance.end_in_order(&world).await;
    }
    let account = account::settle_accounts(&world, &pushed, at_rest).await;
    let recovery = match recovery {
        Some(measuring) => Some(measuring.await.expect("the measurement of the recovery")),
        None => None,
    };
    println!("chaos: {}", account.summary(&world));
    if let Some(recovery) = &recovery {
        println!("chaos: {recovery}");
    }
    account.assert_it_adds_up(&world);
    if let Some(recovery) = recovery {
        recovery.assert_within_limit();
    }
    drop(redis);
}
