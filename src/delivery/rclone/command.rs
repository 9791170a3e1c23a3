//! rclone as a child process: what it sees, how long it may stand still, what its end means.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::log::{Said, Stats};
use crate::child::{self, ChildError, Program};
use crate::config::RcloneSettings;
use crate::failure::{Failure, FailureKind, Result};

/// Names of the largest course are far below.
const MAX_OUTPUT_BYTES: usize = 16 << 20;
/// A line for each event, and the numbers every second: this is how its progress is read.
const LOGGING: [&str; 7] = ["--use-json-log", "--log-level", "NOTICE", "--stats", "1s", "--stats-log-level", "NOTICE"];
/// The program with what it always gets.
#[derive(Debug)]
pub struct Rclone {
    program: PathBuf,
    environment: Vec<(OsString, OsString)>,
    stall: Duration,
    max_memory: u64,
}

/// A run that came to its end.
#[derive(Debug)]
pub struct Answer {
    command: String,
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    said: Said,
}

impl Rclone {
    pub fn new(settings: &RcloneSettings) -> Rclone {
        let passed_on = settings.environment.iter();
        let mut environment: Vec<(OsString, OsString)> =
            passed_on.map(|(name, value)| (name.into(), value.expose_secret().into())).collect();
        // An attempt that failed comes again with a pause; two more at once only hold the slot.
        if !settings.environment.iter().any(|(name, _)| name == "RCLONE_RETRIES") {
            environment.push(("RCLONE_RETRIES".into(), "1".into()));
        }
        if let Some(config) = &settings.config {
            environment.push(("RCLONE_CONFIG".into(), config.into()));
        }
        Rclone {
            program: settings.program.clone(),
            environment,
            stall: settings.stall,
            max_memory: settings.max_memory_bytes,
        }
    }

    /// `rclone v1.60.1`
    ///
    /// # Errors
    /// `delivery_refused` when there is no such program or it may not be run, else as [`Rclone::run`].
    pub async fn version(&self, cancel: &CancellationToken) -> Result<String> {
        let answer = self.run_to_end(["version"], cancel, |_| {}, FailureKind::DeliveryRefused).await?;
        let answer = answer.expect(&[0], "")?;
        Ok(answer.stdout.lines().next().unwrap_or("rclone").to_owned())
    }

    /// Runs it to its end, which the caller judges; `tell` hears how far it is.
    ///
    /// # Errors
    /// `delivery_failed` when it cannot be started or stands still, `interrupted`.
    pub async fn run(
        &self,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        cancel: &CancellationToken,
        tell: impl FnMut(&Stats),
    ) -> Result<Answer> {
        // In the middle of an upgrade it may be away for a moment.
        self.run_to_end(arguments, cancel, tell, FailureKind::DeliveryFailed).await
    }

    /// `missing` is the kind of failure when there is no program that could be run.
    async fn run_to_end(
        &self,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        cancel: &CancellationToken,
        mut tell: impl FnMut(&Stats),
        missing: FailureKind,
    ) -> Result<Answer> {
        let mut arguments: Vec<OsString> = arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
        let command = arguments.first().map(|command| command.to_string_lossy().into_owned()).unwrap_or_default();
        arguments.extend(LOGGING.map(OsString::from));
        let program = Program {
            path: &self.program,
            arguments: &arguments,
            environment: &self.environment,
            // The attempt has a limit, and a standstill is seen below.
            limit: Duration::MAX,
            max_output: MAX_OUTPUT_BYTES,
            max_memory: self.max_memory,
        };
        let mut said = Said::default();
        let moved = Mutex::new(Instant::now());
        let mut before = None;
        let watch = |line: &[u8]| {
            let Some(stats) = said.hear(line) else { return };
            if before.as_ref() != Some(&stats) {
                *lock(&moved) = Instant::now();
                tell(&stats);
                before = Some(stats);
            }
        };
        let ended = tokio::select! {
            ended = child::run_watched(program, cancel, watch) => ended,
            () = standstill(&moved, self.stall) => {
                let limit = self.stall.as_secs();
                let message = format!("rclone {command} has stood still for {limit} s and was killed");
                return Err(Failure::new(FailureKind::DeliveryFailed, message));
            }
        };
        match ended {
            Ok(output) => Ok(Answer {
                command,
                code: output.status.code(),
                stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                said,
            }),
            Err(error) => {
                let kind = match error {
                    ChildError::NotStarted { ref error, .. }
                        if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) =>
                    {
                        missing
                    }
                    _ => error.kind(FailureKind::DeliveryFailed),
                };
                Err(Failure::new(kind, error.to_string()))
            }
        }
    }
}

impl Answer {
    /// Itself, if it ended with one of these.
    ///
    /// # Errors
    /// What another end means.
    pub fn expect(self, codes: &[i32], target: &str) -> Result<Answer> {
        match self.code {
            Some(code) if codes.contains(&code) => Ok(self),
            _ => Err(self.failure(target)),
        }
    }

    /// Whether it failed and has said this.
    pub fn says(&self, text: &str) -> bool {
        self.code != Some(0) && self.said.errors().contains(text)
    }

    #[cfg(test)]
    pub fn for_test(code: i32, stdout: &str) -> Answer {
        Answer { command: "check".into(), code: Some(code), stdout: stdout.into(), said: Said::default() }
    }

    /// What this end means. `target` is a path that may be in what was said, and is no reason.
    pub fn failure(&self, target: &str) -> Failure {
        let ended = match self.code {
            Some(code) => format!("exit status {code}"),
            None => "killed".to_owned(),
        };
        let message = format!("rclone {} ({ended}): {}", self.command, self.said.shown());
        Failure::new(self.said.kind(self.code, target), message)
    }
}

/// Ends when nothing has moved for so long.
async fn standstill(moved: &Mutex<Instant>, limit: Duration) {
    loop {
        let until = *lock(moved) + limit;
        if Instant::now() >= until {
            return;
        }
        tokio::time::sleep_until(until).await;
    }
}

fn lock(moved: &Mutex<Instant>) -> std::sync::MutexGuard<'_, Instant> {
    // Only assignments happen under it.
    moved.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn only_a_program_that_cannot_be_run_at_all_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let program = |name: &str, text: &str, mode: u32| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        for (path, expected) in [
            (folder.path().join("missing"), FailureKind::DeliveryRefused),
            (program("plain", "#!/bin/sh\n", 0o644), FailureKind::DeliveryRefused),
            (program("slow", "#!/bin/sh\nexec sleep 600\n", 0o755), FailureKind::DeliveryFailed),
            (program("ill", "#!/bin/sh\nexit 1\n", 0o755), FailureKind::DeliveryFailed),
        ] {
            let settings = RcloneSettings {
                remote: "r:".into(),
                config: None,
                program: path.clone(),
                stall: Duration::from_secs(1),
                max_memory_bytes: crate::child::MAX_MEMORY,
                environment: Vec::new(),
            };
            let failed = Rclone::new(&settings).version(&CancellationToken::new()).await.unwrap_err();
            assert_eq!(failed.kind, expected, "{}: {failed}", path.display());
        }
    }
}
