//! A primary, a replica, and sentinels that watch over them.

use std::process::Command;
use std::time::Duration;

use super::redis::RedisServer;
use super::wait;

const NAME: &str = "downloads";
const LIMIT: Duration = Duration::from_secs(30);

/// Servers `0` (the first primary) and `1`, and three sentinels, two of which decide.
pub struct Sentinels {
    pub servers: [RedisServer; 2],
    pub sentinels: Vec<RedisServer>,
    _directory: tempfile::TempDir,
}

impl Sentinels {
    /// Starts them and waits until they know each other.
    pub fn start() -> Sentinels {
        let arguments = ["--save", "", "--appendonly", "yes", "--repl-diskless-sync-delay", "0", "--repl-timeout", "5"];
        let servers = [RedisServer::start_with(&arguments), RedisServer::start_with(&arguments)];
        servers[1].cli(&["REPLICAOF", "127.0.0.1", &servers[0].port().to_string()]);
        let directory = tempfile::tempdir().expect("temporary directory");
        let sentinels: Vec<RedisServer> = (0..3)
            .map(|number| {
                let file = directory.path().join(format!("sentinel-{number}.conf"));
                let text = format!(
                    "sentinel monitor {NAME} 127.0.0.1 {} 2\n\
                     sentinel down-after-milliseconds {NAME} 1000\n\
                     sentinel failover-timeout {NAME} 6000\n",
                    servers[0].port()
                );
                std::fs::write(&file, text).expect("the sentinel's configuration");
                RedisServer::start_with(&[&file.display().to_string(), "--sentinel"])
            })
            .collect();
        let started = Sentinels { servers, sentinels, _directory: directory };
        for sentinel in &started.sentinels {
            wait::until_blocking("the sentinels know everybody", LIMIT, || {
                let info = sentinel.cli(&["INFO", "sentinel"]);
                info.contains("status=ok").then_some(())?;
                info.contains("slaves=1,sentinels=3").then_some(())
            });
        }
        started.wait_for_replication(1);
        started
    }

    /// `redis+sentinel://…`
    pub fn url(&self) -> String {
        let addresses: Vec<String> = self.sentinels.iter().map(|one| format!("127.0.0.1:{}", one.port())).collect();
        format!("redis+sentinel://{}/0?master={NAME}", addresses.join(","))
    }

    /// Waits until the server is the primary for all sentinels, and for itself.
    pub async fn wait_for_primary(&self, number: usize) {
        let port = self.servers[number].port().to_string();
        wait::until("the sentinels have agreed", LIMIT, || {
            let named = |one: &RedisServer| one.cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]);
            let agreed = self
                .sentinels
                .iter()
                .filter(|one| one.is_running())
                .all(|one| named(one).lines().nth(1) == Some(port.as_str()));
            (agreed && self.servers[number].cli(&["ROLE"]).starts_with("master")).then_some(())
        })
        .await;
    }

    /// Asks for a failover, as an operator does. False when there is no good replica yet.
    pub fn failover(&self) -> bool {
        let asked = Command::new("redis-cli")
            .args(["-p", &self.sentinels[0].port().to_string(), "SENTINEL", "FAILOVER", NAME])
            .output()
            .expect("redis-cli runs");
        asked.stdout.starts_with(b"OK")
    }

    /// Waits until the replica has its link to the primary.
    pub fn wait_for_replication(&self, replica: usize) {
        wait::until_blocking("the replica follows", LIMIT, || {
            self.servers[replica].cli(&["INFO", "replication"]).contains("master_link_status:up").then_some(())
        });
    }
}
