//! A redis-server of the test's own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::port;
use super::process::Process;

/// How long a server may take to answer.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long a task may take to get to a status.
const TASK_LIMIT: Duration = Duration::from_secs(60);

/// A redis-server on a free port, with its files in a temporary directory. A server that the
/// distribution has started is neither used nor disturbed.
pub struct RedisServer {
    program: String,
    port: u16,
    arguments: Vec<String>,
    process: Option<Process>,
    directory: tempfile::TempDir,
}

impl RedisServer {
    /// A server that keeps nothing on disk: a restart loses everything.
    pub fn start() -> RedisServer {
        RedisServer::start_with(&["--save", "", "--appendonly", "no"])
    }

    /// A server that writes every command to disk: a restart, even after SIGKILL, loses nothing.
    pub fn start_durable() -> RedisServer {
        RedisServer::start_with(&["--save", "", "--appendonly", "yes", "--appendfsync", "always"])
    }

    /// A server with these arguments, among them those about persistence.
    pub fn start_with(arguments: &[&str]) -> RedisServer {
        RedisServer::start_program("redis-server", arguments)
    }

    /// Another program that understands the same arguments.
    pub fn start_program(program: &str, arguments: &[&str]) -> RedisServer {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let directory = tempfile::tempdir().expect("temporary directory");
        for _ in 0..20 {
            let port = port::free();
            if let Some(process) = launch(program, port, &arguments, directory.path()) {
                return RedisServer { program: program.to_owned(), port, arguments, process: Some(process), directory };
            }
        }
        panic!("{program} does not start: {}", log_of(directory.path()));
    }

    /// `redis://127.0.0.1:<port>/0`
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// The server as the configuration names it.
    pub fn settings(&self) -> hauld::config::RedisSettings {
        hauld::config::RedisSettings::new(self.url())
    }

    /// A connection of the test's own.
    pub async fn connection(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(self.url()).expect("the URL is one of Redis");
        client.get_multiplexed_async_connection().await.expect("the server answers")
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs `redis-cli` with these arguments and returns what it prints, without the last line end.
    /// A list comes as one line for each element, nil as an empty text.
    ///
    /// # Panics
    /// When the command fails.
    pub fn cli(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-e"])
            .args(arguments)
            .output()
            .expect("redis-cli runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "redis-cli {arguments:?}: {text}{error}");
        text.strip_suffix('\n').unwrap_or(&text).to_owned()
    }

    /// The elements of a list, left to right; they must not hold line ends.
    pub fn list(&self, key: &str) -> Vec<String> {
        self.cli(&["LRANGE", key, "0", "-1"]).lines().map(str::to_owned).collect()
    }

    /// Pushes a job as the backend does, to the list `rq:queue:downloads`, and returns the element.
    pub fn push_job(&self, task_id: u64, course_url: &str) -> String {
        let element = job(task_id, course_url);
        self.cli(&["LPUSH", "rq:queue:downloads", &element]);
        element
    }

    /// Sets the status of a task in the redis task store.
    pub fn set_task(&self, task_id: u64, status: &str) {
        self.cli(&["HSET", &format!("hauld:task:{task_id}"), "status", status]);
    }

    /// A field of a task in the redis task store; empty when there is none.
    pub fn task_field(&self, task_id: u64, field: &str) -> String {
        self.cli(&["HGET", &format!("hauld:task:{task_id}"), field])
    }

    /// Waits until a task has this status in the redis task store.
    ///
    /// # Panics
    /// After 60 s, with the status that it has.
    pub async fn wait_for_task(&self, task_id: u64, status: &str) {
        let start = Instant::now();
        loop {
            let seen = self.task_field(task_id, "status");
            if seen == status {
                return;
            }
            assert!(start.elapsed() < TASK_LIMIT, "task {task_id} is {seen:?} and not {status:?} after {TASK_LIMIT:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// More arguments, from the next start on.
    pub fn add_arguments(&mut self, arguments: &[&str]) {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    }

    /// Whether it was not killed.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Ends the server as a power cut would.
    pub fn kill9(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// Starts the server again on the same port and directory, after [`RedisServer::kill9`] or by
    /// killing it now.
    pub fn restart(&mut self) {
        self.kill9();
        let process = launch(&self.program, self.port, &self.arguments, self.directory.path());
        let log = || log_of(self.directory.path());
        self.process = Some(process.unwrap_or_else(|| panic!("redis-server does not start again: {}", log())));
    }

    /// The server stops answering, its connections stay open (SIGSTOP).
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// The server goes on (SIGCONT).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("the server runs").signal(signal);
    }

    /// How many connections have subscribed to the channel.
    pub fn listeners(&self, channel: &str) -> u64 {
        let answer = self.cli(&["PUBSUB", "NUMSUB", channel]);
        answer.lines().nth(1).and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("NUMSUB: {answer}"))
    }

    /// Collects what is published on the channels that match `pattern` from now on.
    pub fn subscribe(&self, pattern: &str) -> Subscription {
        Subscription::open(self.port, pattern)
    }
}

/// A queue element as the backend writes it (no line ends in it).
pub fn job(task_id: u64, course_url: &str) -> String {
    serde_json::json!({
        "taskId": task_id,
        "email": "user@example.com",
        "courseUrl": course_url,
        "timestamp": "2026-01-13T02:00:00.000Z",
        "jobId": format!("task-{task_id}"),
    })
    .to_string()
}

/// Starts a server and waits until it answers; `None` when it ends at once or when another server
/// answers on the port.
fn launch(program: &str, port: u16, arguments: &[String], directory: &Path) -> Option<Process> {
    let mut command = Command::new(program);
    // A configuration file among the arguments must be the first.
    command.args(arguments).arg("--dir").arg(directory);
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--daemonize", "no"]);
    let process = Process::start("redis-server", command, &log_path(directory));
    let ours = format!("process_id:{}", process.pid());
    let start = Instant::now();
    while process.exited().is_none() {
        match info(port) {
            Ok(info) if info.contains("loading:1") => {}
            Ok(info) if info.lines().any(|line| line == ours) => return Some(process),
            Ok(_) => return None,
            Err(_) => {}
        }
        assert!(start.elapsed() < START_LIMIT, "redis-server does not answer: {}", process.output());
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

fn log_path(directory: &Path) -> PathBuf {
    directory.join("redis-server.log")
}

fn log_of(directory: &Path) -> String {
    std::fs::read_to_string(log_path(directory)).unwrap_or_default()
}

/// INFO without a client library.
fn info(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"INFO server\r\nINFO persistence\r\n")?;
    let mut reader = BufReader::new(stream);
    let mut answer = Vec::new();
    for _ in 0..2 {
        let line = read_line(&mut reader).ok_or(std::io::ErrorKind::UnexpectedEof)?;
        let length: u64 = line.strip_prefix('$').and_then(|length| length.parse().ok()).unwrap_or(0);
        reader.by_ref().take(length + 2).read_to_end(&mut answer)?;
    }
    Ok(String::from_utf8_lossy(&answer).replace('\r', ""))
}

/// One message of Pub/Sub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub channel: String,
    pub payload: String,
}

/// Collects messages in a thread until it is dropped.
pub struct Subscription {
    messages: Arc<Mutex<Vec<Message>>>,
    stream: TcpStream,
    thread: Option<JoinHandle<()>>,
}

impl Subscription {
    fn open(port: u16, pattern: &str) -> Subscription {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("redis connection");
        let command = format!("*2\r\n$10\r\nPSUBSCRIBE\r\n${}\r\n{pattern}\r\n", pattern.len());
        stream.write_all(command.as_bytes()).expect("PSUBSCRIBE");
        let mut reader = BufReader::new(stream.try_clone().expect("second handle"));
        // The confirmation: from here on nothing is missed.
        let confirmed = read_array(&mut reader);
        assert!(confirmed.as_ref().is_some_and(|parts| parts[0] == "psubscribe"), "{confirmed:?}");
        let messages = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&messages);
        let thread = std::thread::spawn(move || {
            while let Some(mut parts) = read_array(&mut reader) {
                if let (Some(payload), Some(channel)) = (parts.pop(), parts.pop()) {
                    collected.lock().expect("messages").push(Message { channel, payload });
                }
            }
        });
        Subscription { messages, stream, thread: Some(thread) }
    }

    /// What has come so far, in order.
    pub fn messages(&self) -> Vec<Message> {
        self.messages.lock().expect("messages").clone()
    }

    /// The payloads of one channel so far, as JSON.
    pub fn json(&self, channel: &str) -> Vec<serde_json::Value> {
        let messages = self.messages();
        let of_channel = messages.iter().filter(|message| message.channel == channel);
        of_channel.map(|message| serde_json::from_str(&message.payload).expect("the payload is JSON")).collect()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One RESP2 array of texts and numbers; `None` at the end of the connection.
fn read_array(reader: &mut impl BufRead) -> Option<Vec<String>> {
    let count: usize = read_line(reader)?.strip_prefix('*')?.parse().ok()?;
    let mut parts = Vec::with_capacity(count);
    for _ in 0..count {
        let line = read_line(reader)?;
        let Some(length) = line.strip_prefix('$') else {
            parts.push(line);
            continue;
        };
        let mut text = vec![0; length.parse::<usize>().ok()? + 2];
        reader.read_exact(&mut text).ok()?;
        text.truncate(text.len() - 2);
        parts.push(String::from_utf8_lossy(&text).into_owned());
    }
    Some(parts)
}

fn read_line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    line.strip_suffix("\r\n").map(str::to_owned)
}
