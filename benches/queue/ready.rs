//! What a worker process says: that it is ready, and at the end what it has done.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// What a worker has done, measured by itself from the first job to the last.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Done {
    pub jobs: usize,
    pub seconds: f64,
    /// User and system time, all threads and children.
    pub cpu_seconds: f64,
    /// From the push to the start of each job, in seconds.
    #[serde(default)]
    pub latencies: Vec<f64>,
}

impl Done {
    /// Prints the end of a worker.
    pub fn print(&self) {
        println!("{}", serde_json::to_string(self).expect("numbers"));
    }
}

/// From the first job on.
pub struct Clock {
    begin: Instant,
    cpu: f64,
}

impl Clock {
    pub fn start() -> Clock {
        Clock { begin: Instant::now(), cpu: cpu_seconds() }
    }

    pub fn done(self, latencies: Vec<f64>) -> Done {
        let (seconds, cpu_seconds) = (self.begin.elapsed().as_secs_f64(), cpu_seconds() - self.cpu);
        Done { jobs: latencies.len(), seconds, cpu_seconds, latencies }
    }
}

/// What this process has used.
fn cpu_seconds() -> f64 {
    // SAFETY: rusage is a struct of integers, for which all zeros is a value, and the kernel fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &raw mut usage), 0);
        usage
    };
    let seconds = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000).as_secs_f64();
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// A worker process that is ready.
pub struct Worker {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts it and waits until it says "ready".
    pub fn start(mut command: Command) -> Worker {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        while line.trim() != "ready" {
            line.clear();
            assert!(lines.read_line(&mut line).expect("a line") > 0, "{command:?} ended before it was ready");
        }
        Worker { child, lines }
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Done {
        let mut line = String::new();
        while !line.starts_with('{') {
            line.clear();
            assert!(self.lines.read_line(&mut line).expect("a line") > 0, "the worker said nothing at its end");
        }
        assert!(self.child.wait().expect("our child").success());
        serde_json::from_str(&line).expect("what a worker has done")
    }
}

/// This program in another role.
pub fn role(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a program has a path"));
    command.args(arguments);
    command
}
