//! Health and metrics: `/livez`, `/readyz`, `/metrics`. GET only.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::disk::{free_bytes, try_writing};
use crate::failure::{Failure, Result};
use crate::logins::Logins;
use crate::metrics::Metrics;
use crate::redis_client::{self, Commands};

/// Longest wait for Redis.
const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest wait for the staging disk, which may be a hanging network mount.
const DISK_TIMEOUT: Duration = Duration::from_secs(2);
const OPENMETRICS: &str = "application/openmetrics-text";
const OPENMETRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Asks Redis whether it is there; see [`redis_ping`].
pub type Ping = Box<dyn Fn() -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// What the probes know.
pub struct Admin {
    metrics: Arc<Metrics>,
    logins: Arc<Logins>,
    staging: PathBuf,
    ping: Ping,
    hindered: watch::Receiver<Option<String>>,
    draining: CancellationToken,
    /// One look at the disk at a time: a hanging mount takes one thread, not one for each probe.
    disk: Arc<Semaphore>,
}

/// A [`Ping`] over a connection.
pub fn redis_ping(connection: Commands) -> Ping {
    Box::new(move || {
        let mut connection = connection.clone();
        Box::pin(async move {
            let answer = redis::cmd("PING").query_async::<()>(&mut connection).await;
            answer.map_err(|error| redis_client::failure("PING", &error))
        })
    })
}

impl Admin {
    /// `staging` is `staging.directory`; `hindered` says why the instance does not take jobs yet,
    /// and `draining` is cancelled when it stops taking them.
    pub fn new(
        metrics: Arc<Metrics>,
        logins: Arc<Logins>,
        staging: PathBuf,
        ping: Ping,
        hindered: watch::Receiver<Option<String>>,
        draining: CancellationToken,
    ) -> Arc<Admin> {
        Arc::new(Admin { metrics, logins, staging, ping, hindered, draining, disk: Arc::new(Semaphore::new(1)) })
    }

    /// The three routes.
    pub fn router(admin: Arc<Admin>) -> Router {
        Router::new()
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .with_state(admin)
    }

    async fn redis_answers(&self) -> Result<(), String> {
        match tokio::time::timeout(PING_TIMEOUT, (self.ping)()).await {
            Ok(answer) => answer.map_err(|failure| failure.message),
            Err(_) => Err(format!("no answer within {} s", PING_TIMEOUT.as_secs())),
        }
    }

    /// Runs `look` on a thread that may block, for as long as somebody is willing to wait.
    async fn look_at_disk<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Path) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, String> {
        let waited = tokio::time::timeout(DISK_TIMEOUT, async {
            let turn = self.disk.clone().acquire_owned().await.map_err(|error| error.to_string())?;
            let staging = self.staging.clone();
            let looked = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                look(&staging)
            });
            looked.await.map_err(|error| error.to_string())?.map_err(|failure| failure.message)
        });
        waited.await.unwrap_or_else(|_| Err(format!("the disk does not answer within {} s", DISK_TIMEOUT.as_secs())))
    }
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    let (redis, staging) = tokio::join!(admin.redis_answers(), admin.look_at_disk(|staging| try_writing(staging, 0)));
    let draining = match admin.draining.is_cancelled() {
        true => Err("the instance is stopping".to_owned()),
        false => Ok(()),
    };
    let taking = admin.hindered.borrow().clone().map_or(Ok(()), Err);
    let checks = [("taking", taking), ("redis", redis), ("staging", staging), ("draining", draining)];
    let ready = checks.iter().all(|(_, check)| check.is_ok());
    let shown = |check: &Result<(), String>| match check {
        Ok(()) => json!({"ok": true}),
        Err(reason) => json!({"ok": false, "reason": reason}),
    };
    let checks: serde_json::Map<String, Value> =
        checks.iter().map(|(name, check)| ((*name).to_owned(), shown(check))).collect();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(json!({"ready": ready, "checks": checks}))).into_response()
}

async fn metrics(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response {
    match admin.look_at_disk(free_bytes).await {
        Ok(free) => {
            admin.metrics.staging_free_bytes.set(free as f64);
        }
        Err(reason) => tracing::debug!(%reason, "the free bytes of the staging directory are not known"),
    }
    admin.metrics.hindered.set(i64::from(admin.hindered.borrow().is_some()));
    admin.logins.observe(&admin.metrics);
    let accepted = headers.get(header::ACCEPT).and_then(|accepted| accepted.to_str().ok()).unwrap_or_default();
    let (content_type, text) = match accepted.contains(OPENMETRICS) {
        true => (OPENMETRICS_TYPE, admin.metrics.encode()),
        false => (PLAIN_TYPE, admin.metrics.encode_plain()),
    };
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureKind;
    use crate::report::test_redis::RedisServer;

    async fn start(staging: &Path, ping: Ping) -> (String, CancellationToken) {
        let (draining, hindered) = (CancellationToken::new(), watch::channel(None).1);
        let admin = Admin::new(Metrics::new(), Arc::default(), staging.to_owned(), ping, hindered, draining.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(crate::serve::serve(listener, Admin::router(admin), CancellationToken::new()));
        (base, draining)
    }

    fn client() -> reqwest::Client {
        let config = crate::config::Config::load(None, Default::default(), Default::default()).unwrap();
        crate::http::call_client(&config.http).unwrap()
    }

    async fn readiness(base: &str) -> (u16, Value) {
        let response = client().get(format!("{base}/readyz")).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    fn answering() -> Ping {
        Box::new(|| Box::pin(async { Ok(()) }))
    }

    #[tokio::test]
    async fn ready_as_long_as_redis_answers() {
        let directory = tempfile::tempdir().unwrap();
        let mut server = RedisServer::start().await;
        let (base, _) = start(directory.path(), redis_ping(server.connection())).await;
        let all_is_well =
            json!({"taking": {"ok": true}, "redis": {"ok": true}, "staging": {"ok": true}, "draining": {"ok": true}});
        assert_eq!(readiness(&base).await, (200, json!({"ready": true, "checks": all_is_well})));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "the check leaves nothing behind");
        server.kill();
        let (status, body) = readiness(&base).await;
        assert_eq!((status, &body["ready"], &body["checks"]["redis"]["ok"]), (503, &json!(false), &json!(false)));
        assert!(body["checks"]["redis"]["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{body}");
        let alive = client().get(format!("{base}/livez")).send().await.unwrap();
        assert_eq!(alive.status(), 200);
    }

    #[tokio::test]
    async fn not_ready_when_redis_is_silent_or_staging_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let (base, _) = start(&directory.path().join("gone"), Box::new(|| Box::pin(std::future::pending()))).await;
        let (status, body) = readiness(&base).await;
        assert_eq!(status, 503);
        assert_eq!(body["checks"]["redis"]["reason"], "no answer within 1 s");
        let reason = body["checks"]["staging"]["reason"].as_str().unwrap();
        assert!(reason.contains("gone: No such file"), "{reason}");
    }

    #[tokio::test]
    async fn not_ready_while_draining() {
        let directory = tempfile::tempdir().unwrap();
        let (base, draining) = start(directory.path(), answering()).await;
        assert_eq!(readiness(&base).await.0, 200);
        draining.cancel();
        let (status, body) = readiness(&base).await;
        assert_eq!((status, &body["checks"]["draining"]["ok"]), (503, &json!(false)));
    }

    #[tokio::test]
    async fn metrics_come_in_the_format_that_is_asked_for_with_the_free_bytes_of_now() {
        let directory = tempfile::tempdir().unwrap();
        let failing = || Failure::new(FailureKind::QueueUnavailable, "away");
        let (base, _) = start(directory.path(), Box::new(move || Box::pin(async move { Err(failing()) }))).await;
        // As Prometheus asks.
        let prometheus = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, content_type, counter) in [
            (prometheus, OPENMETRICS_TYPE, "# TYPE hauld_jobs counter\n"),
            ("*/*", PLAIN_TYPE, "# TYPE hauld_jobs_total counter\n"),
        ] {
            let response = client().get(format!("{base}/metrics")).header("Accept", accept).send().await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["content-type"], content_type);
            let text = response.text().await.unwrap();
            assert!(text.contains(counter), "{text}");
            let free = text.lines().find_map(|line| line.strip_prefix("hauld_staging_free_bytes ")).unwrap();
            assert!(free.parse::<f64>().unwrap() > 0.0, "{free}");
        }
        let posted = client().post(format!("{base}/metrics")).send().await.unwrap();
        assert_eq!(posted.status(), 405);
        assert_eq!(client().get(format!("{base}/other")).send().await.unwrap().status(), 404);
    }
}
