//! Everything at random, for some time; then an account of every element.
//!
//! Instances of the real binary, each behind a proxy of its own, take from a real Redis that writes every
//! command to disk, while a producer pushes. By a plan one driver disturbs each of them: the instances, the
//! server, the connections to the media host. Then everything is left in peace until nothing waits, runs or is
//! delayed any more, and every element that Redis has accepted must be delivered or on the dead list for its own
//! reason, once.
//!
//! * chaos: instances are killed, stopped for longer than their lease, drained and cut off, Redis is killed and
//!   frozen. `CHAOS_SEED=` repeats a plan (not the moments at which it meets the programs), `CHAOS_KILLS=` sets
//!   its length. `make chaos` is a long run, which measures the time of recovery with the settings that are the
//!   default as well.
//! * soak: the instances live on, and everything around them has its moods: origin, Redis, network. What they use
//!   must not grow. `SOAK_SEED=` and `SOAK_SECONDS=`, `make soak`.

#[path = "../support/mod.rs"]
mod support;

mod account;
mod element;
mod films;
mod instance;
mod leavings;
mod media;
mod origin;
mod plan;
mod producer;
mod recovery;
mod samples;
mod server;
mod slope;
mod troubles;
mod world;

use std::sync::Arc;
use std::time::Duration;

use crate::account::Account;
use crate::instance::Instance;
use crate::plan::Plan;
use crate::samples::Samples;
use crate::support::RedisServer;
use crate::world::World;

/// Kills of a run within `make test`.
const FEW_KILLS: usize = 18;
/// From so many kills on it is a long run.
const MANY_KILLS: usize = 200;
/// Seconds of a soak within `make test`, where everything happens faster.
const FEW_SECONDS: u64 = 8;
const HASTE: u64 = 8;
/// What a soak of an hour is worth its name for.
const JOBS_OF_AN_HOUR: usize = 2_000;
/// How long what is left may take when nothing is disturbed any more.
const PEACE_LIMIT: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_element_ends_once_whatever_dies() {
    let seed = number("CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let kills = number("CHAOS_KILLS").map_or(FEW_KILLS, |kills| kills as usize);
    println!("chaos: CHAOS_SEED={seed} CHAOS_KILLS={kills}");

    let recovery = (kills >= MANY_KILLS).then(|| tokio::spawn(recovery::measure(seed)));
    let (world, account, _) = run(seed, Plan::chaos(kills), 3).await;
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
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_grows_whatever_goes_wrong() {
    let seed = number("SOAK_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let seconds = number("SOAK_SECONDS");
    println!("soak: SOAK_SEED={seed} SOAK_SECONDS={}", seconds.unwrap_or(FEW_SECONDS));
    let time = Duration::from_secs(seconds.unwrap_or(FEW_SECONDS));
    let haste = if seconds.is_some() { 1 } else { HASTE };

    let (world, account, samples) = run(seed, Plan::soak(time, haste), 2).await;
    let samples = samples.expect("the plan wants samples");
    println!("soak: {}\nsoak: {samples}", account.summary(&world));
    account.assert_it_adds_up(&world);
    let complaints = samples.complaints(time);
    assert!(complaints.is_empty(), "SOAK_SEED={seed}: {complaints:#?}");
    let jobs = account.jobs();
    assert!(jobs > 0 && (seconds.is_none_or(|seconds| seconds < 3_600) || jobs >= JOBS_OF_AN_HOUR), "{jobs} jobs");
}

/// Of a variable of the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Carries a plan out on so many instances, and accounts for what has become of everything.
async fn run(seed: u64, plan: Plan, instances: usize) -> (Arc<World>, Account, Option<Samples>) {
    let redis = RedisServer::start_durable();
    let world = Arc::new(World::new(seed, plan, redis.port()));
    let instances: Vec<Instance> = (0..instances).map(|slot| Instance::start(&world, slot)).collect();
    let processes = instances.iter().map(Instance::process).collect();
    let samples = tokio::spawn(samples::take(world.clone(), processes));
    let producer = tokio::spawn(producer::produce(world.clone()));
    let server = tokio::spawn(server::drive(world.clone(), redis));
    let media = tokio::spawn(media::drive(world.clone()));
    let slots: Vec<_> = instances.into_iter().map(|instance| tokio::spawn(instance.drive(world.clone()))).collect();

    let mut instances = Vec::new();
    for slot in slots {
        instances.push(slot.await.expect("the driver of an instance"));
    }
    let redis = server.await.expect("the driver of the server");
    let pushed = producer.await.expect("the producer");
    media.await.expect("the driver of the media host's connections");
    let samples = samples.await.expect("who looks at the instances");
    world.note("all", "left in peace", Duration::ZERO);
    let at_rest = account::wait_for_rest(&world, instances.len(), PEACE_LIMIT).await;
    for instance in instances {
        instance.end_in_order(&world).await;
    }
    let account = account::settle_accounts(&world, &pushed, at_rest).await;
    drop(redis);
    (world, account, samples)
}
