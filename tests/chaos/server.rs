//! What is done to the Redis server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::plan::pick;
use crate::support::RedisServer;
use crate::world::World;

#[derive(Debug, Clone, Copy)]
pub enum Step {
    Kill,
    Stop,
    KillClients,
    FlushScripts,
    /// It takes itself for a replica, and refuses to write.
    ReadOnly,
    /// Its memory is used up, and it refuses what needs more.
    Full,
}

/// Does one thing after the other to the server as long as the plan goes on.
pub async fn drive(world: Arc<World>, mut redis: RedisServer) -> RedisServer {
    let mut rng = world.rng(100);
    let rest = |milliseconds| sleep(Duration::from_millis(milliseconds));
    let steps = &world.plan.server;
    while world.goes_on() {
        rest(rng.u64(steps.pause.clone())).await;
        let begin = Instant::now();
        let what = match pick(&mut rng, steps.shares) {
            Step::Kill => {
                redis.kill9();
                rest(rng.u64(0..1_500)).await;
                block_in_place(|| redis.restart());
                "kill of the server"
            }
            Step::Stop => {
                redis.pause();
                rest(rng.u64(100..3_500)).await;
                redis.resume();
                "stop of the server"
            }
            Step::KillClients => {
                block_in_place(|| redis.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]));
                "client kill"
            }
            Step::FlushScripts => {
                block_in_place(|| redis.cli(&["SCRIPT", "FLUSH"]));
                "script flush"
            }
            Step::ReadOnly => {
                block_in_place(|| redis.cli(&["REPLICAOF", "127.0.0.1", "1"]));
                rest(rng.u64(100..5_000)).await;
                block_in_place(|| redis.cli(&["REPLICAOF", "NO", "ONE"]));
                "read-only server"
            }
            Step::Full => {
                block_in_place(|| redis.cli(&["CONFIG", "SET", "maxmemory", "1"]));
                rest(rng.u64(100..5_000)).await;
                block_in_place(|| redis.cli(&["CONFIG", "SET", "maxmemory", "0"]));
                "full server"
            }
        };
        world.note("server", what, begin.elapsed());
    }
    redis
}
