//! From handed over to running: what an element is, and whether it may run now.

use std::sync::atomic::Ordering::Relaxed;

use jiff::Timestamp;
use redis::{AsyncCommands, RedisError};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Leased;
use super::classify::{self, Reading};
use super::keys::rq_job;
use super::record::Record;
use super::rq::{self, Seen};
use super::take::Taker;
use super::turn_away::Place;
use crate::failure::{Failure, FailureKind};
use crate::job::{Element, JobSpec};
use crate::rq::{Execution, execution_id};

/// A claimed job that is to be started.
pub(super) struct Candidate {
    pub(super) element: Element,
    pub(super) spec: JobSpec,
    pub(super) id: String,
    claim: u64,
    /// When it is a job of RQ: what its books say, and which executions they have already.
    pub(super) rq: Option<(Execution, Vec<String>)>,
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

    async fn is_rq_job(&self, id: &str) -> Result<bool, RedisError> {
        let has_data = self.queue.shared.commands.clone().hexists(rq_job(id), "data").await;
        match has_data {
            // A key of another type is no RQ job either.
            Err(error) if RedisError::code(&error) == Some("WRONGTYPE") => Ok(false),
            looked => looked,
        }
    }

    /// Asks until Redis answers. `None` after `stop`, or when the lease is gone: then everything is
    /// left as it is, to the end of the instance or to the others.
    pub(super) async fn ask<T, F>(&self, stop: &CancellationToken, question: impl Fn() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        let answer = self.queue.ask(&self.lease, stop, question).await;
        if answer.is_none() {
            self.lease.reread.store(true, Relaxed);
        }
        answer
    }
}
