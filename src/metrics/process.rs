//! What the operating system knows of this process, under the names that every Prometheus client gives it.

use std::sync::atomic::Ordering::Relaxed;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::Metrics;

/// Sets the `process_` metrics. What cannot be read stays as it was.
pub(super) fn look(metrics: &Metrics) {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
    // The clock never goes back, as a counter must not.
    metrics.process_cpu_seconds.inner().store(seconds.to_bits(), Relaxed);
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        if let Some(kilobytes) = number(&status, "VmRSS:") {
            metrics.process_resident_bytes.set(kilobytes * 1024);
        }
        if let Some(threads) = number(&status, "Threads:") {
            metrics.process_threads.set(threads);
        }
    }
    if let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") {
        // Without the one that the look itself takes.
        metrics.process_open_fds.set(descriptors.count() as i64 - 1);
    }
    let most = getrlimit(Resource::Nofile).current;
    metrics.process_max_fds.set(most.and_then(|most| i64::try_from(most).ok()).unwrap_or(i64::MAX));
}

/// The number behind `name` in `/proc/self/status`.
fn number(status: &str, name: &str) -> Option<i64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_something_of_everything() {
        let metrics = Metrics::new();
        let held = std::fs::File::open("/proc/self/status").unwrap();
        look(&metrics);
        drop(held);
        assert!(metrics.process_cpu_seconds.get() > 0.0);
        assert!((1 << 20..1 << 40).contains(&metrics.process_resident_bytes.get()));
        assert!(metrics.process_threads.get() > 0);
        assert!((1..metrics.process_max_fds.get()).contains(&metrics.process_open_fds.get()));
    }

    #[test]
    fn a_line_that_is_not_there_is_no_number() {
        assert_eq!(number("Name:\thauld\nVmRSS:\t    1204 kB\n", "VmRSS:"), Some(1204));
        assert_eq!(number("VmRSS:\t kB\n", "VmRSS:"), None);
        assert_eq!(number("", "VmRSS:"), None);
    }
}
