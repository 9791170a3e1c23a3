//! The daemon with a backend that gives its tasks out over HTTP.

use std::time::Duration;

use crate::support::daemon::Builder;
use crate::support::task_service::{TASKS, TOKEN, TaskService};
use crate::support::{Fault, Reply, hauld, wait};
use crate::world::{World, complaints, course_url, lecture_path, small};

fn daemon(world: &World, service: &TaskService) -> Builder {
    let builder = world.daemon().set("store.kind", "http").set("store.http_endpoint", service.endpoint());
    builder.secret("store.http_token", TOKEN).set("log.level", "trace").set("gate.wait_seconds", 3)
}

/// A small course, on the list from now on.
fn submit(world: &World, task_id: u64) {
    world.publish(task_id, &small());
    world.redis.push_job(task_id, &course_url(task_id));
}

#[tokio::test]
async fn every_status_is_judged_and_the_end_is_written() {
    let (world, service) = (World::new(), TaskService::start());
    let daemon = daemon(&world, &service).set("worker.jobs", 8).start().await;
    daemon.wait_for_log(&["the task store can be used", &service.endpoint()]).await;
    for (task_id, status) in
        [(701, "enrolled"), (702, "failed"), (703, "pending"), (704, "paid"), (705, "completed"), (706, "odd")]
    {
        service.insert(task_id, status);
        submit(&world, task_id);
    }
    submit(&world, 707);
    daemon.wait_for_log(&["ENROLL CHECK waiting", "\"task_id\":703,", "pending"]).await;
    service.set(703, "status", "enrolled");
    for task_id in [701, 703] {
        service.wait_for_task(task_id, "completed").await;
        assert!(std::fs::read(lecture_path(&daemon, task_id)).unwrap() == small().truth());
    }
    for (task_id, kind) in
        [(702, "enrollment_failed"), (704, "enrollment_timeout"), (706, "unexpected_status"), (707, "task_not_found")]
    {
        assert_eq!(world.dead_of(task_id).await["kind"], kind);
        let Some(report) = service.get(task_id, "error_log") else { continue };
        let report: serde_json::Value = serde_json::from_str(report.as_str().unwrap()).unwrap();
        assert_eq!((&report["kind"], service.get(task_id, "status").unwrap()), (&kind.into(), "failed".into()));
    }
    assert_eq!(world.dead_of(705).await["kind"], "unexpected_status");
    assert_eq!(service.get(705, "status").unwrap(), "completed");
    assert_eq!(world.redis.cli(&["KEYS", "hauld:task:*"]), "", "Redis knows nothing of the status");
    let expiry = daemon.metric("hauld_credential_expiry_timestamp_seconds{credential=\"store_token\"}");
    assert_eq!(expiry, Some(4e9));
    assert!(!daemon.log_text().contains(TOKEN));
}

#[tokio::test]
async fn a_backend_that_is_away_costs_no_job() {
    let (world, service) = (World::new(), TaskService::start());
    service.origin.fault(TASKS, Fault::Status(401));
    let settings = daemon(&world, &service).set("gate.wait_seconds", 1).set("queue.max_attempts", 1);
    let daemon = settings.start().await;
    daemon.wait_for_log(&["trying until it can be used", "is store.http_token_file right?"]).await;
    let check = || {
        let output = hauld().args(["check", "--config"]).arg(daemon.config()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let said = check();
    assert!(said.contains("FAIL  task store") && said.contains("is store.http_token_file right?"), "{said}");
    // A wrong path: it must not look like a task that nobody knows.
    let page = Reply::ok("text/html; charset=utf-8", "<h1>Not Found").with_status(404);
    for (reply, says) in [(Reply::status(400), "answered 400"), (page, "is store.http_endpoint right?")] {
        service.origin.heal(TASKS);
        service.origin.fault(TASKS, Fault::Instead(reply));
        let said = check();
        assert!(said.contains("FAIL  task store") && said.contains(says), "{said}");
    }
    service.insert(711, "enrolled");
    submit(&world, 711);
    let told = || {
        let complaints = complaints(&daemon, 711).into_iter();
        (complaints.filter(|line| line["kind"] == "task_store_unavailable").count() >= 2).then_some(())
    };
    wait::until("the job was tried twice", Duration::from_secs(20), told).await;
    service.origin.heal(TASKS);
    service.wait_for_task(711, "completed").await;
    assert!(check().contains(&format!("ok    task store   {}", service.endpoint())), "{}", check());

    // In the middle of a job: its end is written when the backend is back.
    let paths = world.publish(712, &small());
    let hold = world.origin.hold(&paths[1]);
    service.insert(712, "enrolled");
    world.redis.push_job(712, &course_url(712));
    hold.wait_for(1).await;
    service.origin.fault(TASKS, Fault::DropBeforeHead);
    let asked = service.origin.count("/api/v1/tasks/712");
    hold.release();
    service.origin.wait_for_request("/api/v1/tasks/712", asked + 2).await;
    service.origin.heal(TASKS);
    service.wait_for_task(712, "completed").await;
    world.settled(712).await;
    assert!(world.dead().is_empty());
    assert!(!daemon.log_text().contains(TOKEN) && !check().contains(TOKEN));
}
