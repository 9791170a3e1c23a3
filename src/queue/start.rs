//! From handed over to running: what an element is, and whether it may run now.

use std::sync::atomic::Ordering::Relaxed;

use jiff::Timestamp;
use redis::{AsyncCommands, RedisError};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::classify::{self, Reading};
use super::keys::rq_job;
use super::link::Backoff;
use super::record::Record;
use super::recovery::held_of;
use super::rq::{self, Seen};
use super::take::Taker;
use super::{DeadEnvelope, Leased};
use crate::failure::{Failure, FailureKind};
use crate::job::{Element, JobSpec, TaskId};
use crate::rq::{Command, Execution, execution_id};

/// A claimed job that is to be started.
struct Candidate {
    element: Element,
    spec: JobSpec,
    id: String,
    claim: u64,
    /// When it is a job of RQ: what its books say, and which executions they have already.
    rq: Option<(Execution, Vec<String>)>,
}

/// What the server says to a candidate.
enum Start {
    Started(Record),
    /// Another element of its task is under way: the guard.
    Held(String),
    /// Another element of its task was done just now.
    Recent,
    /// Somebody has cancelled its task.
    Cancelled,
    /// Somebody took it out of the claimed list.
    Gone,
}

/// What the server says to all of them.
enum Starts {
    Each(Vec<Start>),
    /// All went back to the list.
    Paused,
    /// The lease is gone.
    NotOurs,
}

/// Where an element goes that is not started.
enum Place {
    Dead(Failure),
    /// To the end of the list where an RQ worker takes next.
    Left,
}

impl Taker {
    /// Starts what has been claimed, the oldest first. What is no job, or may not run, is dealt with
    /// here. After `stop`, what is not started stays claimed: the end of the instance hands it back.
    pub(super) async fn start(&mut self, elements: Vec<Element>, stop: &CancellationToken) -> Vec<Leased> {
        let mut candidates = Vec::with_capacity(elements.len());
        let mut rq = Vec::new();
        for element in elements {
            match classify::read(&element) {
                Reading::Job(spec) => {
                    let (id, claim) = (element.id(), self.lease.claim());
                    candidates.push(Candidate { element, spec, id, claim, rq: None });
                }
                Reading::Id(id) if self.queue.runs_rq() => {
                    // Alone: the books change with the start of one.
                    if let Some(candidate) = self.look_at(&element, id, stop).await {
                        rq.push(candidate);
                    }
                }
                Reading::Id(id) => self.leave_id(&element, id, stop).await,
                Reading::Rubbish(failure) => self.turn_away(&element, Place::Dead(failure), stop).await,
            }
        }
        let claims: Vec<u64> = candidates.iter().chain(&rq).map(|candidate| candidate.claim).collect();
        let mut started: Vec<Leased> = Vec::with_capacity(claims.len());
        let alone = rq.into_iter().map(|candidate| vec![candidate]);
        for mut candidates in std::iter::once(candidates).chain(alone) {
            // Again for those whose rival turned out to be gone.
            while !candidates.is_empty() {
                candidates = self.start_candidates(candidates, &mut started, stop).await;
            }
        }
        for claim in claims.into_iter().filter(|claim| !started.iter().any(|leased| leased.claim == *claim)) {
            self.lease.release(claim);
        }
        if !started.is_empty() {
            self.left_alone = 0;
        }
        started
    }

    /// Returns the candidates that are to be tried once more.
    async fn start_candidates(
        &mut self,
        candidates: Vec<Candidate>,
        started: &mut Vec<Leased>,
        stop: &CancellationToken,
    ) -> Vec<Candidate> {
        let Some(answers) = self.ask(stop, || self.try_start(&candidates)).await else {
            return Vec::new();
        };
        let answers = match answers {
            Starts::Each(answers) => answers,
            Starts::Paused => {
                self.queue.set_paused(true);
                return Vec::new();
            }
            Starts::NotOurs => {
                self.lease.lose();
                return Vec::new();
            }
        };
        let mut again = Vec::new();
        for (candidate, answer) in candidates.into_iter().zip(answers) {
            match answer {
                Start::Started(record) => {
                    let Candidate { element, spec, id, claim, rq } = candidate;
                    let leased = Leased::new(element, spec, id, record, claim, self.lease.clone());
                    let leased = match (rq, &self.lease.rq) {
                        (Some((execution, _)), Some(worker)) => leased.of_rq(worker.begin(claim, execution)),
                        _ => leased,
                    };
                    self.lease.runs(claim, leased.spec.task_id, leased.stopped.clone());
                    started.push(leased);
                }
                Start::Gone => warn!(task_id = candidate.spec.task_id.get(), "a claimed element was taken away"),
                Start::Cancelled => {
                    let failure = Failure::new(FailureKind::JobStopped, "the task was cancelled");
                    self.set_aside(&candidate, failure, None, stop).await;
                }
                Start::Recent => {
                    let seconds = self.queue.shared.settings.dedupe.as_secs();
                    let why = format!("the task was done less than {seconds} s ago (queue.dedupe_seconds)");
                    let failure = Failure::new(FailureKind::DuplicateJob, why);
                    self.set_aside(&candidate, failure, None, stop).await;
                }
                Start::Held(guard) => {
                    let task = candidate.spec.task_id.to_string();
                    let holds = self.ask(stop, || self.queue.shared.view.guard_holds(&task, &guard));
                    match holds.await {
                        Some(true) => {
                            let why = match guard.split_once('/') {
                                Some(("delayed", _)) => "it waits for its next attempt".to_owned(),
                                Some(("untold", _)) => {
                                    "it is delivered, and the backend is still to be told".to_owned()
                                }
                                _ => format!("it runs on {}", guard.rsplit_once('/').map_or("?", |(name, _)| name)),
                            };
                            let why = format!("another element of the task is there: {why}");
                            let failure = Failure::new(FailureKind::DuplicateJob, why);
                            self.set_aside(&candidate, failure, Some(&guard), stop).await;
                        }
                        Some(false) => again.push(candidate),
                        None => {}
                    }
                }
            }
        }
        again
    }

    async fn try_start(&self, candidates: &[Candidate]) -> Result<Starts, RedisError> {
        let shared = &self.queue.shared;
        let keys = &shared.keys;
        let mut call = shared.scripts.start.prepare_invoke();
        call.key(&keys.leases)
            .key(&self.lease.claimed)
            .key(&self.lease.running)
            .key(&keys.list)
            .key(&keys.records)
            .key(&keys.guards)
            .key(&keys.recent)
            .key(&keys.paused)
            .key(&keys.cancelled);
        if self.queue.runs_rq() {
            call.key(rq::SUSPENDED);
        }
        call.arg(&self.lease.instance).arg(&shared.pause_name).arg(candidates.len());
        for candidate in candidates {
            call.arg(&candidate.element.0)
                .arg(candidate.claim)
                .arg(&candidate.id)
                .arg(candidate.spec.task_id.get())
                .arg(if candidate.spec.force { "force" } else { "" });
        }
        if let [Candidate { rq: Some((execution, stale)), .. }] = candidates {
            rq::also(&mut call, &execution.started(stale));
        }
        let answer: Vec<redis::Value> = call.invoke_async(&mut shared.commands.clone()).await?;
        match answer.first() {
            Some(redis::Value::Int(-1)) => return Ok(Starts::NotOurs),
            Some(redis::Value::Int(_)) => return Ok(Starts::Paused),
            _ => {}
        }
        let mut answers = Vec::with_capacity(candidates.len());
        let mut values = answer.into_iter();
        while let (Some(word), Some(detail)) = (values.next(), values.next()) {
            let (word, detail): (String, Vec<u8>) = (redis::from_redis_value(word)?, redis::from_redis_value(detail)?);
            answers.push(match word.as_str() {
                "started" => Start::Started(Record::parse(&detail)),
                "held" => Start::Held(String::from_utf8_lossy(&detail).into_owned()),
                "recent" => Start::Recent,
                "cancelled" => Start::Cancelled,
                _ => Start::Gone,
            });
        }
        Ok(Starts::Each(answers))
    }

    /// `guard`: who is under way; `None` when nobody is. What is remembered of the element
    /// goes with it, unless an equal one is under way.
    async fn set_aside(
        &mut self,
        candidate: &Candidate,
        failure: Failure,
        guard: Option<&str>,
        stop: &CancellationToken,
    ) {
        let mut books = match &candidate.rq {
            Some((execution, _)) => self.queue.rq_refusal(&self.lease, execution.job.clone(), &failure),
            None => Vec::new(),
        };
        let remembered = self.ask(stop, || self.memory_of(&candidate.id, guard)).await.flatten();
        if remembered.is_some() {
            let forget = ["HDEL", &self.queue.shared.keys.records, &candidate.id];
            books.push(forget.iter().map(|word| word.as_bytes().to_vec()).collect());
        }
        let (task_id, record) = (Some(candidate.spec.task_id), remembered.unwrap_or_default());
        self.turn_away_with(&candidate.element, task_id, Place::Dead(failure), &record, &books, stop).await;
    }

    /// The record of an element that is set aside. `None` when it has none, or it is that of an equal
    /// element, which the guard is for.
    async fn memory_of(&self, id: &str, guard: Option<&str>) -> Result<Option<Record>, RedisError> {
        let keys = &self.queue.shared.keys;
        let mut commands = self.queue.shared.commands.clone();
        let holder: Vec<u8> = match guard.and_then(|guard| guard.split_once('/')) {
            None => Vec::new(),
            Some(("delayed" | "untold", member)) => held_of(member.as_bytes()).to_vec(),
            Some((instance, claim)) => {
                let held: Option<Vec<u8>> = commands.hget(keys.running(instance), claim).await?;
                held.unwrap_or_default()
            }
        };
        if holder.starts_with(id.as_bytes()) {
            return Ok(None);
        }
        let record: Option<Vec<u8>> = commands.hget(&keys.records, id).await?;
        Ok(record.map(|record| Record::parse(&record)))
    }

    /// An element that may be the id of an RQ job, which we run.
    async fn look_at(&mut self, element: &Element, id: &str, stop: &CancellationToken) -> Option<Candidate> {
        let seen = self.ask(stop, || self.queue.look_at_rq_job(id)).await?;
        let Some(Seen { job, spec, stale }) = seen else {
            self.turn_away(element, Place::Dead(classify::orphan_id(id)), stop).await;
            return None;
        };
        match spec {
            Ok(spec) => {
                let (claim, worker) = (self.lease.claim(), self.lease.instance.clone());
                let execution = Execution { id: execution_id(&worker, claim), job, worker, started: Timestamp::now() };
                let (element, id) = (element.clone(), element.id());
                Some(Candidate { element, spec, id, claim, rq: Some((execution, stale)) })
            }
            Err(failure) => {
                let books = self.queue.rq_refusal(&self.lease, job, &failure);
                self.turn_away_with(element, None, Place::Dead(failure), &Record::default(), &books, stop).await;
                None
            }
        }
    }

    /// An element that may be the id of an RQ job, which we do not run.
    async fn leave_id(&mut self, element: &Element, id: &str, stop: &CancellationToken) {
        let looked = self.ask(stop, || self.is_rq_job(id));
        match looked.await {
            Some(true) => self.turn_away(element, Place::Left, stop).await,
            Some(false) => self.turn_away(element, Place::Dead(classify::orphan_id(id)), stop).await,
            None => {}
        }
    }

    /// Not a job, or not one for us.
    async fn turn_away(&mut self, element: &Element, place: Place, stop: &CancellationToken) {
        self.turn_away_with(element, JobSpec::task_id_of(element), place, &Record::default(), &[], stop).await;
    }

    async fn turn_away_with(
        &mut self,
        element: &Element,
        task_id: Option<TaskId>,
        place: Place,
        record: &Record,
        books: &[Command],
        stop: &CancellationToken,
    ) {
        let (word, envelope) = match &place {
            Place::Dead(failure) => {
                let instance = &self.lease.instance;
                let mut envelope = DeadEnvelope::new(element, failure, record, instance);
                envelope.task_id = task_id;
                ("dead", envelope.to_json())
            }
            Place::Left => ("left", String::new()),
        };
        let answer = self.ask(stop, || self.try_turn_away(element, word, &envelope, books));
        let Some(waiting) = answer.await else { return };
        if waiting == -1 {
            self.lease.lose();
            return;
        }
        match place {
            Place::Dead(failure) => {
                let task_id = task_id.map(|id| id.get());
                let kind = failure.kind.name();
                if failure.kind == FailureKind::MalformedJob {
                    self.queue.shared.metrics.malformed.inc();
                }
                warn!(task_id, kind, id = element.id(), reason = %failure, "not started: moved to the dead list");
            }
            Place::Left => self.leave_alone(u64::try_from(waiting).unwrap_or(0), stop).await,
        }
    }

    /// Returns the length of the list, -1 when the lease is gone, -2 when it has been done before.
    async fn try_turn_away(
        &self,
        element: &Element,
        word: &str,
        envelope: &str,
        books: &[Command],
    ) -> Result<i64, RedisError> {
        let shared = &self.queue.shared;
        let keys = &shared.keys;
        let mut call = shared.scripts.turn_away.key(&keys.leases);
        call.key(&self.lease.claimed).key(&keys.list).key(&keys.dead).key(&keys.counts);
        call.arg(&self.lease.instance).arg(&element.0).arg(word).arg(envelope);
        rq::also(&mut call, books);
        call.invoke_async(&mut shared.commands.clone()).await
    }

    async fn is_rq_job(&self, id: &str) -> Result<bool, RedisError> {
        let has_data = self.queue.shared.commands.clone().hexists(rq_job(id), "data").await;
        match has_data {
            // A key of another type is no RQ job either.
            Err(error) if RedisError::code(&error) == Some("WRONGTYPE") => Ok(false),
            looked => looked,
        }
    }

    /// The list may hold nothing but jobs of RQ: then there is no hurry to look at them again.
    async fn leave_alone(&mut self, waiting: u64, stop: &CancellationToken) {
        if self.left_alone == 0 {
            info!("the list holds jobs of RQ: they are left to its workers (rq.compat)");
        }
        self.left_alone += 1;
        if self.left_alone.is_multiple_of(waiting.max(1)) {
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(self.queue.shared.settings.block) => {}
            }
        }
    }

    /// Asks until Redis answers. `None` after `stop`, or when the lease is gone: then everything is
    /// left as it is, to the end of the instance or to the others.
    async fn ask<T, F>(&self, stop: &CancellationToken, question: impl Fn() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        let mut backoff = Backoff::new();
        loop {
            match question().await {
                Ok(answer) => {
                    self.queue.shared.link.answered();
                    return Some(answer);
                }
                Err(error) => {
                    self.queue.shared.link.failed(&error);
                    tokio::select! {
                        () = stop.cancelled() => {
                            self.lease.reread.store(true, Relaxed);
                            return None;
                        }
                        () = self.lease.lost.cancelled() => return None,
                        () = tokio::time::sleep(backoff.next()) => {}
                    }
                }
            }
        }
    }
}
