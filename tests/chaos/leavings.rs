//! What is left at the end, and should not be.

use std::collections::BTreeSet;
use std::path::Path;

use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use serde_json::Value;

use crate::account::PREFIX;
use crate::element::folder;
use crate::plan::End;
use crate::support::daemon::tree;
use crate::world::World;

/// Keys that are there once: `token`, `sweeps`, `counts`, `dead`, `recent`, `stories`.
const LASTING: usize = 6;
/// What TTL answers for a key that stays.
const NO_EXPIRY: i64 = -1;

/// Neither folders, keys nor processes that nobody knows of. `done` are the tasks that are delivered, `tasks` all
/// there were.
pub async fn find(world: &World, redis: &mut MultiplexedConnection, done: &BTreeSet<u64>, tasks: usize) -> Vec<String> {
    let mut found = Vec::new();
    let known: BTreeSet<String> = done.iter().map(|task| folder(*task)).collect();
    for name in names_in(&world.delivered()) {
        if !known.contains(&name) {
            found.push(format!("{name:?} is delivered, and should not be"));
        }
    }
    let keys: Vec<String> = redis.keys(format!("{PREFIX}*")).await.expect("keys");
    let tokens: usize = redis.get(format!("{PREFIX}token")).await.expect("the token");
    // A story and a note of the progress of each task, and the tombstones of instances.
    if keys.len() > 2 * tasks + tokens + LASTING {
        found.push(format!("{} keys for {tasks} tasks and {tokens} tokens", keys.len()));
    }
    for key in keys {
        let name = key.strip_prefix(PREFIX).expect("the prefix");
        let is_expected = match name.split_once(':').map_or(name, |(place, _)| place) {
            "token" | "sweeps" | "counts" | "dead" | "recent" => true,
            // They go by themselves, perhaps just now.
            "claimed" | "story" | "stories" | "progress" => redis.ttl::<_, i64>(&key).await.expect("TTL") != NO_EXPIRY,
            _ => false,
        };
        if !is_expected {
            let content: Vec<u8> = redis::cmd("DUMP").arg(&key).query_async(redis).await.unwrap_or_default();
            found.push(format!("the key {key} is left: {}", String::from_utf8_lossy(&content)));
        }
    }
    for outcome in tree(&world.staging().join(".outcomes")) {
        found.push(format!("an outcome is left in the journal: {outcome}"));
    }
    for process in processes_that_name(world.directory()) {
        found.push(format!("a process is left: {process}"));
    }
    if matches!(world.plan.end, End::Time(_)) {
        found.extend(of_the_living(world));
    }
    found
}

/// Who was never killed has cleared up, and has nothing to report but jobs that were to die.
fn of_the_living(world: &World) -> Vec<String> {
    let is_of_the_doomed = |name: &str| {
        let task = name.strip_prefix("Task_").and_then(|task| task.parse().ok());
        task.is_some_and(|task| world.is_doomed(task))
    };
    let mut found = Vec::new();
    for name in names_in(&world.staging()) {
        if !name.starts_with('.') && !is_of_the_doomed(&name) {
            found.push(format!("left in staging: {name:?}"));
        }
    }
    for line in world.log_lines("") {
        let text = line.split_once(' ').map_or("", |(_, text)| text);
        let entry: Value = serde_json::from_str(text).unwrap_or_default();
        let message = entry["message"].as_str().or(entry["fields"]["message"].as_str()).unwrap_or_default();
        let is_in_order = match entry["level"].as_str() {
            Some("ERROR") => message.starts_with("task failed"),
            // Not written by the log: a panic, an abort.
            None => false,
            Some(_) => true,
        };
        if !is_in_order {
            found.push(format!("an error is logged: {line}"));
        }
    }
    found
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Processes that have `directory` in their command line.
fn processes_that_name(directory: &Path) -> Vec<String> {
    let directory = directory.display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(&directory) {
            found.push(command);
        }
    }
    found
}
