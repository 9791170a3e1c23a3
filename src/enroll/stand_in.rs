//! An enrollment service for tests: keeps every call, answers what it is told to.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use secrecy::SecretString;
use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;

use super::EnrollmentClient;
use crate::config::{BearerSettings, Config, EnrollmentSettings, HttpSettings};
use crate::failure::Result;
use crate::logins::Login;
use crate::metrics::Metrics;

/// One call, byte for byte.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub request: (Method, Uri),
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// The service; gone when dropped.
pub(crate) struct Service {
    pub url: Url,
    calls: Arc<Mutex<Vec<Call>>>,
    _stop: DropGuard,
}

impl Service {
    /// Answers each call with what `answer` makes of its body.
    pub(crate) async fn start<F, A>(answer: F) -> Service
    where
        F: Fn(String) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Response> + Send,
    {
        let calls = Arc::<Mutex<Vec<Call>>>::default();
        let kept = calls.clone();
        let router = Router::new().fallback(async move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let text = String::from_utf8_lossy(&body).into_owned();
            kept.lock().unwrap().push(Call { request: (method, uri), headers, body });
            answer(text).await
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api/v1/enroll", listener.local_addr().unwrap()).parse().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(crate::serve::serve(listener, router, stop.clone()));
        Service { url, calls, _stop: stop.drop_guard() }
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }
}

/// The settings of a client that calls `endpoint`.
pub(crate) fn settings(endpoint: &Url) -> (EnrollmentSettings, HttpSettings) {
    let config = Config::load(None, Default::default(), Default::default()).unwrap();
    let token = Some(BearerSettings { token: SecretString::from("s3cret"), file: None });
    (EnrollmentSettings { endpoint: Some(endpoint.clone()), token, ..config.enrollment }, config.http)
}

/// The client of these settings.
pub(crate) fn client_of(
    settings: &EnrollmentSettings,
    http: &HttpSettings,
    metrics: Arc<Metrics>,
) -> Result<EnrollmentClient> {
    let login = Login::open(("enrollment.token", settings.token.as_ref()), settings.cookies_file.as_deref())?;
    EnrollmentClient::new(settings, http, Arc::new(login), metrics)
}
