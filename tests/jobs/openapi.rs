//! The hook's own document of its API, held against the running hook by schemathesis: it makes requests
//! that the document allows and such as it forbids, and compares every answer with what it promises.

use std::process::Command;

use crate::support::daemon::HOOK_TOKEN;
use crate::support::python_environment;
use crate::world::World;

/// Requests of each kind for each operation.
const EXAMPLES: &str = "30";

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_true_whatever_is_sent() {
    let world = World::new();
    // The elements that are pushed meanwhile stay on the list: what is tried here is the hook.
    world.redis.cli(&["HSET", "{rq:queue:downloads}:hauld:paused", "*", "{}"]);
    let daemon = world.daemon().set("log.level", "info").hook().start().await;
    let scratch = tempfile::tempdir().unwrap();
    let mut schemathesis = Command::new(python_environment("schemathesis").join("bin/schemathesis"));
    schemathesis.current_dir(scratch.path()).env("HYPOTHESIS_STORAGE_DIRECTORY", scratch.path());
    schemathesis.args(["--config-file", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/jobs/schemathesis.toml")]);
    schemathesis.args(["run", &daemon.hook_url("/api/openapi.json"), "--no-color"]);
    schemathesis.args(["--header", &format!("Authorization: Bearer {HOOK_TOKEN}")]);
    schemathesis.args(["--checks", "all", "--max-examples", EXAMPLES, "--seed", "1", "--continue-on-failure"]);
    let output = tokio::task::spawn_blocking(move || schemathesis.output()).await.unwrap();
    let output = output.expect("schemathesis runs; `make deps` installs it");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));

    let errors = |line: &serde_json::Value| line["level"] == "ERROR";
    assert!(!daemon.log_lines().iter().any(errors), "no request makes a line at level ERROR:\n{}", daemon.log_text());
    let samples = daemon.metrics();
    let asked = samples.lines().filter(|line| line.starts_with("hauld_hook_requests_total")).count();
    assert!(asked > 10, "it was asked for most of what it has:\n{samples}");
}
