//! The embedded HTTP hook: who asks, what is asked, and the answer. The work itself is that of
//! [`orders`](crate::orders), [`tasks`](crate::tasks) and [`enroll`](crate::enroll).
//!
//! * `access`: who gets in; `credentials`: tokens and secrets; `signature`: signed requests
//! * `body`, `request`: what is asked; `problem`: what is wrong with it
//! * `orders`, `tasks`, `enrollments`: the routes

mod access;
mod body;
mod credentials;
mod enrollments;
mod orders;
mod problem;
mod request;
mod signature;
mod tasks;

use std::sync::Arc;

use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Router, middleware};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;

use crate::config::{EnrollmentSettings, HookSettings};
use crate::current::Current;
use crate::enroll::EnrollmentClient;
use crate::metrics::Metrics;
use crate::orders::Orders;
use crate::permits::Permits;
use crate::redis_client::Commands;
use crate::tasks::Tasks;

use access::Access;
pub use credentials::Credentials;
use problem::Problem;

/// What the API is, for programs.
const OPENAPI: &str = "/api/openapi.json";
/// Enroll, without a queue.
const ENROLL: &str = "/api/v1/enroll";
/// Enroll, then enqueue.
const ORDERS: &str = "/api/v1/orders";
const ORDER: &str = "/api/v1/orders/{order_id}";
const ORDER_RETRY: &str = "/api/v1/orders/{order_id}/retry";
const TASK: &str = "/api/v1/tasks/{task_id}";
const TASK_REQUEUE: &str = "/api/v1/tasks/{task_id}/requeue";
const TASK_CANCEL: &str = "/api/v1/tasks/{task_id}/cancel";
/// Every route, as it is named in metrics and logs.
const ROUTES: [&str; 8] = [OPENAPI, ENROLL, ORDERS, ORDER, ORDER_RETRY, TASK, TASK_REQUEUE, TASK_CANCEL];

/// What the hook works with.
pub struct Hook {
    orders: Arc<Orders>,
    tasks: Tasks,
    enrollment: EnrollmentClient,
    metrics: Arc<Metrics>,
    access: Access,
    connections: Permits,
    limits: Current<Limits>,
    running: TaskTracker,
    /// Cancelled when callers are not to be kept waiting any more.
    stop: CancellationToken,
}

/// What may be asked for.
struct Limits {
    max_tasks: usize,
    allowed_course_hosts: Vec<String>,
}

impl Limits {
    fn new(settings: &HookSettings) -> Limits {
        Limits { max_tasks: settings.max_tasks, allowed_course_hosts: settings.allowed_course_hosts.clone() }
    }
}

impl Hook {
    /// `commands` remembers signed requests for every instance of the queue of `list`. After `stop`
    /// nobody is kept waiting for the end of an order.
    #[expect(clippy::too_many_arguments, reason = "a composition root calls it, once")]
    pub fn new(
        orders: Arc<Orders>,
        tasks: Tasks,
        enrollment: EnrollmentClient,
        credentials: Credentials,
        commands: Commands,
        list: &str,
        settings: &HookSettings,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Arc<Hook> {
        Arc::new(Hook {
            orders,
            tasks,
            enrollment,
            metrics,
            access: Access::new(credentials, commands, list, settings.max_requests_per_second),
            connections: Permits::new(settings.max_connections),
            limits: Current::new(Limits::new(settings)),
            running: TaskTracker::new(),
            stop,
        })
    }

    /// The routes of the hook.
    pub fn router(hook: Arc<Hook>) -> Router {
        Router::new()
            .route(ENROLL, post(enrollments::enroll))
            .route(ORDERS, post(orders::accept))
            .route(ORDER, get(orders::look))
            .route(ORDER_RETRY, post(orders::retry))
            .route(TASK, get(tasks::look))
            .route(TASK_REQUEUE, post(tasks::requeue))
            .route(TASK_CANCEL, post(tasks::cancel))
            .route_layer(middleware::from_fn_with_state(hook.clone(), access::authenticate))
            // After the layer: what the API is anybody may know.
            .route(OPENAPI, get(openapi))
            .fallback(async || Problem::not_found("There is nothing at this path."))
            .method_not_allowed_fallback(async || Problem::method_not_allowed())
            .layer(CatchPanicLayer::custom(|_| Problem::internal().into_response()))
            .layer(middleware::from_fn_with_state(hook.clone(), access::observe))
            .with_state(hook)
    }

    /// Other tokens, secrets and limits, for requests that come from now on.
    pub fn use_settings(&self, settings: &HookSettings, enrollment: &EnrollmentSettings, credentials: Credentials) {
        self.access.replace(credentials, settings.max_requests_per_second);
        self.connections.resize(settings.max_connections);
        self.limits.replace(Limits::new(settings));
        self.enrollment.use_limits_of(enrollment);
    }

    /// One permit for each connection at once.
    pub fn connections(&self) -> Arc<Semaphore> {
        self.connections.semaphore()
    }

    /// Waits until every enrollment that was asked for by itself is done. To be called when the
    /// server has stopped.
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
}

async fn openapi() -> impl IntoResponse {
    ([("content-type", "application/json")], include_str!("openapi.json"))
}

/// Whether a body is an order or an enrollment for one of these hosts.
pub(crate) fn is_understood(body: &serde_json::Value, hosts: &[String]) -> bool {
    request::order(body, 10, hosts).is_ok() | request::enrollment(body, 10, hosts).is_ok()
}

/// Whether a request has all of a signature, right or wrong.
pub(crate) fn claims_a_signature(headers: &axum::http::HeaderMap, body: &[u8], now: i64) -> bool {
    let mut credentials = Credentials::default();
    credentials.secrets.push(credentials::Secret { name: "caller".into(), key: vec![1; 16].into() });
    matches!(signature::check(&credentials, headers, "/", body, now), Ok(_) | Err("wrong signature"))
}

#[cfg(test)]
mod tests;
