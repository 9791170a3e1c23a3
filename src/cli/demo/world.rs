//! The private Redis and the daemon, as child processes that end with the demo.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use redis::AsyncCommands;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::{Child, Command};

use super::failed;
use super::origin::Origin;
use crate::failure::{Failure, Result};

/// Secret of the demo's finalize calls.
pub const SECRET: &str = "demo-secret";
const TOKEN: &str = "demo-token";
/// How long a child may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// What runs while the demo does.
pub struct World {
    pub redis_port: u16,
    pub hook: String,
    /// Where courses are delivered.
    pub delivered: PathBuf,
    client: redis::Client,
    daemon: Child,
    _redis: Child,
}

impl World {
    /// Starts Redis, writes a configuration and starts this program as the daemon.
    pub async fn start(directory: &Path, origin: &Origin) -> Result<World> {
        let (redis_port, hook_port, admin_port) = (free_port()?, free_port()?, free_port()?);
        let redis = command("redis-server", directory, "redis.log")?
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"])
            .arg(redis_port.to_string())
            .spawn()
            .map_err(|error| failed(&format!("redis-server cannot be started: {error}; make demo installs it")))?;
        let client = redis::Client::open(format!("redis://127.0.0.1:{redis_port}/0"))
            .map_err(|error| failed(&error.to_string()))?;
        wait("Redis", async || client.get_multiplexed_async_connection().await.is_ok()).await?;

        let config = directory.join("hauld.toml");
        let delivered = directory.join("courses");
        write_config(directory, &config, redis_port, hook_port, admin_port, origin)?;
        let program =
            std::env::current_exe().map_err(|error| failed(&format!("this program is not to be found: {error}")))?;
        let program = program.to_string_lossy().into_owned();
        let daemon = command(&program, directory, "hauld.log")?.arg("run").arg("--config").arg(&config).spawn();
        let daemon = daemon.map_err(|error| failed(&format!("{program} cannot be started: {error}")))?;
        let world =
            World { redis_port, hook: format!("127.0.0.1:{hook_port}"), delivered, client, daemon, _redis: redis };
        let ready = format!("http://127.0.0.1:{admin_port}/readyz");
        wait("the daemon", async || reqwest_ok(&ready).await).await?;
        Ok(world)
    }

    /// Posts an order to the hook.
    pub async fn order(&self, order: &Value) -> Result<Value> {
        let request =
            http_client()?.post(format!("http://{}/api/v1/orders?wait=60", self.hook)).bearer_auth(TOKEN).json(order);
        let response = request.send().await.map_err(|error| failed(&format!("the hook: {error}")))?;
        response.json().await.map_err(|error| failed(&format!("the hook's answer: {error}")))
    }

    /// Every message about tasks from now on.
    pub async fn messages(&self) -> Result<redis::aio::PubSub> {
        let subscribe = async {
            let mut messages = self.client.get_async_pubsub().await?;
            messages.psubscribe("task:*").await?;
            Ok(messages)
        };
        subscribe.await.map_err(|error: redis::RedisError| failed(&format!("Redis: {error}")))
    }

    /// The status of a task in the task store.
    pub async fn task_status(&self, task_id: u64) -> Result<String> {
        let key = format!("hauld:task:{task_id}");
        let read = async { self.client.get_multiplexed_async_connection().await?.hget(key, "status").await };
        read.await.map_err(|error: redis::RedisError| failed(&format!("Redis: {error}")))
    }

    /// SIGTERM; waits for a clean exit.
    pub async fn stop(mut self) -> Result<()> {
        let pid =
            self.daemon.id().and_then(|id| Pid::from_raw(id as i32)).ok_or_else(|| failed("the daemon has died"))?;
        kill_process(pid, Signal::TERM).map_err(|error| failed(&format!("SIGTERM: {error}")))?;
        let status = tokio::time::timeout(READY_LIMIT, self.daemon.wait()).await;
        match status {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(failed(&format!("the daemon ended with {status}"))),
            Ok(Err(error)) => Err(failed(&format!("the daemon cannot be watched: {error}"))),
            Err(_) => Err(failed("the daemon did not stop in time")),
        }
    }
}

fn write_config(
    directory: &Path,
    config: &Path,
    redis_port: u16,
    hook_port: u16,
    admin_port: u16,
    origin: &Origin,
) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let write = |path: &Path, text: &str| {
        let opened = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path);
        let written = opened.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
        written.map_err(|error| Failure::disk(format_args!("writing {}", path.display()), error))
    };
    write(&directory.join("hook.token"), TOKEN)?;
    write(&directory.join("report.secret"), SECRET)?;
    let path = |name: &str| directory.join(name).display().to_string();
    let text = format!(
        "[redis]\nurl = \"redis://127.0.0.1:{redis_port}/0\"\n\
         [hook]\nlisten = \"127.0.0.1:{hook_port}\"\ntoken_file = {:?}\n\
         [admin]\nlisten = \"127.0.0.1:{admin_port}\"\n\
         [enrollment]\nendpoint = {:?}\n\
         [resolver]\ncatalog_endpoint = {:?}\n\
         [staging]\ndirectory = {:?}\nmin_free_bytes = 0\n\
         [delivery]\ndirectory = {:?}\n\
         [report]\napi_base_url = {:?}\nsecret_file = {:?}\n",
        path("hook.token"),
        origin.url("/api/v1/enroll"),
        origin.url("/catalog"),
        path("staging"),
        path("courses"),
        origin.url(""),
        path("report.secret"),
    );
    write(config, &text)
}

/// A child that writes to a log of its own and ends with this process.
fn command(program: &str, directory: &Path, log: &str) -> Result<Command> {
    let path = directory.join(log);
    let opened = std::fs::File::create(&path).and_then(|file| Ok((file.try_clone()?, file)));
    let (output, errors) = opened.map_err(|error| Failure::disk(format_args!("creating {}", path.display()), error))?;
    let mut command = Command::new(program);
    command.current_dir(directory).stdin(Stdio::null()).stdout(output).stderr(errors).kill_on_drop(true);
    Ok(command)
}

/// A port that is free now.
fn free_port() -> Result<u16> {
    let bound = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    bound.map(|address| address.port()).map_err(|error| failed(&format!("no free port: {error}")))
}

async fn wait(what: &str, mut ready: impl AsyncFnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + READY_LIMIT;
    while !ready().await {
        if Instant::now() > deadline {
            return Err(failed(&format!("{what} was not ready within {} s", READY_LIMIT.as_secs())));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn reqwest_ok(url: &str) -> bool {
    let Ok(client) = http_client() else { return false };
    client.get(url).send().await.is_ok_and(|response| response.status().is_success())
}

fn http_client() -> Result<reqwest::Client> {
    let settings = crate::config::HttpSettings {
        connect_timeout: READY_LIMIT,
        idle_timeout: READY_LIMIT,
        minimum_rate: Default::default(),
        head: Default::default(),
        user_agent: "hauld-demo".into(),
        network: Default::default(),
    };
    crate::http::client(&settings)
}
