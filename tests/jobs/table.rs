//! The daemon with the backend's table in MariaDB, found by the old worker's environment alone.

use std::time::Duration;

use crate::support::daemon::Builder;
use crate::support::mariadb::PASSWORD;
use crate::support::{MariaDb, wait};
use crate::world::{World, complaints, course_url, lecture_path, small};

fn daemon(world: &World, database: &MariaDb) -> Builder {
    let builder = world.daemon().set("log.level", "trace").set("gate.wait_seconds", 3);
    database.environment().iter().fold(builder, |builder, (name, value)| builder.env(name, value))
}

/// A task for a small course with this status, on the list from now on.
fn submit(world: &World, database: &MariaDb, task_id: u64, status: &str) {
    world.publish(task_id, &small());
    database.insert(task_id, status);
    world.redis.push_job(task_id, &course_url(task_id));
}

#[tokio::test]
async fn every_status_of_the_table_is_judged_and_only_two_are_written() {
    let (world, database) = (World::new(), MariaDb::start());
    let daemon = daemon(&world, &database).set("worker.jobs", 8).start().await;
    daemon.wait_for_log(&["the task store can be used", "MariaDB", "table shop.download_tasks"]).await;
    let subscription = world.redis.subscribe("order:41:status");
    for (task_id, status) in [(601, "enrolled"), (602, "failed"), (604, "pending"), (605, "paid"), (606, "completed")] {
        submit(&world, &database, task_id, status);
    }
    world.redis.push_job(603, &course_url(603));
    database.sql(
        "SET sql_mode = ''; INSERT INTO download_tasks (id, email, course_url, status) VALUES (607, 'a@b', 'u', 'odd')",
    );
    world.redis.push_job(607, &course_url(607));
    daemon.wait_for_log(&["ENROLL CHECK waiting", "\"task_id\":604,", "pending"]).await;
    database.set_task(604, "enrolled");

    for task_id in [601, 604] {
        database.wait_for_task(task_id, "completed").await;
        assert!(std::fs::read(lecture_path(&daemon, task_id)).unwrap() == small().truth());
        assert_eq!(database.task_field(task_id, "error_log, updated_at > NOW() - INTERVAL 1 MINUTE"), "NULL\t1");
    }
    for (task_id, kind, message) in [
        (602, "enrollment_failed", "enrollment failed"),
        (605, "enrollment_timeout", "enrollment timeout after 3s"),
        (607, "unexpected_status", "unexpected status"),
    ] {
        assert_eq!(world.dead_of(task_id).await["kind"], kind);
        assert_eq!(database.task_field(task_id, "status"), "failed");
        let report: serde_json::Value = serde_json::from_str(&database.task_field(task_id, "error_log")).unwrap();
        assert_eq!((&report["kind"], &report["attempts"]), (&kind.into(), &1.into()), "{report}");
        assert!(report["message"].as_str().unwrap().contains(message), "{report}");
        assert_eq!(database.task_field(task_id, "updated_at > NOW() - INTERVAL 1 MINUTE"), "1");
    }
    assert_eq!(world.dead_of(603).await["kind"], "task_not_found");
    assert_eq!(world.dead_of(606).await["kind"], "unexpected_status");
    assert_eq!(database.task_field(606, "status, updated_at"), "completed\t2026-01-13 02:00:00");
    assert_eq!(database.sql("SELECT COUNT(*) FROM download_tasks"), "6", "no row is made up");
    let completed = || subscription.json("order:41:status").into_iter().find(|event| event["newStatus"] == "completed");
    wait::until("the watchers of the order are told", Duration::from_secs(5), completed).await;
    assert!(!daemon.log_text().contains(PASSWORD));
}

#[tokio::test]
async fn a_database_that_is_away_costs_no_job() {
    let (world, mut database) = (World::new(), MariaDb::start());
    submit(&world, &database, 611, "enrolled");
    database.kill9();
    let settings = daemon(&world, &database).set("gate.wait_seconds", 1).set("queue.max_attempts", 1);
    let daemon = settings.set("store.timeout_seconds", 1).start().await;
    daemon.wait_for_log(&["trying until it can be used", "\"level\":\"ERROR\""]).await;
    let told = || {
        let complaints = complaints(&daemon, 611).into_iter();
        (complaints.filter(|line| line["kind"] == "task_store_unavailable").count() >= 2).then_some(())
    };
    wait::until("the job was tried twice", Duration::from_secs(20), told).await;
    database.restart();
    database.wait_for_task(611, "completed").await;

    // In the middle of a job: its end is written when the database is back.
    let paths = world.publish(612, &small());
    let hold = world.origin.hold(&paths[1]);
    database.insert(612, "enrolled");
    world.redis.push_job(612, &course_url(612));
    hold.wait_for(1).await;
    database.kill9();
    hold.release();
    let calls = || (world.backend.finalize_calls().len() == 2).then_some(());
    wait::until("the course is delivered and the backend told", Duration::from_secs(20), calls).await;
    database.restart();
    database.wait_for_task(612, "completed").await;
    world.settled(612).await;
    assert!(world.dead().is_empty());
    assert!(!daemon.log_text().contains(PASSWORD));
}

#[tokio::test]
async fn a_table_without_error_log_is_lived_with_and_said_once() {
    let (world, database) = (World::new(), MariaDb::start());
    database.sql("ALTER TABLE download_tasks DROP COLUMN error_log");
    let daemon = daemon(&world, &database).start().await;
    submit(&world, &database, 621, "failed");
    world.dead_of(621).await;
    submit(&world, &database, 622, "enrolled");
    database.wait_for_task(622, "completed").await;
    assert_eq!(database.task_field(621, "status, updated_at > NOW() - INTERVAL 1 MINUTE"), "failed\t1");
    let warnings =
        daemon.log_lines().into_iter().filter(|line| line["message"].to_string().contains("no column error_log"));
    assert_eq!(warnings.count(), 1);
}
