//! Pushes jobs with the Redis clients that Node backends use.

use std::path::Path;
use std::process::Command;

/// Which npm package pushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// `redis`
    Redis,
    /// `ioredis`
    IoRedis,
}

/// `LPUSH list json` by a Node process; returns when the server has confirmed it.
///
/// # Panics
/// When Node or the packages are missing (`make deps` installs them), or the push fails.
pub fn node_push(kind: Node, redis_url: &str, list: &str, json: &str) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/producers");
    assert!(directory.join("node_modules").is_dir(), "the Node packages are missing: run `make deps`");
    let script = match kind {
        Node::Redis => "push-redis.mjs",
        Node::IoRedis => "push-ioredis.mjs",
    };
    let output = Command::new("node").arg(directory.join(script)).args([redis_url, list, json]).output();
    let output = output.unwrap_or_else(|error| panic!("cannot start node: {error}; run `make deps`"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {error}");
}
