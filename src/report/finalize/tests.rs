use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};

use super::*;

const SECRET: &str = "s3cret";

type Calls = Arc<Mutex<Vec<(Uri, HeaderMap, Bytes)>>>;

/// A backend that keeps every call and gives one answer.
async fn backend(answer: impl Fn() -> Response + Clone + Send + Sync + 'static) -> (Url, Calls) {
    let calls = Calls::default();
    let kept = calls.clone();
    let router = Router::new().fallback(async move |uri: Uri, headers: HeaderMap, body: Bytes| {
        kept.lock().unwrap().push((uri, headers, body));
        answer()
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/base/", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(crate::serve::serve(listener, router, Default::default()));
    (url, calls)
}

fn client(base: Option<Url>, change: impl FnOnce(&mut ReportSettings)) -> FinalizeClient {
    let config = crate::config::Config::load(None, Default::default(), Default::default()).unwrap();
    let mut settings = config.report;
    settings.api_base_url = base;
    settings.secret = Some(SecretString::from(SECRET));
    change(&mut settings);
    FinalizeClient::new(&settings, &config.http).unwrap()
}

fn task() -> TaskId {
    TaskId::new(43).unwrap()
}

#[test]
fn the_body_has_the_fields_in_their_order() {
    let body =
        FinalizeBody { secret_key: Some("x"), task_id: task(), folder_name: "Course \"A\"", timestamp: "1768262400" };
    assert_eq!(
        serde_json::to_string(&body).unwrap(),
        r#"{"secret_key":"x","task_id":43,"folder_name":"Course \"A\"","timestamp":"1768262400"}"#
    );
}

#[test]
fn a_path_of_the_base_url_stays() {
    for (base, whole) in [
        ("https://h", "https://h/api/v1/webhook/finalize"),
        ("https://h:8443/", "https://h:8443/api/v1/webhook/finalize"),
        ("https://h/base", "https://h/base/api/v1/webhook/finalize"),
        ("https://h/base/", "https://h/base/api/v1/webhook/finalize"),
        ("https://h/a%20b/c?x=1#y", "https://h/a%20b/c/api/v1/webhook/finalize"),
    ] {
        assert_eq!(endpoint(&base.parse().unwrap(), "finalize").as_str(), whole, "{base}");
    }
}

#[tokio::test]
async fn the_call_is_signed_and_made_once() {
    let (url, calls) = backend(|| "ok".into_response()).await;
    client(Some(url.clone()), |_| {}).finalize(task(), "Course Name", "key-1", HeaderMap::new()).await.unwrap();
    client(Some(url), |settings| settings.secret_in_body = false)
        .finalize(task(), "Course Name", "key-1", HeaderMap::new())
        .await
        .unwrap();
    let calls = calls.lock().unwrap();
    assert_eq!(calls.len(), 2);
    for ((uri, headers, body), secret_key) in calls.iter().zip([r#""secret_key":"s3cret","#, ""]) {
        assert_eq!(uri.path(), "/base/api/v1/webhook/finalize");
        let timestamp = headers["x-timestamp"].to_str().unwrap();
        let age = jiff::Timestamp::now().as_second() - timestamp.parse::<i64>().unwrap();
        assert!((0..10).contains(&age), "{timestamp}");
        assert_eq!(headers["x-signature"], signature::old(SECRET, &["43", "Course Name", timestamp]));
        let secret = SecretSlice::from(SECRET.as_bytes().to_vec());
        assert_eq!(headers["webhook-signature"], signature::webhook(&secret, "key-1", timestamp, body));
        assert_eq!(
            (&headers["webhook-id"], &headers["webhook-timestamp"]),
            (&headers["idempotency-key"], &headers["x-timestamp"])
        );
        assert_eq!(headers["idempotency-key"], "key-1");
        assert_eq!(headers["content-type"], "application/json");
        let expected = format!(r#"{{{secret_key}"task_id":43,"folder_name":"Course Name","timestamp":"{timestamp}"}}"#);
        assert_eq!(String::from_utf8_lossy(body), expected);
    }
}

#[tokio::test]
async fn everything_but_200_is_a_failure_without_the_secret() {
    let (url, calls) = backend(|| {
        let text = format!("no:\n  your key was {SECRET}; {}", "x".repeat(500));
        (axum::http::StatusCode::ACCEPTED, text).into_response()
    })
    .await;
    let failure = client(Some(url), |_| {}).finalize(task(), "Course", "key-1", HeaderMap::new()).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::FinalizeFailed);
    assert!(failure.message.contains("202 Accepted: no: your key was [secret]; xxx"), "{failure}");
    assert!(!failure.message.contains(SECRET) && failure.message.len() < 350, "{failure}");
    assert_eq!(calls.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (url, calls) = backend(|| axum::response::Redirect::temporary("/elsewhere").into_response()).await;
    let failure = client(Some(url), |_| {}).finalize(task(), "Course", "key-1", HeaderMap::new()).await.unwrap_err();
    assert!(failure.message.contains("307"), "{failure}");
    assert_eq!(calls.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_silent_backend_is_given_up_after_the_limit() {
    // Accepts in its backlog and never answers.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let client = client(Some(url), |settings| settings.timeout = Duration::from_millis(300));
    let failure = client.finalize(task(), "Course", "key-1", HeaderMap::new()).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::FinalizeFailed);
    assert!(failure.message.contains("the server stopped answering"), "{failure}");
}

#[tokio::test]
async fn without_a_backend_nothing_is_called() {
    client(None, |_| {}).finalize(task(), "Course", "key-1", HeaderMap::new()).await.unwrap();
}

#[tokio::test]
async fn a_failure_is_told_under_another_path_and_another_signature() {
    let (url, calls) = backend(|| "ok".into_response()).await;
    let client = client(Some(url), |settings| {
        settings.on_failure = true;
        settings.secret_in_body = false;
    });
    assert!(client.tells_of_failures());
    let failed_at = Timestamp::from_millisecond(1_768_262_400_123).unwrap();
    let notice = Notice { task_id: task(), kind: "not_found".into(), message: "lecture \"Ä\"".into(), failed_at };
    client.failed(&notice).await.unwrap();
    let calls = calls.lock().unwrap();
    let (uri, headers, body) = &calls[0];
    assert_eq!(uri.path(), "/base/api/v1/webhook/failed");
    assert_eq!(headers["idempotency-key"], "task-43-failed-1768262400123");
    let timestamp = headers["x-timestamp"].to_str().unwrap();
    let text = format!(
        r#"{{"task_id":43,"status":"failed","kind":"not_found","message":"lecture \"Ä\"","timestamp":"{timestamp}"}}"#
    );
    assert_eq!(String::from_utf8_lossy(body), text);
    let signed = ["failed", "43", "not_found", "lecture \"Ä\"", timestamp];
    assert_eq!(headers["x-signature"], signature::old(SECRET, &signed));
}

#[test]
fn a_call_is_made_again_after_growing_pauses_and_not_for_ever() {
    let client = client(None, |_| {});
    let pause = |age: u64, asked: Option<u64>| {
        let mut failure = failed("no");
        failure.retry_after = asked.map(Duration::from_secs);
        let since = Timestamp::now() - Duration::from_secs(age);
        Some(client.pause(since, &failure)?.as_secs())
    };
    assert_eq!(pause(0, None), Some(5));
    assert_eq!(pause(40, None), Some(40));
    assert_eq!(pause(40, Some(120)), Some(120));
    assert_eq!(pause(20_000, None), Some(1800));
    let last = pause(86_000, None).unwrap();
    assert!((390..=400).contains(&last), "{last}");
    assert_eq!(pause(86_400, None), None);
}
