//! The calls to the backend: under which name a course has been delivered, and that a task failed.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::HeaderMap;
use reqwest::{Client, Response, StatusCode};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde::Serialize;
use url::Url;

use crate::config::{HttpSettings, ReportSettings};
use crate::failure::{Failure, FailureKind, Result};
use crate::http::{self, shown};
use crate::job::TaskId;
use crate::queue::Notice;
use crate::signature;

/// How much of an answer is read.
const MAX_ANSWER_BYTES: usize = 16 * 1024;
/// How much of an answer is shown.
const MAX_SHOWN_CHARS: usize = 200;
/// The pause before a call is made again is the time since the first one, at least
/// `report.retry_delay_seconds` and at most this.
const LONGEST_PAUSE: Duration = Duration::from_secs(1800);
/// Longest message of a failure that the backend is told, in characters.
const MAX_MESSAGE_CHARS: usize = 500;

/// Calls `<report.api_base_url>/api/v1/webhook/finalize` and `…/failed`; does nothing when that is not
/// set.
pub struct FinalizeClient {
    backend: Option<Backend>,
    retry_delay: Duration,
    give_up_after: Duration,
    on_failure: bool,
}

struct Backend {
    client: Client,
    finalize: Url,
    failed: Url,
    secret: SecretString,
    webhook_secret: SecretSlice<u8>,
    secret_in_body: bool,
    timeout: Duration,
}

/// The field order is the old worker's.
#[derive(Serialize)]
struct FinalizeBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_key: Option<&'a str>,
    task_id: TaskId,
    folder_name: &'a str,
    timestamp: &'a str,
}

#[derive(Serialize)]
struct FailedBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_key: Option<&'a str>,
    task_id: TaskId,
    status: &'static str,
    kind: &'a str,
    message: &'a str,
    timestamp: &'a str,
}

impl FinalizeClient {
    /// Builds the HTTP client.
    ///
    /// # Errors
    /// When a base URL is set and no secret, the webhook secret is not one, or the HTTP client cannot
    /// be built.
    pub fn new(settings: &ReportSettings, http: &HttpSettings) -> Result<FinalizeClient> {
        let client = |backend: Option<Backend>| FinalizeClient {
            on_failure: settings.on_failure && backend.is_some(),
            backend,
            retry_delay: settings.retry_delay,
            give_up_after: settings.give_up_after,
        };
        let Some(base) = &settings.api_base_url else {
            tracing::debug!("report.api_base_url is not set: no finalize call is made");
            return Ok(client(None));
        };
        let Some(secret) = settings.secret.clone() else {
            return Err(failed("report.secret is needed to sign the finalize call"));
        };
        let webhook_secret = settings.webhook_secret.as_ref().unwrap_or(&secret).expose_secret();
        let webhook_secret = signature::webhook_secret(webhook_secret)
            .map_err(|reason| Failure::new(FailureKind::Internal, format!("report.webhook_secret_file: {reason}")))?;
        Ok(client(Some(Backend {
            client: http::call_client(http)?,
            finalize: endpoint(base, "finalize"),
            failed: endpoint(base, "failed"),
            webhook_secret,
            secret,
            secret_in_body: settings.secret_in_body,
            timeout: settings.timeout,
        })))
    }

    /// Whether there is a backend to be told.
    pub fn is_on(&self) -> bool {
        self.backend.is_some()
    }

    /// Whether it is to be told of failures too.
    pub fn tells_of_failures(&self) -> bool {
        self.on_failure
    }

    /// How long a call may be on its way.
    pub fn longest_call(&self) -> Duration {
        self.backend.as_ref().map(|backend| backend.timeout).unwrap_or_default()
    }

    /// When a call that was first made at `since` and has failed now is to be made again; `None` when
    /// it is given up.
    pub fn pause(&self, since: Timestamp, failure: &Failure) -> Option<Duration> {
        let age = Duration::try_from(Timestamp::now().duration_since(since)).unwrap_or_default();
        if age >= self.give_up_after {
            return None;
        }
        let pause = age.min(LONGEST_PAUSE).max(self.retry_delay);
        let pause = pause.max(failure.retry_after.unwrap_or_default());
        // The last one comes when the time is over, not long after it.
        Some(pause.min((self.give_up_after - age).max(self.retry_delay)))
    }

    /// Tells the backend that the task's course has been delivered as `folder_name`. Safe to repeat:
    /// every call for one element carries the same `Idempotency-Key`, its id. `headers` go with it.
    ///
    /// # Errors
    /// `finalize_failed` with the status and the beginning of the answer unless that is 200.
    pub async fn finalize(&self, task_id: TaskId, folder_name: &str, key: &str, headers: HeaderMap) -> Result<()> {
        let Some(backend) = &self.backend else { return Ok(()) };
        let timestamp = Timestamp::now().as_second().to_string();
        let body = FinalizeBody { secret_key: backend.secret_key(), task_id, folder_name, timestamp: &timestamp };
        let signed = [&task_id.to_string(), folder_name, &timestamp];
        let called = backend.call(&backend.finalize, key, &timestamp, &signed, &body, headers).await;
        called.map_err(|failure| failure.at("finalize"))
    }

    /// Tells the backend that a task has failed for good. Safe to repeat, as above.
    ///
    /// # Errors
    /// As above.
    pub async fn failed(&self, notice: &Notice) -> Result<()> {
        let Some(backend) = &self.backend else { return Ok(()) };
        let timestamp = Timestamp::now().as_second().to_string();
        let message: String = notice.message.chars().take(MAX_MESSAGE_CHARS).collect();
        let body = FailedBody {
            secret_key: backend.secret_key(),
            task_id: notice.task_id,
            status: "failed",
            kind: &notice.kind,
            message: &message,
            timestamp: &timestamp,
        };
        // What signs a finalize call begins with a digit: neither can stand for the other.
        let signed = ["failed", &notice.task_id.to_string(), &notice.kind, &message, &timestamp];
        let called = backend.call(&backend.failed, &notice.key(), &timestamp, &signed, &body, HeaderMap::new()).await;
        called.map_err(|failure| failure.at("telling the backend of a failure"))
    }
}

impl Backend {
    fn secret_key(&self) -> Option<&str> {
        self.secret_in_body.then(|| self.secret.expose_secret())
    }

    /// One POST of `body`; `signed` is what the old signature is over.
    async fn call(
        &self,
        endpoint: &Url,
        key: &str,
        timestamp: &str,
        signed: &[&str],
        body: &impl Serialize,
        headers: HeaderMap,
    ) -> Result<()> {
        let body = serde_json::to_vec(body).map_err(|error| failed(format!("the body: {error}")))?;
        let request = self
            .client
            .post(endpoint.clone())
            .timeout(self.timeout)
            .header("Content-Type", "application/json")
            .header("Idempotency-Key", key)
            .header("X-Timestamp", timestamp)
            .header("X-Signature", signature::old(self.secret.expose_secret(), signed))
            .header("webhook-id", key)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature::webhook(&self.webhook_secret, key, timestamp, &body))
            .headers(headers)
            .body(body);
        let sent = request.send().await;
        let response = sent.map_err(|error| failed(http::request_failure(endpoint, &error).message))?;
        if response.status() == StatusCode::OK {
            return Ok(());
        }
        let (status, headers) = (response.status(), response.headers().clone());
        let answer = self.beginning(response).await;
        let mut failure = failed(format!("{}: the server answered {status}: {answer}", shown(endpoint)));
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
fn endpoint(base: &Url, name: &str) -> Url {
    let mut endpoint = base.clone();
    endpoint.set_query(None);
    endpoint.set_fragment(None);
    endpoint.set_path(&format!("{}/api/v1/webhook/{name}", base.path().trim_end_matches('/')));
    endpoint
}

fn failed(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::FinalizeFailed, message)
}

#[cfg(test)]
mod tests;
