//! The embedded HTTP hook: authenticate, bound, read, enroll, enqueue.
//!
//! What a caller has asked for is done even if the caller goes away: the work runs in tasks of the
//! hook's own, and [`Hook::drain`] waits for them.

mod access;
mod body;
mod orders;
mod problem;
mod request;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router, middleware};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;
use url::Url;

use crate::config::HookSettings;
use crate::enroll::{EnrollmentClient, EnrollmentResult};
use crate::failure::Result;
use crate::metrics::{Metrics, OutcomeLabel};
use crate::queue::Producer;
use crate::store::TaskStore;

use access::Token;
use problem::Problem;

/// Enroll, without a queue.
const ENROLL: &str = "/api/v1/enroll";
/// Enroll, then enqueue.
const ORDERS: &str = "/api/v1/orders";

/// What the hook works with.
pub struct Hook {
    store: Arc<dyn TaskStore>,
    producer: Producer,
    enrollment: EnrollmentClient,
    metrics: Arc<Metrics>,
    token: Token,
    max_tasks: usize,
    running: TaskTracker,
}

impl Hook {
    /// Without `hook.token` nobody is let in.
    pub fn new(
        store: Arc<dyn TaskStore>,
        producer: Producer,
        enrollment: EnrollmentClient,
        settings: &HookSettings,
        metrics: Arc<Metrics>,
    ) -> Arc<Hook> {
        // Both there from the start, so that a rate can be computed over the first failure.
        for outcome in ["enrolled", "failed"] {
            metrics.enrollments.get_or_create_owned(&OutcomeLabel { outcome });
        }
        let token = Token::new(settings.token.as_ref());
        let max_tasks = settings.max_tasks;
        Arc::new(Hook { store, producer, enrollment, metrics, token, max_tasks, running: TaskTracker::new() })
    }

    /// The routes of the hook.
    pub fn router(hook: Arc<Hook>) -> Router {
        Router::new()
            .route(ENROLL, post(enroll))
            .route(ORDERS, post(order))
            .route_layer(middleware::from_fn_with_state(hook.clone(), access::authenticate))
            .fallback(async || Problem::not_found())
            .method_not_allowed_fallback(async || Problem::method_not_allowed())
            .layer(CatchPanicLayer::custom(|_| Problem::internal().into_response()))
            .layer(middleware::from_fn_with_state(hook.clone(), access::observe))
            .with_state(hook)
    }

    /// Waits until every order that has been taken is done. To be called when the server has
    /// stopped; an order takes as long as the enrollment service does.
    pub async fn drain(&self) {
        self.running.close();
        self.running.wait().await;
    }

    /// Runs work to its end whether the caller waits for it or not.
    async fn see_through<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Problem> {
        self.running.spawn(work.in_current_span()).await.map_err(|_| Problem::internal())
    }

    /// Enrolls in one course and counts it.
    async fn enroll(&self, email: &str, url: &Url, order_id: Option<u64>) -> Result<EnrollmentResult> {
        let result = self.enrollment.enroll(email, url, order_id).await;
        let enrolled = result.as_ref().is_ok_and(|result| result.enrolled);
        let outcome = if enrolled { "enrolled" } else { "failed" };
        self.metrics.enrollments.get_or_create(&OutcomeLabel { outcome }).inc();
        result
    }
}

/// `POST /api/v1/orders`: 200 whatever became of the tasks; the caller's payment stands.
async fn order(State(hook): State<Arc<Hook>>, request: Request) -> Result<Response, Problem> {
    let order = request::order(&body::read(request).await?, hook.max_tasks)?;
    let summary = hook.see_through(orders::enroll_then_enqueue(hook.clone(), order)).await?;
    Ok(Json(summary).into_response())
}

/// `POST /api/v1/enroll`: the enrollment service's own call and answer, for several URLs.
async fn enroll(State(hook): State<Arc<Hook>>, request: Request) -> Result<Response, Problem> {
    let request = request::enrollment(&body::read(request).await?, hook.max_tasks)?;
    let results = hook.see_through({
        let hook = hook.clone();
        async move { join_all(request.urls.iter().map(|url| enroll_one(&hook, &request, url))).await }
    });
    // The call was carried out; whether a course was enrolled in stands in its result.
    Ok(Json(json!({"success": true, "results": results.await?})).into_response())
}

async fn enroll_one(hook: &Hook, request: &request::Enrollment, url: &Url) -> Value {
    let course = crate::http::shown(url);
    let result = hook.enroll(&request.email, url, request.order_id).await;
    let status = result.as_ref().ok().and_then(|result| result.status.clone());
    match result.and_then(EnrollmentResult::into_enrolled) {
        Ok(result) => {
            tracing::info!(order_id = request.order_id, course, "enrolled");
            json!({"success": true, "status": status, "courseId": result.course_id, "title": result.title})
        }
        Err(failure) => {
            let kind = failure.kind.name();
            tracing::warn!(order_id = request.order_id, course, kind, %failure, "enrollment failed");
            let status = status.unwrap_or_else(|| "failed".into());
            json!({"success": false, "status": status, "message": failure.message, "kind": kind})
        }
    }
}

#[cfg(test)]
mod tests;
