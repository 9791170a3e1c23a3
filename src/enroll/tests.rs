use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use axum::response::{IntoResponse, Redirect};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::stand_in::{Service, client_of, settings};
use super::*;

fn client(endpoint: &Url) -> EnrollmentClient {
    let (settings, http) = settings(endpoint);
    client_of(&settings, &http, Metrics::new()).unwrap()
}

fn course() -> Url {
    "https://learn.example.com/course/intro/".parse().unwrap()
}

/// What becomes of one answer. What may pass by itself is asked for again until the limit.
async fn after(status: u16, body: &'static str) -> Result<EnrollmentResult> {
    let status = axum::http::StatusCode::from_u16(status).unwrap();
    let service = Service::start(move |_| std::future::ready((status, body).into_response())).await;
    let (mut settings, http) = settings(&service.url);
    settings.timeout = Duration::from_secs(3);
    let client = client_of(&settings, &http, Metrics::new()).unwrap();
    let result = client.enroll("user@example.com", &course(), None, None).await;
    if !result.as_ref().is_err_and(|failure| failure.kind == FailureKind::EnrollmentUnavailable) {
        assert_eq!(service.calls().len(), 1, "a clear answer is never asked for again");
    }
    result
}

const ENROLLED: &str =
    r#"{"success":true,"results":[{"success":true,"status":"enrolled","courseId":12345,"title":"Course Name"}]}"#;

#[tokio::test]
async fn one_course_is_one_call() {
    let service = Service::start(async |_| ENROLLED.into_response()).await;
    let client = client(&service.url);
    let result = client.enroll("user@example.com", &course(), None, None).await.unwrap();
    assert_eq!(
        result,
        EnrollmentResult {
            enrolled: true,
            status: Some("enrolled".into()),
            message: None,
            course_id: Some(json!(12345)),
            title: Some("Course Name".into()),
        }
    );
    client.enroll("user@example.com", &course(), Some(41), None).await.unwrap();
    let calls = service.calls();
    let bodies: Vec<_> = calls.iter().map(|call| String::from_utf8_lossy(&call.body)).collect();
    assert_eq!(
        bodies,
        [
            r#"{"email":"user@example.com","urls":["https://learn.example.com/course/intro/"]}"#,
            r#"{"email":"user@example.com","urls":["https://learn.example.com/course/intro/"],"orderId":41}"#,
        ]
    );
    assert_eq!(calls[0].request.0, "POST");
    assert_eq!(calls[0].request.1.path(), "/api/v1/enroll");
    assert_eq!(calls[0].headers["authorization"], "Bearer s3cret");
    assert_eq!(calls[0].headers["content-type"], "application/json");
    assert!(!calls[0].headers.contains_key("cookie"));
}

#[tokio::test]
async fn the_cookies_of_the_file_are_sent() {
    let service = Service::start(async |_| ENROLLED.into_response()).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\tabc\nother\tFALSE\t/\tFALSE\t0\tx\ty\n")
        .unwrap();
    let (mut settings, http) = settings(&service.url);
    settings.token = None;
    settings.cookies_file = Some(file.path().to_owned());
    client_of(&settings, &http, Metrics::new()).unwrap().enroll("a@b", &course(), None, None).await.unwrap();
    let calls = service.calls();
    assert_eq!(calls[0].headers["cookie"], "session=abc");
    assert!(!calls[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn enrolled_is_exactly_success_true_and_status_enrolled() {
    for (result, reason) in [
        (r#"{"success":false,"status":"enrolled","message":"no seat"}"#, "no seat"),
        (r#"{"success":"true","status":"enrolled"}"#, "the status is enrolled"),
        (r#"{"success":1,"status":"enrolled"}"#, "the status is enrolled"),
        (r#"{"success":true,"status":"Enrolled"}"#, "the status is Enrolled"),
        (r#"{"success":true,"status":"already_enrolled"}"#, "the status is already_enrolled"),
        (r#"{"success":true}"#, "the status is missing"),
        (r#"{}"#, "the status is missing"),
    ] {
        let body = format!(r#"{{"success":true,"results":[{result}]}}"#).leak();
        let outcome = after(200, body).await.unwrap();
        assert!(!outcome.enrolled, "{result}");
        let failure = outcome.into_enrolled().unwrap_err();
        assert_eq!(failure.kind, FailureKind::EnrollmentRefused);
        assert!(failure.message.contains(reason), "{result}: {failure}");
    }
}

#[tokio::test]
async fn nonsense_and_trouble_are_told_from_a_refusal() {
    use FailureKind::{
        CredentialsRejected as Rejected, EnrollmentRefused as Refused, EnrollmentUnavailable as Unavailable,
    };
    let cases = [
        (200, "<html>log in</html>", Unavailable, "the answer is not JSON"),
        (200, "", Unavailable, "the answer is not JSON"),
        (200, "[]", Unavailable, "does not say success"),
        (200, r#"{"results":[{"success":true,"status":"enrolled"}]}"#, Unavailable, "does not say success"),
        (200, r#"{"success":true}"#, Unavailable, "has no results"),
        (200, r#"{"success":true,"results":[]}"#, Unavailable, "has 0 results for one course"),
        (200, r#"{"success":true,"results":[{},{}]}"#, Unavailable, "has 2 results for one course"),
        (200, r#"{"success":true,"results":[7]}"#, Unavailable, "not an object"),
        (200, r#"{"success":false,"message":"blocked"}"#, Refused, "the call was refused: blocked"),
        (
            200,
            r#"{"success":false,"results":[{"success":true,"status":"enrolled","message":"odd"}]}"#,
            Refused,
            "refused: odd",
        ),
        (500, ENROLLED, Unavailable, "500 Internal Server Error"),
        (503, r#"{"message":"maintenance"}"#, Unavailable, "503 Service Unavailable: maintenance"),
        (429, "", Unavailable, "429"),
        (401, "", Rejected, "401 Unauthorized: it does not accept the token of enrollment.token; a new"),
        (403, "", Refused, "403 Forbidden"),
        (404, r#"{"error":"no such course"}"#, Refused, "404 Not Found: no such course"),
        (422, ENROLLED, Refused, "422"),
    ];
    // Side by side: what may pass is asked for until the limit.
    futures_util::future::join_all(cases.map(async |(status, body, kind, says)| {
        let failure = after(status, body).await.unwrap_err();
        assert_eq!(failure.kind, kind, "{status} {body}: {failure}");
        assert!(failure.message.starts_with("enrollment service: http://127.0.0.1:"), "{failure}");
        assert!(failure.message.contains(says), "{status} {body}: {failure}");
    }))
    .await;
}

/// The first try is answered, the last one is not.
#[tokio::test]
async fn an_answer_says_more_than_the_silence_after_it() {
    let asked = Arc::new(AtomicUsize::new(0));
    let service = Service::start(move |_| {
        let first = asked.fetch_add(1, SeqCst) == 0;
        async move {
            if !first {
                std::future::pending::<()>().await;
            }
            axum::http::StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    })
    .await;
    let (mut settings, http) = settings(&service.url);
    settings.timeout = Duration::from_secs(3);
    let client = client_of(&settings, &http, Metrics::new()).unwrap();
    let failure = client.enroll("user@example.com", &course(), None, None).await.unwrap_err();
    assert!(failure.message.contains("503"), "{failure}");
    assert_eq!(service.calls().len(), 2);
}

#[tokio::test]
async fn a_redirect_to_a_login_page_is_told_as_such() {
    let service = Service::start(async |_| Redirect::to("/login?next=secret").into_response()).await;
    let failure = client(&service.url).enroll("a@b", &course(), None, None).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::CredentialsRejected);
    assert!(failure.message.contains("/login?…: it does not accept the token of enrollment.token"), "{failure}");
    assert_eq!(service.calls().len(), 1);
    // Who shows nothing cannot be rejected, and not every redirect is one to a login page.
    let (mut settings, http) = settings(&service.url);
    settings.token = None;
    let client = client_of(&settings, &http, Metrics::new()).unwrap();
    let failure = client.enroll("a@b", &course(), None, None).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::EnrollmentRefused, "{failure}");
    let moved = Service::start(async |_| Redirect::to("/api/v2/enroll").into_response()).await;
    let failure = self::client(&moved.url).enroll("a@b", &course(), None, None).await.unwrap_err();
    assert!(
        failure.kind == FailureKind::EnrollmentRefused && failure.message.contains("must not redirect"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_silent_service_is_given_up_after_the_limit() {
    // Accepts in its backlog and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}/enroll", listener.local_addr().unwrap()).parse().unwrap();
    let (mut settings, http) = settings(&url);
    settings.timeout = Duration::from_millis(300);
    let begin = Instant::now();
    let result = client_of(&settings, &http, Metrics::new()).unwrap().enroll("a@b", &course(), None, None).await;
    let failure = result.unwrap_err();
    assert_eq!(failure.kind, FailureKind::EnrollmentUnavailable);
    assert!(failure.message.contains("no answer within 0.3 s"), "{failure}");
    assert!(begin.elapsed() >= settings.timeout);
}

#[tokio::test]
async fn what_may_pass_is_tried_again_under_the_same_key() {
    let turn = Arc::new(AtomicUsize::new(0));
    let service = Service::start(move |_| {
        std::future::ready(match turn.fetch_add(1, SeqCst) {
            0 => (axum::http::StatusCode::BAD_GATEWAY, "oops").into_response(),
            1 => (axum::http::StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")], "").into_response(),
            2 => "<html>".into_response(),
            _ => ENROLLED.into_response(),
        })
    });
    let service = service.await;
    let begin = Instant::now();
    let result = client(&service.url).enroll("a@b", &course(), Some(41), Some("order-41-task-43")).await;
    assert!(result.unwrap().enrolled);
    assert!(begin.elapsed() >= Duration::from_secs(1), "Retry-After is obeyed");
    let keys: Vec<_> = service.calls().iter().map(|call| call.headers["idempotency-key"].clone()).collect();
    assert_eq!(keys, ["order-41-task-43"; 4]);
}

#[tokio::test]
async fn a_connection_that_breaks_off_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}/enroll", listener.local_addr().unwrap()).parse().unwrap();
    let (accepted, asked) = (Arc::new(AtomicUsize::new(0)), client(&url));
    let counter = accepted.clone();
    let server = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // Reads something, then breaks off.
            stream.readable().await.unwrap();
            let _ = stream.try_read(&mut [0; 16]);
            counter.fetch_add(1, SeqCst);
        }
    });
    let asking = tokio::spawn(async move { asked.enroll("a@b", &course(), None, None).await });
    while accepted.load(SeqCst) < 3 {
        tokio::task::yield_now().await;
    }
    server.abort();
    asking.abort();
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let (mut settings, http) = settings(&url);
    settings.timeout = Duration::from_millis(300);
    let client = client_of(&settings, &http, Metrics::new()).unwrap();
    let failure = client.enroll("a@b", &course(), None, None).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::EnrollmentUnavailable);
}

#[tokio::test]
async fn no_more_calls_at_once_than_configured() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = most.clone();
    let service = Service::start(move |_| {
        let (now, most) = (now.clone(), most.clone());
        async move {
            most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
            tokio::time::sleep(Duration::from_millis(50)).await;
            now.fetch_sub(1, SeqCst);
            ENROLLED.into_response()
        }
    })
    .await;
    let (mut settings, http) = settings(&service.url);
    settings.concurrency = 3;
    let client = client_of(&settings, &http, Metrics::new()).unwrap();
    let url = course();
    futures_util::future::join_all((0..12).map(|_| client.enroll("a@b", &url, None, None))).await;
    assert_eq!(service.calls().len(), 12);
    assert_eq!(seen.load(SeqCst), 3);
}
