//! Those who push to the list, and those who take from it beside the daemon.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::producer::{Node, node_push};
use crate::support::redis::job;
use crate::support::{hauld, wait};
use crate::world::{LIST, World, course_url, lecture_path, small};

#[tokio::test]
async fn jobs_of_node_clients_and_of_the_command_line_are_done() {
    let world = World::new();
    let daemon = world.daemon().start().await;
    for task_id in [1001, 1002, 1003] {
        world.publish(task_id, &small());
        world.redis.set_task(task_id, "enrolled");
    }
    for (node, task_id) in [(Node::Redis, 1001), (Node::IoRedis, 1002)] {
        node_push(node, &world.redis.url(), LIST, &job(task_id, &course_url(task_id)));
    }
    let course = course_url(1003);
    let enqueue = ["enqueue", "--task-id", "1003", "--email", "user@example.com", "--course-url", &course];
    let output = daemon.command(&enqueue).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains(LIST));
    for task_id in [1001, 1002, 1003] {
        world.redis.wait_for_task(task_id, "completed").await;
        assert!(std::fs::read(lecture_path(&daemon, task_id)).unwrap() == small().truth());
    }
}

#[test]
fn what_enqueue_pushes_is_what_the_backend_writes() {
    let world = World::new();
    let enqueue = |arguments: &[&str]| {
        let redis = format!("redis.url={}", world.redis.url());
        hauld().args(["enqueue", "--set", &redis]).args(arguments).output().unwrap()
    };
    let output = enqueue(&["--task-id", "43", "--email", "user@example.com", "--course-url", &course_url(43)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let list = world.redis.list(LIST);
    let pushed: serde_json::Value = serde_json::from_str(&list[0]).unwrap();
    let expected: serde_json::Value = serde_json::from_str(&job(43, &course_url(43))).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&pushed), keys(&expected));
    for key in ["taskId", "email", "courseUrl", "jobId"] {
        assert_eq!(pushed[key], expected[key]);
    }
    let bad = enqueue(&["--task-id", "43", "--email", "user@example.com", "--course-url", "ftp://h/"]);
    assert_eq!((bad.status.code(), world.redis.list(LIST).len()), (Some(65), 1));
    assert_eq!(enqueue(&["--task-id", "0", "--email", "a@b", "--course-url", "http://h/"]).status.code(), Some(2));
}

/// The old worker: `BRPOP` again and again, by a client of its own.
pub struct OldWorker {
    taken: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl OldWorker {
    pub fn start(port: u16) -> OldWorker {
        let (taken, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (theirs, end) = (Arc::clone(&taken), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let mut brpop = Command::new("redis-cli");
                let output = brpop.args(["-p", &port.to_string(), "BRPOP", LIST, "1"]).output().unwrap();
                let text = String::from_utf8(output.stdout).unwrap();
                theirs.lock().unwrap().extend(text.lines().filter(|line| line.starts_with('{')).map(str::to_owned));
            }
        });
        OldWorker { taken, stop, thread: Some(thread) }
    }

    /// The elements that it has taken, in order.
    pub fn taken(&self) -> Vec<String> {
        self.taken.lock().unwrap().clone()
    }
}

impl Drop for OldWorker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[tokio::test]
async fn beside_an_old_worker_each_element_is_handled_once() {
    let world = World::new();
    let daemon = world.daemon().start().await;
    let tasks: BTreeSet<u64> = (1101..1117).collect();
    for task_id in &tasks {
        world.publish(*task_id, &small());
    }
    let old = OldWorker::start(world.redis.port());
    wait::until("both wait at the list", Duration::from_secs(10), || {
        world.redis.cli(&["INFO", "clients"]).contains("blocked_clients:2").then_some(())
    })
    .await;
    let elements: BTreeSet<String> = tasks.iter().map(|task_id| world.push(*task_id)).collect();
    let completed = |task_id: &&u64| world.redis.task_field(**task_id, "status") == "completed";
    let everything = || (tasks.iter().filter(completed).count() + old.taken().len() == tasks.len()).then_some(());
    wait::until("everything is taken and done", Duration::from_secs(30), everything).await;
    let done: BTreeSet<u64> = tasks.iter().filter(completed).copied().collect();
    let theirs: BTreeSet<String> = old.taken().into_iter().collect();
    assert_eq!(theirs.len(), old.taken().len(), "no element twice");
    assert!(theirs.is_subset(&elements), "byte for byte");
    assert!(!done.is_empty() && !theirs.is_empty(), "{} here, {} there", done.len(), theirs.len());
    assert!(done.iter().all(|task_id| !theirs.contains(&job(*task_id, &course_url(*task_id)))));
    let calls = world.backend.finalize_calls();
    let finalized: BTreeSet<u64> = calls.iter().filter_map(|call| call.json()["task_id"].as_u64()).collect();
    assert_eq!((calls.len(), finalized), (done.len(), done));
    assert_eq!(world.redis.cli(&["LLEN", LIST]), "0");
    drop((old, daemon));
}
