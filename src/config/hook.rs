//! The settings of the hook.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::{HookSettings, Source};

pub(super) fn read(s: &mut Source) -> HookSettings {
    HookSettings {
        listen: s.optional_address("hook.listen", "off", "Address of the HTTP hook (127.0.0.1:8300), or off."),
        token: s.reloadable().secret("hook.token", None, "File with a bearer token of those who may call the hook."),
        token_files: paths(
            s.reloadable(),
            "hook.token_files",
            "Files with bearer tokens, one a line, each file named after its caller; read again on SIGHUP.",
        ),
        signing_secret_files: paths(
            s.reloadable(),
            "hook.signing_secret_files",
            "Files with secrets of callers that sign their requests, one a line (whsec_… or any text of 16 bytes and more); read again on SIGHUP.",
        ),
        allowed_course_hosts: s.list(
            "hook.allowed_course_hosts",
            "Hosts that courses may be on: example.com, *.example.com; any if not set.",
        ),
        max_tasks: s.reloadable().count("hook.max_tasks", 500, 1..=10_000, "Most tasks in one order."),
        max_requests_per_second: NonZeroU32::new(s.reloadable().integer(
            "hook.max_requests_per_second",
            5000,
            1..=1_000_000,
            "Requests that one caller may make in a second.",
        ) as u32)
        .unwrap_or(NonZeroU32::MIN),
        max_connections: s.reloadable().count(
            "hook.max_connections",
            256,
            1..=10_000,
            "Connections to the hook at once; more wait.",
        ),
        keep_orders: Duration::from_secs(
            s.integer("hook.keep_order_days", 30, 1..=3650, "How long an order that has ended is remembered.") * 86_400,
        ),
    }
}

fn paths(s: &mut Source, name: &str, help: &str) -> Vec<PathBuf> {
    s.list(name, help).into_iter().map(PathBuf::from).collect()
}
