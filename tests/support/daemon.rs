//! The real binary.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::backend::Backend;
use super::catalog::Catalog;
use super::process::Process;
use super::redis::RedisServer;
use super::{namespace, port, wait};

/// How long the daemon may take until it is ready.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// How long a test waits for a line of the log.
const LOG_LIMIT: Duration = Duration::from_secs(20);
/// The secret that signs finalize calls when a [`Backend`] is set.
pub const SECRET: &str = "finalize-secret-of-the-tests";
/// The bearer token of the hook when it is on.
pub const HOOK_TOKEN: &str = "hook-token-of-the-tests";

/// The `hauld` program without anything of the test's own environment: only PATH and HOME are kept.
pub fn hauld() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hauld"));
    command.env_clear().env("RUST_BACKTRACE", "1");
    for name in ["PATH", "HOME", "TMPDIR", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// What a daemon is started with.
pub struct Builder {
    settings: toml::Table,
    environment: Vec<(String, String)>,
    directory: tempfile::TempDir,
    hook_port: Option<u16>,
    mounts: Option<String>,
}

/// A running `hauld run`. Killed when dropped; if the test failed, the end of its log is shown.
pub struct Daemon {
    process: Process,
    admin_port: u16,
    hook_port: Option<u16>,
    log: PathBuf,
    staging: PathBuf,
    delivered: PathBuf,
    config: PathBuf,
    _directory: tempfile::TempDir,
}

impl Daemon {
    /// Settings for tests: two jobs at once, attempts without a pause, a lease of 2 s.
    pub fn builder() -> Builder {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (settings, environment) = (toml::Table::new(), Vec::new());
        let builder = Builder { settings, environment, directory, hook_port: None, mounts: None };
        let staging = builder.directory.path().join("staging");
        let delivered = builder.directory.path().join("delivered");
        builder
            .set("worker.jobs", 2)
            .set("queue.block_seconds", 1)
            .set("queue.lease_seconds", 2)
            .set("queue.sweep_seconds", 1)
            .set("queue.retry_delay_seconds", 0)
            .set("gate.poll_seconds", 1)
            .set("log.format", "json")
            .set("network.allow", vec!["127.0.0.1"])
            .set("staging.min_free_bytes", 0)
            .staging(&staging)
            .delivered(&delivered)
    }
}

impl Builder {
    /// Takes its jobs from this server.
    pub fn redis(self, redis: &RedisServer) -> Builder {
        self.set("redis.url", redis.url())
    }

    /// Resolves course URLs with this catalogue.
    pub fn catalog(self, catalog: &Catalog) -> Builder {
        self.set("resolver.catalog_endpoint", catalog.url())
    }

    /// Shows the catalogue this bearer token.
    pub fn catalog_token(self, token: &str) -> Builder {
        self.secret("resolver.catalog_token", token)
    }

    /// Reports to this backend, with [`SECRET`], and enrolls with it.
    pub fn backend(self, backend: &Backend) -> Builder {
        self.set("report.api_base_url", backend.base_url())
            .secret("report.secret", SECRET)
            .set("enrollment.endpoint", backend.enroll_url())
    }

    /// Opens the hook, with [`HOOK_TOKEN`]; needs a backend.
    pub fn hook(self) -> Builder {
        self.hook_at(port::free())
    }

    /// As [`Builder::hook`], at this port.
    pub fn hook_at(mut self, port: u16) -> Builder {
        self.hook_port = Some(port);
        self.set("hook.listen", format!("127.0.0.1:{port}")).secret("hook.token", HOOK_TOKEN)
    }

    /// Uses this staging directory, for instances that share one.
    pub fn staging(self, directory: &Path) -> Builder {
        std::fs::create_dir_all(directory).expect("staging directory");
        self.set("staging.directory", directory.display().to_string())
    }

    /// Delivers to this directory.
    pub fn delivered(self, directory: &Path) -> Builder {
        std::fs::create_dir_all(directory).expect("delivery directory");
        self.set("delivery.directory", directory.display().to_string())
    }

    /// Any setting, by its name `section.key`.
    pub fn set(mut self, name: &str, value: impl Into<toml::Value>) -> Builder {
        set(&mut self.settings, name, value.into());
        self
    }

    /// A secret, in a file that only its owner reads: sets `<name>_file`.
    pub fn secret(self, name: &str, secret: &str) -> Builder {
        let path = self.directory.path().join(name);
        std::fs::write(&path, format!("{secret}\n")).expect("secret file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("mode of the secret file");
        self.set(&format!("{name}_file"), path.display().to_string())
    }

    /// A variable of its environment.
    pub fn env(mut self, name: &str, value: &str) -> Builder {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs it with mounts of its own, made by this script of the shell, which knows `$STAGING` and
    /// `$DELIVERED`: only where [`namespace::may_mount`].
    pub fn mounting(mut self, script: &str) -> Builder {
        self.mounts = Some(script.to_owned());
        self
    }

    /// A file of variables beside its configuration file.
    pub fn environment_file(self, text: &str) -> Builder {
        std::fs::write(self.directory.path().join("environment"), text).expect("environment file");
        self
    }

    /// Starts it and waits until `/readyz` answers 200.
    ///
    /// # Panics
    /// When it ends, or is not ready after 20 s; its log is shown.
    pub async fn start(self) -> Daemon {
        let daemon = self.launch();
        let ready = wait::until("the daemon is ready", READY_LIMIT, || {
            if let Some(status) = daemon.process.exited() {
                return Some(Err(status));
            }
            daemon.is_ready().then_some(Ok(()))
        });
        if let Err(status) = ready.await {
            panic!("hauld run ended before it was ready: {status}\n{}", daemon.process.output());
        }
        daemon
    }

    /// Starts it and does not wait: for tests of a start that fails.
    pub fn launch(mut self) -> Daemon {
        let admin_port = port::free();
        self = self.set("admin.listen", format!("127.0.0.1:{admin_port}"));
        let config = self.directory.path().join("hauld.toml");
        std::fs::write(&config, self.settings.to_string()).expect("configuration file");
        let log = self.directory.path().join("hauld.log");
        let mut command = hauld();
        command.args(["run", "--config"]).arg(&config).envs(self.environment.iter().map(|(name, value)| (name, value)));
        let directory_of = |section: &str| {
            let directory = self.settings[section]["directory"].as_str().expect("a directory");
            PathBuf::from(directory)
        };
        if let Some(script) = &self.mounts {
            command = namespace::within(script, &command);
            command.env("STAGING", directory_of("staging")).env("DELIVERED", directory_of("delivery"));
        }
        Daemon {
            process: Process::start("hauld run", command, &log),
            admin_port,
            hook_port: self.hook_port,
            log,
            staging: directory_of("staging"),
            delivered: directory_of("delivery"),
            config,
            _directory: self.directory,
        }
    }
}

impl Daemon {
    /// SIGTERM: stop in good order.
    pub fn sigterm(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Another value in its configuration file, for the next [`Daemon::sighup`].
    ///
    /// # Panics
    /// When the file is not TOML any more.
    pub fn reconfigure(&self, name: &str, value: impl Into<toml::Value>) {
        let text = std::fs::read_to_string(&self.config).expect("the configuration file");
        let mut settings: toml::Table = text.parse().expect("TOML");
        set(&mut settings, name, value.into());
        std::fs::write(&self.config, settings.to_string()).expect("configuration file");
    }

    /// SIGHUP: read the configuration again.
    pub fn sighup(&self) {
        self.process.signal(Signal::HUP);
    }

    /// SIGINT, as Ctrl-C.
    pub fn sigint(&self) {
        self.process.signal(Signal::INT);
    }

    /// SIGKILL, and waits until it is gone.
    pub fn sigkill(&self) {
        self.process.kill();
    }

    /// SIGSTOP: it hangs.
    pub fn sigstop(&self) {
        self.process.signal(Signal::STOP);
    }

    /// SIGCONT: it goes on.
    pub fn sigcont(&self) {
        self.process.signal(Signal::CONT);
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its exit status, if it has ended.
    pub fn exited(&self) -> Option<ExitStatus> {
        self.process.exited()
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// When it still runs after `limit`.
    pub async fn wait_exit(&self, limit: Duration) -> ExitStatus {
        self.process.wait_exit(limit).await
    }

    /// Everything it has logged so far, as text.
    pub fn log_text(&self) -> String {
        self.process.output()
    }

    /// Its log so far; a line that is not JSON (a panic message) is a JSON string.
    pub fn log_lines(&self) -> Vec<Value> {
        let text = self.process.output();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| Value::from(line))).collect()
    }

    /// Waits for a line of the log that contains every one of `parts`, and returns it.
    ///
    /// # Panics
    /// After 20 s.
    pub async fn wait_for_log(&self, parts: &[&str]) -> Value {
        wait::until(&format!("the log has a line with {parts:?}"), LOG_LIMIT, || {
            let text = self.process.output();
            let line = text.lines().find(|line| parts.iter().all(|part| line.contains(part)))?;
            Some(serde_json::from_str(line).unwrap_or_else(|_| Value::from(line)))
        })
        .await
    }

    /// The text of `/metrics`.
    ///
    /// # Panics
    /// When the daemon does not answer.
    pub fn metrics(&self) -> String {
        self.admin("/metrics").expect("the admin port answers").1
    }

    /// The value of one sample of `/metrics`: its name with all its labels, as it stands there.
    pub fn metric(&self, sample: &str) -> Option<f64> {
        self::sample(&self.metrics(), sample)
    }

    /// The admin port.
    pub fn admin_port(&self) -> u16 {
        self.admin_port
    }

    /// Status and body of a path of the admin port; `None` when nobody answers.
    pub fn admin(&self, path: &str) -> Option<(u16, String)> {
        get(self.admin_port, path).ok()
    }

    /// Whether `/readyz` answers 200.
    pub fn is_ready(&self) -> bool {
        self.admin("/readyz").is_some_and(|(status, _)| status == 200)
    }

    /// Another command of the program with the configuration file of this one, to be run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = hauld();
        command.arg("--config").arg(&self.config).args(arguments);
        command
    }

    /// The port of the hook, if it is on.
    pub fn hook_port(&self) -> Option<u16> {
        self.hook_port
    }

    /// `http://127.0.0.1:<port>` and `path`, of the hook.
    ///
    /// # Panics
    /// When the daemon was built without [`Builder::hook`].
    pub fn hook_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.hook_port.expect("the hook is on"))
    }

    /// Runs a script of the shell among its own mounts, with the same variables. Returns what it says.
    ///
    /// # Panics
    /// When it fails.
    pub fn inside(&self, script: &str) -> String {
        let [staging, delivered] = [&self.staging, &self.delivered].map(|directory| directory.display());
        namespace::inside(self.pid(), format!("STAGING='{staging}' DELIVERED='{delivered}'\n{script}"))
    }

    /// Where downloads grow.
    pub fn staging(&self) -> &Path {
        &self.staging
    }

    /// `<staging>/Task_<id>`
    pub fn task_directory(&self, task_id: u64) -> PathBuf {
        self.staging.join(format!("Task_{task_id}"))
    }

    /// Where finished courses are.
    pub fn delivered(&self) -> &Path {
        &self.delivered
    }

    /// Its configuration file, for other commands that should see the same settings.
    pub fn config(&self) -> &Path {
        &self.config
    }
}

fn set(settings: &mut toml::Table, name: &str, value: toml::Value) {
    let (section, key) = name.split_once('.').expect("section.key");
    let section = settings.entry(section).or_insert_with(|| toml::Table::new().into());
    section.as_table_mut().expect("a section").insert(key.to_owned(), value);
}

/// Every file below `directory`, as sorted paths relative to it.
pub fn tree(directory: &Path) -> Vec<String> {
    fn walk(root: &Path, directory: &Path, files: &mut Vec<String>) {
        let Ok(entries) = std::fs::read_dir(directory) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                walk(root, &path, files);
            } else if let Ok(relative) = path.strip_prefix(root) {
                files.push(relative.display().to_string());
            }
        }
    }
    let mut files = Vec::new();
    walk(directory, directory, &mut files);
    files.sort();
    files
}

/// The value of one sample of metrics: its name with all its labels, as it stands there.
pub fn sample(metrics: &str, sample: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.trim().parse().ok())
}

/// GET without a client library, so that it can be asked from anywhere: status and body.
pub fn get(port: u16, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| std::io::Error::other("no head"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(|| std::io::Error::other("no status"))?, body.to_owned()))
}
