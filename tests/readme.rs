//! What README says about settings, failure kinds and metrics is what the code says.

use std::fmt::Write;

use hauld::config::Config;
use hauld::failure::{FailureKind, JobPolicy};
use hauld::metrics::{CredentialLabel, Metrics};

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
        writeln!(rows, "| `{}` | {default} | {}{fallback} |", setting.name, setting.help).unwrap();
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
        writeln!(rows, "| `{}` | {what} | {} |", kind.name(), kind.meaning()).unwrap();
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

#[test]
fn every_alert_looks_at_samples_that_are_exported_and_says_what_to_do() {
    let rules = include_str!("../monitoring/alerts.yml");
    let metrics = Metrics::new();
    metrics.credential_expiry.get_or_create(&CredentialLabel { credential: "catalog_token" }).set(1);
    let exported = metrics.encode();
    let samples: Vec<&str> = exported
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .map(|s| s.0)
        .collect();
    let mut alerts = 0;
    for rule in rules.split("- alert: ").skip(1) {
        alerts += 1;
        let line = |name: &str| rule.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap_or_default();
        assert!(!line("summary: ").is_empty() && line("runbook: ").len() > 40, "{rule}");
        let expression = line("expr: ");
        let mut looked_at = 0;
        for (start, _) in expression.match_indices("hauld_") {
            let rest = &expression[start..];
            let name_end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let labels_end = if rest[name_end..].starts_with('{') { rest.find('}').unwrap() + 1 } else { name_end };
            let looked = &rest[..labels_end];
            // Without labels, all samples of the name are meant.
            let is_one = |sample: &&str| *sample == looked || sample.split('{').next() == Some(looked);
            assert!(samples.iter().any(is_one), "{expression}: no sample {looked}");
            looked_at += 1;
        }
        assert!(looked_at > 0, "{rule}");
    }
    assert!(alerts >= 5);
}
