//! Those who are asked, and the service behind the hook. Each is a process of its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};

use super::load::Callers;
use super::support::cpu;
use super::world::{Daemon, RedisServer};

const LIST: &str = "rq:queue:downloads";
/// How long what was taken in may take until it is pushed.
const PUSHED_LIMIT: Duration = Duration::from_secs(300);

/// The real binary with its hook, and what it needs.
pub struct Hook {
    daemon: Daemon,
    redis: RedisServer,
    _enrollment: Role,
}

impl Hook {
    pub async fn start() -> Hook {
        let redis = RedisServer::start_durable();
        let enrollment = Role::start(&["enrollment"]);
        // The elements stay on the list: what is measured is how they come there.
        redis.cli(&["HSET", &format!("{{{LIST}}}:hauld:paused"), "*", "{}"]);
        let daemon = Daemon::builder()
            .redis(&redis)
            .set("enrollment.endpoint", format!("http://127.0.0.1:{}/api/v1/enroll", enrollment.port))
            .set("hook.max_requests_per_second", 1_000_000)
            .hook()
            .start()
            .await;
        Hook { daemon, redis, _enrollment: enrollment }
    }

    pub fn callers(&self) -> Callers {
        Callers::of(self.daemon.hook_port().expect("the hook is on"))
    }

    pub fn cpu_seconds(&self) -> f64 {
        cpu(self.daemon.pid()).as_secs_f64()
    }

    /// Waits until at least so many elements are on the list.
    ///
    /// # Panics
    /// After five minutes.
    pub fn wait_until_pushed(&self, count: usize) {
        let begin = Instant::now();
        let pushed = || self.redis.cli(&["LLEN", LIST]).parse::<usize>().expect("a length");
        while pushed() < count {
            assert!(begin.elapsed() < PUSHED_LIMIT, "{} of {count} orders are pushed", pushed());
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// The least that keeps an order.
pub struct Floor {
    role: Role,
    _redis: RedisServer,
}

impl Floor {
    pub fn start() -> Floor {
        let redis = RedisServer::start_durable();
        Floor { role: Role::start(&["floor", &redis.url()]), _redis: redis }
    }

    pub fn callers(&self) -> Callers {
        Callers::of(self.role.port)
    }

    pub fn cpu_seconds(&self) -> f64 {
        cpu(self.role.child.id()).as_secs_f64()
    }
}

/// This program as a server, which prints its port when it listens.
struct Role {
    child: Child,
    port: u16,
}

impl Role {
    fn start(arguments: &[&str]) -> Role {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new(program).args(arguments).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        Role { child, port: line.trim().parse().expect("a port") }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn run_floor(url: &str) {
    let url = url.to_owned();
    serve(async move {
        let client = redis::Client::open(url).expect("a URL of Redis");
        let connection = client.get_multiplexed_async_connection().await.expect("the server answers");
        Router::new().route("/api/v1/orders", post(keep)).with_state(connection)
    });
}

async fn keep(State(mut connection): State<MultiplexedConnection>, Json(order): Json<Value>) -> StatusCode {
    let mut set = redis::cmd("SET");
    set.arg(format!("order:{}", order["orderId"])).arg(order.to_string()).arg("NX");
    let kept: redis::RedisResult<()> = set.query_async(&mut connection).await;
    kept.map_or(StatusCode::SERVICE_UNAVAILABLE, |()| StatusCode::ACCEPTED)
}

/// Enrolls everybody at once.
pub fn run_enrollment() {
    let enrolled = json!({"success": true, "results": [{"success": true, "status": "enrolled", "courseId": 12345, "title": "Course Name"}]});
    serve(async { Router::new().route("/api/v1/enroll", post(async move || Json(enrolled))) });
}

fn serve(router: impl Future<Output = Router>) {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        let router = router.await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("{}", listener.local_addr().expect("an address").port());
        axum::serve(listener, router).await.expect("it serves");
    });
}
