//! A Debian host to install on, run by a systemd of its own: see `host.sh`.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::support::wait;

/// Starting systemd takes some seconds at most.
const LIMIT: Duration = Duration::from_secs(60);

/// A host; it ends with all that runs on it when it is dropped.
pub struct Host {
    unshare: Child,
    /// Process 1 of the host, as this system numbers it.
    first: u32,
    /// A control group that all of it is in, where there are any.
    group: Option<PathBuf>,
    _directory: tempfile::TempDir,
}

impl Host {
    /// `None` where it cannot be: without root, namespaces, overlays or systemd. Says why.
    pub fn start() -> Option<Host> {
        let directory = tempfile::tempdir().unwrap();
        let group = control_group();
        let enter = "[ -z \"$1\" ] || echo $$ > \"$1/cgroup.procs\"; shift; exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", enter, "enter"]).arg(group.as_deref().unwrap_or("".as_ref()));
        command.args(["unshare", "--mount", "--pid", "--cgroup", "--uts", "--ipc", "--fork", "--kill-child"]);
        command.args(["bash", "-c", include_str!("host.sh"), "host.sh"]).arg(directory.path());
        let mut unshare = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let first = wait::until_blocking("process 1", LIMIT, || {
            let children = format!("/proc/{0}/task/{0}/children", unshare.id());
            let child = std::fs::read_to_string(children).unwrap_or_default().trim().parse().ok();
            child.map(Some).or_else(|| unshare.try_wait().unwrap().map(|_| None))
        });
        let mut host = Host { unshare, first: first.unwrap_or_default(), group, _directory: directory };
        let is_up = wait::until_blocking("systemd to be up", LIMIT, || {
            if host.unshare.try_wait().unwrap().is_some() {
                return Some(false);
            }
            let state = host.run(&["systemctl", "is-system-running"]);
            matches!(state.stdout.trim_ascii(), b"running" | b"degraded").then_some(true)
        });
        if !is_up {
            let mut said = String::new();
            host.unshare.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            eprintln!("skipped: a host in namespaces cannot be made here (it takes root): {said}");
            return None;
        }
        Some(host)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("-t").arg(self.first.to_string()).args(["-m", "-p", "-C", "-u", "-i", "-r", "-w"]).args(arguments);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// Runs a command on the host, as root, to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// What a command that succeeds says.
    #[track_caller]
    pub fn said(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {}: {text}{}", output.status, self.journal());
        text.trim_end().to_owned()
    }

    /// What a shell says of a script that succeeds.
    #[track_caller]
    pub fn shell(&self, script: &str) -> String {
        self.said(&["sh", "-ec", script])
    }

    /// Starts a command on the host; nobody reads its log.
    pub fn start_command(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Writes a file of root, with this mode.
    pub fn put(&self, path: &str, mode: &str, content: &[u8]) {
        let mut install =
            self.command(&["install", "-m", mode, "/dev/stdin", path]).stdin(Stdio::piped()).spawn().unwrap();
        install.stdin.take().unwrap().write_all(content).unwrap();
        assert!(install.wait().unwrap().success(), "{path}");
    }

    /// What the units wrote to the journal.
    pub fn journal(&self) -> String {
        let output = self.run(&["journalctl", "--no-pager", "-o", "cat", "-u", "hauld*"]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A property of a unit.
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.said(&["systemctl", "show", "--value", "-p", name, unit])
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Process 1 goes with it, and the namespace with that.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        if let Some(group) = &self.group {
            let remove = ["-mindepth", "0", "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"];
            // Until the last process of it is gone.
            for _ in 0..50 {
                let _ = Command::new("find").arg(group).args(remove).stderr(Stdio::null()).status();
                if !group.exists() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// A new control group, so that systemd does not take the machine's for its own.
fn control_group() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let mount = mounts.lines().find(|line| line.starts_with("cgroup2 ") || line.contains(" cgroup2 "))?;
    let group = PathBuf::from(mount.split(' ').nth(1)?).join(format!("hauld-test-{}", std::process::id()));
    std::fs::create_dir(&group).ok().map(|()| group)
}
