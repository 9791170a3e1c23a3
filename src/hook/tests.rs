//! The hook with a real Redis, a stand-in enrollment service and a store in memory.

mod admission;
mod manners;
mod ordering;

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use axum::response::{IntoResponse, Response};
use redis::AsyncCommands;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::config::Config;
use crate::enroll::stand_in::{Service, client_of, settings};
use crate::failure::{Failure, FailureKind, Result};
use crate::job::{Element, JobSpec, TaskId};
use crate::metrics::{OutcomeLabel, RouteLabel};
use crate::report::test_redis::RedisServer;
use crate::store::{FinalStatus, TaskRecord, TaskStore};

const LIST: &str = "rq:queue:downloads";

/// A store in memory. Task 99 it does not have, task 100 makes it panic, task 101 it cannot write the
/// first time. Sees how long the queue is when it writes.
struct MemoryStore {
    redis: crate::redis_client::Commands,
    enrolled: Mutex<HashMap<TaskId, (Option<u64>, u64)>>,
    refused: Mutex<bool>,
}

#[async_trait]
impl TaskStore for MemoryStore {
    async fn read(&self, task_id: TaskId) -> Result<Option<TaskRecord>> {
        let enrolled = self.enrolled.lock().unwrap();
        let record = |&(order_id, _)| TaskRecord { status: "enrolled".into(), order_id, ..TaskRecord::default() };
        Ok(enrolled.get(&task_id).map(record))
    }

    async fn finish(&self, _: TaskId, _: FinalStatus, _: Option<&str>) -> Result<()> {
        Ok(())
    }

    async fn enroll(&self, spec: &JobSpec, order_id: Option<u64>) -> Result<()> {
        match spec.task_id.get() {
            99 => return Err(Failure::new(FailureKind::TaskNotFound, "no such row")),
            100 => panic!("a defect"),
            101 if !std::mem::replace(&mut *self.refused.lock().unwrap(), true) => {
                return Err(Failure::new(FailureKind::TaskStoreUnavailable, "the store is away"));
            }
            _ => {}
        }
        let waiting = self.redis.clone().llen(LIST).await.unwrap_or_default();
        self.enrolled.lock().unwrap().insert(spec.task_id, (order_id, waiting));
        Ok(())
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }
}

/// A running hook with its surroundings.
struct World {
    base: String,
    client: reqwest::Client,
    redis: RedisServer,
    store: Arc<MemoryStore>,
    service: Service,
    metrics: Arc<Metrics>,
    hook: Arc<Hook>,
    folder: tempfile::TempDir,
    _stop: DropGuard,
}

/// Refuses courses named `refused`, breaks down on `broken`, enrolls in all others.
async fn service(body: String) -> Response {
    if body.contains("/refused") {
        return r#"{"success":true,"results":[{"success":false,"status":"expired","message":"no seat left"}]}"#
            .into_response();
    }
    if body.contains("/broken") {
        return (axum::http::StatusCode::BAD_GATEWAY, "oops").into_response();
    }
    r#"{"success":true,"results":[{"success":true,"status":"enrolled","courseId":12345,"title":"Course Name"}]}"#
        .into_response()
}

impl World {
    async fn new() -> World {
        World::with(Service::start(service).await, |_| {}).await
    }

    async fn with(service: Service, change: impl FnOnce(&mut HookSettings)) -> World {
        let (redis, folder) = (RedisServer::start().await, tempfile::tempdir().unwrap());
        let redis_connection = redis.connection();
        let store = MemoryStore { redis: redis.connection(), enrolled: Mutex::default(), refused: Mutex::default() };
        let store = Arc::new(store);
        let mut config = Config::load(None, Default::default(), Default::default()).unwrap();
        config.hook.token = Some(SecretString::from("h00k"));
        config.hook.max_tasks = 20;
        change(&mut config.hook);
        let (mut enrollment, http) = settings(&service.url);
        enrollment.timeout = Duration::from_secs(1);
        let metrics = Metrics::new();
        let enrollment = client_of(&enrollment, &http, metrics.clone()).unwrap();
        let orders = Orders::open(
            redis_connection.clone(),
            LIST,
            config.hook.keep_orders,
            folder.path().join("orders"),
            enrollment.clone(),
            store.clone(),
            metrics.clone(),
        );
        let orders = orders.await.unwrap();
        let stop = CancellationToken::new();
        let hook = Hook::new(
            orders.clone(),
            Tasks::new(store.clone(), redis_connection.clone(), LIST),
            enrollment,
            Credentials::read(&config.hook).unwrap(),
            redis_connection,
            LIST,
            &config.hook,
            metrics.clone(),
            stop.clone(),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(crate::serve::serve(listener, Hook::router(hook.clone()), stop.clone()));
        tokio::spawn(orders.keep_working(stop.clone()));
        let client = crate::http::call_client(&http).unwrap();
        World { base, client, redis, store, service, metrics, hook, folder, _stop: stop.drop_guard() }
    }

    /// Posts an order and waits for its end.
    async fn order(&self, order: Value) -> Value {
        let (status, _, body) = answer(self.post(&format!("{ORDERS}?wait=30"), order)).await;
        assert_eq!((status, &body["state"]), (200, &json!("done")), "{body}");
        body
    }

    fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.get(format!("{}{path}", self.base)).header(AUTHORIZATION, "Bearer h00k")
    }

    fn post(&self, path: &str, body: impl ToString) -> reqwest::RequestBuilder {
        let request = self.client.post(format!("{}{path}", self.base)).header(AUTHORIZATION, "Bearer h00k");
        request.header(CONTENT_TYPE, "application/json").body(body.to_string())
    }

    async fn queued(&self) -> Vec<Value> {
        let elements: Vec<Vec<u8>> = self.redis.connection().lrange(LIST, 0, -1).await.unwrap();
        elements.iter().rev().map(|element| serde_json::from_slice(element).unwrap()).collect()
    }
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, HeaderMap, Value) {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, headers, response.json().await.unwrap())
}

fn task(id: u64, course: &str) -> Value {
    json!({"taskId": id, "email": "user@example.com", "courseUrl": format!("https://learn.example.com/course/{course}")})
}
