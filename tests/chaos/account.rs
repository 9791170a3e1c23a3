//! The account at the end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use hauld::job::Element;
use hauld::queue::DeadEnvelope;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;

use crate::element::{Kind, LECTURE, Pushed, folder};
use crate::leavings;
use crate::producer::{ACCEPTED, LIST};
use crate::support::backend::check_finalize_signature;
use crate::support::daemon::{SECRET, tree};
use crate::support::origin::Request;
use crate::world::{Event, World};

pub const PREFIX: &str = "{rq:queue:downloads}:hauld:";
/// Of an account that does not add up so many elements tell their story.
const STORIES: usize = 4;
/// A call of an instance is looked at as cut short by what happened to the instance so much later.
const CUT_SHORT: Duration = Duration::from_secs(8);

/// What was found.
#[derive(Default)]
pub struct Account {
    accepted: usize,
    done: u64,
    dead: usize,
    set_aside: usize,
    finalize_calls: usize,
    repeated_calls: usize,
    /// What does not add up, and the task it is about.
    faults: Vec<(Option<u64>, String)>,
    stories: String,
}

/// Waits until nothing waits, runs or is delayed, and all leases are those of the living. Returns what stands
/// in the way after `limit`.
pub async fn wait_for_rest(world: &World, living: usize, limit: Duration) -> Result<(), String> {
    let begin = Instant::now();
    loop {
        let busy = match world.connect().await {
            Ok(mut redis) => busy(&mut redis, living).await.unwrap_or_else(|error| vec![error.to_string()]),
            Err(error) => vec![error.to_string()],
        };
        if busy.is_empty() {
            return Ok(());
        }
        if begin.elapsed() > limit {
            return Err(format!("not at rest {limit:?} after the last disturbance: {}", busy.join(", ")));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn busy(redis: &mut MultiplexedConnection, living: usize) -> redis::RedisResult<Vec<String>> {
    let mut busy = Vec::new();
    let mut see = |what: &str, count: usize| {
        if count > 0 {
            busy.push(format!("{what}: {count}"));
        }
    };
    see(LIST, redis.llen(LIST).await?);
    see("delayed", redis.zcard(format!("{PREFIX}delayed")).await?);
    see("untold", redis.zcard(format!("{PREFIX}untold")).await?);
    let keys: Vec<String> = redis.keys(format!("{PREFIX}*:*")).await?;
    for key in keys {
        let kind: String = redis::cmd("TYPE").arg(&key).query_async(redis).await?;
        match kind.as_str() {
            "list" if key.contains(":claimed:") => see(&key, redis.llen(&key).await?),
            "hash" if key.contains(":running:") => see(&key, redis.hlen(&key).await?),
            _ => {}
        }
    }
    let leases: usize = redis.zcard(format!("{PREFIX}leases")).await?;
    see("leases too many or too few", leases.abs_diff(living));
    Ok(busy)
}

/// Looks at everything once all processes have ended.
pub async fn settle_accounts(world: &World, pushed: &[Pushed], at_rest: Result<(), String>) -> Account {
    let mut account = Account::default();
    for complaint in world.complaints().into_iter().chain(at_rest.err()) {
        account.fault(None, complaint);
    }
    let mut redis = world.connect().await.expect("the server is there");
    let accepted: BTreeSet<u64> = redis.smembers(ACCEPTED).await.expect("the accepted elements");
    let accepted: Vec<&Pushed> = pushed.iter().filter(|element| accepted.contains(&element.number)).collect();
    account.accepted = accepted.len();
    let every_task: BTreeSet<u64> = accepted.iter().filter_map(|element| element.task).collect();
    let dead: Vec<Vec<u8>> = redis.lrange(format!("{PREFIX}dead"), 0, -1).await.expect("the dead list");
    account.dead = dead.len();
    let mut dead_of: HashMap<Vec<u8>, Vec<DeadEnvelope>> = HashMap::new();
    for entry in dead {
        match serde_json::from_slice::<DeadEnvelope>(&entry) {
            Ok(envelope) => {
                let element = envelope.element().map(|element| element.0).unwrap_or_default();
                dead_of.entry(element).or_default().push(envelope);
            }
            Err(error) => account.fault(None, format!("an entry of the dead list is not an envelope: {error}")),
        }
    }
    let mut tasks: BTreeMap<u64, Vec<&Pushed>> = BTreeMap::new();
    for element in accepted {
        match element.task {
            Some(task) if element.kind.death().is_none() => tasks.entry(task).or_default().push(element),
            _ => {
                let envelopes = dead_of.remove(&element.bytes).unwrap_or_default();
                account.check_death(&mut redis, element, &envelopes).await;
            }
        }
    }
    let mut calls: BTreeMap<u64, Vec<Request>> = BTreeMap::new();
    for call in world.finalize_calls() {
        check_finalize_signature(&call, SECRET);
        calls.entry(call.json()["task_id"].as_u64().expect("a task id")).or_default().push(call);
    }
    account.finalize_calls = calls.values().map(Vec::len).sum();
    let events = world.events();
    for (task, elements) in &tasks {
        let kind = elements[0].kind;
        let set_aside = elements.iter().flat_map(|element| dead_of.remove(&element.bytes).unwrap_or_default());
        account.check_doubles(*task, elements.len(), &set_aside.collect::<Vec<_>>());
        account.check_task(&mut redis, *task, "completed").await;
        account.check_folder(world, *task, kind);
        account.check_calls(*task, elements, &calls.remove(task).unwrap_or_default(), &events);
    }
    for task in calls.into_keys() {
        account.fault(Some(task), "reported as delivered, and should not be".into());
    }
    for element in dead_of.into_keys() {
        account.fault(
            None,
            format!("on the dead list without having been pushed: {:?}", String::from_utf8_lossy(&element)),
        );
    }
    account.done =
        redis.hget::<_, _, Option<u64>>(format!("{PREFIX}counts"), "done").await.expect("counts").unwrap_or(0);
    if account.done != tasks.len() as u64 {
        account.fault(None, format!("{} elements are counted as done, and {} should be", account.done, tasks.len()));
    }
    let done = tasks.keys().copied().collect();
    for leaving in leavings::find(world, &mut redis, &done, every_task.len()).await {
        account.fault(None, leaving);
    }
    account.tell_stories(world, &mut redis).await;
    account
}

impl Account {
    fn fault(&mut self, task: Option<u64>, what: String) {
        self.faults.push((task, what));
    }

    /// An element that must be on the dead list, once, for its own reason.
    async fn check_death(&mut self, redis: &mut MultiplexedConnection, element: &Pushed, found: &[DeadEnvelope]) {
        let (kind, attempts) = element.kind.death().expect("only those that die");
        let task = element.task;
        match found {
            [envelope] if (envelope.kind.as_str(), envelope.attempts) == (kind, attempts) => {}
            _ => {
                let found: Vec<_> =
                    found.iter().map(|one| format!("{} after {} attempts", one.kind, one.attempts)).collect();
                self.fault(
                    task,
                    format!(
                        "{:?} is on the dead list as {found:?} and not once as {kind} after {attempts} attempts",
                        String::from_utf8_lossy(&element.bytes)
                    ),
                );
            }
        }
        if let Some(task) = task {
            self.check_task(redis, task, "failed").await;
        }
    }

    /// Of the elements of one task one is done; the others are set aside.
    fn check_doubles(&mut self, task: u64, pushed: usize, set_aside: &[DeadEnvelope]) {
        for envelope in set_aside.iter().filter(|envelope| envelope.kind != "duplicate_job") {
            self.fault(Some(task), format!("is on the dead list as {}: {}", envelope.kind, envelope.message));
        }
        if set_aside.len() + 1 != pushed {
            self.fault(Some(task), format!("{} entries of the dead list for {pushed} elements", set_aside.len()));
        }
        self.set_aside += set_aside.len();
    }

    async fn check_task(&mut self, redis: &mut MultiplexedConnection, task: u64, expected: &str) {
        let status: Option<String> = redis.hget(format!("hauld:task:{task}"), "status").await.expect("the task store");
        if status.as_deref() != Some(expected) {
            self.fault(Some(task), format!("the task store says {status:?} and not {expected}"));
        }
    }

    /// The folder is there, with these files and no others.
    fn check_folder(&mut self, world: &World, task: u64, kind: Kind) {
        let directory = world.delivered().join(folder(task));
        let found = tree(&directory);
        let read = |path: &str| std::fs::read(directory.join(path)).unwrap_or_default();
        let plain = kind.delivered(task);
        for (path, content) in &plain {
            if read(path) != *content {
                self.fault(Some(task), format!("{path} is not what was downloaded"));
            }
        }
        let others: Vec<&String> = found.iter().filter(|path| plain.iter().all(|(name, _)| name != *path)).collect();
        match (kind.film(), &others[..]) {
            (None, []) => {}
            (Some(shape), [path]) if ["mp4", "ts"].iter().any(|end| **path == format!("{LECTURE}.{end}")) => {
                let content = read(path);
                if !world.films.is_exact(shape, &content) {
                    self.fault(Some(task), format!("{path} ({shape:?}) has {} bytes and is not exact", content.len()));
                }
            }
            _ => self.fault(Some(task), format!("delivered as {found:?}")),
        }
    }

    /// The backend has heard of the task: once, or again from another process because the one before had been cut
    /// short.
    fn check_calls(&mut self, task: u64, elements: &[&Pushed], calls: &[Request], events: &[Event]) {
        let Some((_, earlier)) = calls.split_last() else {
            return self.fault(Some(task), "the backend was never told".into());
        };
        if calls.iter().all(|call| call.status != Some(200)) {
            self.fault(Some(task), "the backend has accepted no call".into());
        }
        self.repeated_calls += earlier.len();
        let ids: BTreeSet<String> = elements.iter().map(|element| Element(element.bytes.clone()).id()).collect();
        let keys: BTreeSet<&str> =
            calls.iter().map(|call| call.header("Idempotency-Key").unwrap_or_default()).collect();
        if !keys.iter().all(|key| ids.contains(*key)) {
            self.fault(Some(task), format!("the finalize calls have the idempotency keys {keys:?} and not {ids:?}"));
        }
        // One that was refused is made again.
        for call in earlier.iter().filter(|call| call.status.is_none_or(|status| status == 200)) {
            let who = caller(call);
            let is_cut_short = events.iter().any(|event| {
                let concerns = event.who == who || event.who == "server";
                let is_grave = match event.what {
                    "kill" | "kill of the server" => true,
                    "stop" | "frozen connections" | "late connections" => event.lasted > Duration::from_secs(1),
                    "stop of the server" | "read-only server" | "full server" => event.lasted > Duration::from_secs(1),
                    _ => false,
                };
                concerns
                    && is_grave
                    && event.at < call.at + CUT_SHORT
                    && event.at + event.lasted + CUT_SHORT / 8 > call.at
            });
            if !is_cut_short {
                self.fault(
                    Some(task),
                    format!("{} finalize calls, one of {who}, to which nothing had happened", calls.len()),
                );
            }
        }
    }

    async fn tell_stories(&mut self, world: &World, redis: &mut MultiplexedConnection) {
        let tasks: BTreeSet<u64> = self.faults.iter().filter_map(|(task, _)| *task).collect();
        for task in tasks.into_iter().take(STORIES) {
            let story = story(world, redis, task).await;
            self.stories.push_str(&story);
        }
    }

    /// Elements that have come to an end.
    pub fn jobs(&self) -> usize {
        self.done as usize + self.dead
    }

    /// One line: what was done, and what came of it.
    pub fn summary(&self, world: &World) -> String {
        let done: Vec<String> = world.counts().into_iter().map(|(what, count)| format!("{count} × {what}")).collect();
        format!(
            "seed {}: {}; {} elements = {} done + {} dead ({} of them doubles set aside); {} finalize calls, {} of them repeated; {} faults",
            world.seed,
            done.join(", "),
            self.accepted,
            self.done,
            self.dead,
            self.set_aside,
            self.finalize_calls,
            self.repeated_calls,
            self.faults.len(),
        )
    }

    /// # Panics
    /// When it does not: with the seed, the plan so far and the stories of some elements.
    pub fn assert_it_adds_up(&self, world: &World) {
        if self.faults.is_empty() && self.accepted == self.done as usize + self.dead {
            return;
        }
        let mut text = format!("{}\n", self.summary(world));
        for event in world.events() {
            let _ = writeln!(
                text,
                "{} {:8} {} {:.3}",
                world.time_of(event.at),
                event.who,
                event.what,
                event.lasted.as_secs_f64()
            );
        }
        text.push_str(&self.stories);
        for (task, fault) in self.faults.iter().take(40) {
            let _ = writeln!(text, "FAULT {}{fault}", task.map(|task| format!("task {task}: ")).unwrap_or_default());
        }
        panic!("the account does not add up\n{text}repeat with the seed {}", world.seed);
    }
}

/// `g7` of `/backend/g7/…`
fn caller(call: &Request) -> &str {
    call.path.split('/').nth(2).unwrap_or_default()
}

/// Everything that is known of a task.
async fn story(world: &World, redis: &mut MultiplexedConnection, task: u64) -> String {
    let mut text = format!("---- task {task} ----\n");
    for request in world.origin.requests() {
        let is_of_the_task = match request.path.split('/').nth(1) {
            Some("catalog") => request.target.ends_with(&format!("%2F{task}%2F")),
            Some("backend") => request.json()["task_id"] == task,
            _ => request.path.contains(&format!("/{task}")),
        };
        if is_of_the_task {
            let _ = writeln!(text, "{} {} -> {:?}", world.time_of(request.at), request.target, request.status);
        }
    }
    for end in [",", "}"] {
        for line in world.log_lines(&format!("\"task_id\":{task}{end}")) {
            let _ = writeln!(text, "{line}");
        }
    }
    let keys: Vec<String> = redis.keys(format!("{PREFIX}*")).await.unwrap_or_default();
    for key in keys.into_iter().chain([LIST.to_owned(), format!("hauld:task:{task}")]) {
        let content: Vec<u8> = redis::cmd("DUMP").arg(&key).query_async(redis).await.unwrap_or_default();
        let content = String::from_utf8_lossy(&content);
        if content.contains(&format!("\"taskId\":{task},")) || key.ends_with(&format!("task:{task}")) {
            let _ = writeln!(text, "in {key}");
        }
    }
    text
}
