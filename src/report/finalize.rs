//! The finalize call: tells the backend under which name a course has been delivered.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Client, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use sha2::Sha256;
use url::Url;

use crate::config::{HttpSettings, ReportSettings};
use crate::failure::{Failure, FailureKind, Result};
use crate::http::{self, shown};
use crate::job::TaskId;

/// How much of an answer is read.
const MAX_ANSWER_BYTES: usize = 16 * 1024;
/// How much of an answer is shown.
const MAX_SHOWN_CHARS: usize = 200;

/// Calls `<report.api_base_url>/api/v1/webhook/finalize`; does nothing when that is not set.
pub struct FinalizeClient {
    backend: Option<Backend>,
}

struct Backend {
    client: Client,
    endpoint: Url,
    secret: SecretString,
    secret_in_body: bool,
    timeout: Duration,
}

/// The field order is the old worker's.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_key: Option<&'a str>,
    task_id: TaskId,
    folder_name: &'a str,
    timestamp: &'a str,
}

impl FinalizeClient {
    /// Builds the HTTP client.
    ///
    /// # Errors
    /// When a base URL is set and no secret, or the HTTP client cannot be built.
    pub fn new(settings: &ReportSettings, http: &HttpSettings) -> Result<FinalizeClient> {
        let Some(base) = &settings.api_base_url else {
            tracing::debug!("report.api_base_url is not set: no finalize call is made");
            return Ok(FinalizeClient { backend: None });
        };
        let Some(secret) = settings.secret.clone() else {
            return Err(failed("report.secret is needed to sign the finalize call"));
        };
        Ok(FinalizeClient {
            backend: Some(Backend {
                client: http::call_client(http)?,
                endpoint: endpoint(base),
                secret,
                secret_in_body: settings.secret_in_body,
                timeout: settings.timeout,
            }),
        })
    }

    /// Tells the backend that the task's course has been delivered as `folder_name`. Safe to repeat:
    /// every call for one element carries the same `Idempotency-Key`, its id.
    ///
    /// # Errors
    /// `finalize_failed` with the status and the beginning of the answer unless that is 200.
    pub async fn finalize(&self, task_id: TaskId, folder_name: &str, key: &str) -> Result<()> {
        match &self.backend {
            Some(backend) => {
                let called = backend.finalize(task_id, folder_name, key).await;
                called.map_err(|failure| failure.at("finalize"))
            }
            None => Ok(()),
        }
    }
}

impl Backend {
    async fn finalize(&self, task_id: TaskId, folder_name: &str, key: &str) -> Result<()> {
        let timestamp = jiff::Timestamp::now().as_second().to_string();
        let secret = self.secret.expose_secret();
        let secret_key = self.secret_in_body.then_some(secret);
        let request = self
            .client
            .post(self.endpoint.clone())
            .timeout(self.timeout)
            .header("Idempotency-Key", key)
            .header("X-Timestamp", &timestamp)
            .header("X-Signature", signature(secret, task_id, folder_name, &timestamp))
            .json(&Body { secret_key, task_id, folder_name, timestamp: &timestamp });
        let sent = request.send().await;
        let response = sent.map_err(|error| failed(http::request_failure(&self.endpoint, &error).message))?;
        if response.status() == StatusCode::OK {
            return Ok(());
        }
        let (status, headers) = (response.status(), response.headers().clone());
        let answer = self.beginning(response).await;
        let mut failure = failed(format!("{}: the server answered {status}: {answer}", shown(&self.endpoint)));
        failure.retry_after = http::retry_after(&headers, std::time::SystemTime::now());
        Err(failure)
    }

    /// The beginning of an answer on one line, without the secret should the backend repeat it.
    async fn beginning(&self, mut response: Response) -> String {
        let mut body = Vec::new();
        while body.len() < MAX_ANSWER_BYTES {
            match response.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) | Err(_) => break,
            }
        }
        let text = String::from_utf8_lossy(&body).replace(self.secret.expose_secret(), "[secret]");
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        line.chars().filter(|c| !c.is_control()).take(MAX_SHOWN_CHARS).collect()
    }
}

/// Below the base, whose own path stays.
fn endpoint(base: &Url) -> Url {
    let mut endpoint = base.clone();
    endpoint.set_query(None);
    endpoint.set_fragment(None);
    endpoint.set_path(&format!("{}/api/v1/webhook/finalize", base.path().trim_end_matches('/')));
    endpoint
}

/// Hex HMAC-SHA256 over task id, folder name and timestamp as text, nothing between them.
fn signature(secret: &str, task_id: TaskId, folder_name: &str, timestamp: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes());
    let mut mac = mac.expect("an HMAC key"); // cannot fail: HMAC takes keys of every length
    mac.update(task_id.to_string().as_bytes());
    mac.update(folder_name.as_bytes());
    mac.update(timestamp.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

fn failed(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::FinalizeFailed, message)
}

#[cfg(test)]
mod tests {
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
    fn the_signature_is_what_openssl_computes() {
        // printf '43Course Name1768262400' | openssl dgst -sha256 -hmac s3cret
        assert_eq!(
            signature(SECRET, task(), "Course Name", "1768262400"),
            "6f615695e724ccde4f6af2273de6cd38ed7502ff475494cf4fe16e62b7209f19"
        );
        // printf '7Kurs Ä – 日本1700000000' | openssl dgst -sha256 -hmac 'pä55'
        assert_eq!(
            signature("pä55", TaskId::new(7).unwrap(), "Kurs Ä – 日本", "1700000000"),
            "543301020283cdf3669b56f01423823f37151d7e65032201bd41358d1dcf3f13"
        );
    }

    #[test]
    fn the_body_has_the_fields_in_their_order() {
        let body =
            Body { secret_key: Some("x"), task_id: task(), folder_name: "Course \"A\"", timestamp: "1768262400" };
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
            assert_eq!(endpoint(&base.parse().unwrap()).as_str(), whole, "{base}");
        }
    }

    #[tokio::test]
    async fn the_call_is_signed_and_made_once() {
        let (url, calls) = backend(|| "ok".into_response()).await;
        client(Some(url.clone()), |_| {}).finalize(task(), "Course Name", "key-1").await.unwrap();
        client(Some(url), |settings| settings.secret_in_body = false)
            .finalize(task(), "Course Name", "key-1")
            .await
            .unwrap();
        let calls = calls.lock().unwrap();
        assert_eq!(calls.len(), 2);
        for ((uri, headers, body), secret_key) in calls.iter().zip([r#""secret_key":"s3cret","#, ""]) {
            assert_eq!(uri.path(), "/base/api/v1/webhook/finalize");
            let timestamp = headers["x-timestamp"].to_str().unwrap();
            let age = jiff::Timestamp::now().as_second() - timestamp.parse::<i64>().unwrap();
            assert!((0..10).contains(&age), "{timestamp}");
            assert_eq!(headers["x-signature"], signature(SECRET, task(), "Course Name", timestamp));
            assert_eq!(headers["idempotency-key"], "key-1");
            assert_eq!(headers["content-type"], "application/json");
            let expected =
                format!(r#"{{{secret_key}"task_id":43,"folder_name":"Course Name","timestamp":"{timestamp}"}}"#);
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
        let failure = client(Some(url), |_| {}).finalize(task(), "Course", "key-1").await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::FinalizeFailed);
        assert!(failure.message.contains("202 Accepted: no: your key was [secret]; xxx"), "{failure}");
        assert!(!failure.message.contains(SECRET) && failure.message.len() < 350, "{failure}");
        assert_eq!(calls.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let (url, calls) = backend(|| axum::response::Redirect::temporary("/elsewhere").into_response()).await;
        let failure = client(Some(url), |_| {}).finalize(task(), "Course", "key-1").await.unwrap_err();
        assert!(failure.message.contains("307"), "{failure}");
        assert_eq!(calls.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_silent_backend_is_given_up_after_the_limit() {
        // Accepts in its backlog and never answers.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let client = client(Some(url), |settings| settings.timeout = Duration::from_millis(300));
        let failure = client.finalize(task(), "Course", "key-1").await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::FinalizeFailed);
        assert!(failure.message.contains("the server stopped answering"), "{failure}");
    }

    #[tokio::test]
    async fn without_a_backend_nothing_is_called() {
        client(None, |_| {}).finalize(task(), "Course", "key-1").await.unwrap();
    }
}
