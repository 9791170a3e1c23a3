//! What is written into RQ's keys at each step of a job's life, as lists of words: the queue runs
//! them in the same script that makes the step, so that RQ's books change when ours do or not at
//! all. Pure.
//!
//! What each version of RQ reads was measured: from 2.0 on an execution has keys of its own, from
//! 3.0 on a worker has a set of them in place of its field `current_job`; both are written.
//!
//! | key | at the start | at the end |
//! | --- | --- | --- |
//! | `rq:job:<id>` | `started`, no expiry | `finished`, `failed`, `stopped`, `queued`, `scheduled` |
//! | `rq:execution:<id>:<execution>`, `rq:executions:<id>` | made | deleted |
//! | `rq:wip:<queue>`, `rq:worker:<name>:executions` | in | out |
//! | `rq:results:<id>` | | an entry, unless it is tried again |
//! | `rq:finished:<queue>`, `rq:failed:<queue>`, `rq:scheduled:<queue>` | out | in the one that is right |
//! | `rq:worker:<name>` | | the counters; the rest is kept by [`RqWorker`](super::RqWorker) |

use std::io::Write;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::decode::{FAILURE_TTL, RqJob};
use crate::failure::Failure;

/// One command of Redis, word by word.
pub type Command = Vec<Vec<u8>>;

/// How long an execution is believed to be alive after its last sign of life: RQ's figure.
pub const EXECUTION_TTL: u64 = 90;
/// How long the list of a job's executions outlives the last of them.
const EXECUTIONS_TTL: u64 = EXECUTION_TTL + 60;
/// Results that are kept for one job.
const MOST_RESULTS: u64 = 10;

/// One attempt at a job, as RQ knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Execution {
    /// RQ's name for it.
    pub id: String,
    pub job: RqJob,
    /// The name of the worker whose it is: ours is that of the instance.
    pub worker: String,
    /// When it began.
    pub started: Timestamp,
}

/// The name of the attempt that an instance makes under a claim: the same for everybody who knows
/// these two, so that whoever takes the job back can put the books right.
pub fn execution_id(instance: &str, claim: impl std::fmt::Display) -> String {
    hex::encode(&Sha256::digest(format!("{instance}/{claim}"))[..16])
}

impl Execution {
    /// A job begins to run. `stale` are executions that are in its books already: nobody has them.
    pub fn started(&self, stale: &[String]) -> Vec<Command> {
        let mut books = Books::default();
        let job = &self.job;
        let (queue, now) = (&job.origin, self.started);
        for execution in stale {
            books.forget(&job.id, execution, queue, &self.worker);
        }
        for registry in ["failed", "finished", "scheduled", "deferred", "canceled"] {
            books.add(["ZREM", &format!("rq:{registry}:{queue}"), &job.id]);
        }
        self.write_alive(&mut books, now);
        books.add([
            "HSET",
            &key(&job.id),
            "status",
            "started",
            "started_at",
            &date(self.started),
            "ended_at",
            "",
            "worker_name",
            &self.worker,
            "last_heartbeat",
            &date(now),
        ]);
        books.0
    }

    /// It still runs. Puts right what a reader wrote who had not seen it for too long.
    pub fn alive(&self, now: Timestamp) -> Vec<Command> {
        let mut books = Books::default();
        let job = &self.job;
        self.write_alive(&mut books, now);
        books.add(["ZREM", &format!("rq:failed:{}", job.origin), &job.id]);
        books.add(["HSET", &key(&job.id), "status", "started", "last_heartbeat", &date(now)]);
        books.0
    }

    fn write_alive(&self, books: &mut Books, now: Timestamp) {
        let (job, execution) = (&self.job, &self.id);
        let own = format!("rq:execution:{}:{execution}", job.id);
        let member = format!("{}:{execution}", job.id);
        let all = format!("rq:executions:{}", job.id);
        let of_worker = format!("rq:worker:{}:executions", self.worker);
        books.add([
            "HSET",
            &own,
            "id",
            execution,
            "job_id",
            &job.id,
            "worker_name",
            &self.worker,
            "created_at",
            &seconds(self.started),
            "last_heartbeat",
            &seconds(now),
        ]);
        books.expire(&own, EXECUTION_TTL);
        books.add(["ZADD", &all, &later(now, EXECUTIONS_TTL), execution]);
        books.expire(&all, EXECUTIONS_TTL);
        books.add(["ZADD", &format!("rq:wip:{}", job.origin), &later(now, EXECUTION_TTL), &member]);
        books.add(["SADD", &of_worker, &member]);
        books.expire(&of_worker, EXECUTIONS_TTL);
        books.add(["PERSIST", &key(&job.id)]);
    }

    /// It has succeeded.
    pub fn finished(&self, now: Timestamp) -> Vec<Command> {
        let mut books = self.ended("successful_job_count", now);
        let job = &self.job;
        books.add(["ZREM", &format!("rq:failed:{}", job.origin), &job.id]);
        if job.result_ttl == 0 {
            books.delete(&job.id);
            return books.0;
        }
        books.status(job, "finished", now);
        self.result(&mut books, "1", None, Some(job.result_ttl), now);
        let until = if job.result_ttl < 0 { "+inf".to_owned() } else { later(now, job.result_ttl.unsigned_abs()) };
        books.add(["ZADD", &format!("rq:finished:{}", job.origin), &until, &job.id]);
        books.keep(job, job.result_ttl);
        books.0
    }

    /// It has failed for good; `stopped`: because somebody asked for it.
    pub fn failed(&self, failure: &Failure, stopped: bool, now: Timestamp) -> Vec<Command> {
        let mut books = self.ended("failed_job_count", now);
        self.write_failed(&mut books, failure, if stopped { "stopped" } else { "failed" }, now);
        books.0
    }

    fn write_failed(&self, books: &mut Books, failure: &Failure, status: &str, now: Timestamp) {
        let job = &self.job;
        if job.failure_ttl == Some(0) {
            books.delete(&job.id);
            return;
        }
        let text = packed(&explained(failure));
        books.status(job, status, now);
        books.0.push(words(["HSET", &key(&job.id), "exc_info"]).chain([text.clone()]).collect());
        self.result(books, "2", Some(&text), job.failure_ttl, now);
        let ttl = job.failure_ttl.unwrap_or(FAILURE_TTL);
        let until = if ttl < 0 { ttl.to_string() } else { later(now, ttl.unsigned_abs()) };
        books.add(["ZADD", &format!("rq:failed:{}", job.origin), &until, &job.id]);
        books.keep(job, ttl);
    }

    /// It has failed and is tried again: now (the id goes to `list`) or, by RQ's scheduler or ours,
    /// after `pause`.
    pub fn retried(&self, pause: Duration, list: &str, now: Timestamp) -> Vec<Command> {
        let mut books = self.ended("failed_job_count", now);
        let job = &self.job;
        if let Some(left) = job.retries_left {
            books.add(["HSET", &key(&job.id), "retries_left", &left.saturating_sub(1).to_string()]);
        }
        if pause.is_zero() {
            books.queued(job, now);
            books.add([if job.retry_at_front { "LPUSH" } else { "RPUSH" }, list, &job.id]);
        } else {
            books.status(job, "scheduled", now);
            let due = later(now + pause, 0);
            books.add(["ZADD", &format!("rq:scheduled:{}", job.origin), &due, &job.id]);
        }
        books.0
    }

    /// It goes back to the list, as if it had not been started.
    pub fn returned(&self, now: Timestamp) -> Vec<Command> {
        let mut books = Books::default();
        books.forget(&self.job.id, &self.id, &self.job.origin, &self.worker);
        books.queued(&self.job, now);
        books.0
    }

    /// It is not started at all: it cannot run here.
    pub fn refused(&self, failure: &Failure) -> Vec<Command> {
        let mut books = Books::default();
        books.count(&self.worker, "failed_job_count", Duration::ZERO);
        books.add(["HSET", &key(&self.job.id), "worker_name", &self.worker]);
        self.write_failed(&mut books, failure, "failed", self.started);
        books.0
    }

    /// What every end has: the execution is over, the worker has worked.
    fn ended(&self, counter: &str, now: Timestamp) -> Books {
        let mut books = Books::default();
        books.forget(&self.job.id, &self.id, &self.job.origin, &self.worker);
        let worked = now.duration_since(self.started).max(jiff::SignedDuration::ZERO).unsigned_abs();
        books.count(&self.worker, counter, worked);
        books
    }

    fn result(&self, books: &mut Books, kind: &str, text: Option<&[u8]>, ttl: Option<i64>, now: Timestamp) {
        let results = format!("rq:results:{}", self.job.id);
        let (started, ended) = (seconds(self.started), seconds(now));
        let most = MOST_RESULTS.to_string();
        let entry = ["XADD", &results, "MAXLEN", "~", &most, "*", "type", kind, "worker_name", &self.worker];
        let about = ["execution_id", &self.id, "execution_started_at", &started, "execution_ended_at", &ended];
        let text = text.map(|text| STANDARD.encode(text));
        let exception = text.iter().flat_map(|text| ["exc_string", text.as_str()]);
        books.0.push(words(entry).chain(words(about)).chain(words(exception)).collect());
        match ttl {
            Some(ttl) if ttl < 0 => books.add(["PERSIST", &results]),
            Some(ttl) => books.expire(&results, ttl.unsigned_abs()),
            None => {}
        }
    }
}

/// Commands under way.
#[derive(Default)]
pub(super) struct Books(pub(super) Vec<Command>);

impl Books {
    pub(super) fn add<'a>(&mut self, command: impl IntoIterator<Item = &'a str>) {
        self.0.push(words(command).collect());
    }

    pub(super) fn expire(&mut self, key: &str, seconds: u64) {
        self.add(["EXPIRE", key, &seconds.to_string()]);
    }

    fn status(&mut self, job: &RqJob, status: &str, now: Timestamp) {
        self.add(["HSET", &key(&job.id), "status", status, "ended_at", &date(now), "last_heartbeat", &date(now)]);
    }

    fn queued(&mut self, job: &RqJob, now: Timestamp) {
        let own = key(&job.id);
        self.add(["HSET", &own, "status", "queued", "enqueued_at", &date(now), "worker_name", ""]);
        self.add(["SADD", "rq:queues", &format!("rq:queue:{}", job.origin)]);
        if let Some(ttl) = job.ttl.and_then(|ttl| u64::try_from(ttl).ok()) {
            self.expire(&own, ttl);
        }
    }

    /// How long the job is kept after its end; negative for ever.
    fn keep(&mut self, job: &RqJob, ttl: i64) {
        if let Ok(ttl) = u64::try_from(ttl) {
            for key in [key(&job.id), format!("rq:job:{}:dependents", job.id), dependencies(&job.id)] {
                self.expire(&key, ttl);
            }
        }
    }

    /// What others wait for (`…:dependents`) is deleted when they have been told.
    fn delete(&mut self, id: &str) {
        self.add(["DEL", &key(id), &dependencies(id), &format!("rq:results:{id}")]);
    }

    fn forget(&mut self, id: &str, execution: &str, queue: &str, worker: &str) {
        let member = format!("{id}:{execution}");
        self.add(["DEL", &format!("rq:execution:{member}")]);
        self.add(["ZREM", &format!("rq:executions:{id}"), execution]);
        self.add(["ZREM", &format!("rq:wip:{queue}"), &member]);
        self.add(["SREM", &format!("rq:worker:{worker}:executions"), &member]);
    }

    fn count(&mut self, worker: &str, counter: &str, worked: Duration) {
        let own = format!("rq:worker:{worker}");
        self.add(["HINCRBY", &own, counter, "1"]);
        self.add(["HINCRBYFLOAT", &own, "total_working_time", &format!("{:.6}", worked.as_secs_f64())]);
        // Should the hash have expired, these two alone must not stay for ever.
        self.expire(&own, EXECUTION_TTL);
    }
}

fn words<'a>(words: impl IntoIterator<Item = &'a str>) -> impl Iterator<Item = Vec<u8>> {
    words.into_iter().map(|word| word.as_bytes().to_vec())
}

/// The hash of a job.
pub fn key(id: &str) -> String {
    format!("rq:job:{id}")
}

/// What a job waits for. The two colons in a row are RQ's.
fn dependencies(id: &str) -> String {
    format!("rq:job::{id}:dependencies")
}

/// RQ's only form of a date.
pub fn date(at: Timestamp) -> String {
    format!("{at:.6}")
}

fn seconds(at: Timestamp) -> String {
    format!("{:.6}", at.as_microsecond() as f64 / 1e6)
}

fn later(now: Timestamp, seconds: u64) -> String {
    now.as_second().saturating_add_unsigned(seconds).to_string()
}

/// The text that stands where RQ has a traceback.
fn explained(failure: &Failure) -> String {
    let kind = failure.kind;
    format!("hauld: {}: {failure}\n{} {}\n", kind.name(), kind.meaning(), kind.remedy())
}

fn packed(text: &str) -> Vec<u8> {
    let mut packer = ZlibEncoder::new(Vec::new(), Compression::default());
    // cannot fail: a Vec takes every byte
    let _ = packer.write_all(text.as_bytes());
    packer.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests;
