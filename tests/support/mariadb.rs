//! A MariaDB server of the test's own, with the backend's table of tasks.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::process::Process;
use super::{port, wait};

/// How long a server may take to answer.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a task may take to get to a status.
const TASK_LIMIT: Duration = Duration::from_secs(60);
/// The database that has the table.
pub const DATABASE: &str = "shop";
/// The user that the daemon logs in as.
pub const USER: &str = "hauld";
/// Its password.
pub const PASSWORD: &str = "p@ss 'word\" of-the-table";

/// The table as the backend makes it.
const TABLE: &str = "CREATE TABLE download_tasks (
    id INT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    order_id INT NULL,
    email VARCHAR(255) NOT NULL,
    course_url VARCHAR(2048) NOT NULL,
    status ENUM('paid','pending','processing','enrolled','completed','failed') NOT NULL DEFAULT 'paid',
    error_log TEXT NULL,
    created_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at DATETIME NOT NULL DEFAULT '2026-01-13 02:00:00'
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4";

/// A mariadbd on a free port, with its files in a temporary directory. A server that the
/// distribution has started is neither used nor disturbed.
pub struct MariaDb {
    port: u16,
    arguments: Vec<String>,
    process: Option<Process>,
    directory: tempfile::TempDir,
}

impl MariaDb {
    /// A server with the table and a user that may do what the daemon needs and nothing else.
    pub fn start() -> MariaDb {
        MariaDb::start_with(&[])
    }

    /// A server with these arguments.
    pub fn start_with(arguments: &[&str]) -> MariaDb {
        let directory = tempfile::tempdir().expect("temporary directory");
        let made = program("mariadb-install-db", directory.path())
            .args(["--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-log-file-size=4M"])
            .output()
            .expect("mariadb-install-db runs; `make deps` installs it");
        assert!(made.status.success(), "mariadb-install-db: {}", String::from_utf8_lossy(&made.stdout));
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        for _ in 0..20 {
            let port = port::free();
            let Some(process) = launch(port, &arguments, directory.path()) else { continue };
            let server = MariaDb { port, arguments, process: Some(process), directory };
            server.sql(&format!("CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4"));
            server.sql(TABLE);
            server.make_user(&[
                "SELECT (id, status, order_id, email, course_url, error_log)",
                "UPDATE (status, error_log, updated_at)",
            ]);
            return server;
        }
        panic!("mariadbd does not start: {}", log_of(directory.path()));
    }

    /// Makes [`USER`] anew, with these privileges on the table.
    pub fn make_user(&self, privileges: &[&str]) {
        let password = PASSWORD.replace('\'', "''");
        self.sql(&format!("CREATE OR REPLACE USER {USER}@'%' IDENTIFIED BY '{password}'"));
        for privilege in privileges {
            self.sql(&format!("GRANT {privilege} ON {DATABASE}.download_tasks TO {USER}@'%'"));
        }
    }

    /// The port of 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The settings of the daemon for this table.
    pub fn settings(&self) -> hauld::config::MysqlSettings {
        let environment = self.environment().map(|(name, value)| (name.to_owned(), value)).into();
        hauld::config::Config::load(None, environment, Default::default()).expect("a configuration").store.mysql
    }

    /// What the old worker's environment file says about the database.
    pub fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("DB_HOST", "127.0.0.1".into()),
            ("DB_PORT", self.port.to_string()),
            ("DB_USER", USER.into()),
            ("DB_PASSWORD", PASSWORD.into()),
            ("DB_NAME", DATABASE.into()),
        ]
    }

    /// Runs SQL as root and returns what it gives: a line for each row, columns with tabs between them.
    ///
    /// # Panics
    /// When it fails.
    pub fn sql(&self, statement: &str) -> String {
        let output = client(self.directory.path())
            .args(["--batch", "--skip-column-names", "--raw", "--execute", statement])
            // The database is not there yet when it is made.
            .args((!statement.starts_with("CREATE DATABASE")).then_some(DATABASE))
            .output()
            .expect("the program mariadb runs");
        let (text, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{statement}: {text}{error}");
        text.strip_suffix('\n').unwrap_or(&text).to_owned()
    }

    /// Begins to run SQL as root, for statements that take their time.
    pub fn begin(&self, statement: &str) -> std::process::Child {
        client(self.directory.path())
            .args(["--execute", statement, DATABASE])
            .spawn()
            .expect("the program mariadb runs")
    }

    /// The path of its socket.
    pub fn socket(&self) -> String {
        socket(self.directory.path()).display().to_string()
    }

    /// A row with this status.
    pub fn insert(&self, task_id: u64, status: &str) {
        self.sql(&format!(
            "INSERT INTO download_tasks (id, order_id, email, course_url, status) VALUES \
             ({task_id}, 41, 'user@example.com', 'https://learn.example.com/course/{task_id}/', '{status}')"
        ));
    }

    /// Changes the status of a row.
    pub fn set_task(&self, task_id: u64, status: &str) {
        self.sql(&format!("UPDATE download_tasks SET status = '{status}' WHERE id = {task_id}"));
    }

    /// A column of a row; `NULL` as that word, empty when there is no row.
    pub fn task_field(&self, task_id: u64, column: &str) -> String {
        self.sql(&format!("SELECT {column} FROM download_tasks WHERE id = {task_id}"))
    }

    /// Waits until a row has this status.
    ///
    /// # Panics
    /// After 60 s.
    pub async fn wait_for_task(&self, task_id: u64, status: &str) {
        let is = || (self.task_field(task_id, "status") == status).then_some(());
        wait::until(&format!("the row of task {task_id} is {status}"), TASK_LIMIT, is).await;
    }

    /// A counter of the server, such as `Com_stmt_execute`.
    pub fn counter(&self, name: &str) -> u64 {
        let line = self.sql(&format!("SHOW GLOBAL STATUS LIKE '{name}'"));
        line.split('\t').nth(1).and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name}: {line:?}"))
    }

    /// Ends the server as a power cut would.
    pub fn kill9(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// Starts the server again on the same port and directory, after [`MariaDb::kill9`] or by killing
    /// it now.
    pub fn restart(&mut self) {
        self.kill9();
        let process = launch(self.port, &self.arguments, self.directory.path());
        let log = || log_of(self.directory.path());
        self.process = Some(process.unwrap_or_else(|| panic!("mariadbd does not start again: {}", log())));
    }

    /// The server stops answering, its connections stay open (SIGSTOP).
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        // On a busy host a thread may answer before it is scheduled and stopped.
        wait::until_blocking("every thread of the server is stopped", START_LIMIT, || {
            self.threads().iter().all(|state| *state == 'T').then_some(())
        });
    }

    /// The state of each thread, as the kernel abbreviates it.
    fn threads(&self) -> Vec<char> {
        let tasks = format!("/proc/{}/task", self.process.as_ref().expect("the server runs").pid());
        let stats = std::fs::read_dir(tasks).expect("its threads").flatten();
        // A thread may end meanwhile. Its name, in brackets, may hold anything.
        let stats = stats.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
        stats.filter_map(|stat| stat.rsplit_once(") ")?.1.chars().next()).collect()
    }

    /// The server goes on (SIGCONT).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("the server runs").signal(signal);
    }
}

/// Starts a server and waits until it answers; `None` when it ends at once.
fn launch(port: u16, arguments: &[String], directory: &Path) -> Option<Process> {
    let mut command = program("mariadbd", directory);
    command.args(["--bind-address=127.0.0.1", &format!("--port={port}"), "--skip-name-resolve"]);
    command.args(["--innodb-log-file-size=4M", "--innodb-buffer-pool-size=8M", "--performance-schema=OFF"]);
    command.arg(format!("--socket={}", socket(directory).display()));
    command.arg(format!("--pid-file={}", directory.join("mariadbd.pid").display()));
    command.args(arguments);
    let process = Process::start("mariadbd", command, &directory.join("mariadbd.log"));
    let start = Instant::now();
    while process.exited().is_none() {
        let answer = client(directory).args(["--execute", "SELECT 1"]).output().expect("the program mariadb runs");
        if answer.status.success() {
            return Some(process);
        }
        assert!(start.elapsed() < START_LIMIT, "mariadbd does not answer: {}", process.output());
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

/// A program of the server for the files in this directory, without the configuration of the host.
fn program(name: &str, directory: &Path) -> Command {
    let mut command = Command::new(name);
    // Where Debian keeps the server, which is not in the PATH of every user.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin")).arg("--no-defaults");
    command.arg(format!("--datadir={}", directory.join("data").display()));
    // A server that starts removes the temporary files of every other one that has the same directory.
    command.arg(format!("--tmpdir={}", directory.display()));
    if rustix::process::geteuid().is_root() {
        command.arg("--user=root");
    }
    command
}

fn client(directory: &Path) -> Command {
    let mut command = Command::new("mariadb");
    command.args(["--no-defaults", "--user=root", "--default-character-set=utf8mb4"]);
    command.arg(format!("--socket={}", socket(directory).display()));
    command
}

fn socket(directory: &Path) -> std::path::PathBuf {
    directory.join("mariadbd.sock")
}

fn log_of(directory: &Path) -> String {
    std::fs::read_to_string(directory.join("mariadbd.log")).unwrap_or_default()
}
