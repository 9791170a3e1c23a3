//! Python with one version of RQ, to be asked things.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::support::process::Process;
use crate::support::python_environment;
use crate::support::redis::RedisServer;

/// The versions that `make deps` has installed: the oldest that is in use, the last of the second
/// generation, the first of the third.
pub const VERSIONS: [&str; 3] = ["1.16.2", "2.12.0", "3.0.0"];

/// A Python that keeps what it is told; see `shell.py`.
pub struct Python {
    pub version: &'static str,
    url: String,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Python {
    pub fn new(version: &'static str, redis: &RedisServer) -> Python {
        let mut child = command(version, "python")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rq/shell.py"))
            .arg(redis.port().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts; `make deps` installs what is missing");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Python { version, url: redis.url(), child, input, output }
    }

    /// All of them.
    pub fn all(redis: &RedisServer) -> Vec<Python> {
        VERSIONS.iter().map(|version| Python::new(version, redis)).collect()
    }

    /// Runs statements and returns the value of the last, which may be an expression.
    ///
    /// # Panics
    /// When they raise.
    pub fn run(&mut self, code: &str) -> Value {
        let input = self.input.as_mut().expect("runs");
        writeln!(input, "{}", Value::from(code)).expect("Python runs");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("Python runs");
        let answer: Value = serde_json::from_str(&line).expect("an answer");
        if let Some(error) = answer.get("error") {
            panic!("rq {}: {code}\n{}", self.version, error.as_str().unwrap_or_default());
        }
        answer["value"].clone()
    }

    /// As [`Python::run`], for a text.
    pub fn text(&mut self, code: &str) -> String {
        let value = self.run(code);
        value.as_str().unwrap_or_else(|| panic!("rq {}: {code} is {value}", self.version)).to_owned()
    }

    /// What `rq <arguments>` prints.
    pub fn rq(&self, arguments: &[&str]) -> String {
        let mut command = command(self.version, "rq");
        command.args(arguments).args(["--url", &self.url]);
        let output = command.output().expect("rq runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "rq {arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// A program of this environment, with its output in `directory`.
    pub fn start(&self, program: &str, arguments: &[&str], directory: &std::path::Path) -> Process {
        let mut command = command(self.version, program);
        command.args(arguments).env("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rq"));
        Process::start(program, command, &directory.join(program))
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // The end of its input ends it.
        self.input.take();
        let _ = self.child.wait();
    }
}

fn command(version: &str, program: &str) -> Command {
    let mut command = Command::new(python_environment(&format!("rq-{version}")).join("bin").join(program));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}
