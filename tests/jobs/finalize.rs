//! What the backend is told: however long it does not listen, it hears of it in the end, and no slot waits.

use std::time::Duration;

use serde_json::json;

use crate::support::backend::{FAILED, FINALIZE};
use crate::support::daemon::{SECRET, tree};
use crate::support::producer::node_check_call;
use crate::support::{Fault, wait};
use crate::world::{DEAD, World, course_of, folder, lecture_path, small};

const UNTOLD: &str = "{rq:queue:downloads}:hauld:untold";
const NOTICES: &str = "{rq:queue:downloads}:hauld:notices";
const WEBHOOK_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_backend_that_is_away_holds_no_slot_and_hears_of_it_from_another_host() {
    let world = World::new();
    world.backend.origin.fault(FINALIZE, Fault::Status(503));
    let start = || world.daemon().set("worker.jobs", 1).set("report.retry_delay_seconds", 1);
    let first = start().start().await;
    let paths = world.publish(611, &small());
    let element = world.push(611);
    let untold = || world.redis.cli(&["ZRANGE", UNTOLD, "0", "-1"]).ends_with(&element).then_some(());
    wait::until("the job waits for the backend", LIMIT, untold).await;
    assert!(std::fs::read(lecture_path(&first, 611)).unwrap() == small().truth());
    assert_eq!(world.redis.task_field(611, "status"), "enrolled", "it is completed when the backend knows");
    assert!(first.task_directory(611).exists());
    assert_eq!(world.redis.list("rq:queue:downloads"), [""; 0], "nobody else can take it and download it again");

    // The only slot has something else to do, and the calls go on beside it.
    let busy = world.publish(612, &small());
    let hold = world.origin.hold(&busy[0]);
    world.push(612);
    hold.wait_for(1).await;
    let calls = world.backend.finalize_calls().len();
    world.backend.wait_for_finalize(calls + 2).await;
    assert_eq!(hold.held(), 1);
    let depth = || (first.metric("hauld_queue_elements{state=\"untold\"}") == Some(1.0)).then_some(());
    wait::until("the gauge knows", LIMIT, depth).await;

    // The host never comes back.
    first.sigkill();
    world.backend.origin.heal(FINALIZE);
    hold.release();
    let second = start().start().await;
    for task_id in [611, 612] {
        world.redis.wait_for_task(task_id, "completed").await;
        world.settled(task_id).await;
    }
    assert!(paths.iter().all(|path| world.origin.count(path) == 1), "{:?}", world.origin.counts());
    assert!(tree(second.delivered()).iter().all(|path| path.starts_with(&folder(612))), "only that one is its own");

    let calls = world.backend.finalize_calls();
    let of_task: Vec<_> = calls.iter().filter(|call| call.json()["task_id"] == 611).collect();
    assert!(of_task.len() >= 4, "{}", of_task.len());
    for call in &of_task {
        assert_eq!(call.header("Idempotency-Key"), of_task[0].header("Idempotency-Key"));
        assert_eq!(call.json()["folder_name"], *folder(611));
    }
    calls.iter().for_each(|call| node_check_call(call, SECRET, None));
    let account = second.metric("hauld_jobs_total{outcome=\"done\"}");
    assert_eq!(account, Some(2.0));
}

#[tokio::test]
async fn the_backend_hears_of_failures_whoever_dies_on_the_way() {
    let world = World::new();
    world.backend.origin.fault(FAILED, Fault::Status(500));
    let start = || {
        let daemon = world.daemon().set("report.on_failure", true).set("report.secret_in_body", false);
        daemon.secret("report.webhook_secret", WEBHOOK_SECRET).set("report.retry_delay_seconds", 1).start()
    };
    let first = start().await;
    for task_id in [621, 622] {
        world.submit(task_id, &course_of(task_id, &world.origin.url("/gone.m3u8")));
        // On the dead list at once, whether the backend listens or not.
        world.dead_of(task_id).await;
    }
    world.backend.origin.wait_for_request(FAILED, 3).await;
    assert_eq!(world.redis.cli(&["ZCARD", NOTICES]), "2");
    first.sigkill();
    // Somebody has put this one back meanwhile: what is told must be true still.
    world.redis.set_task(622, "enrolled");
    world.backend.origin.heal(FAILED);
    let second = start().await;
    wait::until("all is told", LIMIT, || (world.redis.cli(&["ZCARD", NOTICES]) == "0").then_some(())).await;
    second.wait_for_log(&["does not count as failed any more", "\"task_id\":622"]).await;
    second.wait_for_log(&["the backend knows that the task has failed", "\"task_id\":621"]).await;

    let calls = world.backend.origin.requests_for(FAILED);
    calls.iter().for_each(|call| node_check_call(call, SECRET, Some(WEBHOOK_SECRET)));
    let last = calls.last().unwrap();
    let (body, error_log) = (last.json(), world.error_log(621));
    let expected = json!({"task_id": 621, "status": "failed", "kind": "not_found", "message": error_log["message"],
        "timestamp": last.header("X-Timestamp")});
    assert_eq!(body, expected);
    let keys: std::collections::BTreeSet<_> = calls
        .iter()
        .filter(|call| call.json()["task_id"] == 621)
        .map(|call| call.header("webhook-id").unwrap().to_owned())
        .collect();
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert!(world.backend.finalize_calls().is_empty());
    assert_eq!(world.redis.list(DEAD).len(), 2);
}
