//! All that comes out of a daemon and of the commands beside it. A new output is a line here.

use std::path::Path;

use crate::support::daemon::{HOOK_TOKEN, tree};
use crate::support::{Daemon, RedisServer, http_client};

/// What can be asked of the admin port.
const ADMIN: [&str; 5] = ["/", "/metrics", "/readyz", "/livez", "/reload"];
/// The commands that show something. The last ones show queue elements, too.
const COMMANDS: [&[&str]; 9] = [
    &["check"],
    &["check", "--json"],
    &["status"],
    &["status", "--json"],
    &["tasks", "list"],
    &["queue", "verify"],
    &["dead", "list"],
    &["queue", "verify", "--json"],
    &["dead", "show"],
];
/// How many of [`COMMANDS`] show queue elements.
const WITH_ELEMENTS: usize = 2;
/// Every key of a database with all that it holds.
const EVERYTHING: &str = "local all = {} for _, key in ipairs(redis.call('KEYS', '*')) do \
    local kind, values = redis.call('TYPE', key).ok, {} \
    if kind == 'string' then values = {redis.call('GET', key)} \
    elseif kind == 'list' then values = redis.call('LRANGE', key, 0, -1) \
    elseif kind == 'hash' then values = redis.call('HGETALL', key) \
    elseif kind == 'zset' then values = redis.call('ZRANGE', key, 0, -1) \
    elseif kind == 'set' then values = redis.call('SMEMBERS', key) \
    elseif kind == 'stream' then \
        for _, entry in ipairs(redis.call('XRANGE', key, '-', '+')) do \
            for _, field in ipairs(entry[2]) do table.insert(values, field) end end end \
    table.insert(all, key) for _, value in ipairs(values) do table.insert(all, value) end end return all";

/// One of them.
pub struct Output {
    pub name: String,
    pub text: String,
    /// Queue elements are in it, which are kept as their producer wrote them.
    pub has_elements: bool,
}

impl Output {
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Output {
        Output { name: name.into(), text: text.into(), has_elements: false }
    }
}

/// What a running daemon answers, and the commands, about these tasks and this order.
pub async fn answers(daemon: &Daemon, tasks: &[u64], order_id: u64) -> Vec<Output> {
    let mut outputs = Vec::new();
    for path in ADMIN {
        let (status, body) = daemon.admin(path).unwrap();
        outputs.push(Output::new(path, format!("{status} {body}")));
    }
    outputs.push(Output::new("stream of events", events(daemon).await));
    let of_tasks = tasks.iter().map(|task_id| format!("/api/v1/tasks/{task_id}"));
    for path in of_tasks.chain([format!("/api/v1/orders/{order_id}"), "/api/v1/orders/none".into()]) {
        let answer = http_client().get(daemon.hook_url(&path)).bearer_auth(HOOK_TOKEN).send().await.unwrap();
        outputs.push(Output::new(path, format!("{} {}", answer.status(), answer.text().await.unwrap())));
    }
    let stories = tasks.iter().map(|task_id| ["tasks".into(), "show".into(), task_id.to_string()].to_vec());
    let commands = COMMANDS.iter().map(|words| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    for (index, words) in commands.chain(stories).enumerate() {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let said = daemon.command(&words).output().unwrap();
        let text = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
        let has_elements = (COMMANDS.len() - WITH_ELEMENTS..COMMANDS.len()).contains(&index);
        outputs.push(Output { has_elements, ..Output::new(words.join(" "), text) });
    }
    let command_line = std::fs::read_to_string(format!("/proc/{}/cmdline", daemon.pid())).unwrap();
    outputs.push(Output::new("command line", command_line));
    outputs.push(Output::new("files in staging", contents(daemon.staging())));
    outputs
}

/// What a viewer of the page is told until it has seen everything once.
async fn events(daemon: &Daemon) -> String {
    let url = format!("http://127.0.0.1:{}/api/events", daemon.admin_port());
    let mut events = http_client().get(url).send().await.unwrap();
    let mut text = String::new();
    while !(text.contains("event: now") && text.contains("event: lists") && text.ends_with("\n\n")) {
        text.push_str(&String::from_utf8_lossy(&events.chunk().await.unwrap().unwrap()));
    }
    text
}

/// All that is in Redis.
pub fn everything(redis: &RedisServer) -> Output {
    let text = redis.cli(&["EVAL", EVERYTHING, "0"]);
    Output { has_elements: true, ..Output::new("keys of Redis", text) }
}

/// Every file below a directory: its name, and what is in it.
fn contents(directory: &Path) -> String {
    let content = |name: String| {
        let bytes = std::fs::read(directory.join(&name)).unwrap_or_default();
        format!("{name}\n{}\n", String::from_utf8_lossy(&bytes))
    };
    tree(directory).into_iter().map(content).collect()
}
