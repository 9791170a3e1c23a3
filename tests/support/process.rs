//! A child process that does not outlive its test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::wait;

/// How much of the output a failed test shows.
const SHOWN_LINES: usize = 80;

/// A running program, its output in a file. Killed when dropped; if that happens because the test
/// failed, the end of the output is printed.
pub struct Process {
    name: String,
    child: Mutex<Child>,
    pid: Pid,
    output: PathBuf,
}

impl Process {
    /// Starts `command` with standard output and standard error appended to `output`.
    pub fn start(name: &str, mut command: Command, output: &Path) -> Process {
        let file = std::fs::File::options().create(true).append(true).open(output).expect("output file");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("output file"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}; `make deps` installs what is missing"));
        let pid = Pid::from_child(&child);
        Process { name: name.to_owned(), child: Mutex::new(child), pid, output: output.to_owned() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends a signal; nothing happens when the program has ended already.
    pub fn signal(&self, signal: Signal) {
        let mut child = self.child.lock().expect("child");
        // The id of a child that has been waited for may belong to somebody else by now.
        if matches!(child.try_wait(), Ok(None)) {
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Its exit status, if it has ended.
    pub fn exited(&self) -> Option<ExitStatus> {
        self.child.lock().expect("child").try_wait().expect("waiting for a child")
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// When it still runs after `limit`.
    pub async fn wait_exit(&self, limit: Duration) -> ExitStatus {
        wait::until(&format!("{} has ended", self.name), limit, || self.exited()).await
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub fn kill(&self) {
        let mut child = self.child.lock().expect("child");
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Everything it has printed so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let output = self.output();
            let lines: Vec<&str> = output.lines().collect();
            let hidden = lines.len().saturating_sub(SHOWN_LINES);
            eprintln!("---- output of {} ({hidden} lines before it) ----", self.name);
            for line in &lines[hidden..] {
                eprintln!("{line}");
            }
            eprintln!("---- end of the output of {} ----", self.name);
        }
    }
}
