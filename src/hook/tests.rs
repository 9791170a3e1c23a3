use std::collections::HashMap;
use std::sync::Mutex;

use async_trait::async_trait;
use axum::response::IntoResponse;
use redis::AsyncCommands;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::Config;
use crate::enroll::stand_in::{Service, settings};
use crate::failure::{Failure, FailureKind};
use crate::job::{Element, JobSpec, TaskId};
use crate::metrics::RouteLabel;
use crate::report::test_redis::RedisServer;
use crate::store::{FinalStatus, TaskRecord};

const LIST: &str = "rq:queue:downloads";

/// A store in memory. Task 99 it cannot write, task 100 makes it panic. Sees how long the queue is
/// when it writes.
struct MemoryStore {
    redis: crate::redis_client::Commands,
    enrolled: Mutex<HashMap<TaskId, (Option<u64>, u64)>>,
}

#[async_trait]
impl TaskStore for MemoryStore {
    async fn read(&self, _: TaskId) -> Result<Option<TaskRecord>> {
        unreachable!("the hook reads no status")
    }

    async fn finish(&self, _: TaskId, _: FinalStatus, _: Option<&str>) -> Result<()> {
        unreachable!("the hook ends no task")
    }

    async fn enroll(&self, spec: &JobSpec, order_id: Option<u64>) -> Result<()> {
        match spec.task_id.get() {
            99 => return Err(Failure::new(FailureKind::TaskStoreUnavailable, "the store is away")),
            100 => panic!("a defect"),
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
    _stop: tokio_util::sync::DropGuard,
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
        World::with(Service::start(service).await).await
    }

    async fn with(service: Service) -> World {
        let redis = RedisServer::start().await;
        let store = Arc::new(MemoryStore { redis: redis.connection(), enrolled: Mutex::default() });
        let mut config = Config::load(None, Default::default(), Default::default()).unwrap();
        config.hook.token = Some(SecretString::from("h00k"));
        config.hook.max_tasks = 20;
        let (enrollment, http) = settings(&service.url);
        let metrics = Metrics::new();
        let hook = Hook::new(
            store.clone(),
            Producer::new(redis.connection(), LIST.into()),
            EnrollmentClient::new(&enrollment, &http).unwrap(),
            &config.hook,
            metrics.clone(),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(crate::serve::serve(listener, Hook::router(hook.clone()), stop.clone()));
        let client = crate::http::call_client(&http).unwrap();
        World { base, client, redis, store, service, metrics, hook, _stop: stop.drop_guard() }
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
    let (status, headers, body) = answer(world.post(ORDERS, json!({"orderId": 41, "tasks": tasks}))).await;
    assert_eq!((status, headers["content-type"].as_bytes()), (200, &b"application/json"[..]));
    assert_eq!(headers["cache-control"], "no-store");
    let broken = body["tasks"][2]["message"].as_str().unwrap();
    assert!(broken.contains("502 Bad Gateway"), "{broken}");
    let expected = json!({
        "orderId": 41, "total": 5, "enrolled": 3, "failed": 2, "queued": 2, "queueFailures": 1,
        "tasks": [
            {"taskId": 43, "status": "queued", "kind": null, "message": null, "courseId": 12345, "title": "Course Name"},
            {"taskId": 44, "status": "enrollment_failed", "kind": "enrollment_refused", "message": "no seat left", "courseId": null, "title": null},
            {"taskId": 45, "status": "enrollment_failed", "kind": "enrollment_unavailable", "message": broken, "courseId": null, "title": null},
            {"taskId": 99, "status": "queue_failed", "kind": "task_store_unavailable", "message": "the store is away", "courseId": 12345, "title": "Course Name"},
            {"taskId": 46, "status": "queued", "kind": null, "message": null, "courseId": 12345, "title": "Course Name"},
        ],
    });
    assert_eq!(body.to_string(), expected.to_string(), "also the order of the fields");

    let queued = world.queued().await;
    let mut ids: Vec<u64> = queued.iter().map(|element| element["taskId"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [43, 46]);
    for element in &queued {
        let spec = JobSpec::parse(&Element(element.to_string().into_bytes())).unwrap();
        assert_eq!(element["jobId"], format!("task-{}", spec.task_id));
        // With each status written when its element was not in the queue yet.
        let (order_id, waiting) = world.store.enrolled.lock().unwrap()[&spec.task_id];
        assert!(order_id == Some(41) && waiting < 2, "{waiting}");
    }
    assert_eq!(world.store.enrolled.lock().unwrap().len(), 2);
    for call in world.service.calls() {
        let body: Value = serde_json::from_slice(&call.body).unwrap();
        assert_eq!((&body["orderId"], body["urls"].as_array().unwrap().len()), (&json!(41), 1));
    }

    let count = |outcome| world.metrics.enrollments.get_or_create(&OutcomeLabel { outcome }).get();
    assert_eq!((count("enrolled"), count("failed")), (3, 2));
    assert_eq!(world.metrics.hook_requests.get_or_create(&RouteLabel { route: ORDERS, code: 200 }).get(), 1);
    assert!(world.metrics.encode().contains("hauld_hook_request_duration_seconds_count 1"));
}

#[tokio::test]
async fn the_status_is_written_before_the_push() {
    let world = World::new().await;
    answer(world.post(ORDERS, json!({"orderId": 41, "tasks": [task(43, "intro")]}))).await;
    assert_eq!(world.store.enrolled.lock().unwrap()[&TaskId::new(43).unwrap()], (Some(41), 0));
    assert_eq!(world.queued().await.len(), 1);
}

#[tokio::test]
async fn a_queue_that_is_away_is_told_and_the_answer_is_200() {
    let mut world = World::new().await;
    world.redis.kill();
    let (status, _, body) = answer(world.post(ORDERS, json!({"orderId": 41, "tasks": [task(43, "intro")]}))).await;
    assert_eq!(status, 200);
    assert_eq!((&body["enrolled"], &body["queued"], &body["queueFailures"]), (&json!(1), &json!(0), &json!(1)));
    assert_eq!(
        (&body["tasks"][0]["status"], &body["tasks"][0]["kind"]),
        (&json!("queue_failed"), &json!("queue_unavailable"))
    );
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
    for authorization in ["", "Bearer wrong", "Bearer h00", "Basic aDAwazo=", "h00k"] {
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
    let get = world.client.get(format!("{}{ORDERS}", world.base)).header(AUTHORIZATION, "Bearer h00k");
    let elsewhere = world.post("/api/v2/orders", "{}");
    let form = world.post(ORDERS, "a=b");
    let (client, form) = form.build_split();
    let mut form = form.unwrap();
    form.headers_mut().insert(CONTENT_TYPE, "application/x-www-form-urlencoded".parse().unwrap());
    let form = reqwest::RequestBuilder::from_parts(client, form);
    let panics = world.post(ORDERS, json!({"orderId": 41, "tasks": [task(100, "intro")]}));
    for (request, status, kind) in [
        (get, 405, "method_not_allowed"),
        (elsewhere, 404, "not_found"),
        (form, 415, "media_type_unsupported"),
        (panics, 500, "internal"),
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
    let world = World::with(service).await;
    let request = world.post(ORDERS, json!({"orderId": 41, "tasks": [task(43, "a"), task(44, "b")]}));
    let caller = tokio::spawn(request.send());
    entered.acquire_many(2).await.unwrap().forget();
    caller.abort();
    assert!(caller.await.is_err_and(|error| error.is_cancelled()));
    gate.add_permits(2);
    world.hook.drain().await;
    assert_eq!(world.queued().await.len(), 2);
}
