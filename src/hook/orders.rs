//! `/api/v1/orders`: whatever became of the tasks, the answer to an order that was taken in is 2xx:
//! the caller's payment stands.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};

use super::access::Caller;
use super::problem::Problem;
use super::{Hook, ORDERS, body, request};
use crate::orders::{OrderState, Refusal};
use crate::traces::TraceContext;

/// Longest time that a caller may wait for the end of an order.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// `POST /api/v1/orders`.
pub(super) async fn accept(
    State(hook): State<Arc<Hook>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    let wait = wait(request.uri())?;
    let key = idempotency_key(request.headers(), &caller)?;
    let limits = hook.limits.get();
    let trace = TraceContext::of_request(request.headers());
    let mut order = request::order(&body::read(request).await?, limits.max_tasks, &limits.allowed_course_hosts)?;
    order.tasks.iter_mut().for_each(|task| task.trace = trace.clone());
    let order_id = order.order_id;
    // The caller may go away: what has begun to be stored is stored.
    let accepted = hook.see_through({
        let orders = hook.orders.clone();
        async move { orders.accept(order, key.as_deref()).await }
    });
    let mut state = accepted.await?.map_err(|refusal| match refusal {
        Refusal::KeyConflict => Problem::key_conflict(),
        Refusal::OrderConflict => Problem::order_conflict(order_id),
        Refusal::Unavailable(failure) => Problem::unavailable(&failure),
    })?;
    if let Some(limit) = wait {
        // That it cannot be read now is no reason to refuse what was taken in.
        match hook.orders.wait(order_id, limit, &hook.stop).await {
            Ok(Some(now)) => state = now,
            Ok(None) => {}
            Err(failure) => tracing::warn!(order_id, kind = failure.kind.name(), "not waited for: {failure}"),
        }
    }
    let done = wait.is_some() && state.is_done();
    let status = if done { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(answer(status, &state))
}

/// `GET /api/v1/orders/{order_id}`.
pub(super) async fn look(
    State(hook): State<Arc<Hook>>,
    Path(order_id): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let order_id = number(&order_id).ok_or_else(unknown)?;
    let limit = wait(&uri)?.unwrap_or_default();
    let looked =
        hook.orders.wait(order_id, limit, &hook.stop).await.map_err(|failure| Problem::unavailable(&failure))?;
    Ok(answer(StatusCode::OK, &looked.ok_or_else(unknown)?))
}

/// `POST /api/v1/orders/{order_id}/retry`.
pub(super) async fn retry(
    State(hook): State<Arc<Hook>>,
    Path(order_id): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let order_id = number(&order_id).ok_or_else(unknown)?;
    let wait = wait(&uri)?;
    let failed = |failure: crate::failure::Failure| Problem::unavailable(&failure);
    let (mut state, opened) = hook.orders.retry(order_id).await.map_err(failed)?.ok_or_else(unknown)?;
    if let Some(limit) = wait {
        state = hook.orders.wait(order_id, limit, &hook.stop).await.map_err(failed)?.unwrap_or(state);
    }
    let done = opened == 0 || wait.is_some() && state.is_done();
    Ok(answer(if done { StatusCode::OK } else { StatusCode::ACCEPTED }, &state))
}

fn answer(status: StatusCode, state: &OrderState) -> Response {
    let location = [(header::LOCATION, format!("{ORDERS}/{}", state.order_id))];
    (status, location, Json(state)).into_response()
}

fn unknown() -> Problem {
    Problem::not_found("No such order; one that has ended is forgotten after some time.")
}

/// The number of an order or a task in a path.
pub(super) fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number > 0)
}

/// `?wait=<seconds>`, 0 to 60.
fn wait(uri: &Uri) -> Result<Option<Duration>, Problem> {
    let Some(text) = parameter(uri, "wait") else { return Ok(None) };
    let limit = text.parse().ok().map(Duration::from_secs).filter(|limit| *limit <= LONGEST_WAIT);
    let wrong =
        || Problem::query_invalid("wait", format!("is not a whole number of seconds, 0 to {}", LONGEST_WAIT.as_secs()));
    limit.map(Some).ok_or_else(wrong)
}

/// A parameter of the query; the last one of this name.
pub(super) fn parameter(uri: &Uri, name: &str) -> Option<String> {
    let pairs = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    pairs.filter(|(key, _)| key == name).last().map(|(_, value)| value.into_owned())
}

/// The hash of the caller's key: `Idempotency-Key`, else the id of its signed message.
fn idempotency_key(headers: &HeaderMap, caller: &Caller) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(caller.message_id.as_deref().map(|id| caller.hash(id)));
    };
    let text = value.to_str().unwrap_or_default().trim();
    // A string of structured fields (RFC 9651) has quotes, which are not part of it.
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    match text.len() {
        1..=255 => Ok(Some(caller.hash(text))),
        _ => Err(Problem::header_invalid("Idempotency-Key", "is not 1 to 255 visible ASCII characters")),
    }
}
