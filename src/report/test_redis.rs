//! A redis-server of a test's own, on a free port, gone with the test.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::config::RedisSettings;
use crate::redis_client::Commands;

/// A running server; killed when dropped.
pub(crate) struct RedisServer {
    process: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl RedisServer {
    /// Starts one and waits until it answers. A port that somebody else took meanwhile is no
    /// matter: the next one is tried.
    pub(crate) async fn start() -> RedisServer {
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        RedisServer::start_on(free).await
    }

    /// Starts an empty one where another one was.
    pub(crate) async fn start_at(url: &str) -> RedisServer {
        let port = url.trim_end_matches("/0").rsplit_once(':').unwrap().1.parse().unwrap();
        RedisServer::start_on(|| port).await
    }

    async fn start_on(port: impl Fn() -> u16) -> RedisServer {
        for _ in 0..10 {
            let port = port();
            let directory = tempfile::tempdir().unwrap();
            let process = Command::new("redis-server")
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
                .current_dir(directory.path())
                .stdout(Stdio::null())
                .spawn()
                .expect("redis-server on the PATH");
            let mut server = RedisServer { process, port, _directory: directory };
            if server.answers().await {
                return server;
            }
        }
        panic!("redis-server does not start");
    }

    async fn answers(&mut self) -> bool {
        let begin = Instant::now();
        while self.process.try_wait().unwrap().is_none() && begin.elapsed() < Duration::from_secs(20) {
            let mut connection = self.connection();
            let info: Result<String, _> = redis::cmd("INFO").arg("server").query_async(&mut connection).await;
            if info.is_ok_and(|info| info.contains(&format!("process_id:{}\r", self.process.id()))) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    /// The settings that lead to it.
    pub(crate) fn settings(&self) -> RedisSettings {
        RedisSettings::new(self.url())
    }

    /// The URL that leads to it.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// A connection as the daemon opens it.
    pub(crate) fn connection(&self) -> Commands {
        crate::redis_client::commands(&self.settings()).unwrap()
    }

    /// Ends the server at once.
    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
