//! What the drivers share: the origin, the directories, and the story so far.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use serde_json::json;

use crate::element;
use crate::support::origin::{Fault, Request};
use crate::support::{Origin, Publish, Reply, media};

/// One thing that was done to somebody.
#[derive(Debug, Clone)]
pub struct Event {
    pub at: Instant,
    /// `g<number>`: one process from its start to its end; `server`; `all`.
    pub who: String,
    pub what: &'static str,
    /// How long it lasted.
    pub lasted: Duration,
}

pub struct World {
    pub seed: u64,
    pub redis_port: u16,
    pub origin: Origin,
    kills_wanted: usize,
    kills: AtomicUsize,
    processes: AtomicUsize,
    begin: Instant,
    directory: tempfile::TempDir,
    events: Mutex<Vec<Event>>,
    /// What a driver has seen that must not be.
    complaints: Mutex<Vec<String>>,
}

impl World {
    pub fn new(seed: u64, kills_wanted: usize, redis_port: u16) -> World {
        let directory = tempfile::tempdir().expect("temporary directory");
        std::fs::create_dir(directory.path().join("logs")).expect("directory of the logs");
        World {
            seed,
            redis_port,
            origin: origin(),
            kills_wanted,
            kills: AtomicUsize::new(0),
            processes: AtomicUsize::new(0),
            begin: Instant::now(),
            directory,
            events: Mutex::default(),
            complaints: Mutex::default(),
        }
    }

    /// The chances of one driver.
    pub fn rng(&self, driver: u64) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed.wrapping_mul(1000).wrapping_add(driver))
    }

    pub fn goes_on(&self) -> bool {
        self.kills.load(SeqCst) < self.kills_wanted
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
        let mut counts = BTreeMap::new();
        for event in lock(&self.events).iter() {
            *counts.entry(event.what).or_default() += 1;
        }
        counts
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Catalogue, media host and backend. The paths of the first and the last name the process that asks:
/// `/catalog/g7`, `/backend/g7/…`.
fn origin() -> Origin {
    let origin = Origin::start();
    let base = origin.url("");
    let counts: Mutex<HashMap<u64, usize>> = Mutex::default();
    origin.answer("/catalog/*", move |request| {
        let course = request.query("url").and_then(|url| element::read_course_url(&url));
        let Some((kind, task)) = course else { return Reply::status(404) };
        let mut counts = lock(&counts);
        let count = counts.entry(task).or_default();
        *count += 1;
        match kind.answer(task, *count, &base) {
            Ok(answer) => Reply::json(&answer),
            Err(status) => Reply::status(status),
        }
    });
    let file = |request: &Request| Reply::ok("application/octet-stream", element::content(&request.path));
    origin.answer("/files/*", file);
    origin.answer("/late/*", file);
    origin.fault("/late/*", Fault::Delay(Duration::from_millis(200)));
    origin.answer("/backend/*", |_| Reply::json(&json!({"success": true})));
    origin.fault("/backend/*", Fault::Delay(Duration::from_millis(15)));
    Publish::of(&media::ts().first(2)).encrypted().at(&origin, "/film");
    origin
}
