//! The task store of a backend that is asked over HTTP.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hauld::config::{BearerSettings, Config, GateSettings, HttpStoreSettings};
use hauld::failure::{Failure, FailureKind};
use hauld::gate::Gate;
use hauld::job::{Element, JobSpec, TaskId};
use hauld::store::{FinalStatus, HttpStore, TaskRecord, TaskStore};
use serde_json::{Value, json};

use crate::support::task_service::{TASKS, TOKEN, TaskService};
use crate::support::{Fault, Origin, Reply};
use crate::world::{element, within};

fn spec(task: u64) -> JobSpec {
    JobSpec::parse(&Element(element(task).into_bytes())).unwrap()
}

fn id(task: u64) -> TaskId {
    TaskId::new(task).unwrap()
}

fn settings(service: &TaskService) -> HttpStoreSettings {
    HttpStoreSettings {
        endpoint: Some(service.endpoint().parse().unwrap()),
        token: Some(BearerSettings { token: TOKEN.to_owned().into(), file: None }),
        concurrency: 4,
        timeout: Duration::from_secs(1),
    }
}

fn store(settings: &HttpStoreSettings) -> HttpStore {
    let config = Config::load(None, Default::default(), Default::default()).unwrap();
    HttpStore::new(settings, &config.http).unwrap()
}

#[tokio::test]
async fn a_task_goes_through_its_life() {
    let service = TaskService::start();
    let store = store(&settings(&service));
    assert_eq!(store.read(id(43)).await.unwrap(), None);
    store.finish(id(43), FinalStatus::Completed, None).await.unwrap();
    store.finish(id(43), FinalStatus::Failed, Some("{}")).await.unwrap();
    assert_eq!(store.enroll(&spec(43), Some(41)).await.unwrap_err().kind, FailureKind::TaskNotFound);
    assert_eq!(service.get(43, "status"), None, "no task is made up");

    service.insert(43, "paid");
    let expected = TaskRecord {
        status: "paid".into(),
        order_id: Some(41),
        email: Some("user@example.com".into()),
        course_url: Some("https://learn.example.com/course/43/".into()),
        failure: None,
    };
    assert_eq!(store.read(id(43)).await.unwrap(), Some(expected));
    store.enroll(&spec(43), Some(41)).await.unwrap();
    assert_eq!(service.get(43, "status").unwrap(), "enrolled");
    let report = r#"{"kind":"not_found","enrolled":true}"#;
    store.finish(id(43), FinalStatus::Failed, Some(report)).await.unwrap();
    assert_eq!(service.get(43, "error_log").unwrap(), report);
    assert_eq!(store.read(id(43)).await.unwrap().unwrap().failure.unwrap().kind, "not_found");
    // A backend that keeps JSON as JSON, and numbers as texts.
    service.set(43, "error_log", json!({"kind": "disk_full"}));
    service.set(43, "id", "43");
    assert_eq!(store.read(id(43)).await.unwrap().unwrap().failure.unwrap().kind, "disk_full");

    store.finish(id(43), FinalStatus::Completed, None).await.unwrap();
    store.finish(id(43), FinalStatus::Completed, None).await.unwrap();
    assert_eq!(service.get(43, "error_log").unwrap(), Value::Null);
    let before = service.changes().len();
    store.finish(id(43), FinalStatus::Failed, Some("{}")).await.unwrap();
    assert_eq!(store.enroll(&spec(43), None).await.unwrap_err().kind, FailureKind::UnexpectedStatus);
    assert_eq!(service.changes().len(), before, "not even asked for");
    store.enroll(&JobSpec { force: true, ..spec(43) }, None).await.unwrap();
    let (last, _) = service.changes().pop().unwrap();
    assert_eq!(last, json!({"status": "enrolled", "force": true}));
    assert_eq!(service.get(43, "status").unwrap(), "enrolled");
    let paths: Vec<String> = service.origin.requests().into_iter().map(|request| request.path).collect();
    assert!(paths.iter().all(|path| path == "/api/v1/tasks/43"), "{paths:?}");
}

#[tokio::test]
async fn what_the_backend_refuses_stays_as_it_is() {
    let service = TaskService::start();
    let store = store(&settings(&service));
    service.insert(43, "completed");
    // The task was completed between the look and the change.
    let processing = || Fault::Instead(Reply::json(&json!({"id": 43, "status": "processing"}))).times(1);
    service.origin.fault(TASKS, processing());
    store.finish(id(43), FinalStatus::Failed, Some("{}")).await.unwrap();
    service.origin.heal(TASKS);
    service.origin.fault(TASKS, processing());
    assert_eq!(store.enroll(&spec(43), None).await.unwrap_err().kind, FailureKind::UnexpectedStatus);
    let answers: Vec<_> = service.changes().into_iter().map(|(_, status)| status).collect();
    assert_eq!(answers, [Some(409), Some(409)]);
    service.origin.heal(TASKS);
    service.origin.fault(TASKS, Fault::Status(409));
    let refused = store.finish(id(43), FinalStatus::Completed, None).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::UnexpectedStatus);
}

#[tokio::test]
async fn whatever_else_it_answers_is_trouble_and_said_without_the_token() {
    let service = TaskService::start();
    let elsewhere = Origin::start();
    let store = store(&settings(&service));
    service.insert(43, "enrolled");
    let body = |body: Value| Fault::Instead(Reply::json(&body));
    let faults: Vec<(Fault, &str)> = vec![
        (Fault::Status(500), "500"),
        (Fault::Status(418), "418"),
        (Fault::Status(401), "401 Unauthorized: is store.http_token_file right?"),
        (Fault::Status(403), "403 Forbidden: is store.http_token_file right?"),
        (Fault::Redirect(elsewhere.url("/login?next=secret")), "/login?…, which is not followed"),
        (Fault::Body("<html>".into()), "is not JSON"),
        (Fault::Html, "is not JSON"),
        (Fault::Empty, "is not JSON"),
        (body(json!([{"id": 43, "status": "enrolled"}])), "its id is another"),
        (body(json!({"id": 44, "status": "enrolled"})), "its id is another"),
        (body(json!({"id": 43, "status": 7})), "has no status"),
        (body(json!({"id": 43, "status": "enrolled", "error_log": "x".repeat(2 << 20)})), "more than 1048576 bytes"),
        (Fault::DropBeforeHead, "127.0.0.1"),
        (Fault::CutAt(20), "127.0.0.1"),
        (Fault::StallAfter(20), "no answer within 1 s"),
        (Fault::Delay(Duration::from_secs(3)), "no answer within 1 s"),
    ];
    for (fault, word) in faults {
        service.origin.heal(TASKS);
        service.origin.fault(TASKS, fault.clone());
        let failure = store.read(id(43)).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::TaskStoreUnavailable, "{fault:?}: {failure}");
        let place = format!("reading the status of task 43: {}", service.origin.url("/api/v1/tasks/43"));
        assert!(failure.message.starts_with(&place), "{fault:?}: {failure}");
        assert!(failure.message.contains(word) && !failure.message.contains("secret"), "{fault:?}: {failure}");
        assert!(!failure.message.contains(TOKEN), "{failure}");
    }
    assert!(elsewhere.requests().is_empty(), "the token is for the endpoint alone");

    service.origin.heal(TASKS);
    service.origin.fault(TASKS, Fault::status_with(503, &[("Retry-After", "7")]));
    let failures: [Failure; 4] = [
        store.read(id(43)).await.unwrap_err(),
        store.finish(id(43), FinalStatus::Completed, None).await.unwrap_err(),
        store.enroll(&JobSpec { force: true, ..spec(43) }, None).await.unwrap_err(),
        store.examine().await.unwrap_err(),
    ];
    for failure in &failures {
        assert_eq!(failure.kind, FailureKind::TaskStoreUnavailable, "{failure}");
        assert_eq!(failure.retry_after, Some(Duration::from_secs(7)), "{failure}");
    }
    service.origin.heal(TASKS);
    assert_eq!(service.get(43, "status").unwrap(), "enrolled");
    assert_eq!(store.examine().await.unwrap().place, service.endpoint());
}

#[tokio::test]
async fn the_gate_asks_for_each_task_but_not_for_too_many_at_once() {
    const JOBS: u64 = 24;
    let service = TaskService::start();
    let timing = GateSettings { wait: Duration::from_secs(60), poll: Duration::from_millis(200) };
    let settings = HttpStoreSettings { timeout: Duration::from_secs(60), ..settings(&service) };
    let gate = Arc::new(Gate::new(Arc::new(store(&settings)), timing));
    let comes = |task: u64| {
        let gate = gate.clone();
        tokio::spawn(async move { gate.admit(&spec(task)).await })
    };
    (1..=JOBS).for_each(|task| service.insert(task, "pending"));
    service.origin.fault("/api/v1/tasks/1", Fault::Status(500).times(2));
    // An answer that does not come is waited for by nobody else.
    let hold = service.origin.hold("/api/v1/tasks/2");
    let waiting: Vec<_> = (1..=JOBS).map(comes).collect();
    hold.wait_for(1).await;
    for task in 1..=JOBS {
        let path = format!("/api/v1/tasks/{task}");
        service.origin.wait_for_request(&path, if task == 2 { 1 } else { 3 }).await;
    }
    (1..=JOBS).for_each(|task| service.set(task, "status", "enrolled"));
    for (task, waiting) in (1..).zip(waiting) {
        if task != 2 {
            assert_eq!(within(waiting).await.unwrap().unwrap().order_id, Some(41));
        }
    }
    assert!(service.origin.most_in_flight() <= 4, "{}", service.origin.most_in_flight());
    let begin = Instant::now();
    service.insert(99, "failed");
    assert_eq!(within(comes(99)).await.unwrap().unwrap_err().kind, FailureKind::EnrollmentFailed);
    assert_eq!(within(comes(100)).await.unwrap().unwrap_err().kind, FailureKind::TaskNotFound);
    assert!(begin.elapsed() < Duration::from_secs(10));
}
