//! The enrollment gate at its default timing: every status of the table.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::daemon::{Builder, HOOK_TOKEN};
use crate::support::{Daemon, http_client, wait};
use crate::world::{World, complaints, course_url, lecture_path, small};

async fn daemon(world: &World) -> Daemon {
    world.daemon().set("gate.poll_seconds", 2).set("worker.jobs", 8).start().await
}

/// A task for a small course with this status, or without a row; on the list from now on.
fn submit(world: &World, task_id: u64, status: Option<&str>) -> String {
    world.publish(task_id, &small());
    if let Some(status) = status {
        world.redis.set_task(task_id, status);
    }
    world.redis.push_job(task_id, &course_url(task_id))
}

/// The job ended for good in its first attempt, told everywhere by the same word.
async fn assert_refused(world: &World, daemon: &Daemon, task_id: u64, element: &str, kind: &str, message: &str) {
    let envelope = world.dead_of(task_id).await;
    assert_eq!(envelope["element"], *element);
    assert_eq!((&envelope["kind"], &envelope["attempts"]), (&kind.into(), &1.into()), "{envelope}");
    assert!(envelope["message"].as_str().unwrap().contains(message), "{envelope}");
    let complaints = complaints(daemon, task_id);
    assert_eq!(complaints.len(), 1, "{complaints:#?}");
    assert_eq!((&complaints[0]["kind"], &complaints[0]["level"]), (&kind.into(), &"ERROR".into()));
    let line = daemon.wait_for_log(&["ENROLL CHECK refused", &format!("\"task_id\":{task_id},")]).await;
    assert_eq!(line["kind"], kind);
    assert_eq!(world.origin.count(&format!("/{task_id}/*")), 0, "nothing is downloaded");
    assert!(!daemon.task_directory(task_id).exists());
}

fn assert_error_log(world: &World, task_id: u64, kind: &str) {
    assert_eq!(world.redis.task_field(task_id, "status"), "failed");
    let error_log = world.error_log(task_id);
    assert_eq!((&error_log["kind"], &error_log["attempts"]), (&kind.into(), &1.into()));
    assert_ne!(world.redis.task_field(task_id, "updated_at"), "");
}

#[tokio::test]
async fn final_statuses_are_judged_at_once() {
    let world = World::new();
    let daemon = daemon(&world).await;
    let subscription = world.redis.subscribe("task:*:status");
    let start = Instant::now();
    let failed = submit(&world, 501, Some("failed"));
    assert_refused(&world, &daemon, 501, &failed, "enrollment_failed", "enrollment failed").await;
    assert_error_log(&world, 501, "enrollment_failed");

    let unknown = submit(&world, 502, None);
    assert_refused(&world, &daemon, 502, &unknown, "task_not_found", "not found").await;
    assert_eq!(world.redis.cli(&["EXISTS", "hauld:task:502"]), "0", "no row is made up");

    let nonsense = submit(&world, 503, Some("paused"));
    assert_refused(&world, &daemon, 503, &nonsense, "unexpected_status", "unexpected status").await;
    assert_error_log(&world, 503, "unexpected_status");

    // The customer has the course: the second element must not take that back, and nobody is told
    // that the task has failed.
    let completed = submit(&world, 504, Some("completed"));
    assert_refused(&world, &daemon, 504, &completed, "unexpected_status", "unexpected status").await;
    assert_eq!(world.redis.task_field(504, "status"), "completed");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());

    let told = || subscription.json("task:503:status").into_iter().find(|event| event["newStatus"] == "failed");
    wait::until("the watchers of 503 are told", Duration::from_secs(5), told).await;
    assert_eq!(subscription.json("task:504:status"), Vec::<serde_json::Value>::new());
    let told = subscription.json("task:501:status");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((&told[0]["newStatus"], &told[0]["previousStatus"]), (&"failed".into(), &"failed".into()));
    assert_eq!(daemon.metric("hauld_job_failures_total{kind=\"unexpected_status\"}"), Some(2.0));
    assert_eq!(daemon.metric("hauld_jobs_total{outcome=\"dead\"}"), Some(4.0));
}

#[tokio::test]
async fn waiting_ends_after_15_seconds_or_soon_after_the_enrollment() {
    let world = World::new();
    let daemon = daemon(&world).await;
    let start = Instant::now();
    submit(&world, 511, Some("pending"));
    wait::until("the gate has taken the task", Duration::from_secs(5), || {
        (world.redis.cli(&["LLEN", "rq:queue:downloads"]) == "0").then_some(())
    })
    .await;
    let waiting: Vec<(u64, String)> = [(512, "paid"), (513, "pending"), (514, "processing")]
        .map(|(task_id, status)| (task_id, submit(&world, task_id, Some(status))))
        .into();
    let pushed = Instant::now();

    tokio::time::sleep_until((start + Duration::from_secs(3)).into()).await;
    assert_eq!(world.origin.count("/511/*"), 0);
    world.redis.set_task(511, "enrolled");
    let enrolled = Instant::now();
    world.origin.wait_for_request("/511/*", 1).await;
    assert!(enrolled.elapsed() < Duration::from_millis(2500), "{:?} after the enrollment", enrolled.elapsed());
    world.redis.wait_for_task(511, "completed").await;
    assert!(std::fs::read(lecture_path(&daemon, 511)).unwrap() == small().truth());

    for (task_id, element) in &waiting {
        world.redis.wait_for_task(*task_id, "failed").await;
        let waited = pushed.elapsed().as_secs_f64();
        assert!((13.5..16.5).contains(&waited), "task {task_id}: {waited} s");
        let message = "enrollment timeout after 15s";
        assert_refused(&world, &daemon, *task_id, element, "enrollment_timeout", message).await;
        assert_error_log(&world, *task_id, "enrollment_timeout");
    }
    // Final: nothing comes again by itself, though the customer is enrolled now.
    world.redis.set_task(512, "enrolled");
    assert_eq!(world.redis.cli(&["ZCARD", "{rq:queue:downloads}:hauld:delayed"]), "0");
    assert_eq!((world.dead().len(), world.redis.cli(&["LLEN", "rq:queue:downloads"])), (3, "0".into()));
    assert_eq!(daemon.metric("hauld_job_failures_total{kind=\"enrollment_timeout\"}"), Some(3.0));
    assert_eq!(daemon.metric("hauld_enrollment_wait_seconds_count"), Some(1.0), "of those that passed");
}

#[tokio::test]
async fn a_shorter_gate_is_told_by_its_own_length() {
    let world = World::new();
    let daemon = world.daemon().set("gate.wait_seconds", 1).start().await;
    let element = submit(&world, 521, Some("paid"));
    assert_refused(&world, &daemon, 521, &element, "enrollment_timeout", "enrollment timeout after 1s").await;
    // Enrolled again and pushed again by hand, the task begins anew.
    world.push(521);
    world.redis.wait_for_task(521, "completed").await;
    assert_eq!(world.redis.task_field(521, "error_log"), "");
}

#[tokio::test]
async fn an_order_at_the_hook_of_one_instance_opens_the_gate_of_another_at_once() {
    let world = World::new();
    // It looks so seldom by itself that the test would not live to see it.
    let seldom = |builder: Builder| builder.set("gate.wait_seconds", 3600).set("gate.poll_seconds", 60);
    let worker = seldom(world.daemon()).start().await;
    submit(&world, 531, Some("paid"));
    worker.wait_for_log(&["ENROLL CHECK waiting", "\"task_id\":531,"]).await;
    let hook = seldom(world.daemon()).hook().set("worker.instance", "1").start().await;
    let order = json!({"orderId": 41, "tasks": [
        {"taskId": 531, "email": "user@example.com", "courseUrl": course_url(531)},
    ]});
    let answer = http_client().post(hook.hook_url("/api/v1/orders?wait=30")).bearer_auth(HOOK_TOKEN).json(&order);
    assert_eq!(answer.send().await.unwrap().status(), 200);
    world.redis.wait_for_task(531, "completed").await;
    let line = worker.wait_for_log(&["ENROLL CHECK passed", "\"task_id\":531,"]).await;
    assert_eq!(line["order_id"], 41);
    let looks = worker.log_lines().into_iter().filter(|line| line["message"] == "ENROLL CHECK waiting");
    assert!(looks.count() <= 2, "one look when it came, one when it had begun to listen");
}
