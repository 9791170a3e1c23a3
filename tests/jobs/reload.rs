//! SIGHUP: what is configured now is used from now on, and no download is dropped.

use std::process::Output;

use serde_json::{Value, json};

use crate::support::backend::check_finalize_signature;
use crate::support::daemon::{HOOK_TOKEN, SECRET};
use crate::support::{Daemon, Fault, http_client};
use crate::world::{World, lecture_path, small};

const NEW_SECRET: &str = "new-finalize-secret-of-the-tests";
const NEW_TOKEN: &str = "new-hook-token-of-the-tests";

fn check(daemon: &Daemon) -> (Option<i32>, String) {
    let Output { status, stdout, .. } = daemon.command(&["check"]).output().unwrap();
    let lines = String::from_utf8(stdout).unwrap();
    let lines = lines.lines().filter(|line| line.contains("  reload "));
    (status.code(), lines.map(|line| format!("{line}\n")).collect())
}

/// The number of the first line that contains all of `parts`.
fn at(daemon: &Daemon, parts: &[&str]) -> usize {
    let text = daemon.log_text();
    let found = text.lines().position(|line| parts.iter().all(|part| line.contains(part)));
    found.unwrap_or_else(|| panic!("{parts:?} is not in the log:\n{text}"))
}

#[tokio::test]
async fn a_reload_changes_level_and_number_of_jobs_and_drops_no_download() {
    let world = World::new();
    let daemon = world.daemon().set("worker.jobs", 1).set("log.level", "warn,hauld=info").start().await;
    let tasks = [4001, 4002, 4003, 4004];
    let mut paths = tasks.map(|task| world.publish(task, &small()));
    // What is tried again is said at debug. Not 503: the host would get fewer requests at once.
    for first in paths.each_ref().map(|paths| &paths[0]) {
        world.origin.fault(first, Fault::Status(500).times(1));
    }
    let tried_again = paths[0][0].clone();
    let paths = paths.each_mut().map(|paths| paths.swap_remove(1));
    let [one, two, three, four] = paths.each_ref().map(|path| world.origin.hold(path));
    for task in &tasks[..3] {
        world.push(*task);
    }
    one.wait_for(1).await;
    world.origin.wait_for_request(&tried_again, 2).await;
    assert!(!daemon.log_text().contains("\"DEBUG\""));

    daemon.reconfigure("worker.jobs", 3);
    daemon.reconfigure("log.level", "warn,hauld=debug");
    daemon.sighup();
    two.wait_for(1).await;
    three.wait_for(1).await;
    daemon.wait_for_log(&["reloaded: worker.jobs 1 -> 3"]).await;
    daemon.wait_for_log(&["reloaded: log.level warn,hauld=info -> warn,hauld=debug"]).await;
    daemon.wait_for_log(&["\"DEBUG\"", "trying again", "\"task_id\":4002"]).await;

    daemon.reconfigure("worker.jobs", 1);
    daemon.sighup();
    daemon.wait_for_log(&["reloaded: worker.jobs 3 -> 1"]).await;
    world.push(4004);
    one.release();
    two.release();
    for task in [4001, 4002] {
        world.settled(task).await;
    }
    three.release();
    four.wait_for(1).await;
    let (ended, begun) = (["\"task_id\":4003", "job settled"], ["\"task_id\":4004", "ENROLL CHECK start"]);
    assert!(at(&daemon, &ended) < at(&daemon, &begun), "{}", daemon.log_text());
    four.release();
    for (task, path) in tasks.iter().zip(&paths) {
        world.redis.wait_for_task(*task, "completed").await;
        assert!(std::fs::read(lecture_path(&daemon, *task)).unwrap() == small().truth());
        assert_eq!(world.origin.count(path), 1, "{path} was fetched again");
    }
}

#[tokio::test]
async fn a_configuration_that_is_wrong_changes_nothing_and_all_of_it_is_said() {
    let world = World::new();
    // As systemd starts it: what is in the file is in its environment too.
    let variables = "HAULD_GATE_WAIT_SECONDS=7\n";
    let builder = world.daemon().environment_file(variables).env("HAULD_GATE_WAIT_SECONDS", "7");
    let daemon = builder.set("worker.jobs", 1).start().await;
    let file = daemon.config().with_file_name("environment");
    let write = |text: &str| std::fs::write(&file, text).unwrap();

    write("HAULD_GATE_WAIT_SECONDS=soon\n");
    daemon.reconfigure("worker.jobs", "many");
    daemon.reconfigure("hls.max_requests", 7);
    let preview: Value = serde_json::from_str(&daemon.admin("/reload").unwrap().1).unwrap();
    assert_eq!(preview["errors"].as_array().unwrap().len(), 2, "{preview}");
    daemon.sighup();
    for wrong in ["worker.jobs = \\\"many\\\"", "gate.wait_seconds = \\\"soon\\\""] {
        daemon.wait_for_log(&["ERROR", "reload refused, everything stays as it was", wrong]).await;
    }
    assert!(!daemon.log_text().contains("reloaded: "), "{}", daemon.log_text());

    write("HAULD_GATE_WAIT_SECONDS=9\n");
    daemon.reconfigure("worker.jobs", 2);
    daemon.sighup();
    for change in ["gate.wait_seconds 7 -> 9", "worker.jobs 1 -> 2", "hls.max_requests 32 -> 7"] {
        daemon.wait_for_log(&["INFO", "reloaded: ", change]).await;
    }
    world.publish(4011, &small());
    world.push(4011);
    world.redis.wait_for_task(4011, "completed").await;
    let gate = daemon.wait_for_log(&["ENROLL CHECK start"]).await;
    assert_eq!(gate["wait_seconds"], 9);
}

#[tokio::test]
async fn check_says_what_a_reload_would_change_and_secrets_are_changed_unseen() {
    let world = World::new();
    let daemon = world.daemon().hook().start().await;
    let (status, text) = check(&daemon);
    assert!(status == Some(0) && text.starts_with("ok    reload       would change nothing"), "{text}");

    daemon.reconfigure("worker.jobs", 5);
    daemon.reconfigure("hook.max_tasks", 1);
    daemon.reconfigure("queue.max_attempts", 9);
    let directory = daemon.config().parent().unwrap();
    std::fs::write(directory.join("report.secret"), NEW_SECRET).unwrap();
    std::fs::write(directory.join("hook.token"), NEW_TOKEN).unwrap();
    let (status, text) = check(&daemon);
    for line in [
        "ok    reload       would change: worker.jobs 2 -> 5 (reload)\n",
        "ok    reload       would change: report.secret_file (what is not shown of it) (reload)\n",
        "ok    reload       would change: hook.token_file (what is not shown of it) (reload)\n",
        "ok    reload       would change: hook.max_tasks 500 -> 1 (reload)\n",
        "warn  reload       would not change: queue.max_attempts 3 -> 9 (restart)\n",
    ] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
    assert_eq!((status, text.lines().count()), (Some(0), 5), "{text}");

    let enroll = async |token: &str, courses: usize| {
        let urls: Vec<String> =
            (0..courses).map(|number| format!("https://learn.example.com/course/{number}/")).collect();
        let request = http_client().post(daemon.hook_url("/api/v1/enroll")).bearer_auth(token);
        request.json(&json!({"email": "a@example.com", "urls": urls})).send().await.unwrap().status().as_u16()
    };
    assert_eq!(enroll(HOOK_TOKEN, 2).await, 200);
    daemon.sighup();
    daemon.wait_for_log(&["WARN", "not reloaded, this takes a restart: queue.max_attempts 3 -> 9"]).await;
    daemon.wait_for_log(&["the configuration was read again"]).await;
    assert_eq!([enroll(HOOK_TOKEN, 1).await, enroll(NEW_TOKEN, 2).await, enroll(NEW_TOKEN, 1).await], [401, 400, 200]);
    world.publish(4021, &small());
    world.push(4021);
    let calls = world.backend.wait_for_finalize(1).await;
    check_finalize_signature(&calls[0], NEW_SECRET);
    assert_eq!(check(&daemon).1.lines().count(), 1, "what takes a restart still does");
    let log = daemon.log_text();
    for secret in [SECRET, NEW_SECRET, HOOK_TOKEN, NEW_TOKEN] {
        assert!(!text.contains(secret) && !log.contains(secret), "{secret} is shown");
    }
    daemon.sigkill();
    assert!(check(&daemon).1.contains("no daemon answers at 127.0.0.1:"));
}

#[tokio::test]
async fn a_hook_that_others_reach_does_not_lose_its_tokens_by_a_reload() {
    let world = World::new();
    let daemon = world.daemon().hook().set("hook.listen", "0.0.0.0:0").start().await;
    daemon.reconfigure("hook.listen", "127.0.0.1:0");
    let text = std::fs::read_to_string(daemon.config()).unwrap();
    let without: Vec<&str> = text.lines().filter(|line| !line.starts_with("token_file")).collect();
    std::fs::write(daemon.config(), without.join("\n")).unwrap();
    daemon.sighup();
    daemon.wait_for_log(&["ERROR", "reload refused", "hook.listen", "is not a loopback address"]).await;
}
