//! What is done to the Redis server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::support::RedisServer;
use crate::world::World;

/// Does one thing after the other to the server as long as instances are killed.
pub async fn drive(world: Arc<World>, mut redis: RedisServer) -> RedisServer {
    let mut rng = world.rng(100);
    let rest = |milliseconds| sleep(Duration::from_millis(milliseconds));
    while world.goes_on() {
        rest(rng.u64(1_000..5_000)).await;
        let begin = Instant::now();
        let what = match rng.u32(..100) {
            0..35 => {
                redis.kill9();
                rest(rng.u64(0..1_500)).await;
                block_in_place(|| redis.restart());
                "kill of the server"
            }
            35..60 => {
                redis.pause();
                rest(rng.u64(100..3_500)).await;
                redis.resume();
                "stop of the server"
            }
            60..80 => {
                block_in_place(|| redis.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]));
                "client kill"
            }
            _ => {
                block_in_place(|| redis.cli(&["SCRIPT", "FLUSH"]));
                "script flush"
            }
        };
        world.note("server", what, begin.elapsed());
    }
    redis
}
