//! Errors, limits and names of requests.

use super::*;

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

#[test]
fn the_api_document_names_every_route() {
    let document: Value = serde_json::from_str(include_str!("../openapi.json")).unwrap();
    let mut paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    paths.sort();
    let mut routes = ROUTES.to_vec();
    routes.sort_unstable();
    assert_eq!(paths, routes);
}
