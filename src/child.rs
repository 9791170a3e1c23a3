//! Child processes: started without a shell, bounded in time, memory and output, and never left behind.
//!
//! A child dies when its [`run`] future is dropped, when its time is over, and when this process
//! dies, even by SIGKILL. What a child starts itself is in its process group and gets the same
//! signals, except at a SIGKILL of this process: the kernel then only signals the child. What is set up in
//! the child itself, its limits of memory among it, is in the crate `hauld-confine`.

use std::ffi::OsString;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::failure::{FailureKind, is_exhaustion};

#[cfg(test)]
mod tests;

/// Bytes of the child's last words that are kept.
const STDERR_TAIL_BYTES: usize = 8 * 1024;
/// A longer line comes in pieces to whoever watches.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// Bytes of memory that a child gets unless something else is configured.
pub const MAX_MEMORY: u64 = 4 << 30;
/// How long a child may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);
/// All that a child sees of our environment, which holds secrets.
const ENVIRONMENT: [&str; 4] = ["PATH", "HOME", "LANG", "TMPDIR"];

/// What a child left behind.
#[derive(Debug)]
pub struct Output {
    /// How it ended; the caller judges it.
    pub status: ExitStatus,
    /// All that it wrote to standard output.
    pub stdout: Vec<u8>,
    /// The last 8 KiB that it wrote to standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// The last line of standard error that says something, fit for a log: control characters
    /// removed, at most 500 characters. Empty when there is none.
    pub fn last_words(&self) -> String {
        let text = String::from_utf8_lossy(&self.stderr);
        let line = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
        line.chars().filter(|character| !character.is_control()).take(500).collect()
    }
}

/// Why a child has no [`Output`].
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The program is missing, not executable, or the system refused a process.
    #[error("{} cannot be started: {error}", program.display())]
    NotStarted { program: PathBuf, error: io::Error },
    /// It ran longer than its limit and was killed.
    #[error("{} took longer than {} s", program.display(), limit.as_secs_f64())]
    TimedOut { program: PathBuf, limit: Duration },
    /// It wrote more than its limit and was killed.
    #[error("{} wrote more than {limit} bytes", program.display())]
    OutputTooLarge { program: PathBuf, limit: usize },
    /// The caller cancelled; it was killed.
    #[error("{} was cancelled", program.display())]
    Cancelled { program: PathBuf },
    /// Its pipes or its end could not be read.
    #[error("{} cannot be watched: {error}", program.display())]
    Lost { program: PathBuf, error: io::Error },
}

impl ChildError {
    /// What it means: `otherwise`, unless the caller cancelled, or the host could not give what it takes.
    pub fn kind(&self, otherwise: FailureKind) -> FailureKind {
        match self {
            ChildError::Cancelled { .. } => FailureKind::Interrupted,
            // There may be no more processes of this user.
            ChildError::NotStarted { error, .. }
                if is_exhaustion(error) || error.kind() == io::ErrorKind::WouldBlock =>
            {
                FailureKind::HostExhausted
            }
            _ => otherwise,
        }
    }
}

/// What is to be run, and how far it may go.
pub struct Program<'a> {
    /// Looked up in `PATH` unless it has a slash.
    pub path: &'a Path,
    pub arguments: &'a [OsString],
    /// Variables beside those that every child sees.
    pub environment: &'a [(OsString, OsString)],
    pub limit: Duration,
    /// Bytes of standard output.
    pub max_output: usize,
    /// Bytes of memory of its own, for each process: what is asked for beyond it the child does not get.
    pub max_memory: u64,
}

/// Runs `program` (looked up in `PATH` unless it has a slash) to its end, with at most `max_output`
/// bytes of standard output and [`MAX_MEMORY`].
///
/// It has ended when its pipes are closed and it has exited: something that it leaves in the
/// background with a pipe open counts as the child still running.
///
/// # Errors
/// See [`ChildError`]. An exit status other than 0 is not an error here.
pub async fn run(
    program: &Path,
    arguments: &[OsString],
    limit: Duration,
    max_output: usize,
    cancel: &CancellationToken,
) -> Result<Output, ChildError> {
    let program = Program { path: program, arguments, environment: &[], limit, max_output, max_memory: MAX_MEMORY };
    run_watched(program, cancel, |_| {}).await
}

/// As [`run`]; `watch` sees each line of standard error as soon as it is there, without its end. A
/// line of more than 64 KiB comes in pieces.
///
/// # Errors
/// See [`ChildError`].
pub async fn run_watched(
    program: Program<'_>,
    cancel: &CancellationToken,
    watch: impl FnMut(&[u8]),
) -> Result<Output, ChildError> {
    let Program { path, limit, max_output, .. } = program;
    let started = match cancel.is_cancelled() {
        true => return Err(ChildError::Cancelled { program: path.to_owned() }),
        false => Child::start(&program).await,
    };
    let program = path.to_owned();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => return Err(ChildError::NotStarted { program, error }),
    };
    let stopped = tokio::select! {
        ended = child.output(max_output, watch) => match ended {
            Ok(output) => return Ok(output),
            Err(Ended::TooLarge) => ChildError::OutputTooLarge { program, limit: max_output },
            Err(Ended::Lost(error)) => ChildError::Lost { program, error },
        },
        () = tokio::time::sleep(limit) => ChildError::TimedOut { program, limit },
        () = cancel.cancelled() => ChildError::Cancelled { program },
    };
    child.stop().await;
    Err(stopped)
}

/// Why reading a child's output ended early.
enum Ended {
    TooLarge,
    Lost(io::Error),
}

/// A running child and its process group. Dropping it kills the group.
struct Child {
    process: tokio::process::Child,
    group: Option<Pid>,
}

impl Child {
    async fn start(program: &Program<'_>) -> io::Result<Child> {
        let mut command = Command::new(program.path);
        command.args(program.arguments).env_clear();
        command.envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.envs(program.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        hauld_confine::confine(command.as_std_mut(), program.max_memory);

        let (reply, child) = oneshot::channel();
        let order = Order { command, runtime: Handle::current(), reply };
        let gone = || io::Error::other("the thread that starts children is gone");
        spawner()?.send(order).map_err(|_| gone())?;
        child.await.map_err(|_| gone())?
    }

    /// Reads both pipes to their end, then the exit status. The process is reaped last: until then
    /// its id cannot belong to anybody else, so that signalling the group is safe.
    async fn output(&mut self, max_output: usize, watch: impl FnMut(&[u8])) -> Result<Output, Ended> {
        let mut stdout = Vec::new();
        let mut stderr = Vec::new();
        let mut lines = Lines { begun: Vec::new(), watch };
        let out = self.process.stdout.take();
        let err = self.process.stderr.take();
        let read_out = read_pipe(out, |bytes| {
            stdout.extend_from_slice(bytes);
            if stdout.len() > max_output { Err(Ended::TooLarge) } else { Ok(()) }
        });
        let read_err = read_pipe(err, |bytes| {
            lines.take(bytes);
            stderr.extend_from_slice(bytes);
            // Cut seldom, so that a talkative child costs no quadratic time.
            if stderr.len() > 2 * STDERR_TAIL_BYTES {
                stderr.drain(..stderr.len() - STDERR_TAIL_BYTES);
            }
            Ok(())
        });
        tokio::try_join!(read_out, read_err)?;
        lines.end();
        let status = self.process.wait().await.map_err(Ended::Lost)?;
        self.group = None;
        stderr.drain(..stderr.len().saturating_sub(STDERR_TAIL_BYTES));
        Ok(Output { status, stdout, stderr })
    }

    /// Asks the group to end, then makes it end. Looks without reaping, for the same reason.
    async fn stop(mut self) {
        self.signal(Signal::TERM);
        let deadline = tokio::time::Instant::now() + GRACE;
        while tokio::time::Instant::now() < deadline && !self.has_exited() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.signal(Signal::KILL);
        // A killed process cannot refuse; an error would mean that it has been reaped already.
        let _ = self.process.wait().await;
        self.group = None;
    }

    fn has_exited(&self) -> bool {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        self.group.is_none_or(|pid| !matches!(waitid(WaitId::Pid(pid), look), Ok(None)))
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // The only possible error is that nobody is left in the group.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Cuts what arrives into lines.
struct Lines<W> {
    begun: Vec<u8>,
    watch: W,
}

impl<W: FnMut(&[u8])> Lines<W> {
    fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.begun.len() > MAX_LINE_BYTES {
                self.end();
            }
        }
    }

    fn end(&mut self) {
        let line = self.begun.strip_suffix(b"\n").unwrap_or(&self.begun);
        if !line.is_empty() {
            (self.watch)(line);
        }
        self.begun.clear();
    }
}

async fn read_pipe(
    pipe: Option<impl AsyncRead + Unpin>,
    mut take: impl FnMut(&[u8]) -> Result<(), Ended>,
) -> Result<(), Ended> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match pipe.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(count) => take(&buffer[..count])?,
            Err(error) => return Err(Ended::Lost(error)),
        }
    }
}

/// A child that the spawner is asked to start.
struct Order {
    command: Command,
    runtime: Handle,
    reply: oneshot::Sender<io::Result<Child>>,
}

/// The thread that starts every child. The kernel sends the parent-death signal when the *thread*
/// that started the child ends, and threads of the runtime come and go; this one stays as long as
/// the process.
fn spawner() -> io::Result<&'static mpsc::Sender<Order>> {
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    if let Some(spawner) = SPAWNER.get() {
        return Ok(spawner);
    }
    let (sender, orders) = mpsc::channel::<Order>();
    std::thread::Builder::new().name("spawner".into()).spawn(move || {
        for Order { mut command, runtime, reply } in orders {
            let _entered = runtime.enter();
            // tokio panics when the runtime that asks is shutting down; others still need the thread.
            let started = std::panic::catch_unwind(AssertUnwindSafe(|| command.spawn()))
                .unwrap_or_else(|_| Err(io::Error::other("the runtime is shutting down")))
                .map(|process| {
                    let group = process.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
                    Child { process, group }
                });
            // Nobody waits any more: the child comes back in the error and is killed by its drop.
            drop(reply.send(started));
        }
    })?;
    // When two first callers race, the loser's thread ends at once, having started nothing.
    Ok(SPAWNER.get_or_init(|| sender))
}
