//! What is done to the connections between the instances and the media host.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::plan::{Steps, pick};
use crate::world::World;

#[derive(Debug, Clone, Copy)]
pub enum Step {
    Cut,
    Freeze,
    Delay,
}

/// Does one thing after the other to all connections, as long as the plan goes on.
pub async fn drive(world: Arc<World>) {
    let Some(Steps { pause, shares }) = &world.plan.media else { return };
    let mut rng = world.rng(300);
    while world.goes_on() {
        sleep(Duration::from_millis(rng.u64(pause.clone()))).await;
        let begin = Instant::now();
        let what = match pick(&mut rng, shares) {
            Step::Cut => {
                world.media.cut();
                "cut"
            }
            Step::Freeze => {
                world.media.freeze();
                sleep(Duration::from_millis(rng.u64(200..2_500))).await;
                world.media.resume();
                "freeze"
            }
            Step::Delay => {
                world.media.delay(Duration::from_millis(rng.u64(20..200)));
                sleep(Duration::from_millis(rng.u64(500..5_000))).await;
                world.media.resume();
                "delay"
            }
        };
        world.note("media", what, begin.elapsed());
    }
}
