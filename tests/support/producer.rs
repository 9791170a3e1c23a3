//! What Node backends do, done by Node: jobs are pushed with their Redis clients, calls are checked.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::origin::Request;

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

/// Whether a call to the backend is signed as the contract and Standard Webhooks say, computed by Node
/// and its packages over the bytes that came. Without a `webhook_secret` it is signed with `secret`.
///
/// # Panics
/// With what is wrong.
pub fn node_check_call(call: &Request, secret: &str, webhook_secret: Option<&str>) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/producers");
    let names = ["x-timestamp", "x-signature", "webhook-id", "webhook-timestamp", "webhook-signature"];
    let headers: serde_json::Map<_, _> =
        names.iter().map(|name| ((*name).to_owned(), call.header(name).unwrap_or_default().into())).collect();
    let input = serde_json::json!({"path": call.target, "headers": headers, "body": STANDARD.encode(&call.body)});
    let mut node = Command::new("node");
    node.arg(directory.join("check-call.mjs")).args([secret, webhook_secret.unwrap_or_default()]);
    let mut node = node.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("node; run `make deps`");
    node.stdin.take().expect("a pipe").write_all(input.to_string().as_bytes()).expect("node reads");
    let output = node.wait_with_output().expect("node ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
