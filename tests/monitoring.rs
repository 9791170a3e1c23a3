//! What `monitoring/` says about metrics is what the program exports, and Prometheus' own tool understands it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hauld::metrics::{CredentialLabel, Metrics, OutcomeLabel, RouteLabel};

const ALERTS: &str = include_str!("../monitoring/alerts.yml");
const ALERT_TESTS: &str = include_str!("../monitoring/alerts_test.yml");
const DASHBOARD: &str = include_str!("../monitoring/dashboard.json");

/// What `make deps` has put beside what is built.
fn promtool() -> Command {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target directory");
    let bundled: PathBuf = target.join("promtool/promtool");
    assert!(bundled.is_file(), "{} is missing: run `make deps`", bundled.display());
    Command::new(bundled)
}

/// Runs promtool with this input; returns what it said.
///
/// # Panics
/// When it finds something wrong.
fn assert_promtool(arguments: &[&str], input: &str) {
    let mut command = promtool();
    command.args(arguments).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/monitoring"));
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("promtool runs");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("promtool reads");
    let output = child.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && !said.contains("FAILED"), "{arguments:?}: {said}");
}

/// The text of `/metrics`, with a sample of each metric that has none at the start.
fn exported() -> String {
    let metrics = Metrics::new();
    for outcome in ["enrolled", "failed", "credentials_rejected"] {
        metrics.enrollments.get_or_create_owned(&OutcomeLabel { outcome });
    }
    for outcome in ["accepted", "refused"] {
        metrics.orders.get_or_create_owned(&OutcomeLabel { outcome });
    }
    metrics.hook_requests.get_or_create_owned(&RouteLabel { route: "/api/v1/orders", code: 202 });
    metrics.credential_expiry.get_or_create(&CredentialLabel { credential: "catalog_token" }).set(1);
    metrics.encode_plain()
}

/// Every metric that an expression names is exported, with the labels that it gives a value.
fn assert_exported(expression: &str, exported: &str) {
    let mut looked_at = 0;
    let ours = ["hauld_", "process_"].iter().flat_map(|prefix| expression.match_indices(prefix));
    for (start, _) in ours {
        let rest = &expression[start..];
        let name_end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, rest) = rest.split_at(name_end);
        let samples: Vec<&str> = exported
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .collect();
        assert!(!samples.is_empty(), "{expression}: no sample {name}");
        let labels = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(labels, _)| labels);
        // The scraper adds the job.
        for label in labels.split(',').filter(|label| label.contains("=\"") && *label != "job=\"hauld\"") {
            assert!(samples.iter().any(|sample| sample.contains(label)), "{expression}: no sample with {label}");
        }
        looked_at += 1;
    }
    assert!(looked_at > 0, "{expression}: no metric of ours");
}

#[test]
fn the_exported_metrics_are_as_prometheus_wants_them() {
    assert_promtool(&["check", "metrics"], &exported());
}

#[test]
fn every_alert_is_valid_tested_and_says_what_to_do() {
    assert_promtool(&["check", "rules", "alerts.yml"], "");
    assert_promtool(&["test", "rules", "alerts_test.yml"], "");
    let exported = exported();
    let mut alerts = 0;
    for rule in ALERTS.split("- alert: ").skip(1) {
        let line = |name: &str| rule.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap_or_default();
        assert!(!line("summary: ").is_empty() && line("runbook: ").len() > 40, "{rule}");
        assert_exported(line("expr: "), &exported);
        let name = rule.lines().next().unwrap_or_default();
        assert!(ALERT_TESTS.contains(&format!("alertname=\"{name}\",alertstate=\"firing\"")), "{name} has no test");
        alerts += 1;
    }
    assert!(alerts >= 15, "{alerts}");
}

#[test]
fn every_query_of_the_dashboard_names_metrics_that_are_exported() {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let exported = exported();
    let mut shown = std::collections::BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels").iter().filter(|panel| panel["type"] != "row") {
        assert!(!panel["description"].as_str().unwrap_or_default().is_empty(), "{panel}");
        for target in panel["targets"].as_array().expect("targets") {
            let expression = target["expr"].as_str().expect("an expression");
            assert_exported(&expression.replace("{instance=~\"$instance\"}", ""), &exported);
            shown.extend(Metrics::table().iter().map(|(name, _)| *name).filter(|name| expression.contains(name)));
        }
    }
    let missing: Vec<_> =
        Metrics::table().into_iter().map(|(name, _)| name).filter(|name| !shown.contains(name)).collect();
    assert!(missing.is_empty(), "the dashboard does not show {missing:?}");
}
