//! The operator page: plain files in the program, no build step, nothing from elsewhere.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::access::Access;
use super::actions::{Actions, DeadRequest, Done, PauseRequest, ResumeRequest};
use super::events::Watch;
use crate::config::Config;
use crate::failure::{Failure, Result};
use crate::metrics::Metrics;
use crate::overview::Overviews;
use crate::queue::QueueView;
use crate::redis_client::Commands;
use crate::store::TaskStore;

const SCRIPT: &str = "text/javascript; charset=utf-8";
/// Path, type and content of every file.
const FILES: [(&str, &str, &str); 7] = [
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("/page.js", SCRIPT, include_str!("page/page.js")),
    ("/show.js", SCRIPT, include_str!("page/show.js")),
    ("/actions.js", SCRIPT, include_str!("page/actions.js")),
    ("/words.js", SCRIPT, include_str!("page/words.js")),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];

/// Seconds until a viewer that found no place comes again.
const TOO_MANY_RETRY: u64 = 10;
/// Largest body of an action.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// What every answer says. Scripts and styles come from here alone, and no text can become markup.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; \
         trusted-types 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    // A new version of the daemon has a new page.
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// What the page stands on.
pub struct Page {
    access: Access,
    actions: Actions,
    watch: Arc<Watch>,
}

impl Page {
    /// The page of the instance that `hindered` says something about; `draining` is cancelled when it stops taking
    /// jobs, and `end` when viewers are not to be kept any more.
    ///
    /// # Errors
    /// `internal` when the token cannot be read.
    pub fn new(
        config: &Config,
        commands: Commands,
        store: Arc<dyn TaskStore>,
        metrics: Arc<Metrics>,
        hindered: watch::Receiver<Option<String>>,
        draining: CancellationToken,
        end: CancellationToken,
    ) -> Result<Arc<Page>> {
        let overviews = Overviews::new(commands.clone(), &config.queue);
        let view = QueueView::new(commands, &config.queue.list);
        Ok(Arc::new(Page {
            access: Access::new(&config.admin)?,
            actions: Actions { view, store },
            watch: Arc::new(Watch::new(overviews, metrics, hindered, draining, end)),
        }))
    }

    /// The routes of the page. Looks at the queue as long as somebody watches, until the end.
    pub fn router(page: Arc<Page>) -> Router {
        tokio::spawn(page.watch.clone().run());
        let router = Router::new()
            .route("/api/token", post(async || StatusCode::NO_CONTENT))
            .route("/api/pause", post(pause))
            .route("/api/resume", post(resume))
            .route("/api/dead/retry", post(retry))
            .route("/api/dead/purge", post(purge))
            .route_layer(middleware::from_fn_with_state(page.clone(), with_token))
            .route("/api/events", get(events))
            .route_layer(middleware::from_fn(from_the_page));
        let with_files = FILES.into_iter().fold(router, |router, (path, content_type, text)| {
            router.route(path, get(async move || ([(header::CONTENT_TYPE, content_type)], text)))
        });
        with_files
            .route_layer(middleware::from_fn_with_state(page.clone(), under_our_name))
            .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
            .with_state(page)
    }

    /// What else the port answers, as much out of reach of other sites as the page.
    pub fn protect(self: &Arc<Page>, router: Router) -> Router {
        let router = router.route_layer(middleware::from_fn(from_the_page));
        router.route_layer(middleware::from_fn_with_state(self.clone(), under_our_name))
    }
}

/// Lets only those through who show the token.
async fn with_token(State(page): State<Arc<Page>>, request: Request, next: Next) -> Response {
    match page.access.check_token(request.headers(), request.extensions().get()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// Lets nothing through that another site has caused.
async fn from_the_page(request: Request, next: Next) -> Response {
    match Access::check_origin(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

async fn under_our_name(State(page): State<Arc<Page>>, request: Request, next: Next) -> Response {
    let mut response = match page.access.check_host(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn events(State(page): State<Arc<Page>>) -> Response {
    let hello = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "may_act": page.access.lets_act(),
    });
    match page.watch.stream(&hello) {
        Some(stream) => stream.into_response(),
        None => {
            let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "Too many pages are open on this instance.");
            refusal.after(TOO_MANY_RETRY).into_response()
        }
    }
}

/// What an action is asked with.
type Body<T> = Result<Json<T>, JsonRejection>;
type Answer = Result<Json<Done>, Refusal>;

async fn pause(State(page): State<Arc<Page>>, body: Body<PauseRequest>) -> Answer {
    carry_out("pause", body, move |request| async move { page.actions.pause(request).await }).await
}

async fn resume(State(page): State<Arc<Page>>, body: Body<ResumeRequest>) -> Answer {
    carry_out("resume", body, move |request| async move { page.actions.resume(request).await }).await
}

async fn retry(State(page): State<Arc<Page>>, body: Body<DeadRequest>) -> Answer {
    carry_out("retry", body, move |request| async move { page.actions.retry(request).await }).await
}

async fn purge(State(page): State<Arc<Page>>, body: Body<DeadRequest>) -> Answer {
    carry_out("purge", body, move |request| async move { page.actions.purge(request).await }).await
}

/// Does it to its end, whether the caller waits or not.
async fn carry_out<T, F>(action: &'static str, body: Body<T>, act: impl FnOnce(T) -> F) -> Answer
where
    F: Future<Output = Result<Done, Refusal>> + Send + 'static,
{
    let Json(request) = body.map_err(|rejection| Refusal::new(rejection.status(), rejection.body_text()))?;
    let done = tokio::spawn(act(request)).await;
    let done = done.map_err(|_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "A defect; the log says more."))??;
    tracing::info!(action, "on the operator page: {}", done.said);
    Ok(Json(done))
}

/// Why something is not done, in words for the operator.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    detail: String,
    /// Seconds.
    retry_after: Option<u64>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Refusal {
        Refusal { status, detail: detail.into(), retry_after: None }
    }

    /// Come again after so many seconds.
    pub(super) fn after(self, seconds: u64) -> Refusal {
        Refusal { retry_after: Some(seconds), ..self }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        tracing::warn!(kind = failure.kind.name(), "an action on the operator page failed: {failure}");
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, failure.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "detail": self.detail }))).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
