//! Who gets in, and how often.

use super::*;

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
    let kept = kept.as_ref().unwrap();
    world.hook.access.replace(Credentials::read(kept).unwrap(), kept.max_requests_per_second);
    assert_eq!((ask("old-token").await, ask("new-token").await), (401, 404));
    write("# nobody\n");
    let reason = Credentials::read(kept).err().unwrap();
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
