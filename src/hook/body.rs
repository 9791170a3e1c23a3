//! Reading a body: bounded in bytes and time, JSON only.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

use super::problem::{FieldError, Problem};

/// Largest body.
pub(super) const MAX_BODY_BYTES: usize = 1 << 20;
/// Limit for the whole body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the JSON of a request.
pub(super) async fn read(request: Request) -> Result<Value, Problem> {
    if !is_json(request.headers()) {
        return Err(Problem::media_type_unsupported());
    }
    let (_, body) = collect(request).await?;
    serde_json::from_slice(&body).map_err(|error| {
        let detail = format!("is not JSON: {error}");
        Problem::body_invalid(vec![FieldError { pointer: String::new(), detail }])
    })
}

/// Reads the whole body.
pub(super) async fn collect(request: Request) -> Result<(Parts, Bytes), Problem> {
    let (parts, body) = request.into_parts();
    let declared = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length: u64| length > MAX_BODY_BYTES as u64) {
        return Err(Problem::body_too_large(MAX_BODY_BYTES));
    }
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect()).await;
    let collected = collected.map_err(|_| Problem::timed_out(BODY_TIMEOUT.as_secs()))?;
    let problem = |error: Box<dyn std::error::Error + Send + Sync>| match error.is::<LengthLimitError>() {
        true => Problem::body_too_large(MAX_BODY_BYTES),
        false => Problem::body_truncated(),
    };
    Ok((parts, collected.map_err(problem)?.to_bytes()))
}

/// `application/json` or a format built on it (RFC 6839 §3.1), with any parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence.starts_with("application/") && essence.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_told_from_other_types() {
        let told = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            is_json(&headers)
        };
        for json in ["application/json", "Application/JSON; charset=utf-8", "application/cloudevents+json"] {
            assert!(told(json), "{json}");
        }
        for other in ["text/plain", "application/x-www-form-urlencoded", "text/x+json", "application/jsonx", ""] {
            assert!(!told(other), "{other}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
