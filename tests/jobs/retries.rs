//! Attempts: what is tried again, how often, and what is left in the end.

use crate::support::catalog::CATALOG;
use crate::support::{Fault, Lecture, Manifest, wait};
use crate::world::{World, complaints, course_of, course_url, folder, lecture_path, lectures, small};

use std::time::Duration;

/// Requests that the resolver makes in one attempt at a job.
const REQUESTS_PER_ATTEMPT: usize = 3;

#[tokio::test]
async fn what_passes_by_itself_is_tried_again() {
    let world = World::new();
    world.origin.fault(CATALOG, Fault::Status(500).times(2 * REQUESTS_PER_ATTEMPT));
    let subscription = world.redis.subscribe("task:*:status");
    let daemon = world.daemon().start().await;
    world.publish(601, &small());
    world.push(601);
    world.redis.wait_for_task(601, "completed").await;
    world.settled(601).await;

    assert_eq!(world.origin.count(CATALOG), 2 * REQUESTS_PER_ATTEMPT + 1);
    let complaints = complaints(&daemon, 601);
    let attempts: Vec<_> = complaints.iter().map(|line| (&line["attempt"], &line["kind"], &line["level"])).collect();
    let expected = [1, 2].map(|attempt| (attempt.into(), "catalog_unavailable".into(), "WARN".into()));
    assert_eq!(attempts, expected.each_ref().map(|(attempt, kind, level)| (attempt, kind, level)));
    assert_eq!(daemon.wait_for_log(&["task completed"]).await["attempt"], 3);
    assert!(std::fs::read(lecture_path(&daemon, 601)).unwrap() == small().truth());
    assert_eq!(world.redis.task_field(601, "error_log"), "");
    let told = wait::until("the watchers are told", Duration::from_secs(10), || {
        let events = subscription.json("task:601:status");
        (events.last()?["newStatus"] == "completed").then_some(events)
    });
    let told: Vec<_> = told.await.iter().map(|event| event["newStatus"].clone()).collect();
    let expected = ["downloading", "retrying", "downloading", "retrying", "downloading", "uploading", "completed"];
    assert_eq!(told, expected);
    assert_eq!(daemon.metric("hauld_jobs_total{outcome=\"retry\"}"), Some(2.0));
    assert_eq!(daemon.metric("hauld_job_failures_total{kind=\"catalog_unavailable\"}"), Some(2.0));
    // Forgotten with its end: the same task pushed anew has all its attempts again.
    assert_eq!(world.redis.cli(&["HGET", "{rq:queue:downloads}:hauld:attempts", "601"]), "");
}

#[tokio::test]
async fn the_last_attempt_ends_on_the_dead_list_and_what_is_there_stays() {
    let world = World::new();
    let daemon = world.daemon().start().await;
    let stream = small();
    let (mut manifest, paths) = lectures(&world, "/602", &folder(602), &[&stream]);
    manifest = manifest.section("Gone", [Lecture::new("Missing").stream(&world.origin.url("/602/gone.m3u8"))]);
    world.catalog.course(&course_url(602), &manifest);
    world.redis.set_task(602, "enrolled");
    // Odd spacing, digits as text, fields that nobody knows.
    let element = format!(
        r#"  {{ "taskId" : "602",  "email":"user@example.com", "x":{{"deep":[1, 2.50,"\u00e9é"]}}, "courseUrl" :"{}" }} "#,
        course_url(602)
    );
    world.redis.cli(&["LPUSH", "rq:queue:downloads", &element]);
    world.redis.wait_for_task(602, "failed").await;

    let envelope = world.dead_of(602).await;
    assert_eq!(envelope["element"], *element);
    assert_eq!((&envelope["kind"], &envelope["attempts"]), (&"not_found".into(), &3.into()));
    let error_log = world.error_log(602);
    assert_eq!((&error_log["kind"], &error_log["attempts"]), (&"not_found".into(), &3.into()));
    assert_eq!(error_log["message"], envelope["message"]);
    let message = error_log["message"].as_str().unwrap();
    assert!(message.contains("lecture \"Missing\"") && message.contains("/602/gone.m3u8"), "{message}");
    let complaints = complaints(&daemon, 602);
    let levels: Vec<_> = complaints.iter().map(|line| line["level"].as_str().unwrap()).collect();
    assert_eq!(levels, ["WARN", "WARN", "ERROR"]);

    // For inspection, and for the attempt after a repair: that one asks for the rest only.
    let kept = daemon.task_directory(602).join(folder(602)).join("01 Start/001 Lecture 1.ts");
    assert!(std::fs::read(&kept).unwrap() == stream.truth());
    assert_eq!(std::fs::read_dir(daemon.delivered()).unwrap().count(), 0);
    assert!(world.backend.finalize_calls().is_empty());
    assert!(paths[0].iter().all(|path| world.origin.count(path) == 1), "{:?}", world.origin.counts());
    let missing = crate::support::Publish::of(&stream).at(&world.origin, "/602/found");
    world.origin.put_reply("/602/gone.m3u8", crate::support::Reply::status(302).with_header("Location", missing.url));
    world.redis.set_task(602, "enrolled");
    world.redis.cli(&["LPUSH", "rq:queue:downloads", &element]);
    world.redis.wait_for_task(602, "completed").await;
    assert!(paths[0].iter().all(|path| world.origin.count(path) == 1), "{:?}", world.origin.counts());
    let second = daemon.delivered().join(folder(602)).join("02 Gone/001 Missing.ts");
    assert!(std::fs::read(second).unwrap() == stream.truth());
}

#[tokio::test]
async fn between_two_attempts_the_element_waits_as_it_is() {
    let world = World::new();
    let daemon = world.daemon().set("queue.retry_delay_seconds", 3).set("queue.max_attempts", 2).start().await;
    let element = world.submit(603, &course_of(603, &world.origin.url("/603/gone.m3u8")));
    let delayed = "{rq:queue:downloads}:hauld:delayed";
    let waiting = wait::until("it waits for the next attempt", Duration::from_secs(10), || {
        let waiting = world.redis.cli(&["ZRANGE", delayed, "0", "-1"]);
        (!waiting.is_empty()).then_some(waiting)
    });
    assert!(waiting.await.ends_with(&element));
    let first = std::time::Instant::now();
    assert_eq!(world.redis.task_field(603, "status"), "enrolled");
    world.redis.wait_for_task(603, "failed").await;
    let pause = first.elapsed().as_secs_f64();
    assert!((2.5..6.0).contains(&pause), "{pause}");
    assert_eq!(world.dead_of(603).await["attempts"], 2);
    assert_eq!(complaints(&daemon, 603).len(), 2);
}

#[tokio::test]
async fn a_finalize_call_that_fails_is_repeated_and_nothing_else_is() {
    let world = World::new();
    world.backend.origin.fault(crate::support::backend::FINALIZE, Fault::Status(500).times(1));
    let daemon = world.daemon().start().await;
    let paths = world.publish(604, &small());
    world.push(604);
    world.redis.wait_for_task(604, "completed").await;
    assert_eq!(world.backend.finalize_calls().len(), 2);
    let complaints = complaints(&daemon, 604);
    assert_eq!(complaints.len(), 1, "{complaints:#?}");
    assert_eq!(complaints[0]["kind"], "finalize_failed");
    assert!(paths.iter().all(|path| world.origin.count(path) == 1));
    assert!(std::fs::read(lecture_path(&daemon, 604)).unwrap() == small().truth());
}

#[tokio::test]
async fn a_course_of_assets_only_is_a_course() {
    let world = World::new();
    let daemon = world.daemon().start().await;
    world.origin.put("/a.pdf", "pdf");
    let lecture = Lecture::new("Paper").asset("a.pdf", &world.origin.url("/a.pdf"));
    world.submit(605, &Manifest::new(&folder(605)).section("Start", [lecture]));
    world.redis.wait_for_task(605, "completed").await;
    let path = daemon.delivered().join(folder(605)).join("01 Start/001 Paper - a.pdf");
    assert_eq!(std::fs::read(path).unwrap(), b"pdf");
}
