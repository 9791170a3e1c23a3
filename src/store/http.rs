//! Task status over HTTP, for a backend that gives nobody its table: `GET` and `PATCH <endpoint>/<task id>`.

use async_trait::async_trait;
use reqwest::header::{ACCEPT, AUTHORIZATION};
use reqwest::{Client, Method, Response, StatusCode};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use url::Url;

use super::{FinalStatus, Findings, TaskRecord, TaskStore, completed, failure_in};
use crate::config::{HttpSettings, HttpStoreSettings};
use crate::failure::{Context, Failure, FailureKind, Result};
use crate::http::{self, Bearer, is_html, shown};
use crate::job::{JobSpec, TaskId};

/// Largest answer that is read. A row has some hundred bytes, and a report of up to 64 KiB in it.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// A task store behind an HTTP endpoint.
pub struct HttpStore {
    client: Client,
    token: Option<Bearer>,
    slots: Semaphore,
    settings: HttpStoreSettings,
    endpoint: Url,
}

/// What a task is changed to.
#[derive(Serialize)]
struct Change<'a> {
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_log: Option<&'a str>,
    /// That a task which is completed is to be changed all the same.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    force: bool,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Changed {
    Yes,
    NoSuchTask,
    /// The backend says that the task is at its end.
    Refused,
}

impl HttpStore {
    /// Keeps the tasks at the endpoint of the settings. Connects to nothing yet.
    ///
    /// # Errors
    /// No endpoint is set, the token cannot be used, or the TLS roots of the host cannot be loaded.
    pub fn new(settings: &HttpStoreSettings, http: &HttpSettings) -> Result<HttpStore> {
        let endpoint = settings.endpoint.clone().ok_or_else(|| unavailable("store.http_endpoint is not set"))?;
        Ok(HttpStore {
            // It follows no redirect: the token is for the endpoint alone.
            client: http::call_client(http)?,
            token: settings.token.as_ref().map(|token| Bearer::open("store.http_token", token)).transpose()?,
            slots: Semaphore::new(settings.concurrency),
            settings: settings.clone(),
            endpoint,
        })
    }

    /// `<endpoint>/<id>`
    fn url(&self, id: u64) -> Url {
        let mut url = self.endpoint.clone();
        // Every http URL has segments.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push(&id.to_string());
        }
        url
    }

    /// One call, whose limit of time begins when there is a slot for it. Returns the status and, when it
    /// is a success, the body.
    async fn call(&self, method: Method, id: u64, change: Option<&Change<'_>>) -> Result<(StatusCode, Vec<u8>)> {
        // cannot fail: nobody closes the semaphore
        let _slot = self.slots.acquire().await.map_err(|closed| unavailable(closed.to_string()))?;
        let url = self.url(id);
        let mut request = self.client.request(method, url.clone()).header(ACCEPT, "application/json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.header());
        }
        if let Some(change) = change {
            request = request.json(change);
        }
        let calling = async {
            let response = request.send().await.map_err(|error| http::request_failure(&url, &error))?;
            match response.status() {
                status if status.is_success() => Ok((status, http::read_body(response, MAX_ANSWER_BYTES).await?)),
                status => Ok((understood(&url, &response).map(|()| status)?, Vec::new())),
            }
        };
        let limit = self.settings.timeout;
        let silent = || unavailable(format!("{}: no answer within {} s", shown(&url), limit.as_secs()));
        let called: Result<_> = timeout(limit, calling).await.unwrap_or_else(|_| Err(silent()));
        called.map_err(|failure| Failure { kind: FailureKind::TaskStoreUnavailable, ..failure })
    }

    async fn change(&self, task_id: TaskId, change: &Change<'_>) -> Result<Changed> {
        let (status, _) = self.call(Method::PATCH, task_id.get(), Some(change)).await?;
        match status {
            status if status.is_success() => Ok(Changed::Yes),
            StatusCode::NOT_FOUND => Ok(Changed::NoSuchTask),
            StatusCode::CONFLICT => Ok(Changed::Refused),
            status => Err(unavailable(format!("{}: the server answered {status}", shown(&self.url(task_id.get()))))),
        }
    }
}

#[async_trait]
impl TaskStore for HttpStore {
    async fn read(&self, task_id: TaskId) -> Result<Option<TaskRecord>> {
        let reading = async {
            let (status, body) = self.call(Method::GET, task_id.get(), None).await?;
            let at_url = |failure: Failure| failure.at(shown(&self.url(task_id.get())));
            match status {
                status if status.is_success() => record(task_id, &body).map(Some).map_err(at_url),
                StatusCode::NOT_FOUND => Ok(None),
                status => Err(at_url(unavailable(format!("the server answered {status}")))),
            }
        };
        reading.await.at(|| format!("reading the status of task {task_id}"))
    }

    async fn finish(&self, task_id: TaskId, status: FinalStatus, error_log: Option<&str>) -> Result<()> {
        // Whoever is late must not take back that the customer has the course. The backend may refuse it
        // too, and should: what we have read may have changed.
        if status == FinalStatus::Failed && self.read(task_id).await?.is_some_and(|record| record.is_completed()) {
            return Ok(());
        }
        let change = Change { status: status.name(), error_log, force: false };
        let changed = self.change(task_id, &change).await.at(|| format!("writing the status of task {task_id}"))?;
        if changed == Changed::Refused && status == FinalStatus::Completed {
            let message = format!("the backend refuses that task {task_id} becomes completed");
            return Err(Failure::new(FailureKind::UnexpectedStatus, message));
        }
        Ok(())
    }

    async fn enroll(&self, spec: &JobSpec, _: Option<u64>) -> Result<()> {
        let task_id = spec.task_id;
        if !spec.force && self.read(task_id).await?.is_some_and(|record| record.is_completed()) {
            return Err(completed(task_id));
        }
        let change = Change { status: "enrolled", error_log: None, force: spec.force };
        match self.change(task_id, &change).await.at(|| format!("writing the enrollment of task {task_id}"))? {
            Changed::Yes => Ok(()),
            Changed::Refused => Err(completed(task_id)),
            Changed::NoSuchTask => {
                let message = format!("task {task_id} is not at {}", shown(&self.endpoint));
                Err(Failure::new(FailureKind::TaskNotFound, message))
            }
        }
    }

    async fn ping(&self) -> Result<()> {
        // No task has this number.
        let (status, _) = self.call(Method::GET, 0, None).await?;
        match status.is_success() || status == StatusCode::NOT_FOUND {
            true => Ok(()),
            false => Err(unavailable(format!("{}: the server answered {status}", shown(&self.url(0))))),
        }
    }

    async fn examine(&self) -> Result<Findings> {
        self.ping().await?;
        let mut warnings = Vec::new();
        if self.token.is_some() && self.endpoint.scheme() == "http" && !is_of_this_host(&self.endpoint) {
            warnings.push("store.http_endpoint is not https: everybody on the way can read the token".into());
        }
        Ok(Findings { place: shown(&self.endpoint), warnings })
    }
}

/// Whether an answer that is no success is one about the task. Everything else is trouble: it passes, or
/// an operator ends it, and until then the job waits.
fn understood(url: &Url, response: &Response) -> Result<()> {
    let status = response.status();
    let place = shown(url);
    match status.as_u16() {
        401 | 403 => {
            Err(unavailable(format!("{place}: the server answered {status}: is store.http_token_file right?")))
        }
        300..=399 => {
            let target = http::redirect_target(url, response.headers());
            let target = target.map_or_else(|| "nowhere".into(), |target| shown(&target));
            let message = format!(
                "{place}: answered {status} to {target}, which is not followed: is store.http_token_file right?"
            );
            Err(unavailable(message))
        }
        // Of a web server that knows nothing of tasks there, or of a way there that is closed.
        404 if is_html(response.headers()) => {
            Err(unavailable(format!("{place}: answered {status} with an HTML page: is store.http_endpoint right?")))
        }
        408 | 429 | 500..=599 => Err(http::status_failure(url, status, response.headers())),
        _ => Ok(()),
    }
}

/// A row as JSON.
pub(crate) fn record(task_id: TaskId, body: &[u8]) -> Result<TaskRecord> {
    let nonsense = |what: &str| unavailable(format!("the answer {what}"));
    let row: Value = serde_json::from_slice(body).map_err(|_| nonsense("is not JSON"))?;
    let number = |column: &str| match row.get(column)? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let text = |column: &str| row.get(column).and_then(Value::as_str).map(str::to_owned);
    if number("id") != Some(task_id.get()) {
        return Err(nonsense("is not about the task: its id is another"));
    }
    let error_log = match row.get("error_log") {
        Some(Value::String(text)) => failure_in(text),
        Some(object) => failure_in(&object.to_string()),
        None => None,
    };
    Ok(TaskRecord {
        status: text("status").ok_or_else(|| nonsense("has no status"))?,
        order_id: number("order_id"),
        email: text("email"),
        course_url: text("course_url"),
        failure: error_log,
    })
}

fn is_of_this_host(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn unavailable(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::TaskStoreUnavailable, message)
}
