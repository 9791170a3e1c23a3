//! What all benchmarks print: when and where they were measured, and Markdown tables.
#![allow(dead_code, reason = "each benchmark uses only a part of this module")]

pub mod criterion;

use std::fs::read_to_string;
use std::process::Command;
use std::time::Duration;

/// Prints a heading and a table in Markdown. Figures are aligned to the right; the first column and
/// those whose first cell holds a letter are text.
pub fn print_table(title: &str, head: &[&str], rows: &[Vec<String>]) {
    println!("\n### {title}\n");
    println!("| {} |", head.join(" | "));
    let is_text = |column: usize| {
        column == 0 || rows.first().is_some_and(|row| row[column].contains(|character: char| character.is_alphabetic()))
    };
    let rule = (0..head.len()).map(|column| if is_text(column) { "---" } else { "---:" });
    println!("| {} |", rule.collect::<Vec<_>>().join(" | "));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
    println!();
}

/// Prints date, processor, cores, kernel and load. A load near the number of cores says that others
/// were computing meanwhile: only the ratios mean something then.
pub fn print_machine() {
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d");
    let processors = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    let model = model.unwrap_or(std::env::consts::ARCH);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    let version = env!("CARGO_PKG_VERSION");
    let commit = commit();
    println!("\n{date}, {model}, {cores} cores, Linux {}, load {load}; hauld {version}{commit}", kernel.trim());
}

/// The commit that was measured, when this is a Git checkout.
fn commit() -> String {
    let git = Command::new("git").args(["describe", "--always", "--dirty", "--exclude=*"]).output();
    match git {
        Ok(output) if output.status.success() => format!(" at {}", String::from_utf8_lossy(&output.stdout).trim()),
        _ => String::new(),
    }
}

/// The middle one; of an even number the lower of the two in the middle.
///
/// # Panics
/// When there is none.
pub fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    figures[(figures.len() - 1) / 2]
}

/// What all threads of a process have run, to the nanosecond.
pub fn cpu(pid: u32) -> Duration {
    let mut total = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").flatten() {
        let text = read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        total += text.split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    }
    Duration::from_nanos(total)
}
