//! Everything around a daemon, and what is left of its jobs.

use std::time::Duration;

use serde_json::Value;

use crate::support::daemon::Builder;
use crate::support::{Backend, Catalog, Daemon, Lecture, Manifest, Origin, Publish, RedisServer, Stream, media, wait};

pub const LIST: &str = "rq:queue:downloads";
pub const DEAD: &str = "{rq:queue:downloads}:hauld:dead";

pub struct World {
    pub redis: RedisServer,
    pub origin: Origin,
    pub catalog: Catalog,
    pub backend: Backend,
}

impl World {
    pub fn new() -> World {
        World::on(RedisServer::start())
    }

    pub fn on(redis: RedisServer) -> World {
        let origin = Origin::start();
        let catalog = Catalog::on(&origin);
        World { redis, origin, catalog, backend: Backend::start() }
    }

    /// A daemon that keeps lectures as they come (no ffmpeg) and logs everything of its own.
    pub fn daemon(&self) -> Builder {
        let builder = Daemon::builder().redis(&self.redis).catalog(&self.catalog).backend(&self.backend);
        builder.set("remux.container", "ts").set("log.level", "info,hauld=trace")
    }

    /// An enrolled task for a course: on the list from now on. Returns the element.
    pub fn submit(&self, task_id: u64, manifest: &Manifest) -> String {
        self.catalog.course(&course_url(task_id), manifest);
        self.push(task_id)
    }

    /// Publishes a course of one lecture, which is this stream, encrypted, at `/<task id>`. Returns
    /// the paths of its segments.
    pub fn publish(&self, task_id: u64, stream: &Stream) -> Vec<String> {
        let published = Publish::of(stream).encrypted().at(&self.origin, &format!("/{task_id}"));
        self.catalog.course(&course_url(task_id), &course_of(task_id, &published.url));
        published.segment_paths
    }

    /// An enrolled task, on the list from now on. Returns the element.
    pub fn push(&self, task_id: u64) -> String {
        self.redis.set_task(task_id, "enrolled");
        self.redis.push_job(task_id, &course_url(task_id))
    }

    /// The envelopes of the dead list, the newest first.
    pub fn dead(&self) -> Vec<Value> {
        let parse = |line: &String| serde_json::from_str(line).expect("an envelope is JSON on one line");
        self.redis.list(DEAD).iter().map(parse).collect()
    }

    /// Waits for the envelope of a task.
    pub async fn dead_of(&self, task_id: u64) -> Value {
        wait::until(&format!("task {task_id} is on the dead list"), Duration::from_secs(30), || {
            self.dead().into_iter().find(|envelope| envelope["task_id"] == task_id)
        })
        .await
    }

    /// The error log of a task that has failed.
    pub fn error_log(&self, task_id: u64) -> Value {
        let text = self.redis.task_field(task_id, "error_log");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("error_log of task {task_id}: {error}: {text:?}"))
    }

    /// The keys of the queue that hold `text` in a key or a value; what is told of tasks afterwards is none.
    pub fn queue_keys_with(&self, text: &str) -> Vec<String> {
        let keys = self.redis.cli(&["KEYS", &format!("*{LIST}*")]);
        // In one step: between two commands the key may have become another, or none.
        const READ: &str = "local kind = redis.call('TYPE', KEYS[1]).ok
            if kind == 'list' then return redis.call('LRANGE', KEYS[1], 0, -1) end
            if kind == 'hash' then return redis.call('HGETALL', KEYS[1]) end
            if kind == 'zset' then return redis.call('ZRANGE', KEYS[1], 0, -1) end
            if kind == 'string' then return redis.call('GET', KEYS[1]) end";
        let content = |key: &str| self.redis.cli(&["EVAL", READ, "1", key]);
        let told = |key: &&str| ["stories", "story:", "progress:"].iter().any(|part| key.contains(part));
        keys.lines()
            .filter(|key| !told(key))
            .filter(|key| key.contains(text) || content(key).contains(text))
            .map(str::to_owned)
            .collect()
    }

    /// Waits until no key of the queue knows the task any more: it is settled.
    pub async fn settled(&self, task_id: u64) {
        let element = format!("\"taskId\":{task_id},");
        let gone = || self.queue_keys_with(&element).is_empty().then_some(());
        wait::until(&format!("task {task_id} is settled"), Duration::from_secs(20), gone).await;
    }
}

pub fn course_url(task_id: u64) -> String {
    format!("https://learn.example.com/course/{task_id}/")
}

/// The folder of [`course_of`].
pub fn folder(task_id: u64) -> String {
    format!("Course {task_id}")
}

/// A course of one lecture, delivered as `Course <id>/01 Start/001 Only.ts`.
pub fn course_of(task_id: u64, stream_url: &str) -> Manifest {
    Manifest::of_one(&folder(task_id), "Only", stream_url)
}

/// The lecture of [`course_of`].
pub fn lecture_path(daemon: &Daemon, task_id: u64) -> std::path::PathBuf {
    daemon.delivered().join(folder(task_id)).join("01 Start/001 Only.ts")
}

/// A course whose lectures are these streams, encrypted, at `<base>/<number from 1>`, and the segment paths
/// of each.
pub fn lectures(world: &World, base: &str, title: &str, streams: &[&Stream]) -> (Manifest, Vec<Vec<String>>) {
    let published: Vec<_> = (1..)
        .zip(streams)
        .map(|(number, stream)| Publish::of(stream).encrypted().at(&world.origin, &format!("{base}/{number}")))
        .collect();
    let items = (1..).zip(&published).map(|(number, one)| Lecture::new(&format!("Lecture {number}")).stream(&one.url));
    let manifest = Manifest::new(title).section("Start", items.collect::<Vec<_>>());
    (manifest, published.into_iter().map(|one| one.segment_paths).collect())
}

/// A small stream without pictures.
pub fn small() -> Stream {
    media::synthetic(3, 2000)
}

/// The lines of a job at level WARN or ERROR.
pub fn complaints(daemon: &Daemon, task_id: u64) -> Vec<Value> {
    let lines = daemon.log_lines().into_iter();
    lines.filter(|line| line["task_id"] == task_id && (line["level"] == "WARN" || line["level"] == "ERROR")).collect()
}

/// Every line that one of the rooms of a job has written names the task.
pub fn assert_lines_name_the_task(daemon: &Daemon) {
    const ROOMS: [&str; 8] = ["gate", "worker::pipeline", "resolver", "media", "hls", "remux", "delivery", "sandbox"];
    let mut seen = 0;
    for line in daemon.log_lines() {
        assert!(line.is_object(), "not JSON: {line}");
        let target = line["target"].as_str().unwrap_or_default();
        // The look at the destination when a daemon starts is for all jobs.
        let of_a_job = target != "hauld::delivery::greet"
            && ROOMS.iter().any(|room| target.starts_with(&format!("hauld::{room}")));
        if of_a_job || line["spans"].as_array().is_some_and(|spans| spans.iter().any(|span| span == "job")) {
            assert!(line["task_id"].as_u64().is_some(), "no task_id: {line}");
            seen += 1;
        }
    }
    assert!(seen > 0, "no line of a job at all");
}
