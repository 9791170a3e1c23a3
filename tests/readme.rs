//! What README says about settings, failure kinds and metrics is what the code says.

use std::fmt::Write;

use hauld::cli::exit::Exit;
use hauld::config::Config;
use hauld::failure::{FailureKind, JobPolicy};
use hauld::metrics::Metrics;

const README: &str = include_str!("../README.md");

/// The rows of README that begin with one of these names, in its order.
fn assert_table(expected: &str) {
    for row in expected.lines() {
        assert!(README.lines().any(|line| line == row), "README misses or contradicts:\n{row}");
    }
}

#[test]
fn the_configuration_table_is_that_of_the_code() {
    let mut rows = String::new();
    for setting in Config::settings() {
        let default = if setting.default.is_empty() { String::new() } else { format!("`{}`", setting.default) };
        let fallback = setting.fallback.map(|name| format!(" Falls back to `{name}`.")).unwrap_or_default();
        let reloadable = if setting.reloadable { " ↻" } else { "" };
        writeln!(rows, "| `{}` | {default} | {}{fallback}{reloadable} |", setting.name, setting.help).unwrap();
    }
    assert_table(&rows);
    let documented =
        README.lines().filter(|line| line.starts_with("| `") && line.split('`').nth(1).unwrap().contains('.'));
    assert_eq!(documented.count(), Config::settings().len(), "README has settings that do not exist");
}

#[test]
fn the_failure_table_is_that_of_the_code() {
    let mut rows = String::new();
    for kind in FailureKind::ALL {
        let what = match kind.job_policy() {
            JobPolicy::Retry => "tried again",
            JobPolicy::GiveUp => "final",
            JobPolicy::HandBack => "handed back",
            JobPolicy::Abandon => "left alone",
        };
        writeln!(rows, "| `{}` | {what} | {} | {} |", kind.name(), kind.meaning(), kind.remedy()).unwrap();
    }
    assert_table(&rows);
}

#[test]
fn the_exit_status_table_is_that_of_the_code() {
    let mut rows = String::new();
    for exit in Exit::ALL {
        let kinds = FailureKind::ALL.iter().filter(|kind| Exit::from(**kind) == *exit);
        let kinds: Vec<String> = kinds.map(|kind| format!("`{kind}`")).collect();
        writeln!(rows, "| `{}` | {} | {} |", exit.status(), exit.meaning(), kinds.join(" ")).unwrap();
    }
    assert_table(&rows);
}

#[test]
fn the_metrics_table_is_that_of_the_code() {
    let mut rows = String::new();
    for (name, help) in Metrics::table() {
        writeln!(rows, "| `{name}` | {help} |").unwrap();
    }
    assert_table(&rows);
}
