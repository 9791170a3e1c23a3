//! A clock that jumps, for programs that are started under it: the time of day, not the time since the start.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use super::bundled_server;
use super::daemon::Builder;
use super::redis::RedisServer;

/// Where Debian and others keep it, for programs with threads.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// How far the clock of the programs under it is from that of this host.
pub struct Clock {
    directory: tempfile::TempDir,
    offset_seconds: i64,
}

impl Clock {
    /// A clock that is right.
    pub fn new() -> Clock {
        let clock = Clock { directory: tempfile::tempdir().expect("temporary directory"), offset_seconds: 0 };
        clock.write();
        clock
    }

    /// It jumps forth, or back.
    pub fn jump(&mut self, seconds: i64) {
        self.offset_seconds += seconds;
        self.write();
    }

    /// What it shows, in seconds since 1970.
    pub fn now(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        i64::try_from(now).expect("before the end of time") + self.offset_seconds
    }

    /// A server under this clock: Valkey, since Debian's Redis and the library do not get on together.
    pub fn redis(&self) -> RedisServer {
        let program = bundled_server("valkey-server");
        let program = program.display();
        let wrapper = self.directory.path().join("valkey-server");
        let variables = self.environment().map(|(name, value)| format!("{name}='{value}'")).join(" ");
        let script = format!("#!/bin/sh\nexec env {variables} {program} \"$@\"\n");
        std::fs::write(&wrapper, script).expect("a wrapper");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&wrapper, mode).expect("mode of the wrapper");
        RedisServer::start_program(&wrapper.display().to_string(), &["--save", "", "--appendonly", "no"])
    }

    /// A daemon under this clock.
    pub fn of(&self, builder: Builder) -> Builder {
        self.environment().into_iter().fold(builder, |builder, (name, value)| builder.env(name, &value))
    }

    fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("LD_PRELOAD", library().display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
            // What is on disk was written before the jump.
            ("NO_FAKE_STAT", "1".into()),
        ]
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("offset")
    }

    /// In one step: it is read all the time.
    fn write(&self) {
        let new = self.directory.path().join("offset.new");
        std::fs::write(&new, format!("{:+}\n", self.offset_seconds)).expect("the offset");
        std::fs::rename(new, self.file()).expect("the offset");
    }
}

fn library() -> PathBuf {
    let triplets = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let found = [triplets.as_str(), "/usr/lib64", "/usr/lib"].map(|directory| PathBuf::from(directory).join(LIBRARY));
    let found = found.into_iter().find(|library| library.exists());
    found.expect("libfaketime is missing: run `make deps`")
}
