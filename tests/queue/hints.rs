//! The gate looks at once when somebody tells it that a task has changed. It looks so seldom by itself
//! here that no test would live to see it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hauld::config::{Config, GateSettings, RedisSettings};
use hauld::failure::Result;
use hauld::gate::{Enrolled, Gate};
use hauld::job::{Element, JobSpec};
use hauld::redis_client;
use hauld::store::{self, RedisStore};
use tokio::task::JoinHandle;

use crate::support::redis::RedisServer;
use crate::support::wait;
use crate::world::{element, within};

const LIMIT: Duration = Duration::from_secs(30);
const SELDOM: GateSettings = GateSettings { wait: Duration::from_secs(3600), poll: Duration::from_secs(600) };

fn spec(task: u64) -> JobSpec {
    JobSpec::parse(&Element(element(task).into_bytes())).unwrap()
}

fn gate(settings: &RedisSettings, timing: GateSettings) -> Arc<Gate> {
    let commands = redis_client::commands(settings).unwrap();
    Arc::new(Gate::new(Arc::new(RedisStore::new(commands.clone())), timing).told_by(commands))
}

fn comes(gate: &Arc<Gate>, task: u64) -> JoinHandle<Result<Enrolled>> {
    let gate = gate.clone();
    tokio::spawn(async move { gate.admit(&spec(task)).await })
}

/// How often the rows of tasks were read.
fn reads(server: &RedisServer) -> u64 {
    let info = server.cli(&["INFO", "commandstats"]);
    let calls = |line: &str| line.strip_prefix("cmdstat_hgetall:calls=")?.split(',').next()?.parse().ok();
    info.lines().find_map(calls).unwrap_or(0)
}

async fn wait_for_reads(server: &RedisServer, count: u64) {
    let seen = || (reads(server) == count).then_some(());
    wait::until(&format!("rows were read {count} times"), LIMIT, seen).await;
}

fn own_channel(task: u64) -> String {
    format!("hauld:task:{task}:enrolled")
}

async fn wait_for_listener(server: &RedisServer, task: u64) {
    let listens = || (server.listeners(&own_channel(task)) == 1).then_some(());
    wait::until(&format!("the gate listens to what happens to task {task}"), LIMIT, listens).await;
}

#[tokio::test]
async fn whatever_is_published_about_a_task_makes_the_gate_look() {
    let server = RedisServer::start();
    let gate = gate(&server.settings(), SELDOM);
    for channel in ["task:43:status", "hauld:task:43:enrolled"] {
        server.set_task(43, "pending");
        let before = reads(&server);
        let waiting = comes(&gate, 43);
        // When it comes, and once more when the change of a moment ago would have been missed.
        wait_for_reads(&server, before + 2).await;
        assert_eq!((server.listeners(channel), server.listeners("task:44:status")), (1, 0));

        // A hint is not believed.
        server.cli(&["PUBLISH", channel, r#"{"newStatus":"enrolled"}"#]);
        wait_for_reads(&server, before + 3).await;
        assert!(!waiting.is_finished());
        server.set_task(43, "enrolled");
        server.cli(&["PUBLISH", channel, "whatever"]);
        within(waiting).await.unwrap().unwrap();
        assert_eq!(reads(&server), before + 4);

        let gone = || server.cli(&["CLIENT", "LIST", "TYPE", "pubsub"]).is_empty().then_some(());
        wait::until("nobody listens when nobody waits", LIMIT, gone).await;
    }
}

#[tokio::test]
async fn what_one_process_enrolls_opens_the_gate_of_another() {
    let server = RedisServer::start();
    let gate = gate(&server.settings(), SELDOM);
    let flags = BTreeMap::from([("redis.url".to_owned(), server.url())]);
    let elsewhere = store::open(&Config::load(None, BTreeMap::new(), flags).unwrap()).unwrap();
    let waiting: Vec<_> = (1..=5).map(|task| (server.set_task(task, "paid"), comes(&gate, task)).1).collect();
    for task in 1..=5 {
        wait_for_listener(&server, task).await;
    }
    for (task, waiting) in (1..).zip(waiting) {
        assert!(!waiting.is_finished());
        elsewhere.enroll(&spec(task), Some(41)).await.unwrap();
        assert_eq!(within(waiting).await.unwrap().unwrap().order_id, Some(41));
    }
}

#[tokio::test]
async fn a_subscription_that_is_lost_is_made_again() {
    let server = RedisServer::start();
    let gate = gate(&server.settings(), SELDOM);
    server.set_task(43, "pending");
    let waiting = comes(&gate, 43);
    wait_for_reads(&server, 2).await;
    // As if it was published while nobody could hear it: it is seen when somebody listens again.
    server.set_task(43, "enrolled");
    assert_eq!(server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]), "1");
    within(waiting).await.unwrap().unwrap();
    assert_eq!(reads(&server), 3);
}

#[tokio::test]
async fn who_may_not_listen_looks_by_himself() {
    let server = RedisServer::start();
    server.cli(&["ACL", "SETUSER", "deaf", "on", ">secret", "~*", "+@all", "resetchannels"]);
    let settings = RedisSettings::new(format!("redis://deaf:secret@127.0.0.1:{}/0", server.port()));
    let timing = GateSettings { poll: Duration::from_millis(100), ..SELDOM };
    let gate = gate(&settings, timing);
    server.set_task(43, "pending");
    let waiting = comes(&gate, 43);
    let denied = || server.cli(&["ACL", "LOG"]).contains("task:43:status").then_some(());
    wait::until("it may not listen", LIMIT, denied).await;
    server.set_task(43, "enrolled");
    within(waiting).await.unwrap().unwrap();
}
