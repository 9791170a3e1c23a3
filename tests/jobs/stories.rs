//! What happened to a task, told by `hauld tasks` on a host that knows nothing but Redis.

use std::time::Duration;

use serde_json::Value;

use crate::support::{Daemon, Fault, hauld, media, wait};
use crate::world::{World, course_url, small};

const LIMIT: Duration = Duration::from_secs(20);

/// A host that knows nothing but Redis.
struct Host(tempfile::TempDir);

impl Host {
    fn new(world: &World) -> Host {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("hauld.toml"), format!("redis.url = {:?}\n", world.redis.url())).unwrap();
        Host(directory)
    }

    /// What `hauld tasks` answers, and whether it succeeded.
    fn tasks(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = hauld();
        command.arg("--config").arg(self.0.path().join("hauld.toml")).arg("tasks").args(arguments);
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    }

    fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let (_, text) = self.tasks(&[arguments, &["--json"]].concat());
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for the step.
    async fn told(&self, task_id: u64, step: &str) -> Vec<Value> {
        let task = task_id.to_string();
        wait::until(&format!("task {task_id}: {step}"), LIMIT, || {
            let lines = self.json(&["show", &task]);
            lines.last().is_some_and(|line| line["step"] == step).then_some(lines)
        })
        .await
    }
}

fn steps(lines: &[Value]) -> Vec<(u64, &str)> {
    lines.iter().map(|line| (line["attempt"].as_u64().unwrap(), line["step"].as_str().unwrap())).collect()
}

/// What a catalogue that answers nonsense costs.
fn spoil(world: &World, task_id: u64, times: usize) {
    let query: String = url::form_urlencoded::byte_serialize(course_url(task_id).as_bytes()).collect();
    let nonsense = Fault::Body("no manifest for user@example.com".into());
    world.origin.fault(&format!("/catalog?url={query}"), nonsense.times(times));
}

/// Every key of the stories.
fn keys(world: &World) -> Vec<String> {
    let keys = world.redis.cli(&["KEYS", "*:hauld:*"]);
    let told = |key: &&str| ["stories", "story:"].iter().any(|part| key.contains(part));
    keys.lines().filter(told).map(str::to_owned).collect()
}

#[tokio::test]
async fn two_instances_tell_one_story_that_any_host_can_read() {
    let world = World::new();
    let host = Host::new(&world);
    let (staging, delivered) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let daemon = || {
        let shared = world.daemon().staging(staging.path()).delivered(delivered.path());
        shared.set("queue.retry_delay_seconds", 3).start()
    };
    assert_eq!(host.tasks(&["list"]), (true, "no task is known\n".into()));
    let first = daemon().await;
    world.publish(7101, &small());
    spoil(&world, 7101, 1);
    world.push(7101);
    first.wait_for_log(&["job settled", "\"outcome\":\"retry\""]).await;
    // Its story is complete when it has ended.
    stop(first).await;
    let failed = host.json(&["list", "--kind", "manifest_invalid", "--state", "delayed"]);
    assert_eq!((failed.len(), &failed[0]["task_id"]), (1, &7101.into()));
    let (_, text) = host.tasks(&["show", "7101"]);
    let kind = hauld::failure::FailureKind::ManifestInvalid;
    let advice = format!("now: delayed\n{kind}: {} {}\n", kind.meaning(), kind.remedy());
    assert!(text.ends_with(&advice), "{text}");

    let second = daemon().await;
    world.redis.wait_for_task(7101, "completed").await;
    let lines = host.told(7101, "done").await;
    let expected = [
        (1, "taken"),
        (1, "enrolled"),
        (1, "retry"),
        (2, "taken"),
        (2, "enrolled"),
        (2, "resolved"),
        (2, "lecture"),
        (2, "downloaded"),
        (2, "delivered"),
        (2, "finalized"),
        (2, "done"),
    ];
    assert_eq!(steps(&lines), expected);
    let instances: Vec<&Value> = lines.iter().map(|line| &line["instance"]).collect();
    assert!(instances[..3].iter().all(|name| *name == instances[0]), "{instances:?}");
    assert!(instances[3..].iter().all(|name| *name == instances[3] && *name != instances[0]), "{instances:?}");
    assert!(lines[0]["waited_seconds"].as_f64().unwrap() > 86_400.0, "the element is of another year");
    assert_eq!(lines[3].get("waited_seconds"), None, "only the first attempt has waited in the list alone");
    assert_eq!(
        (&lines[6]["number"], &lines[6]["title"], &lines[6]["lectures"]),
        (&1.into(), &"Only".into(), &1.into())
    );
    assert!(lines[7]["bytes"].as_u64().unwrap() > 1000);
    assert!(lines.is_sorted_by_key(|line| line["at"].as_str().unwrap().to_owned()));

    let (_, text) = host.tasks(&["show", "7101"]);
    for part in
        ["attempt 1, on ", "attempt 2, on ", "to be tried again: manifest_invalid: ", "delivered in ", "now: done\n"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let list = host.json(&["list", "--state", "done"]);
    assert_eq!((list.len(), &list[0]["step"], &list[0]["task_id"]), (1, &"done".into(), &7101.into()));
    assert!(host.json(&["list", "--state", "dead"]).is_empty());
    for key in keys(&world) {
        let left: u64 = world.redis.cli(&["TTL", &key]).trim().parse().unwrap();
        assert!((29 * 86_400..=30 * 86_400).contains(&left), "{key}: {left}");
        if key.contains("stories") {
            continue;
        }
        let content = world.redis.list(&key).concat();
        assert!(content.contains("manifest_invalid") && !content.contains("example.com\""), "{content}");
        assert!(!content.contains('@'), "{content}");
    }
    assert_eq!(keys(&world).len(), 2, "{:?}", keys(&world));
    let verified = second.command(&["queue", "verify"]).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    let (found, said) = host.tasks(&["show", "7102"]);
    assert!(!found && said.contains("task 7102: Redis knows no step of it"), "{said}");
}

#[tokio::test]
async fn a_death_and_an_end_are_told_too() {
    let world = World::new();
    let host = Host::new(&world);
    let first = world.daemon().set("queue.max_attempts", 1).start().await;
    world.publish(7103, &small());
    spoil(&world, 7103, 1);
    world.push(7103);
    let lines = host.told(7103, "dead").await;
    assert_eq!(steps(&lines), [(1, "taken"), (1, "enrolled"), (1, "dead")]);
    let (_, text) = host.tasks(&["list", "--state", "dead"]);
    assert!(text.contains("7103  dead ") && text.contains("failed for good: manifest_invalid"), "{text}");

    // It hangs in the download when its instance is killed.
    let segments = world.publish(7104, &small());
    let hold = world.origin.hold(&segments[1]);
    world.push(7104);
    host.told(7104, "resolved").await;
    first.sigkill();
    hold.release();
    let second = world.daemon().start().await;
    let lines = host.told(7104, "done").await;
    let told = steps(&lines);
    assert_eq!(told[..5], [(1, "taken"), (1, "enrolled"), (1, "resolved"), (1, "reaped"), (1, "taken")]);
    let died = lines.iter().find(|line| line["step"] == "reaped").unwrap();
    assert_eq!(died["dead_instance"], lines[0]["instance"]);
    assert_ne!(died["instance"], lines[0]["instance"]);

    // What a stop hands back.
    let segments = world.publish(7105, &small());
    let _hold = world.origin.hold(&segments[1]);
    world.push(7105);
    host.told(7105, "resolved").await;
    second.sigterm();
    second.wait_for_log(&["told to stop"]).await;
    second.sigterm();
    let lines = host.told(7105, "returned").await;
    assert_eq!(lines.last().unwrap()["state"], "waiting");
}

#[tokio::test]
async fn line_28_what_was_left_out_of_a_lecture_is_counted_and_reported() {
    let world = World::new();
    let host = Host::new(&world);
    let daemon = world.daemon().set("queue.retry_delay_seconds", 1).set("hls.segment_attempts", 1).start().await;
    let mut stream = media::synthetic(5, 2000);
    for segment in &mut stream.segments[1..] {
        *segment = [&b"\x89PNG\r\n\x1a\n"[..], &[7; 500], segment].concat().into();
    }
    // The second attempt goes on behind what the first one has written, and tells of the rest.
    let segments = world.publish(7106, &stream);
    world.origin.fault(&segments[3], Fault::Status(500).times(1));
    world.push(7106);
    let lines = host.told(7106, "done").await;
    let remarks: Vec<&Value> = lines.iter().filter(|line| line["step"] == "remark").collect();
    assert_eq!(remarks.iter().map(|line| line["attempt"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2], "{lines:?}");
    for remark in remarks {
        let text = "2 segments with other bytes, such as a picture, in front of the stream: left out";
        assert_eq!((&remark["number"], &remark["remark"]), (&1.into(), &text.into()));
    }
    assert_eq!(daemon.metric(r#"hauld_odd_segments_total{kind="leading_bytes"}"#), Some(4.0));
    let (_, text) = host.tasks(&["show", "7106"]);
    assert!(text.contains("lecture 1: 2 segments with other bytes"), "{text}");
}

/// SIGTERM, and its end.
async fn stop(daemon: Daemon) {
    daemon.sigterm();
    wait::until("the daemon has ended", LIMIT, || daemon.exited()).await;
}
