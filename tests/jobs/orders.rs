//! Orders posted to the hook of the real binary, up to the delivered courses.

use serde_json::{Value, json};

use crate::support::daemon::{HOOK_TOKEN, tree};
use crate::support::{Daemon, http_client, wait};
use crate::world::{LIST, World, course_url, folder, lecture_path, small};

fn task(task_id: u64) -> Value {
    json!({"taskId": task_id, "email": "user@example.com", "courseUrl": course_url(task_id)})
}

async fn post(daemon: &Daemon, path: &str, token: &str, body: &Value) -> (u16, Value) {
    let response = http_client().post(daemon.hook_url(path)).bearer_auth(token).json(body).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn a_mixed_order_delivers_what_is_enrolled() {
    let world = World::new();
    let subscription = world.redis.subscribe("order:41:status");
    let daemon = world.daemon().hook().start().await;
    for task_id in [1201, 1202, 1203] {
        world.publish(task_id, &small());
    }
    world.backend.refuse(&course_url(1202), "course is full");
    // Success without the right status is no enrollment either.
    world.backend.result_for(&course_url(1204), json!({"success": true, "status": "pending"}));
    let order = json!({"orderId": 41, "tasks": [task(1201), task(1202), task(1203), task(1204)]});
    let (status, answer) = post(&daemon, "/api/v1/orders?wait=60", HOOK_TOKEN, &order).await;
    assert_eq!(status, 200, "{answer}");
    let counts = ["orderId", "total", "enrolled", "failed", "queued", "queueFailures"].map(|name| &answer[name]);
    assert_eq!(counts, [&json!(41), &json!(4), &json!(2), &json!(2), &json!(2), &json!(0)]);
    let outcomes: Vec<_> = answer["tasks"].as_array().unwrap().iter().map(|task| &task["status"]).collect();
    assert_eq!(outcomes, ["queued", "enrollment_failed", "queued", "enrollment_failed"]);
    assert!(answer["tasks"][1]["message"].as_str().unwrap().contains("course is full"), "{answer}");
    assert_eq!(answer["tasks"][1]["kind"], "enrollment_refused");

    for task_id in [1201, 1203] {
        world.redis.wait_for_task(task_id, "completed").await;
        assert!(std::fs::read(lecture_path(&daemon, task_id)).unwrap() == small().truth());
        assert_eq!(world.redis.task_field(task_id, "order_id"), "41");
    }
    assert_eq!(tree(daemon.delivered()), [1201, 1203].map(|id| format!("{}/01 Start/001 Only.ts", folder(id))));
    for task_id in [1202, 1204] {
        assert_eq!(world.redis.cli(&["EXISTS", &format!("hauld:task:{task_id}")]), "0");
    }
    let bodies: Vec<Value> = world.backend.enroll_calls().iter().map(|call| call.json()).collect();
    assert_eq!(bodies.len(), 4);
    for body in &bodies {
        assert_eq!((&body["email"], body["urls"].as_array().map(Vec::len)), (&json!("user@example.com"), Some(1)));
    }
    wait::until("the watchers of the order are told", std::time::Duration::from_secs(10), || {
        let told = subscription.json("order:41:status");
        (told.iter().filter(|event| event["newStatus"] == "completed").count() == 2).then_some(())
    })
    .await;
    for parts in [
        ["order: enrollment is done", "\"total\":4,\"enrolled\":2,\"failed\":2"],
        ["order: queueing is done", "\"enrolled\":2,\"queued\":2,\"queue_failures\":0"],
        ["enrollment failed", "\"task_id\":1202,"],
    ] {
        daemon.wait_for_log(&parts).await;
    }
    assert_eq!(daemon.metric("hauld_enrollments_total{outcome=\"failed\"}"), Some(2.0));
}

#[tokio::test]
async fn strangers_and_nonsense_are_turned_away_before_anything_happens() {
    let world = World::new();
    let daemon = world.daemon().hook().start().await;
    let order = json!({"orderId": 41, "tasks": [task(1301)]});
    for token in ["wrong", "", &HOOK_TOKEN[1..]] {
        assert_eq!(post(&daemon, "/api/v1/orders", token, &order).await.0, 401, "{token}");
    }
    let without = http_client().post(daemon.hook_url("/api/v1/enroll")).json(&order).send().await.unwrap();
    assert_eq!(without.status(), 401);
    for nonsense in [json!([]), json!({"orderId": 41}), json!({"orderId": 41, "tasks": [{"taskId": 0}]})] {
        let (status, answer) = post(&daemon, "/api/v1/orders", HOOK_TOKEN, &nonsense).await;
        assert!((400..500).contains(&status), "{nonsense}: {status} {answer}");
    }
    assert!(world.backend.enroll_calls().is_empty());
    assert_eq!((world.redis.cli(&["LLEN", LIST]), world.redis.cli(&["KEYS", "hauld:task:*"])), ("0".into(), "".into()));
}

#[tokio::test]
async fn a_refused_order_pushes_nothing_and_enroll_alone_never_does() {
    let world = World::new();
    let daemon = world.daemon().hook().start().await;
    world.backend.refuse(&course_url(1401), "no such course");
    let order = json!({"orderId": 42, "tasks": [task(1401)]});
    let (status, answer) = post(&daemon, "/api/v1/orders?wait=60", HOOK_TOKEN, &order).await;
    assert_eq!((status, &answer["queued"], &answer["failed"]), (200, &json!(0), &json!(1)), "the payment stands");
    let urls = [course_url(1401), course_url(1402)];
    let body = json!({"email": "user@example.com", "urls": urls});
    let (status, answer) = post(&daemon, "/api/v1/enroll", HOOK_TOKEN, &body).await;
    let results = [&answer["results"][0], &answer["results"][1]];
    assert_eq!((status, &results[0]["success"], &results[1]["success"]), (200, &json!(false), &json!(true)));
    assert_eq!((&results[1]["status"], &results[1]["courseId"]), (&json!("enrolled"), &json!(12345)));
    assert_eq!((world.redis.cli(&["LLEN", LIST]), world.redis.cli(&["KEYS", "hauld:task:*"])), ("0".into(), "".into()));
}
