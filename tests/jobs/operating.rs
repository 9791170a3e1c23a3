//! What an operator does from a shell, beside daemons that run.

use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::redis::job;
use crate::support::wait;
use crate::world::{DEAD, World, course_url, small};

/// Runs a command with the configuration of a daemon.
fn run(daemon: &Daemon, arguments: &[&str]) -> Output {
    daemon.command(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn what_was_given_up_is_seen_understood_and_run_again() {
    let world = World::new();
    let daemon = world.daemon().set("queue.max_attempts", 1).start().await;
    assert!(text(&run(&daemon, &["dead", "list"])).contains("is empty"));
    // The catalogue does not know it yet; the customer of the other one is not enrolled.
    world.push(3101);
    world.redis.set_task(3102, "failed");
    world.redis.push_job(3102, &course_url(3102));
    world.redis.cli(&["LPUSH", "rq:queue:downloads", "rubbish"]);
    wait::until("all are dead", Duration::from_secs(20), || (world.dead().len() == 3).then_some(())).await;

    let listed = run(&daemon, &["dead", "list", "--json"]);
    let entries: Vec<Value> =
        String::from_utf8(listed.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(entries.len(), 3);
    let of_task = |task: u64| entries.iter().find(|entry| entry["task_id"] == task).unwrap();
    assert_eq!(of_task(3101)["history"][0]["kind"], of_task(3101)["kind"]);
    let id = of_task(3101)["id"].as_str().unwrap();
    let shown = run(&daemon, &["dead", "show", id]);
    assert!(shown.status.success() && text(&shown).contains("course_not_found") && text(&shown).contains("remedy"));

    assert_eq!(run(&daemon, &["dead", "retry"]).status.code(), Some(2), "everything only when asked for");
    assert_eq!(run(&daemon, &["dead", "list", "--kind", "nonsense"]).status.code(), Some(2));
    let missing = run(&daemon, &["dead", "show", "ffffffffffff"]);
    assert!(missing.status.code() == Some(1) && text(&missing).contains("no entry ffffffffffff"));

    // Published by now.
    world.publish(3101, &small());
    let retried = run(&daemon, &["dead", "retry", "--task", "3101"]);
    assert!(text(&retried).contains("`enrolled` again") && text(&retried).contains("1 back in"), "{}", text(&retried));
    world.redis.wait_for_task(3101, "completed").await;
    let refused = run(&daemon, &["dead", "retry", "--task", "3102"]);
    assert!(text(&refused).contains("enroll the customer again"), "{}", text(&refused));
    wait::until("it is refused again", Duration::from_secs(20), || (world.dead().len() == 2).then_some(())).await;
    assert!(text(&run(&daemon, &["dead", "purge", "--all"])).contains("2 thrown away"));
    let account = run(&daemon, &["queue", "verify"]);
    assert!(account.status.success() && text(&account).contains("everything adds up"), "{}", text(&account));
}

#[tokio::test]
async fn an_entry_that_cannot_be_put_back_keeps_no_other_one_on_the_dead_list() {
    let world = World::new();
    let daemon = world.daemon().set("queue.max_attempts", 1).start().await;
    // The oldest entry, which is asked first, has lost its element.
    let damaged = serde_json::json!({
        "element_base64": "%", "task_id": 3111, "kind": "malformed_job", "message": "x", "attempts": 0,
        "failed_at": jiff::Timestamp::now(), "instance": "gone-0",
    });
    world.redis.cli(&["LPUSH", DEAD, &damaged.to_string()]);
    world.push(3112);
    world.dead_of(3112).await;
    world.publish(3112, &small());
    let retried = run(&daemon, &["dead", "retry", "--all"]);
    let said = text(&retried);
    assert!(
        retried.status.code() == Some(1) && said.contains("holds no element") && said.contains("1 back in"),
        "{said}"
    );
    world.redis.wait_for_task(3112, "completed").await;
    assert_eq!(world.dead(), [damaged]);
}

#[tokio::test]
async fn a_pause_is_for_everybody_and_survives_restarts() {
    let world = World::new();
    let daemon = world.daemon().start().await;
    assert!(text(&run(&daemon, &["pause", "--reason", "disk is full"])).contains("every instance"));
    world.publish(3201, &small());
    world.push(3201);
    daemon.wait_for_log(&["paused"]).await;
    assert_eq!(world.redis.cli(&["LLEN", "rq:queue:downloads"]), "1");
    let second = world.daemon().set("worker.instance", "1").start().await;
    second.wait_for_log(&["paused"]).await;
    assert_eq!(second.metric("hauld_paused"), Some(1.0));
    let other = run(&daemon, &["resume", "--instance", "somebody-0"]);
    assert!(text(&other).contains("was not paused") && text(&other).contains("disk is full"), "{}", text(&other));
    assert!(text(&run(&daemon, &["resume"])).starts_with("resumed"));
    world.redis.wait_for_task(3201, "completed").await;
}

#[tokio::test]
async fn what_does_not_add_up_is_an_exit_code_and_is_mended() {
    let world = World::new();
    let daemon = world.daemon().start().await;
    world.publish(3301, &small());
    world.redis.set_task(3301, "enrolled");
    let element = job(3301, &course_url(3301));
    world.redis.cli(&["RPUSH", "{rq:queue:downloads}:hauld:claimed:gone-0-1-aa", &element]);
    let found = run(&daemon, &["queue", "verify", "--json"]);
    assert_eq!(found.status.code(), Some(1));
    let account: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!(account["findings"][0]["kind"], "orphan");
    let mended = run(&daemon, &["queue", "repair"]);
    assert!(mended.status.success(), "{}", text(&mended));
    world.redis.wait_for_task(3301, "completed").await;
}

#[tokio::test]
async fn the_status_is_seen_on_a_terminal_and_by_programs() {
    let world = World::new();
    let daemon = world.daemon().set("worker.instance", "7").start().await;
    let stream = small();
    let published = crate::support::Publish::of(&stream).at(&world.origin, "/3401");
    let held = world.origin.hold(&published.segment_paths[1]);
    // A title that would clear the screen, and turn what follows.
    let title = "Loops\u{1b}[2J\u{202e}";
    let lecture = crate::support::Lecture::new("One").stream(&published.url);
    world.submit(3401, &crate::support::Manifest::new(title).section("Start", [lecture]));
    world.push(3402);
    held.wait_for(1).await;
    let seen = || {
        let output = run(&daemon, &["status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).unwrap();
        let is_it = status["running"][0]["task_id"] == 3401 && status["failures"][0]["task_id"] == 3402;
        is_it.then_some(status)
    };
    let status = wait::until("both are seen", Duration::from_secs(20), seen).await;
    assert!(status["instances"][0]["name"].as_str().unwrap().ends_with("-7"), "{status}");
    let words = run(&daemon, &["status"]);
    let words = String::from_utf8(words.stdout).unwrap();
    assert!(words.lines().all(|line| line.chars().count() <= 80), "{words}");
    assert!(!words.contains(['\u{1b}', '\u{202e}']), "{words:?}");
    for part in ["INSTANCE", "running 1", "3401", "3402", "course_not_found"] {
        assert!(words.contains(part), "no {part:?} in\n{words}");
    }
    assert!(!words.contains("user@"), "customers are nobody's business here");

    // Appended where no terminal is, until the reader has gone away.
    let mut watching = daemon.command(&["status", "--watch", "--json", "--interval", "1"]);
    let mut watching = watching.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let reader = std::io::BufReader::new(watching.stdout.take().unwrap());
    let lines: Vec<String> = std::io::BufRead::lines(reader).take(2).map(Result::unwrap).collect();
    assert!(lines.iter().all(|line| serde_json::from_str::<Value>(line).unwrap()["list"].is_string()));
    let ended = wait::until("it ends", Duration::from_secs(20), || watching.try_wait().unwrap()).await;
    assert!(ended.success(), "{ended:?}");
    held.release();
    world.redis.wait_for_task(3401, "completed").await;
}
