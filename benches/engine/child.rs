//! One run of a program: what it took.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// What a process has cost.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    pub wall_seconds: f64,
    /// User and system time, all threads.
    pub cpu_seconds: f64,
    /// Most memory that was resident at once.
    pub peak_rss_bytes: u64,
    /// Bytes handed to write calls, sockets included.
    pub written_bytes: u64,
}

/// Runs a program to its end.
///
/// # Panics
/// When it cannot be started or fails.
#[expect(clippy::zombie_processes, reason = "wait4 reaps it")]
pub fn measure(command: &mut Command) -> Usage {
    let begin = Instant::now();
    let child = command.stdin(Stdio::null()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let pid = Pid::from_child(&child);
    // Without reaping it: what /proc says of it is gone afterwards.
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).expect("it is our child");
    let wall_seconds = begin.elapsed().as_secs_f64();
    let io = std::fs::read_to_string(format!("/proc/{}/io", child.id())).unwrap_or_default();
    let written = io.lines().find_map(|line| line.strip_prefix("wchar:")?.trim().parse().ok());
    let (status, usage) = wait4(pid);
    assert!(status == 0, "{command:?} failed (wait status {status})");
    Usage {
        wall_seconds,
        cpu_seconds: (seconds(usage.ru_utime) + seconds(usage.ru_stime)).as_secs_f64(),
        peak_rss_bytes: usage.ru_maxrss as u64 * 1024,
        written_bytes: written.unwrap_or_default(),
    }
}

fn seconds(time: libc::timeval) -> Duration {
    Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
}

/// Reaps a child; returns its wait status and what it has used.
fn wait4(pid: Pid) -> (i32, libc::rusage) {
    let mut status = 0;
    // SAFETY: rusage is a struct of integers, for which all zeros is a value; both pointers are to
    // live variables that the kernel fills.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        let reaped = libc::wait4(pid.as_raw_nonzero().get(), &raw mut status, 0, &raw mut usage);
        assert_eq!(reaped, pid.as_raw_nonzero().get(), "wait4: {}", std::io::Error::last_os_error());
        usage
    };
    (status, usage)
}
