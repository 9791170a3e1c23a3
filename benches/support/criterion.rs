//! Criterion, and what it has found out.

use std::path::Path;

use criterion::Criterion;
use serde_json::Value;

/// Where it keeps its estimates.
const DIRECTORY: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/criterion");

/// Criterion as it is set by the command line.
pub fn criterion() -> Criterion {
    Criterion::default().output_directory(Path::new(DIRECTORY)).without_plots().configure_from_args()
}

/// Median time of one iteration in seconds; nothing when a filter on the command line left it out.
pub fn median_seconds(group: &str, function: &str) -> Option<f64> {
    let text = std::fs::read(format!("{DIRECTORY}/{group}/{function}/new/estimates.json")).ok()?;
    let estimates: Value = serde_json::from_slice(&text).ok()?;
    Some(estimates["median"]["point_estimate"].as_f64()? / 1e9)
}
