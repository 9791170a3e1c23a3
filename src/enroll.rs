//! Client of the enrollment service: one course, one call.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, Response, StatusCode};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::config::{EnrollmentSettings, HttpSettings};
use crate::current::Current;
use crate::failure::{Failure, FailureKind, Result};
use crate::http::{self, shown};
use crate::logins::Login;
use crate::metrics::{Metrics, OutcomeLabel};
use crate::permits::Permits;

/// Largest answer that is read; real ones have some hundred bytes.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// Longest text of the service that goes into a log line or an answer, in characters.
const MAX_TEXT_CHARS: usize = 500;

/// What the service said about one course.
#[derive(Debug, Clone, PartialEq)]
pub struct EnrollmentResult {
    /// Whether the customer is enrolled: `success` is `true` and `status` is `enrolled`, nothing else.
    pub enrolled: bool,
    /// The service's word.
    pub status: Option<String>,
    /// Why not, in the service's words.
    pub message: Option<String>,
    /// `courseId` as it came; a number in the field.
    pub course_id: Option<Value>,
    /// The course's name.
    pub title: Option<String>,
}

impl EnrollmentResult {
    /// Itself when the customer is enrolled.
    ///
    /// # Errors
    /// `enrollment_refused` with the service's reason when not.
    pub fn into_enrolled(self) -> Result<EnrollmentResult> {
        if self.enrolled {
            return Ok(self);
        }
        let status = self.status.as_deref().unwrap_or("missing");
        Err(refused(self.message.unwrap_or_else(|| format!("not enrolled: the status is {status}"))))
    }
}

/// Asks the enrollment service. Clones share the limit of `enrollment.concurrency` calls at once.
#[derive(Clone)]
pub struct EnrollmentClient {
    client: Client,
    endpoint: Url,
    login: Arc<Login>,
    limits: Arc<Limits>,
    metrics: Arc<Metrics>,
}

struct Limits {
    timeout: Current<Duration>,
    slots: Permits,
}

#[derive(Serialize)]
struct Call<'a> {
    email: &'a str,
    urls: [&'a str; 1],
    #[serde(rename = "orderId", skip_serializing_if = "Option::is_none")]
    order_id: Option<u64>,
}

impl EnrollmentClient {
    /// Builds the HTTP client. The service is shown `login`.
    ///
    /// # Errors
    /// When no endpoint is set, or the HTTP client cannot be built.
    pub fn new(
        settings: &EnrollmentSettings,
        http: &HttpSettings,
        login: Arc<Login>,
        metrics: Arc<Metrics>,
    ) -> Result<EnrollmentClient> {
        let Some(endpoint) = settings.endpoint.clone() else {
            return Err(unavailable("enrollment.endpoint is not set"));
        };
        Ok(EnrollmentClient {
            client: http::call_client(http)?,
            endpoint,
            login,
            limits: Arc::new(Limits {
                timeout: Current::new(settings.timeout),
                slots: Permits::new(settings.concurrency),
            }),
            metrics,
        })
    }

    /// Other limits, for the calls that begin from now on.
    pub fn use_limits_of(&self, settings: &EnrollmentSettings) {
        self.limits.timeout.replace(settings.timeout);
        self.limits.slots.resize(settings.concurrency);
    }

    /// Enrolls `email` in the course at `url`. Waits for one of `enrollment.concurrency` slots; the
    /// limit of time counts from then on, for all tries together: what may pass by itself is tried
    /// again, with growing pauses, which take no slot. `key` is sent as `Idempotency-Key`.
    ///
    /// # Errors
    /// `enrollment_unavailable` when the service did not answer in time or answered nonsense: the
    /// customer may be enrolled all the same. `credentials_rejected` when it did not accept our login,
    /// `enrollment_refused` when it refused the call.
    pub async fn enroll(
        &self,
        email: &str,
        url: &Url,
        order_id: Option<u64>,
        key: Option<&str>,
    ) -> Result<EnrollmentResult> {
        let call = Call { email, urls: [url.as_str()], order_id };
        let result = self.call_until_the_limit(&call, key).await.map_err(|failure| failure.at("enrollment service"));
        let outcome = match &result {
            Ok(result) if result.enrolled => "enrolled",
            Err(failure) if failure.kind == FailureKind::CredentialsRejected => failure.kind.name(),
            _ => "failed",
        };
        self.metrics.enrollments.get_or_create(&OutcomeLabel { outcome }).inc();
        result
    }

    async fn call_until_the_limit(&self, call: &Call<'_>, key: Option<&str>) -> Result<EnrollmentResult> {
        let mut slot = self.slot().await?;
        let limit = *self.limits.timeout.get();
        let deadline = Instant::now() + limit;
        let silent = || {
            let (endpoint, seconds) = (shown(&self.endpoint), limit.as_secs_f64());
            unavailable(format!("{endpoint}: no answer within {seconds} s"))
        };
        let mut attempt = 1;
        let mut before = None;
        loop {
            let answer = timeout_at(deadline, async { self.read_answer(self.send(call, key).await?).await }).await;
            // What was answered before says more than the silence of the last try.
            let answer = answer.unwrap_or_else(|_| Err(before.take().unwrap_or_else(silent)));
            let Err(failure) = answer else { return answer };
            let pause = http::pause(attempt, failure.retry_after);
            // A login that is not accepted now is not accepted within seconds.
            if failure.kind != FailureKind::EnrollmentUnavailable || Instant::now() + pause >= deadline {
                return Err(failure);
            }
            drop(slot);
            tokio::time::sleep(pause).await;
            slot = match timeout_at(deadline, self.slot()).await {
                Ok(slot) => slot?,
                Err(_) => return Err(failure),
            };
            before = Some(failure);
            attempt += 1;
        }
    }

    async fn slot(&self) -> Result<OwnedSemaphorePermit> {
        self.limits.slots.semaphore().acquire_owned().await.map_err(|_| unavailable("the client is closed"))
    }

    /// One POST.
    async fn send(&self, call: &Call<'_>, key: Option<&str>) -> Result<Response> {
        let mut request =
            self.client.post(self.endpoint.clone()).json(call).headers(self.login.headers_for(&self.endpoint));
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        request.send().await.map_err(|error| unavailable(http::request_failure(&self.endpoint, &error).message))
    }

    async fn read_answer(&self, response: Response) -> Result<EnrollmentResult> {
        let (url, status) = (response.url().clone(), response.status());
        let retry_after = http::retry_after(response.headers(), std::time::SystemTime::now());
        self.login.cookies.store(&url, response.headers());
        if status == StatusCode::UNAUTHORIZED
            && let Some(login) = self.login.shown_to(&url)
        {
            return Err(http::rejected(&url, format_args!("the server answered {status}"), login));
        }
        if status.is_redirection() {
            return Err(self.redirected(&url, status, response.headers()));
        }
        let body = http::read_body(response, MAX_ANSWER_BYTES).await.map_err(|failure| unavailable(failure.message))?;
        understand(&url, status, &body).map_err(|mut failure| {
            failure.retry_after = retry_after;
            failure
        })
    }

    /// The call is not made at another place; a login page tells that the login is not accepted.
    fn redirected(&self, url: &Url, status: StatusCode, headers: &HeaderMap) -> Failure {
        let target = http::redirect_target(url, headers);
        let answer = format!("answered {status} to {}", target.as_ref().map_or_else(|| "nowhere".into(), shown));
        let is_login_page = target.is_some_and(|target| http::is_login_page(url, &target));
        match self.login.shown_to(url).filter(|_| is_login_page) {
            Some(login) => http::rejected(url, answer, login),
            None => refused(format!("{}: {answer}: enrollment.endpoint must not redirect", shown(url))),
        }
    }
}

pub(crate) fn understand(url: &Url, status: StatusCode, body: &[u8]) -> Result<EnrollmentResult> {
    let answer: Option<Value> = serde_json::from_slice(body).ok();
    // What the service said about the call as a whole, or about its only course.
    let said = answer.as_ref().and_then(|answer| {
        text(answer.pointer("/results/0/message")).or_else(|| text(answer.get("message").or(answer.get("error"))))
    });
    let with_reason = |what: String| match &said {
        Some(said) => format!("{}: {what}: {said}", shown(url)),
        None => format!("{}: {what}", shown(url)),
    };
    if !status.is_success() {
        let what = with_reason(format!("the server answered {status}"));
        let later = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
        return Err(if later { unavailable(what) } else { refused(what) });
    }
    let nonsense = |what: &str| unavailable(format!("{}: the answer {what}", shown(url)));
    let answer = answer.ok_or_else(|| nonsense("is not JSON"))?;
    match answer.get("success") {
        Some(Value::Bool(true)) => {}
        Some(Value::Bool(false)) => return Err(refused(with_reason("the call was refused".into()))),
        _ => return Err(nonsense("does not say success: true or false")),
    }
    let results = answer.get("results").and_then(Value::as_array).ok_or_else(|| nonsense("has no results"))?;
    let [result] = results.as_slice() else {
        return Err(nonsense(&format!("has {} results for one course", results.len())));
    };
    let result = result.as_object().ok_or_else(|| nonsense("has a result that is not an object"))?;
    let success = result.get("success") == Some(&Value::Bool(true));
    Ok(EnrollmentResult {
        enrolled: success && result.get("status").and_then(Value::as_str) == Some("enrolled"),
        status: text(result.get("status")),
        message: text(result.get("message")),
        course_id: result.get("courseId").filter(|id| id.is_number() || id.is_string()).cloned(),
        title: text(result.get("title")),
    })
}

/// A text of the service, short enough to be passed on.
fn text(value: Option<&Value>) -> Option<String> {
    let text = value?.as_str()?.trim();
    (!text.is_empty()).then(|| text.chars().take(MAX_TEXT_CHARS).collect())
}

fn unavailable(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::EnrollmentUnavailable, message)
}

fn refused(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::EnrollmentRefused, message)
}

#[cfg(test)]
pub(crate) mod stand_in;
#[cfg(test)]
mod tests;
