use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hauld::config::WorkerSettings;
use hauld::failure::{Failure, FailureKind, Result};
use hauld::job::{JobSpec, Outcome};
use hauld::metrics::{KindLabel, Metrics, OutcomeLabel};
use hauld::queue::{Leased, Queue};
use hauld::worker::{self, JobRunner};
use redis::AsyncCommands;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::pool;
use crate::world::{World, element, eventually, failure, key, within};

/// What the runner does with every job.
#[derive(Clone, Copy)]
enum Conduct {
    Finish,
    Fail,
    Panic,
    /// Ends only when cancelled, as interrupted.
    UntilCancelled,
    /// Does not even end then.
    Deaf,
    /// Finishes when the test says so.
    Gate,
}

struct Runner {
    conduct: Mutex<Conduct>,
    gate: tokio::sync::Semaphore,
    running: AtomicUsize,
    most_running: AtomicUsize,
    /// (task, attempt, instance) of every attempt that was begun.
    begun: Mutex<Vec<(u64, u32, String)>>,
    gave_up: Mutex<Vec<(u64, FailureKind)>>,
}

impl Runner {
    fn new(conduct: Conduct) -> Arc<Runner> {
        Arc::new(Runner {
            conduct: Mutex::new(conduct),
            gate: tokio::sync::Semaphore::new(0),
            running: AtomicUsize::new(0),
            most_running: AtomicUsize::new(0),
            begun: Mutex::default(),
            gave_up: Mutex::default(),
        })
    }

    fn begun(&self) -> Vec<(u64, u32)> {
        self.begun.lock().unwrap().iter().map(|(task, attempt, _)| (*task, *attempt)).collect()
    }

    fn conduct(&self, conduct: Conduct) {
        *self.conduct.lock().unwrap() = conduct;
    }
}

#[async_trait]
impl JobRunner for Runner {
    async fn run(&self, job: Arc<Leased>, cancel: CancellationToken) -> Outcome {
        let running = self.running.fetch_add(1, SeqCst) + 1;
        self.most_running.fetch_max(running, SeqCst);
        self.begun.lock().unwrap().push((job.spec.task_id.get(), job.attempt, job.instance().to_owned()));
        let conduct = *self.conduct.lock().unwrap();
        let outcome = match conduct {
            Conduct::Finish => Outcome::Done,
            Conduct::Fail => worker::settle::outcome(failure(), job.attempt, 3),
            Conduct::Panic => panic!("as told, task {}", job.spec.task_id),
            Conduct::UntilCancelled => {
                cancel.cancelled().await;
                Outcome::HandBack
            }
            Conduct::Deaf => std::future::pending().await,
            Conduct::Gate => {
                self.gate.acquire().await.unwrap().forget();
                Outcome::Done
            }
        };
        self.running.fetch_sub(1, SeqCst);
        outcome
    }

    async fn gave_up(&self, spec: &JobSpec, _attempts: u32, failure: &Failure) {
        self.gave_up.lock().unwrap().push((spec.task_id.get(), failure.kind));
    }
}

/// A pool that runs.
struct Pool {
    queue: Queue,
    stop: CancellationToken,
    stop_now: CancellationToken,
    handle: JoinHandle<Result<()>>,
}

impl Pool {
    async fn start(world: &World, runner: &Arc<Runner>, settings: WorkerSettings) -> Pool {
        let queue = world.queue("0").await;
        let (stop, stop_now) = (CancellationToken::new(), CancellationToken::new());
        let handle = tokio::spawn({
            let (queue, runner, metrics) = (queue.clone(), runner.clone(), world.metrics.clone());
            let (stop, stop_now) = (stop.clone(), stop_now.clone());
            pool::run(queue, settings, runner, metrics, stop, stop_now)
        });
        Pool { queue, stop, stop_now, handle }
    }

    async fn stop(self) {
        self.stop.cancel();
        within(self.handle).await.unwrap().unwrap();
    }
}

fn settings(jobs: usize) -> WorkerSettings {
    WorkerSettings { jobs, instance: "0".into(), drain: Duration::from_secs(60), job_timeout: Duration::from_secs(600) }
}

fn ended(metrics: &Metrics, outcome: &'static str) -> u64 {
    metrics.jobs.get_or_create(&OutcomeLabel { outcome }).get()
}

/// Nothing of an instance is left behind.
async fn assert_gone(world: &mut World) {
    for name in ["leases", "instances"] {
        assert!(!world.redis.exists::<_, bool>(key(name)).await.unwrap(), "{name}");
    }
    assert_eq!(world.metrics.jobs_running.get(), 0);
}

#[tokio::test]
async fn jobs_run_side_by_side_and_no_more_are_held_than_run() {
    let mut world = World::new().await;
    let runner = Runner::new(Conduct::Gate);
    for task in 1..=10 {
        world.push(element(task)).await;
    }
    let pool = Pool::start(&world, &runner, settings(3)).await;
    eventually("three run", async || runner.running.load(SeqCst) == 3).await;
    assert_eq!(world.metrics.jobs_running.get(), 3);
    assert_eq!((world.waiting().await.len(), world.held(&pool.queue).await.len()), (7, 3));
    runner.gate.add_permits(10);
    eventually("all are done", async || ended(&world.metrics, "done") == 10).await;
    assert_eq!(runner.most_running.load(SeqCst), 3);
    let mut tasks = runner.begun();
    tasks.sort();
    assert_eq!(tasks, (1..=10).map(|task| (task, 1)).collect::<Vec<_>>());
    assert!(world.metrics.last_success.get() > 0);
    pool.stop().await;
    assert_eq!(world.count("done").await, 10);
    assert_gone(&mut world).await;
}

#[tokio::test]
async fn a_job_that_fails_is_tried_three_times() {
    let mut world = World::new().await;
    let runner = Runner::new(Conduct::Fail);
    let pool = Pool::start(&world, &runner, settings(2)).await;
    world.push(element(1)).await;
    eventually("it is dead", async || ended(&world.metrics, "dead") == 1).await;
    assert_eq!(runner.begun(), [(1, 1), (1, 2), (1, 3)]);
    assert_eq!(ended(&world.metrics, "retry"), 2);
    let dead = pool.queue.dead(10).await.unwrap();
    assert_eq!((dead.len(), dead[0].attempts), (1, 3));
    pool.stop().await;
}

#[tokio::test]
async fn a_panic_is_an_outcome_like_any_other() {
    let mut world = World::new().await;
    let runner = Runner::new(Conduct::Panic);
    let pool = Pool::start(&world, &runner, settings(2)).await;
    world.push(element(1)).await;
    eventually("it is dead", async || ended(&world.metrics, "dead") == 1).await;
    let dead = pool.queue.dead(10).await.unwrap();
    assert_eq!(dead[0].kind, "internal");
    assert_eq!(dead[0].message, "a panic: as told, task 1");
    assert_eq!(runner.begun().len(), 3);
    assert_eq!(*runner.gave_up.lock().unwrap(), [(1, FailureKind::Internal)]);
    assert_eq!(world.metrics.job_failures.get_or_create(&KindLabel { kind: "internal" }).get(), 3);
    runner.conduct(Conduct::Finish);
    world.push(element(2)).await;
    eventually("the pool goes on", async || ended(&world.metrics, "done") == 1).await;
    pool.stop().await;
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_ended_and_counted() {
    let mut world = World::new().await;
    world.settings.max_attempts = 2;
    let runner = Runner::new(Conduct::UntilCancelled);
    let pool =
        Pool::start(&world, &runner, WorkerSettings { job_timeout: Duration::from_millis(50), ..settings(1) }).await;
    world.push(element(1)).await;
    eventually("it is dead", async || ended(&world.metrics, "dead") == 1).await;
    assert_eq!(runner.begun(), [(1, 1), (1, 2)]);
    assert_eq!(pool.queue.dead(10).await.unwrap()[0].kind, "job_timeout");
    assert_eq!(*runner.gave_up.lock().unwrap(), [(1, FailureKind::JobTimeout)]);
    pool.stop().await;
}

#[tokio::test]
async fn a_stop_waits_for_what_runs_and_takes_no_more() {
    let mut world = World::new().await;
    let runner = Runner::new(Conduct::Gate);
    for task in 1..=4 {
        world.push(element(task)).await;
    }
    let pool = Pool::start(&world, &runner, settings(2)).await;
    eventually("two run", async || runner.running.load(SeqCst) == 2).await;
    pool.stop.cancel();
    world.push(element(5)).await;
    runner.gate.add_permits(10);
    pool.stop().await;
    assert_eq!(ended(&world.metrics, "done"), 2);
    assert_eq!(world.waiting().await, [element(3), element(4), element(5)]);
    assert_gone(&mut world).await;
}

#[tokio::test]
async fn what_does_not_fit_into_the_drain_goes_back_in_its_order_at_no_cost() {
    for (drain, conduct) in [(Duration::ZERO, Conduct::UntilCancelled), (Duration::from_millis(50), Conduct::Deaf)] {
        let mut world = World::new().await;
        let runner = Runner::new(conduct);
        for task in 1..=5 {
            world.push(element(task)).await;
        }
        let pool = Pool::start(&world, &runner, WorkerSettings { drain, ..settings(3) }).await;
        eventually("three run", async || runner.running.load(SeqCst) == 3).await;
        pool.stop().await;
        assert_eq!(world.waiting().await, (1..=5).map(element).collect::<Vec<_>>());
        assert_eq!(ended(&world.metrics, "returned"), 3);
        assert!(!world.redis.exists::<_, bool>(key("records")).await.unwrap());
        assert_gone(&mut world).await;
    }
}

#[tokio::test]
async fn a_second_signal_hands_back_at_once() {
    let mut world = World::new().await;
    let runner = Runner::new(Conduct::UntilCancelled);
    world.push(element(1)).await;
    let pool = Pool::start(&world, &runner, WorkerSettings { drain: Duration::from_secs(3600), ..settings(1) }).await;
    eventually("it runs", async || runner.running.load(SeqCst) == 1).await;
    pool.stop.cancel();
    pool.stop_now.cancel();
    pool.stop().await;
    assert_eq!(world.waiting().await, [element(1)]);
}

#[tokio::test]
async fn after_a_lost_lease_its_jobs_end_and_the_instance_goes_on_under_a_new_name() {
    let mut world = World::new().await;
    let runner = Runner::new(Conduct::UntilCancelled);
    let pool = Pool::start(&world, &runner, settings(1)).await;
    let old_name = pool.queue.instance();
    world.push(element(1)).await;
    eventually("it runs", async || runner.running.load(SeqCst) == 1).await;
    runner.conduct(Conduct::Finish);
    // Another instance sees a lease that has run out: as after a long SIGSTOP.
    let other = world.queue("1").await;
    other.sweep().await.unwrap();
    loop {
        world.expire(&old_name).await;
        other.sweep().await.unwrap();
        if world.redis.zscore::<_, _, Option<f64>>(key("leases"), &old_name).await.unwrap().is_none() {
            break;
        }
    }
    eventually("it is done", async || ended(&world.metrics, "done") == 1).await;
    let begun = runner.begun.lock().unwrap().clone();
    assert_eq!(begun.len(), 2);
    assert_eq!((begun[0].2.as_str(), begun[1].1), (old_name.as_str(), 1));
    assert_ne!(begun[1].2, old_name);
    eventually("the first is abandoned", async || ended(&world.metrics, "abandoned") == 1).await;
    pool.stop().await;
    assert_eq!(world.count("done").await, 1);
}

#[tokio::test]
async fn stops_that_race_with_pushes_lose_and_double_nothing() {
    let mut world = World::new().await;
    let runner = Runner::new(Conduct::Finish);
    let pushing = CancellationToken::new();
    let pusher = tokio::spawn({
        let (pushing, mut redis) = (pushing.clone(), world.server.connection().await);
        async move {
            let mut pushed = 0;
            while !pushing.is_cancelled() {
                pushed += 1;
                let _: u64 = redis.lpush(crate::world::LIST, element(pushed)).await.unwrap();
                tokio::task::yield_now().await;
                if pushed % 3 == 0 {
                    tokio::time::sleep(Duration::from_micros(300)).await;
                }
            }
            pushed
        }
    });
    for round in 0..1000_u64 {
        let pool = Pool::start(&world, &runner, settings(1 + round as usize % 4)).await;
        // Somewhere between the first command and the middle of the work.
        tokio::time::sleep(Duration::from_micros(137 * (round % 60))).await;
        pool.stop().await;
        assert_gone(&mut world).await;
    }
    pushing.cancel();
    let pushed = pusher.await.unwrap();
    let mut all: Vec<String> = runner.begun().into_iter().map(|(task, _)| element(task)).collect();
    assert_eq!(all.len() as u64, world.count("done").await);
    all.extend(world.waiting().await);
    assert_eq!(all.len() as u64, pushed);
    all.sort();
    all.dedup();
    assert_eq!(all.len() as u64, pushed, "every one once");
}

#[tokio::test]
async fn a_pool_that_cannot_take_any_more_ends_in_a_failure() {
    let mut world = World::new().await;
    // Adding to it panics: a defect in the taking task.
    world.settings.block = Duration::MAX;
    let pool = Pool::start(&world, &Runner::new(Conduct::Finish), settings(1)).await;
    assert_eq!(within(pool.handle).await.unwrap().unwrap_err().kind, FailureKind::Internal);
}
