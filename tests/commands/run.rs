//! Running a command to its end, and what it says and leaves behind.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use hauld::cli::exit::Exit;
use hauld::failure::FailureKind;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::daemon::tree;
use crate::support::{hauld, wait};

/// No command of these tests takes nearly as long.
const LIMIT: Duration = Duration::from_secs(90);
/// Stands in the queries and headers of the tests and must never be shown.
pub const SECRET: &str = "SECRET";

/// A directory of the test's own.
pub struct Workspace {
    directory: tempfile::TempDir,
}

impl Workspace {
    pub fn new() -> Workspace {
        Workspace { directory: tempfile::tempdir().expect("temporary directory") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file and returns its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).expect("writing a file of the test");
        path
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}; there is {:?}", self.files()))
    }

    /// Every file, sorted.
    pub fn files(&self) -> Vec<String> {
        tree(self.directory.path())
    }

    /// `hauld fetch URL -o <here>/<output>` and more arguments. All that is on this host may be asked.
    pub fn fetch(&self, url: &str, output: &str, arguments: &[&str]) -> Command {
        let mut command = hauld();
        command.env("HAULD_NETWORK_ALLOW", "127.0.0.1 localhost");
        command.args(["fetch", url, "-o"]).arg(self.path(output)).args(arguments);
        command
    }

    /// Nothing but what a later run goes on with: nothing that looks finished.
    #[track_caller]
    pub fn has_only_partial_files(&self, name: &str) {
        let finished: Vec<String> = self
            .files()
            .into_iter()
            .filter(|file| !file.ends_with(".part") && !file.ends_with(".part.journal"))
            .collect();
        assert!(finished.is_empty(), "{name}: {finished:?}");
    }
}

/// Starts a command and waits for its end.
pub fn run(command: &mut Command) -> Ended {
    start(command).end()
}

/// Starts a command.
pub fn start(command: &mut Command) -> Running {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts");
    let stdout = reader(child.stdout.take().expect("its standard output"));
    let stderr = reader(child.stderr.take().expect("its standard error"));
    Running { child, pipes: Some((stdout, stderr)) }
}

fn reader(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A command that runs. Killed when dropped.
pub struct Running {
    child: Child,
    pipes: Option<(JoinHandle<String>, JoinHandle<String>)>,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a signal to our child");
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill9(mut self) -> Ended {
        self.child.kill().expect("SIGKILL to our child");
        self.end()
    }

    /// Whether it has this file open, under whatever name it has now.
    pub fn has_open(&self, path: &Path) -> bool {
        let Ok(entries) = std::fs::read_dir(format!("/proc/{}/fd", self.pid())) else { return false };
        entries.flatten().any(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == path))
    }

    /// Peak of the memory that it has had, in KiB.
    pub fn peak_memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        line.trim().trim_end_matches("kB").trim().parse().expect("a number")
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        let status = wait::until_blocking("the command has ended", LIMIT, || {
            self.child.try_wait().expect("waiting for a child")
        });
        let (stdout, stderr) = self.pipes.take().expect("its pipes");
        Ended {
            status,
            stdout: stdout.join().expect("standard output"),
            stderr: stderr.join().expect("standard error"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Exit 0, and not a word of complaint.
    #[track_caller]
    pub fn succeeded(&self, name: &str) {
        assert!(self.status.success() && self.stderr.is_empty(), "{name}: {self:?}");
    }

    /// As [`Ended::succeeded`]; standard output is the path of the file and nothing else.
    #[track_caller]
    pub fn made(&self, name: &str, path: &Path) {
        self.succeeded(name);
        assert_eq!(self.stdout, format!("{}\n", path.display()), "{name}");
    }

    /// The failure's exit status, and one line that ends in its kind, says all of `says` and no secret;
    /// below it may stand what to do.
    #[track_caller]
    pub fn failed(&self, name: &str, kind: &str, says: &[&str]) {
        let status = self.status.code().unwrap_or_default();
        let expected = match kind {
            "interrupted" => vec![Exit::Interrupted, Exit::Terminated],
            "disk_failed" => vec![Exit::Missing, Exit::CannotCreate, Exit::Disk],
            _ => vec![FailureKind::named(kind).unwrap().into()],
        };
        assert!(expected.iter().any(|exit| i32::from(exit.status()) == status), "{name}: {self:?}");
        let line = self.stderr.lines().next().unwrap_or_default();
        let is_one = line.starts_with("hauld: ")
            && line.ends_with(&format!(" [{kind}]"))
            && self.stderr.lines().skip(1).all(|hint| hint.starts_with("  "));
        assert!(is_one, "{name}: not one line of {kind}: {self:?}");
        for part in says {
            assert!(line.contains(part), "{name}: {part:?} is not in {line:?}");
        }
        assert!(!self.stderr.contains(SECRET) && !self.stdout.contains(SECRET), "{name}: {self:?}");
    }

    /// Exit 2: the command was not understood.
    #[track_caller]
    pub fn refused_usage(&self, name: &str, says: &str) {
        assert_eq!(self.status.code(), Some(2), "{name}: {self:?}");
        assert!(self.stderr.contains(says) && self.stdout.is_empty(), "{name}: {self:?}");
    }
}
