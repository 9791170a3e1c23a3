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
use crate::enroll::stand_in::{Service, settings};
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
        let enrollment = EnrollmentClient::new(&enrollment, &http, metrics.clone()).unwrap();
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

#[tokio::test]
async fn an_order_enrolls_then_enqueues_and_tells_what_happened() {
    let world = World::new().await;
    let mut tasks =
        vec![task(43, "intro"), task(44, "refused"), task(45, "broken"), task(99, "two"), task(46, "three")];
    tasks[4]["taskId"] = json!("46");
    tasks.push(task(101, "four"));
    let (status, headers, first) = answer(world.post(ORDERS, json!({"orderId": 41, "tasks": tasks}))).await;
    assert_eq!((status, headers["content-type"].as_bytes()), (202, &b"application/json"[..]));
    assert_eq!(
        (&headers["location"], &headers["cache-control"]),
        (&"/api/v1/orders/41".parse().unwrap(), &"no-store".parse().unwrap())
    );
    assert_eq!((&first["state"], &first["stored"], &first["total"]), (&json!("open"), &json!("redis"), &json!(6)));

    let (status, _, body) = answer(world.get("/api/v1/orders/41?wait=30")).await;
    assert_eq!(status, 200);
    let broken = body["tasks"][2]["message"].as_str().unwrap();
    assert!(broken.contains("502 Bad Gateway"), "{broken}");
    let expected = json!({
        "orderId": 41, "state": "done", "stored": "redis",
        "total": 6, "enrolled": 4, "failed": 2, "queued": 3, "queueFailures": 1,
        "createdAt": body["createdAt"], "endedAt": body["endedAt"],
        "tasks": [
            {"taskId": 43, "status": "queued", "kind": null, "message": null, "courseId": 12345, "title": "Course Name"},
            {"taskId": 44, "status": "enrollment_failed", "kind": "enrollment_refused", "message": "no seat left", "courseId": null, "title": null},
            {"taskId": 45, "status": "enrollment_failed", "kind": "enrollment_unavailable", "message": broken, "courseId": null, "title": null},
            {"taskId": 99, "status": "queue_failed", "kind": "task_not_found", "message": "no such row", "courseId": 12345, "title": "Course Name"},
            {"taskId": 46, "status": "queued", "kind": null, "message": null, "courseId": 12345, "title": "Course Name"},
            {"taskId": 101, "status": "queued", "kind": null, "message": null, "courseId": 12345, "title": "Course Name"},
        ],
    });
    assert_eq!(body.to_string(), expected.to_string(), "also the order of the fields");

    let queued = world.queued().await;
    let ids: Vec<u64> = queued.iter().map(|element| element["taskId"].as_u64().unwrap()).collect();
    assert_eq!(ids, [43, 46, 101], "in the sequence of the order");
    for element in &queued {
        let spec = JobSpec::parse(&Element(element.to_string().into_bytes())).unwrap();
        assert_eq!(element["jobId"], format!("task-{}", spec.task_id));
        // With each status written when its element was not in the queue yet.
        let (order_id, waiting) = world.store.enrolled.lock().unwrap()[&spec.task_id];
        assert!(order_id == Some(41) && waiting < 3, "{waiting}");
    }
    assert_eq!(world.store.enrolled.lock().unwrap().len(), 3);
    for call in world.service.calls() {
        let body: Value = serde_json::from_slice(&call.body).unwrap();
        assert_eq!((&body["orderId"], body["urls"].as_array().unwrap().len()), (&json!(41), 1));
        assert!(call.headers["idempotency-key"].to_str().unwrap().starts_with("order-41-task-"));
    }

    let count = |outcome| world.metrics.enrollments.get_or_create(&OutcomeLabel { outcome }).get();
    assert_eq!((count("enrolled"), count("failed")), (4, 2));
    assert_eq!(world.metrics.hook_requests.get_or_create(&RouteLabel { route: ORDERS, code: 202 }).get(), 1);
    assert!(world.metrics.encode().contains("hauld_hook_request_duration_seconds_count 2"));
    assert_eq!(answer(world.get("/api/v1/orders/42")).await.0, 404);
}

#[tokio::test]
async fn what_failed_is_taken_up_again_and_nothing_else() {
    let refusing = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let service = Service::start({
        let refusing = refusing.clone();
        move |body: String| {
            let refusing = refusing.load(std::sync::atomic::Ordering::SeqCst);
            service(if refusing { body } else { String::new() })
        }
    });
    let world = World::with(service.await, |_| {}).await;
    let tasks = [task(43, "intro"), task(44, "refused"), task(99, "two")];
    let body = world.order(json!({"orderId": 41, "tasks": tasks})).await;
    assert_eq!((&body["queued"], &body["failed"], &body["queueFailures"]), (&json!(1), &json!(1), &json!(1)));
    refusing.store(false, std::sync::atomic::Ordering::SeqCst);
    let (status, _, body) = answer(world.post(&format!("{ORDERS}/41/retry?wait=30"), "")).await;
    assert_eq!(status, 200);
    assert_eq!((&body["queued"], &body["failed"], &body["queueFailures"]), (&json!(2), &json!(0), &json!(1)), "{body}");
    // 43 was not enrolled again, nor was 99, which was enrolled already.
    assert_eq!(world.service.calls().len(), 4);
    assert_eq!(world.queued().await.len(), 2);
    // With nothing left that could be taken up, nothing is.
    world.store.enrolled.lock().unwrap().clear();
    let (status, _, again) = answer(world.post(&format!("{ORDERS}/41/retry?wait=30"), "")).await;
    assert_eq!((status, &again["queueFailures"]), (200, &json!(1)));
    assert!(world.store.enrolled.lock().unwrap().is_empty());
    assert_eq!(answer(world.post(&format!("{ORDERS}/42/retry"), "")).await.0, 404);
}

#[tokio::test]
async fn a_hundred_equal_orders_are_one() {
    let world = World::new().await;
    let order = json!({"orderId": "41", "tasks": [task(43, "intro"), task(44, "two")]});
    let turned = json!({"tasks": [task(44, "two"), task(43, "intro")], "orderId": 41, "more": 1});
    let asked = (0..100).map(|turn| {
        let order = if turn % 2 == 0 { &order } else { &turned };
        let key = format!("key-{}", turn % 3);
        answer(world.post(&format!("{ORDERS}?wait=30"), order).header("Idempotency-Key", key))
    });
    let answers = futures_util::future::join_all(asked).await;
    for (status, _, body) in answers {
        assert_eq!((status, &body["queued"], &body["orderId"]), (200, &json!(2), &json!(41)), "{body}");
    }
    assert_eq!((world.service.calls().len(), world.queued().await.len()), (2, 2));
    let count = |outcome| world.metrics.orders.get_or_create(&OutcomeLabel { outcome }).get();
    assert_eq!((count("accepted"), count("repeated")), (1, 99));

    // Another order under a key that is known, and other tasks under an id that is known.
    let other = json!({"orderId": 42, "tasks": [task(45, "intro")]});
    let (status, _, body) = answer(world.post(ORDERS, &other).header("Idempotency-Key", "\"key-1\"")).await;
    assert_eq!((status, &body["kind"]), (422, &json!("idempotency_key_reused")));
    let (status, _, body) = answer(world.post(ORDERS, json!({"orderId": 41, "tasks": [task(43, "intro")]}))).await;
    assert_eq!((status, &body["kind"]), (409, &json!("order_conflict")));
    let (status, _, body) = answer(world.post(ORDERS, &other).header("Idempotency-Key", "ä")).await;
    assert_eq!((status, &body["kind"]), (400, &json!("header_invalid")));
    assert_eq!((world.service.calls().len(), world.queued().await.len()), (2, 2));
    assert_eq!(answer(world.post(ORDERS, &other).header("Idempotency-Key", "key-9")).await.0, 202);
}

#[tokio::test]
async fn while_redis_is_away_orders_are_kept_on_disk() {
    use std::os::unix::fs::PermissionsExt;
    let mut world = World::new().await;
    let order = json!({"orderId": 41, "tasks": [task(43, "intro")]});
    let url = world.redis.url();
    world.redis.kill();
    for _ in 0..2 {
        let (status, _, body) = answer(world.post(&format!("{ORDERS}?wait=0"), &order)).await;
        assert_eq!((status, &body["state"], &body["stored"]), (202, &json!("open"), &json!("disk")));
    }
    let (status, _, body) = answer(world.get("/api/v1/orders/41")).await;
    assert_eq!((status, &body["stored"], &body["tasks"][0]["status"]), (200, &json!("disk"), &json!("waiting")));
    let (status, _, body) = answer(world.post(ORDERS, json!({"orderId": 41, "tasks": [task(44, "x")]}))).await;
    assert_eq!((status, &body["kind"]), (409, &json!("order_conflict")));
    let file = world.folder.path().join("orders/41.json");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    // Neither Redis nor the disk: nothing of the directory can be written.
    let directory = world.folder.path().join("orders");
    let set_aside = world.folder.path().join("away");
    std::fs::rename(&directory, &set_aside).unwrap();
    std::fs::write(&directory, "not a directory").unwrap();
    let (status, headers, body) = answer(world.post(ORDERS, json!({"orderId": 42, "tasks": [task(44, "x")]}))).await;
    assert_eq!(
        (status, &body["kind"], &headers["retry-after"]),
        (503, &json!("queue_unavailable"), &"5".parse().unwrap())
    );
    std::fs::remove_file(&directory).unwrap();
    std::fs::rename(&set_aside, &directory).unwrap();

    world.redis = RedisServer::start_at(&url).await;
    let done = async {
        loop {
            let (status, _, body) = answer(world.get("/api/v1/orders/41?wait=30")).await;
            if status == 200 && body["state"] == "done" {
                return body;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let body = tokio::time::timeout(Duration::from_secs(30), done).await.unwrap();
    assert_eq!((&body["stored"], &body["queued"]), (&json!("redis"), &json!(1)));
    assert!(!file.exists());
    assert_eq!(world.queued().await.len(), 1);
}

#[tokio::test]
async fn signed_requests_get_in_once() {
    let secrets = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secrets.path(), "# shop\nwhsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\na secret of the field, as text\n")
        .unwrap();
    let world = World::with(Service::start(service).await, |settings| {
        settings.token = None;
        settings.signing_secret_files = vec![secrets.path().to_owned()];
    })
    .await;
    let body = json!({"orderId": 41, "tasks": [task(43, "intro")]}).to_string();
    let post = |body: &str| {
        world
            .client
            .post(format!("{}{ORDERS}", world.base))
            .header(CONTENT_TYPE, "application/json")
            .body(body.to_owned())
    };
    let webhook = |id: &str, seconds: i64, signed: &str, sent: &str| {
        let timestamp = (jiff::Timestamp::now().as_second() + seconds).to_string();
        let key = base64("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signature = hmac(&key, &format!("{id}.{timestamp}.{signed}"));
        let value = format!("v1,AAAA v1,{}", to_base64(&signature));
        post(sent).header("webhook-id", id).header("webhook-timestamp", timestamp).header("webhook-signature", value)
    };
    let first = webhook("msg_1", 0, &body, &body);
    let replay = first.try_clone().unwrap();
    assert_eq!(answer(first).await.0, 202);
    let (status, _, problem) = answer(replay).await;
    assert_eq!((status, &problem["kind"]), (409, &json!("request_replayed")));
    // Sent again by its sender, with a new signature: the same message, the same order.
    assert_eq!(answer(webhook("msg_1", 1, &body, &body)).await.0, 202);
    let other = json!({"orderId": 42, "tasks": [task(44, "intro")]}).to_string();
    assert_eq!(answer(webhook("msg_1", 1, &other, &other)).await.0, 422, "the id is an idempotency key");

    for (why, request) in [
        ("too old", webhook("msg_2", -301, &body, &body)),
        ("too new", webhook("msg_2", 302, &body, &body)),
        ("another body", webhook("msg_2", 0, &body, &other)),
        ("no signature", post(&body)),
        ("no id", post(&body).header("webhook-timestamp", "1").header("webhook-signature", "v1,AAAA")),
    ] {
        assert_eq!(answer(request).await.0, 401, "{why}");
    }

    // The field's own signature; a request without a body signs its path.
    let timestamp = jiff::Timestamp::now().as_second().to_string();
    let field = |content: &str| hex::encode(hmac(b"a secret of the field, as text", &format!("{content}{timestamp}")));
    let signed = |request: reqwest::RequestBuilder, content: &str| {
        request.header("X-Timestamp", &timestamp).header("X-Signature", field(content))
    };
    assert_eq!(answer(signed(post(&other), &other)).await.0, 202);
    let get = |path: &str| world.client.get(format!("{}{path}", world.base));
    let (status, _, looked) = answer(signed(get("/api/v1/orders/42?wait=30"), "/api/v1/orders/42?wait=30")).await;
    assert_eq!((status, &looked["state"]), (200, &json!("done")));
    assert_eq!(answer(signed(get("/api/v1/orders/41"), "/api/v1/orders/42")).await.0, 401);
    assert_eq!(world.queued().await.len(), 2);
}

fn base64(text: &str) -> Vec<u8> {
    use ::base64::Engine;
    ::base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

fn to_base64(bytes: &[u8]) -> String {
    use ::base64::Engine;
    ::base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn hmac(key: &[u8], content: &str) -> Vec<u8> {
    use ::hmac::{Hmac, KeyInit, Mac};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).unwrap();
    mac.update(content.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

#[tokio::test]
async fn tokens_are_replaced_while_it_runs_and_callers_are_limited() {
    let tokens = tempfile::tempdir().unwrap();
    let file = tokens.path().join("shop");
    let write = |text: &str| {
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    };
    write("old-token\n# the next one\nnew-token\n");
    let mut kept = None;
    let world = World::with(Service::start(service).await, |settings| {
        settings.token = None;
        settings.token_files = vec![file.clone()];
        settings.max_requests_per_second = std::num::NonZeroU32::new(20).unwrap();
        kept = Some(settings.clone());
    })
    .await;
    let ask = async |token: &str| {
        let request = world.client.get(format!("{}/api/v1/orders/1", world.base)).bearer_auth(token);
        answer(request).await.0
    };
    assert_eq!((ask("old-token").await, ask("new-token").await, ask("# the next one").await), (404, 404, 401));
    write("new-token\n");
    world.hook.use_credentials(Credentials::read(kept.as_ref().unwrap()).unwrap());
    assert_eq!((ask("old-token").await, ask("new-token").await), (401, 404));
    write("# nobody\n");
    let reason = Credentials::read(kept.as_ref().unwrap()).err().unwrap();
    assert!(reason.contains("hook.token_files") && reason.contains("comments"), "{reason}");

    let mut codes = Vec::new();
    for _ in 0..60 {
        codes.push(ask("new-token").await);
    }
    assert!(codes.contains(&429) && codes.contains(&404), "{codes:?}");
    // One that does not know the token is slowed down without hindering the one that does.
    let mut wrong = Vec::new();
    for _ in 0..60 {
        wrong.push(ask("guess").await);
    }
    assert_eq!((wrong[0], wrong.contains(&429)), (401, true), "{wrong:?}");
    let later = tokio::time::timeout(Duration::from_secs(10), async { while ask("new-token").await != 404 {} });
    later.await.unwrap();
}

#[tokio::test]
async fn enroll_answers_as_the_service_does_for_each_url() {
    let world = World::new().await;
    let urls = ["https://h/intro", "https://h/refused", "https://h/broken"];
    let (status, _, body) =
        answer(world.post(ENROLL, json!({"email": "user@example.com", "urls": urls, "orderId": 41}))).await;
    assert_eq!((status, &body["success"]), (200, &json!(true)));
    let results = body["results"].as_array().unwrap();
    assert_eq!(results[0], json!({"success": true, "status": "enrolled", "courseId": 12345, "title": "Course Name"}));
    assert_eq!(
        results[1],
        json!({"success": false, "status": "expired", "message": "no seat left", "kind": "enrollment_refused"})
    );
    assert_eq!((&results[2]["status"], &results[2]["kind"]), (&json!("failed"), &json!("enrollment_unavailable")));
    assert_eq!(results.len(), 3);
    assert!(world.queued().await.is_empty() && world.store.enrolled.lock().unwrap().is_empty());
}

#[tokio::test]
async fn nobody_gets_in_without_the_token() {
    let world = World::new().await;
    let body = json!({"orderId": 41, "tasks": [task(43, "intro")]});
    let mut texts = Vec::new();
    for authorization in ["Bearer wrong", "Bearer h00", "Basic aDAwazo=", "h00k"] {
        let request = world.post(ORDERS, &body);
        let (client, request) = request.build_split();
        let mut request = request.unwrap();
        request.headers_mut().insert(AUTHORIZATION, authorization.parse().unwrap());
        let response = client.execute(request).await.unwrap();
        assert_eq!(response.status(), 401, "{authorization}");
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        texts.push(response.text().await.unwrap());
    }
    let missing = world.client.post(format!("{}{ENROLL}", world.base)).send().await.unwrap();
    assert_eq!(missing.status(), 401);
    texts.push(missing.text().await.unwrap());
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(world.service.calls().is_empty());
}

#[tokio::test]
async fn a_wrong_body_is_told_whole_and_enrolls_nobody() {
    let world = World::new().await;
    let mut wrong = task(0, "intro");
    wrong["email"] = json!(7);
    let body = json!({"orderId": "x", "tasks": [task(43, "intro"), wrong]});
    let (status, headers, body) = answer(world.post(ORDERS, body)).await;
    assert_eq!((status, headers["content-type"].as_bytes()), (400, &b"application/problem+json"[..]));
    assert_eq!(body["type"], "urn:hauld:problem:body_invalid");
    assert_eq!((&body["status"], &body["kind"]), (&json!(400), &json!("body_invalid")));
    assert!(body["title"].is_string() && body["detail"].is_string());
    let pointers: Vec<&Value> = body["errors"].as_array().unwrap().iter().map(|error| &error["pointer"]).collect();
    assert_eq!(pointers, ["/orderId", "/tasks/1/taskId", "/tasks/1/email"]);
    let (status, _, body) = answer(world.post(ENROLL, "{\"email\"")).await;
    assert_eq!((status, &body["errors"][0]["pointer"]), (400, &json!("")));
    assert!(world.service.calls().is_empty() && world.queued().await.is_empty());
}

#[tokio::test]
async fn every_other_error_is_a_problem_too() {
    let world = World::new().await;
    let get = world.get(ORDERS);
    let elsewhere = world.post("/api/v2/orders", "{}");
    let form = world.post(ORDERS, "a=b");
    let (client, form) = form.build_split();
    let mut form = form.unwrap();
    form.headers_mut().insert(CONTENT_TYPE, "application/x-www-form-urlencoded".parse().unwrap());
    let form = reqwest::RequestBuilder::from_parts(client, form);
    let wait = world.get("/api/v1/orders/1?wait=61");
    for (request, status, kind) in [
        (get, 405, "method_not_allowed"),
        (elsewhere, 404, "not_found"),
        (form, 415, "media_type_unsupported"),
        (wait, 400, "query_invalid"),
    ] {
        let (answered, headers, body) = answer(request).await;
        assert_eq!((answered, body["kind"].as_str()), (status, Some(kind)));
        assert_eq!(headers["content-type"], "application/problem+json");
        assert_eq!(headers["cache-control"], "no-store");
        assert!(headers.contains_key("x-request-id"));
        assert_eq!(headers.get("allow").map(|value| value.as_bytes()), (status == 405).then_some(&b"POST"[..]));
    }
    assert_eq!(world.metrics.hook_requests.get_or_create(&RouteLabel { route: "other", code: 404 }).get(), 1);
}

#[tokio::test]
async fn a_panic_below_a_handler_is_a_problem() {
    let world = World::new().await;
    let router = Router::new()
        .route("/", axum::routing::get(async || -> &'static str { panic!("a defect") }))
        .layer(CatchPanicLayer::custom(|_| Problem::internal().into_response()))
        .layer(middleware::from_fn_with_state(world.hook.clone(), access::observe));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(crate::serve::serve(listener, router, CancellationToken::new()));
    let (status, headers, body) = answer(world.client.get(url)).await;
    assert_eq!((status, &body["kind"]), (500, &json!("internal")));
    assert!(headers.contains_key("x-request-id"));
}

/// Sends bytes as they are and reads until the server has said all.
async fn raw(world: &World, head: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(world.base.strip_prefix("http://").unwrap()).await.unwrap();
    let common = "host: h\r\nauthorization: Bearer h00k\r\ncontent-type: application/json\r\nconnection: close\r\n";
    stream.write_all(format!("POST {ORDERS} HTTP/1.1\r\n{common}{head}\r\n\r\n").as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_declared_or_not() {
    let world = World::new().await;
    let declared = raw(&world, &format!("content-length: {}", body::MAX_BODY_BYTES + 1), b"").await;
    assert!(declared.starts_with("HTTP/1.1 413 ") && declared.contains(r#""kind":"body_too_large""#), "{declared}");
    // One byte more than allowed, and then nothing: whoever declares no length is counted.
    let size = body::MAX_BODY_BYTES + 1;
    let chunk = [format!("{size:x}\r\n").into_bytes(), vec![b' '; size]].concat();
    let counted = raw(&world, "transfer-encoding: chunked", &chunk).await;
    assert!(counted.starts_with("HTTP/1.1 413 "), "{counted}");
    let spaces = " ".repeat(body::MAX_BODY_BYTES - 2) + "{}";
    assert_eq!(answer(world.post(ORDERS, spaces)).await.0, 400, "exactly the limit is read");
}

#[tokio::test]
async fn a_request_id_is_taken_over_or_made() {
    let world = World::new().await;
    let given = answer(world.post(ENROLL, "{}").header("X-Request-Id", "order-41.a")).await.1;
    assert_eq!(given["x-request-id"], "order-41.a");
    let made = answer(world.post(ENROLL, "{}").header("X-Request-Id", "a b\tc")).await.1;
    assert_eq!(made["x-request-id"].len(), 16);
}

#[tokio::test]
async fn the_work_goes_on_when_the_caller_has_gone() {
    let gate = Arc::new(Semaphore::new(0));
    let entered = Arc::new(Semaphore::new(0));
    let service = Service::start({
        let (gate, entered) = (gate.clone(), entered.clone());
        move |body| {
            let (gate, entered) = (gate.clone(), entered.clone());
            async move {
                entered.add_permits(1);
                gate.acquire().await.unwrap().forget();
                service(body).await
            }
        }
    })
    .await;
    let world = World::with(service, |_| {}).await;
    let request = world.post(ENROLL, json!({"email": "user@example.com", "urls": ["https://h/a", "https://h/b"]}));
    let caller = tokio::spawn(request.send());
    entered.acquire_many(2).await.unwrap().forget();
    caller.abort();
    assert!(caller.await.is_err_and(|error| error.is_cancelled()));
    gate.add_permits(2);
    world.hook.drain().await;
    let count = |outcome| world.metrics.enrollments.get_or_create(&OutcomeLabel { outcome }).get();
    assert_eq!(count("enrolled"), 2);
}

#[tokio::test]
async fn an_order_that_makes_us_panic_is_kept() {
    let world = World::new().await;
    let (status, _, _) = answer(world.post(ORDERS, json!({"orderId": 41, "tasks": [task(100, "intro")]}))).await;
    assert_eq!(status, 202);
    let enrolled = async {
        while answer(world.get("/api/v1/orders/41")).await.2["enrolled"] != 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), enrolled).await.unwrap();
    // It stays open: whoever takes it up when the claim has run out goes on.
    let body = answer(world.get("/api/v1/orders/41")).await.2;
    assert_eq!((&body["state"], &body["tasks"][0]["status"]), (&json!("open"), &json!("enrolled")));
    let open: u64 = world.redis.connection().zcard("{rq:queue:downloads}:hauld:orders").await.unwrap();
    assert_eq!(open, 1);
}

#[test]
fn the_api_document_names_every_route() {
    let document: Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
    let mut paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    paths.sort();
    let mut routes = ROUTES.to_vec();
    routes.sort_unstable();
    assert_eq!(paths, routes);
}
