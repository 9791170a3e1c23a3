//! Error answers: problem details (RFC 9457) with a stable `kind`.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::failure::Failure;

/// When a caller may come again while Redis is away, in seconds.
const UNAVAILABLE_RETRY: u64 = 5;

/// One error answer.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    /// Stable, as the names of failure kinds are; `type` is made of it.
    kind: &'static str,
    title: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    /// `Retry-After` in seconds.
    retry_after: Option<u64>,
}

/// One thing that is wrong with a body.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct FieldError {
    /// JSON Pointer (RFC 6901); empty for the body as a whole.
    pub pointer: String,
    pub detail: String,
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Problem {
        Problem { status, kind, title, detail: detail.into(), errors: Vec::new(), retry_after: None }
    }

    /// 400: every error of the body at once.
    pub fn body_invalid(errors: Vec<FieldError>) -> Problem {
        let detail = format!("{} in the body; nothing has been enrolled", count(errors.len()));
        Problem { errors, ..Problem::new(StatusCode::BAD_REQUEST, "body_invalid", "The body is not valid", detail) }
    }

    /// 400: the body broke off.
    pub fn body_truncated() -> Problem {
        let title = "The body is not whole";
        Problem::new(StatusCode::BAD_REQUEST, "body_truncated", title, "The connection broke off within the body.")
    }

    /// 400.
    pub fn query_invalid(name: &str, detail: impl std::fmt::Display) -> Problem {
        let (kind, title) = ("query_invalid", "A query parameter is not valid");
        Problem::new(StatusCode::BAD_REQUEST, kind, title, format!("{name} {detail}"))
    }

    /// 400.
    pub fn header_invalid(name: &str, detail: &str) -> Problem {
        let (kind, title) = ("header_invalid", "A header is not valid");
        Problem::new(StatusCode::BAD_REQUEST, kind, title, format!("{name} {detail}"))
    }

    /// 401: one text for every cause.
    pub fn unauthorized() -> Problem {
        let detail = "Send a token as \"Authorization: Bearer <token>\", or sign the request.";
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "Not authorized", detail)
    }

    /// Whether it is [`Problem::unauthorized`].
    pub fn is_unauthorized(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
    }

    /// 404.
    pub fn not_found(detail: &str) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not_found", "No such resource", detail)
    }

    /// 409: the name of the failure says why.
    pub fn conflict(failure: &Failure) -> Problem {
        let title = "Not done";
        Problem::new(StatusCode::CONFLICT, failure.kind.name(), title, failure.message.clone())
    }

    /// 409: the order that came first stands.
    pub fn order_conflict(order_id: u64) -> Problem {
        let detail =
            format!("Order {order_id} came before with other tasks; that one stands, and this one is not taken in.");
        Problem::new(StatusCode::CONFLICT, "order_conflict", "The order is known with other tasks", detail)
    }

    /// 409: what it asked for was done when it came first.
    pub fn replayed() -> Problem {
        let detail =
            "This very signed request came before and was answered; what it asked for stands. Sign anew to ask again.";
        Problem::new(StatusCode::CONFLICT, "request_replayed", "The request came before", detail)
    }

    /// 422: the order that came first under the key stands.
    pub fn key_conflict() -> Problem {
        let detail =
            "This Idempotency-Key came before with another order; that one stands, and this one is not taken in.";
        let (kind, title) = ("idempotency_key_reused", "The key is known with another order");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, kind, title, detail)
    }

    /// 429.
    pub fn too_many_requests(seconds: u64) -> Problem {
        let (kind, title) = ("too_many_requests", "Too many requests");
        let detail = format!("Come again in {seconds} s.");
        Problem { retry_after: Some(seconds), ..Problem::new(StatusCode::TOO_MANY_REQUESTS, kind, title, detail) }
    }

    /// 503, with the name of the failure.
    pub fn unavailable(failure: &Failure) -> Problem {
        let (kind, title) = (failure.kind.name(), "Not possible now");
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, kind, title, failure.message.clone());
        Problem { retry_after: Some(UNAVAILABLE_RETRY), ..problem }
    }

    /// 405; the router adds `Allow`.
    pub fn method_not_allowed() -> Problem {
        let detail = "The Allow header names the methods of this path.";
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed", detail)
    }

    /// 408.
    pub fn timed_out(seconds: u64) -> Problem {
        let detail = format!("The body did not arrive within {seconds} s.");
        Problem::new(StatusCode::REQUEST_TIMEOUT, "timed_out", "The body took too long", detail)
    }

    /// 413.
    pub fn body_too_large(limit: usize) -> Problem {
        let detail = format!("The body may have {limit} bytes.");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large", detail)
    }

    /// 415.
    pub fn media_type_unsupported() -> Problem {
        let (kind, title) = ("media_type_unsupported", "Not JSON");
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, kind, title, "Send \"Content-Type: application/json\".")
    }

    /// 500: a defect of ours.
    pub fn internal() -> Problem {
        let detail = "A defect of this program; the log has the details under the request's id.";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error", detail)
    }
}

fn count(errors: usize) -> String {
    if errors == 1 { "1 error".into() } else { format!("{errors} errors") }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": format!("urn:hauld:problem:{}", self.kind),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
            "kind": self.kind,
        });
        if !self.errors.is_empty() {
            body["errors"] = json!(self.errors);
        }
        let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"))];
        let mut response = (self.status, content_type, body.to_string()).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
