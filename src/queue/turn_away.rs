//! Claimed elements that are not started: to the dead list, or back for somebody else.

use redis::{AsyncCommands, RedisError};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::DeadEnvelope;
use super::record::Record;
use super::recovery::held_of;
use super::rq;
use super::start::Candidate;
use super::take::Taker;
use crate::failure::{Failure, FailureKind};
use crate::job::{Element, JobSpec, TaskId};
use crate::rq::Command;

/// Where an element goes that is not started.
pub(super) enum Place {
    Dead(Failure),
    /// To the end of the list where an RQ worker takes next.
    Left,
}

impl Taker {
    /// `guard`: who is under way; `None` when nobody is. What is remembered of the element
    /// goes with it, unless an equal one is under way.
    pub(super) async fn set_aside(
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

    /// Not a job, or not one for us.
    pub(super) async fn turn_away(&mut self, element: &Element, place: Place, stop: &CancellationToken) {
        self.turn_away_with(element, JobSpec::task_id_of(element), place, &Record::default(), &[], stop).await;
    }

    pub(super) async fn turn_away_with(
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
}
