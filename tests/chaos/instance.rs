//! What is done to one instance: a process behind a proxy, and after its end the next one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::plan::pick;
use crate::support::daemon::{Daemon, SECRET};
use crate::support::proxy::Proxy;
use crate::world::World;

/// How long a process may take until it has drained, whatever is the matter with Redis.
const DRAIN_LIMIT: Duration = Duration::from_secs(45);
/// More than `queue.lease_seconds` and two sweeps.
const LONGER_THAN_THE_LEASE: std::ops::Range<u64> = 3_500..5_500;

/// What happens next.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    Kill,
    KillWhileStopped,
    Drain,
    HurriedDrain,
    ShortStop,
    LongStop,
    Cut,
    Freeze,
    SwallowAnswers,
    Delay,
}

/// One slot of the fleet.
pub struct Instance {
    slot: usize,
    rng: fastrand::Rng,
    proxy: Proxy,
    daemon: Daemon,
    /// `g<number>`
    who: String,
}

fn launch(world: &World, slot: usize, proxy: &Proxy, rng: &mut fastrand::Rng) -> (String, Daemon) {
    let who = format!("g{}", world.next_process());
    let builder = Daemon::builder()
        .set("redis.url", format!("redis://127.0.0.1:{}/0", proxy.port()))
        .set("worker.instance", slot.to_string())
        .set("worker.jobs", rng.i64(2..=4))
        .set("worker.drain_seconds", rng.i64(0..=3))
        // Quick to recover, and no machine that is only busy holds a renewal up for two seconds.
        .set("queue.lease_seconds", 3)
        .set("queue.retry_delay_seconds", 1)
        // A healthy element may well be hit more than three times here.
        .set("queue.max_crashes", 50)
        // As long as Redis is away the gate waits; how long it does is no matter of this test.
        .set("gate.wait_seconds", 120)
        .set("resolver.catalog_endpoint", world.origin.url(&format!("/catalog/{who}")))
        .set("report.api_base_url", world.origin.url(&format!("/backend/{who}")))
        .secret("report.secret", SECRET)
        .staging(&world.staging())
        .delivered(&world.delivered());
    let daemon = (world.plan.settings)(builder, slot).launch();
    world.note(&who, "start", Duration::ZERO);
    (who, daemon)
}

impl Instance {
    pub fn start(world: &World, slot: usize) -> Instance {
        let mut rng = world.rng(slot as u64);
        let proxy = Proxy::to(world.redis_port);
        let (who, daemon) = launch(world, slot, &proxy, &mut rng);
        Instance { slot, rng, proxy, daemon, who }
    }

    /// Its process id and its admin port.
    pub fn process(&self) -> (u32, u16) {
        (self.daemon.pid(), self.daemon.admin_port())
    }

    /// Does one thing after the other to it as long as the plan goes on. What is left runs and is not disturbed
    /// any more.
    pub async fn drive(mut self, world: Arc<World>) -> Instance {
        let steps = &world.plan.instances;
        while world.goes_on() {
            self.rest(steps.pause.clone()).await;
            if let Some(status) = self.daemon.exited() {
                world.complain(format!("{} has ended by itself: {status}", self.who));
                self.replace(&world);
            }
            let step = pick(&mut self.rng, steps.shares);
            self.take(step, &world).await;
        }
        self
    }

    async fn take(&mut self, step: Step, world: &World) {
        match step {
            Step::Kill => self.kill(world),
            Step::KillWhileStopped => {
                self.daemon.sigstop();
                self.rest(0..400).await;
                self.kill(world);
            }
            Step::Drain => self.drain(world, false).await,
            Step::HurriedDrain => self.drain(world, true).await,
            Step::ShortStop => self.stop(world, 100..1_000).await,
            Step::LongStop => self.stop(world, LONGER_THAN_THE_LEASE).await,
            Step::Cut => {
                self.proxy.cut();
                world.note(&self.who, "cut", Duration::ZERO);
            }
            Step::Freeze => {
                let begin = Instant::now();
                self.proxy.freeze();
                self.rest(200..5_500).await;
                if self.rng.bool() {
                    self.proxy.cut();
                }
                self.proxy.resume();
                world.note(&self.who, "frozen connections", begin.elapsed());
            }
            Step::SwallowAnswers => {
                let begin = Instant::now();
                self.proxy.swallow_answers();
                self.rest(20..400).await;
                self.proxy.cut();
                self.proxy.resume();
                world.note(&self.who, "swallowed answers", begin.elapsed());
            }
            Step::Delay => {
                let begin = Instant::now();
                self.proxy.delay(Duration::from_millis(self.rng.u64(20..300)));
                self.rest(500..5_000).await;
                self.proxy.resume();
                world.note(&self.who, "late connections", begin.elapsed());
            }
        }
    }

    async fn rest(&mut self, milliseconds: std::ops::Range<u64>) {
        let pause = self.rng.u64(milliseconds);
        sleep(Duration::from_millis(pause)).await;
    }

    fn kill(&mut self, world: &World) {
        self.daemon.sigkill();
        world.note(&self.who, "kill", Duration::ZERO);
        world.count_kill();
        self.replace(world);
    }

    async fn stop(&mut self, world: &World, milliseconds: std::ops::Range<u64>) {
        let begin = Instant::now();
        self.daemon.sigstop();
        self.rest(milliseconds).await;
        self.daemon.sigcont();
        world.note(&self.who, "stop", begin.elapsed());
    }

    /// SIGTERM, as a deployment does; perhaps another one, of somebody who cannot wait.
    async fn drain(&mut self, world: &World, hurried: bool) {
        // Before its handlers are there a signal ends the process at once.
        if !self.daemon.is_ready() {
            return;
        }
        let begin = Instant::now();
        self.daemon.sigterm();
        if hurried {
            self.rest(0..300).await;
            self.daemon.sigterm();
        }
        let status = self.daemon.wait_exit(DRAIN_LIMIT).await;
        world.note(&self.who, if hurried { "hurried drain" } else { "drain" }, begin.elapsed());
        if !status.success() {
            world.complain(format!("{} has not drained in good order: {status}", self.who));
        }
        self.replace(world);
    }

    /// The next process in the place of one that has ended.
    fn replace(&mut self, world: &World) {
        world.keep_log(&self.who, &self.daemon.log_text());
        (self.who, self.daemon) = launch(world, self.slot, &self.proxy, &mut self.rng);
    }

    /// The end of the test.
    pub async fn end_in_order(self, world: &World) {
        self.daemon.sigterm();
        let status = self.daemon.wait_exit(DRAIN_LIMIT).await;
        if !status.success() {
            world.complain(format!("{} has not drained in good order: {status}", self.who));
        }
        world.keep_log(&self.who, &self.daemon.log_text());
        self.proxy.cut();
    }
}
