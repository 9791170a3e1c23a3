//! SIGTERM: stop taking, finish what fits, hand the rest back.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::backend::ENROLL;
use crate::support::daemon::HOOK_TOKEN;
use crate::support::{Daemon, http_client, wait};
use crate::world::{LIST, World, course_url, lecture_path, small};

const STOPPING: &str = "stopping: no more jobs are taken";

fn attempts(world: &World) -> String {
    world.redis.cli(&["HGETALL", "{rq:queue:downloads}:hauld:records"])
}

/// Nothing of the instance is left behind in Redis.
fn assert_signed_off(world: &World) {
    assert_eq!(world.redis.cli(&["ZCARD", "{rq:queue:downloads}:hauld:leases"]), "0");
    assert_eq!(world.redis.cli(&["HLEN", "{rq:queue:downloads}:hauld:instances"]), "0");
}

#[tokio::test]
async fn a_job_that_fits_is_finished_and_nothing_is_taken_after_the_signal() {
    let world = World::new();
    let daemon = world.daemon().start().await;
    let paths = world.publish(801, &small());
    world.publish(802, &small());
    let hold = world.origin.hold(&paths[1]);
    world.push(801);
    hold.wait_for(1).await;
    daemon.sigterm();
    daemon.wait_for_log(&[STOPPING]).await;
    let later = world.push(802);
    assert_eq!(daemon.admin("/readyz").map(|(status, _)| status), Some(503));
    assert_eq!(daemon.admin("/livez").map(|(status, _)| status), Some(200));
    hold.release();
    assert_eq!(daemon.wait_exit(Duration::from_secs(10)).await.code(), Some(0));
    assert_eq!(world.redis.task_field(801, "status"), "completed");
    assert!(std::fs::read(lecture_path(&daemon, 801)).unwrap() == small().truth());
    assert_eq!(world.redis.list(LIST), [later]);
    assert_eq!((world.redis.task_field(802, "status"), world.origin.count("/802/*")), ("enrolled".into(), 0));
    assert_signed_off(&world);
}

#[tokio::test]
async fn jobs_that_do_not_fit_go_back_in_their_order_uncounted() {
    let world = World::new();
    let start = |jobs: i64| world.daemon().set("worker.jobs", jobs).set("worker.drain_seconds", 1).start();
    let daemon = start(2).await;
    let hold = world.origin.hold("/81*");
    for task_id in 811..=813 {
        world.publish(task_id, &small());
    }
    // Odd bytes, to see that nothing is rewritten on the way.
    let odd = format!(r#" {{"taskId":811,"email":"a@b","courseUrl":"{}","new":[1,  2.0]}}  "#, course_url(811));
    world.redis.set_task(811, "enrolled");
    world.redis.cli(&["LPUSH", LIST, &odd]);
    hold.wait_for(1).await;
    let second = world.push(812);
    hold.wait_for(2).await;
    let third = world.push(813);
    let signal = Instant::now();
    daemon.sigterm();
    assert_eq!(daemon.wait_exit(Duration::from_secs(10)).await.code(), Some(0));
    assert!(signal.elapsed() >= Duration::from_secs(1), "{:?}", signal.elapsed());
    // The take end is on the right: the oldest comes first again.
    assert_eq!(world.redis.list(LIST), [third, second, odd]);
    assert_eq!((attempts(&world), world.redis.task_field(811, "status")), (String::new(), "enrolled".into()));
    assert!(world.dead().is_empty());
    assert_signed_off(&world);
    let log = daemon.log_text();
    assert!(!log.contains("\"level\":\"ERROR\""), "{log}");

    hold.release();
    let successor = start(1).await;
    for task_id in 811..=813 {
        world.redis.wait_for_task(task_id, "completed").await;
        let task = format!("\"task_id\":{task_id},");
        assert_eq!(successor.wait_for_log(&["task completed", &task]).await["attempt"], 1);
    }
    let order: Vec<_> = world.backend.finalize_calls().iter().map(|call| call.json()["task_id"].clone()).collect();
    assert_eq!(order, [811, 812, 813]);
}

#[tokio::test]
async fn a_second_signal_hands_back_at_once() {
    let world = World::new();
    let daemon = world.daemon().set("worker.drain_seconds", 600).start().await;
    let paths = world.publish(821, &small());
    let hold = world.origin.hold(&paths[0]);
    let element = world.push(821);
    hold.wait_for(1).await;
    daemon.sigterm();
    daemon.wait_for_log(&[STOPPING]).await;
    assert!(daemon.exited().is_none());
    let signal = Instant::now();
    daemon.sigint();
    assert_eq!(daemon.wait_exit(Duration::from_secs(10)).await.code(), Some(0));
    assert!(signal.elapsed() < Duration::from_secs(4), "{:?}", signal.elapsed());
    assert_eq!((world.redis.list(LIST), attempts(&world)), (vec![element], String::new()));
    assert_signed_off(&world);
}

#[tokio::test]
async fn the_hook_takes_no_new_order_but_ends_those_under_way() {
    let world = World::new();
    let daemon = world.daemon().hook().start().await;
    let paths = world.publish(831, &small());
    // A job that runs keeps the daemon in its drain.
    let job = world.origin.hold(&paths[0]);
    let running = world.push(831);
    job.wait_for(1).await;
    let enrollment = world.backend.origin.hold(ENROLL);
    let order = tokio::spawn(post_order(&daemon, 832).send());
    enrollment.wait_for(1).await;
    daemon.sigterm();
    daemon.wait_for_log(&[STOPPING]).await;
    let refused = post_order(&daemon, 833).send().await;
    assert!(refused.as_ref().is_err_and(reqwest::Error::is_connect), "{refused:?}");
    enrollment.release();
    // The caller is told at once that the order is stored; the daemon sees it through.
    let answer = order.await.unwrap().unwrap();
    assert_eq!(answer.status(), 202);
    let answer: serde_json::Value = answer.json().await.unwrap();
    assert_eq!((&answer["state"], &answer["tasks"][0]["status"]), (&json!("open"), &json!("waiting")));
    wait::until("the order is queued", Duration::from_secs(10), || (world.redis.list(LIST).len() == 1).then_some(()))
        .await;
    let list = world.redis.list(LIST);
    assert!(list.len() == 1 && list[0].contains("\"taskId\":832,"), "{list:?}");
    assert_eq!(world.redis.task_field(832, "status"), "enrolled");
    job.release();
    assert_eq!(daemon.wait_exit(Duration::from_secs(10)).await.code(), Some(0));
    assert_eq!(world.redis.task_field(831, "status"), "completed");
    assert!(!world.redis.list(LIST).contains(&running));
}

fn post_order(daemon: &Daemon, task_id: u64) -> reqwest::RequestBuilder {
    let task = json!({"taskId": task_id, "email": "user@example.com", "courseUrl": course_url(task_id)});
    let url = daemon.hook_url("/api/v1/orders?wait=60");
    http_client().post(url).bearer_auth(HOOK_TOKEN).json(&json!({"orderId": 41, "tasks": [task]}))
}

/// SIGTERMs of a run within `make test`; `make chaos` has more.
const SIGTERMS: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stops_that_race_with_pushes_lose_and_double_nothing() {
    let number = std::env::var("CHAOS_SIGTERMS").ok();
    let rounds = number.map_or(SIGTERMS, |text| text.parse().expect("CHAOS_SIGTERMS is a number"));
    let world = std::sync::Arc::new(World::new());
    let directory = tempfile::tempdir().unwrap();
    let (staging, delivered) = (directory.path().join("staging"), directory.path().join("delivered"));
    let pushing = tokio_util::sync::CancellationToken::new();
    let pusher = tokio::spawn({
        let (world, pushing) = (world.clone(), pushing.clone());
        async move {
            let mut task_id = 90_000;
            while !pushing.is_cancelled() {
                task_id += 1;
                world.publish(task_id, &small());
                world.push(task_id);
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
            90_001..=task_id
        }
    });
    let start = |drain: i64| {
        world
            .daemon()
            .staging(&staging)
            .delivered(&delivered)
            .set("worker.drain_seconds", drain)
            .set("log.level", "warn")
    };
    for round in 0..rounds {
        // With a drain of nothing, what runs is handed back.
        let daemon = start(round as i64 % 2).start().await;
        tokio::time::sleep(Duration::from_micros(2311 * (round as u64 % 61))).await;
        daemon.sigterm();
        assert_eq!(daemon.wait_exit(Duration::from_secs(20)).await.code(), Some(0));
        assert_signed_off(&world);
    }
    pushing.cancel();
    let pushed = pusher.await.unwrap();
    let daemon = start(30).start().await;
    for task_id in pushed.clone() {
        world.redis.wait_for_task(task_id, "completed").await;
    }
    daemon.sigterm();
    assert_eq!(daemon.wait_exit(Duration::from_secs(40)).await.code(), Some(0));
    let mut finalized: Vec<u64> =
        world.backend.finalize_calls().iter().map(|call| call.json()["task_id"].as_u64().unwrap()).collect();
    finalized.sort_unstable();
    assert_eq!(finalized, pushed.clone().collect::<Vec<_>>(), "each once");
    assert_eq!(std::fs::read_dir(&delivered).unwrap().count(), pushed.clone().count());
    assert_eq!(world.redis.cli(&["HGET", "{rq:queue:downloads}:hauld:counts", "done"]), pushed.count().to_string());
    assert_eq!((attempts(&world).as_str(), world.dead().len()), ("", 0));
    println!("{rounds} SIGTERMs, {} jobs", finalized.len());
}
