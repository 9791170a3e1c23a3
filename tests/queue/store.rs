use futures_util::StreamExt;
use hauld::config::GateSettings;
use hauld::failure::FailureKind;
use hauld::gate::Gate;
use hauld::job::{Element, JobSpec, TaskId};
use hauld::redis_client;
use hauld::store::{FinalStatus, RedisStore, TaskRecord, TaskStore};
use redis::AsyncCommands;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::support::redis::RedisServer;
use crate::world::element;

fn spec(task: u64) -> JobSpec {
    JobSpec::parse(&Element(element(task).into_bytes())).unwrap()
}

#[tokio::test]
async fn a_task_goes_through_its_life() {
    let server = RedisServer::start();
    let store = RedisStore::new(redis_client::commands(&server.settings()).unwrap());
    let mut redis = server.connection().await;
    let id = TaskId::new(43).unwrap();
    store.ping().await.unwrap();
    assert_eq!(store.read(id).await.unwrap(), None);
    store.finish(id, FinalStatus::Failed, Some("{}")).await.unwrap();
    assert_eq!(store.read(id).await.unwrap(), None, "a task that does not exist is not created");

    store.enroll(&spec(43), Some(41)).await.unwrap();
    let enrolled = TaskRecord {
        status: "enrolled".into(),
        order_id: Some(41),
        email: Some(spec(43).email),
        course_url: Some(spec(43).course_url.into()),
        failure: None,
    };
    assert_eq!(store.read(id).await.unwrap(), Some(enrolled));

    store.finish(id, FinalStatus::Failed, Some(r#"{"kind":"not_found"}"#)).await.unwrap();
    let row: BTreeMap<String, String> = redis.hgetall("hauld:task:43").await.unwrap();
    assert_eq!(row["status"], "failed");
    assert_eq!(row["error_log"], r#"{"kind":"not_found"}"#);
    assert_eq!((row["email"].as_str(), row["order_id"].as_str()), ("user@example.com", "41"));
    assert_eq!(row["course_url"], "https://learn.example.com/course/43/");
    row["updated_at"].parse::<jiff::Timestamp>().unwrap();
    assert_eq!(store.read(id).await.unwrap().unwrap().failure.unwrap().kind, "not_found");

    store.enroll(&spec(43), None).await.unwrap();
    let row: BTreeMap<String, String> = redis.hgetall("hauld:task:43").await.unwrap();
    assert_eq!(row["status"], "enrolled");
    assert!(!row.contains_key("error_log"));
    assert_eq!(row["order_id"], "41", "kept");

    store.finish(id, FinalStatus::Completed, None).await.unwrap();
    assert_eq!(store.read(id).await.unwrap().unwrap().status, "completed");

    // Somebody who comes late does not undo it; an operator who insists does.
    assert_eq!(store.enroll(&spec(43), None).await.unwrap_err().kind, FailureKind::UnexpectedStatus);
    assert_eq!(store.read(id).await.unwrap().unwrap().status, "completed");
    store.enroll(&JobSpec { force: true, ..spec(43) }, None).await.unwrap();
    assert_eq!(store.read(id).await.unwrap().unwrap().status, "enrolled");
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_unavailable() {
    let mut server = RedisServer::start();
    let store = RedisStore::new(redis_client::commands(&server.settings()).unwrap());
    server.kill9();
    let id = TaskId::new(43).unwrap();
    let failures = [
        store.read(id).await.unwrap_err(),
        store.finish(id, FinalStatus::Completed, None).await.unwrap_err(),
        store.enroll(&spec(43), None).await.unwrap_err(),
        store.ping().await.unwrap_err(),
    ];
    assert!(failures.iter().all(|failure| failure.kind == FailureKind::TaskStoreUnavailable), "{failures:?}");
}

#[tokio::test]
async fn the_gate_opens_when_the_row_changes_and_survives_a_restart_of_the_store() {
    let mut server = RedisServer::start_durable();
    let store = Arc::new(RedisStore::new(redis_client::commands(&server.settings()).unwrap()));
    let mut redis = server.connection().await;
    let _: () = redis.hset("hauld:task:43", "status", "processing").await.unwrap();
    let settings = GateSettings { wait: Duration::from_secs(15), poll: Duration::from_millis(100) };
    let admitted = tokio::spawn(async move { Gate::new(store, settings).admit(&spec(43)).await });
    server.kill9();
    server.restart();
    let mut redis = server.connection().await;
    let _: () = redis.hset_multiple("hauld:task:43", &[("status", "enrolled"), ("order_id", "41")]).await.unwrap();
    assert_eq!(admitted.await.unwrap().unwrap().order_id, Some(41));
}

#[tokio::test]
async fn several_tasks_are_read_in_one_round_trip_and_none_spoils_another() {
    let server = RedisServer::start();
    let store = RedisStore::new(redis_client::commands(&server.settings()).unwrap());
    for task in 1..=32 {
        server.set_task(task, "pending");
        server.cli(&["HSET", &format!("hauld:task:{task}"), "order_id", &task.to_string()]);
    }
    server.cli(&["SET", "hauld:task:33", "no hash"]);
    store.ping().await.unwrap();
    let reads = || -> u64 {
        let info = server.cli(&["INFO", "stats"]);
        let line = info.lines().find_map(|line| line.strip_prefix("total_reads_processed:")).unwrap();
        line.trim().parse().unwrap()
    };
    let task_ids: Vec<TaskId> = (1..=34).map(|task| TaskId::new(task).unwrap()).collect();
    let (before, idle) = (reads(), reads());
    let mut found: BTreeMap<TaskId, _> = store.read_many(&task_ids).collect().await;
    assert_eq!(reads() - idle, idle - before + 1, "one more than a look at the counter");
    let [hash, missing] = [33, 34].map(|task| found.remove(&TaskId::new(task).unwrap()).unwrap());
    let spoilt = hash.unwrap_err();
    assert!(spoilt.kind == FailureKind::TaskStoreUnavailable && spoilt.message.contains("task 33"), "{spoilt}");
    assert_eq!(missing.unwrap(), None);
    assert_eq!(found.len(), 32);
    for (task_id, record) in found {
        assert_eq!(record.unwrap().unwrap().order_id, Some(task_id.get()));
    }
}
