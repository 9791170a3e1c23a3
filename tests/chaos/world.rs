//! What the drivers share: the origin, the directories, and the story so far.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;

use crate::films::Films;
use crate::origin;
use crate::plan::{End, Plan};
use crate::support::origin::Request;
use crate::support::{Origin, Proxy};
use crate::troubles::Troubles;

/// One thing that was done to somebody.
#[derive(Debug, Clone)]
pub struct Event {
    pub at: Instant,
    /// `g<number>`: one process from its start to its end; `server`; `media`; `all`.
    pub who: String,
    pub what: &'static str,
    /// How long it lasted.
    pub lasted: Duration,
}

pub struct World {
    pub seed: u64,
    pub plan: Plan,
    pub redis_port: u16,
    pub origin: Origin,
    /// In front of the media host.
    pub media: Proxy,
    pub films: Arc<Films>,
    pub troubles: Arc<Troubles>,
    kills: AtomicUsize,
    processes: AtomicUsize,
    begin: Instant,
    directory: tempfile::TempDir,
    events: Mutex<Vec<Event>>,
    /// What a driver has seen that must not be.
    complaints: Mutex<Vec<String>>,
    /// The tasks whose jobs are to die.
    doomed: Mutex<BTreeSet<u64>>,
}

impl World {
    pub fn new(seed: u64, plan: Plan, redis_port: u16) -> World {
        let directory = tempfile::tempdir().expect("temporary directory");
        std::fs::create_dir(directory.path().join("logs")).expect("directory of the logs");
        let origin = Origin::start();
        let media = Proxy::to(origin.port());
        let films = Arc::new(Films::publish());
        let troubles = Arc::new(Troubles::new(plan.troubles, chances(seed, 400)));
        origin::furnish(&origin, format!("http://127.0.0.1:{}", media.port()), films.clone(), troubles.clone());
        World {
            seed,
            plan,
            redis_port,
            origin,
            media,
            films,
            troubles,
            kills: AtomicUsize::new(0),
            processes: AtomicUsize::new(0),
            begin: Instant::now(),
            directory,
            events: Mutex::default(),
            complaints: Mutex::default(),
            doomed: Mutex::default(),
        }
    }

    /// The chances of one driver.
    pub fn rng(&self, driver: u64) -> fastrand::Rng {
        chances(self.seed, driver)
    }

    pub fn goes_on(&self) -> bool {
        match self.plan.end {
            End::Kills(kills) => self.kills.load(SeqCst) < kills,
            End::Time(time) => self.begin.elapsed() < time,
        }
    }

    /// An instance was killed.
    pub fn count_kill(&self) {
        self.kills.fetch_add(1, SeqCst);
    }

    /// The number of a new process.
    pub fn next_process(&self) -> usize {
        self.processes.fetch_add(1, SeqCst)
    }

    /// Writes down something that began `lasted` ago.
    pub fn note(&self, who: &str, what: &'static str, lasted: Duration) {
        let at = Instant::now() - lasted;
        lock(&self.events).push(Event { at, who: who.to_owned(), what, lasted });
    }

    /// The job of a task is to die.
    pub fn doom(&self, task: u64) {
        lock(&self.doomed).insert(task);
    }

    pub fn is_doomed(&self, task: u64) -> bool {
        lock(&self.doomed).contains(&task)
    }

    pub fn complain(&self, complaint: String) {
        lock(&self.complaints).push(complaint);
    }

    pub fn complaints(&self) -> Vec<String> {
        lock(&self.complaints).clone()
    }

    pub fn events(&self) -> Vec<Event> {
        let mut events = lock(&self.events).clone();
        events.sort_by_key(|event| event.at);
        events
    }

    /// How often each thing was done.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = self.troubles.counts();
        for event in lock(&self.events).iter() {
            *counts.entry(event.what).or_default() += 1;
        }
        counts
    }

    /// The time since the beginning, in seconds.
    pub fn seconds(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }

    /// Since the beginning.
    pub fn time_of(&self, at: Instant) -> String {
        format!("{:9.3}", at.saturating_duration_since(self.begin).as_secs_f64())
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn staging(&self) -> PathBuf {
        self.directory.path().join("staging")
    }

    pub fn delivered(&self) -> PathBuf {
        self.directory.path().join("delivered")
    }

    /// The log of a process that has ended.
    pub fn keep_log(&self, who: &str, text: &str) {
        std::fs::write(self.directory.path().join("logs").join(who), text).expect("a log");
    }

    /// The lines of all logs that contain `text`, each with its process in front, by their time.
    pub fn log_lines(&self, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for entry in std::fs::read_dir(self.directory.path().join("logs")).expect("the logs").flatten() {
            let who = entry.file_name().to_string_lossy().into_owned();
            let log = std::fs::read_to_string(entry.path()).expect("a log");
            lines.extend(log.lines().filter(|line| line.contains(text)).map(|line| (line.to_owned(), who.clone())));
        }
        // Every line begins with its time.
        lines.sort();
        lines.into_iter().map(|(line, who)| format!("{who} {line}")).collect()
    }

    /// A connection to the server itself, whose answers are waited for.
    pub async fn connect(&self) -> redis::RedisResult<MultiplexedConnection> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/0", self.redis_port))?;
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(30)));
        client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// Every finalize call that has come, in the order of arrival.
    pub fn finalize_calls(&self) -> Vec<Request> {
        self.origin.requests_for("/backend/*")
    }
}

fn chances(seed: u64, driver: u64) -> fastrand::Rng {
    fastrand::Rng::with_seed(seed.wrapping_mul(1000).wrapping_add(driver))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
