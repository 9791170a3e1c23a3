//! Who gets in, and what is seen of it: bearer token, request id, one log line, metrics.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tracing::Instrument;

use super::problem::Problem;
use super::{ENROLL, Hook, ORDERS};
use crate::metrics::RouteLabel;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id that is taken over from a caller.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// The hook's bearer token, kept as its SHA-256: hashes have one length, so that comparing them
/// tells nothing about the token's.
pub(super) struct Token(Option<[u8; 32]>);

impl Token {
    pub fn new(token: Option<&SecretString>) -> Token {
        Token(token.map(|token| Sha256::digest(token.expose_secret()).into()))
    }

    /// Says why not; the caller of the hook must not hear it.
    fn admits(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        let expected = self.0.as_ref().ok_or("hook.token is not set")?;
        let value = headers.get(header::AUTHORIZATION).ok_or("no Authorization header")?;
        let (scheme, token) = value.as_bytes().split_at_checked(7).ok_or("not a bearer token")?;
        if !scheme.eq_ignore_ascii_case(b"Bearer ") {
            return Err("not a bearer token");
        }
        let given: [u8; 32] = Sha256::digest(token.trim_ascii_start()).into();
        if bool::from(given.ct_eq(expected)) { Ok(()) } else { Err("wrong token") }
    }
}

/// Lets only holders of the token through. Nothing of the body has been read yet.
pub(super) async fn authenticate(State(hook): State<Arc<Hook>>, request: Request, next: Next) -> Response {
    match hook.token.admits(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(cause) => {
            tracing::warn!(cause, "a request to the hook was turned away");
            Problem::unauthorized().into_response()
        }
    }
}

/// Gives each request an id, which is in its answer and in every log line of it, and counts it.
pub(super) async fn observe(State(hook): State<Arc<Hook>>, request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let id = request_id(request.headers());
    let method = request.method().clone();
    let route = route(request.extensions().get::<MatchedPath>());
    // An error's span: at log level warn, too, the lines of a request have its id.
    let span = tracing::error_span!("hook", request_id = id.to_str().unwrap_or_default());
    async {
        let mut response = next.run(request).await;
        let (code, elapsed) = (response.status().as_u16(), begin.elapsed().as_secs_f64());
        hook.metrics.hook_requests.get_or_create(&RouteLabel { route, code }).inc();
        hook.metrics.hook_seconds.observe(elapsed);
        tracing::info!(%method, route, status = code, elapsed_seconds = elapsed, "hook request");
        response.headers_mut().insert(REQUEST_ID, id);
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
    .instrument(span)
    .await
}

/// The pattern that matched: paths of strangers do not become label values.
fn route(matched: Option<&MatchedPath>) -> &'static str {
    let known = [ENROLL, ORDERS].into_iter().find(|known| matched.is_some_and(|path| path.as_str() == *known));
    known.unwrap_or("other")
}

/// The caller's id if it is one word of harmless characters, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let sane = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte);
        (1..=MAX_REQUEST_ID_BYTES).contains(&bytes.len()) && bytes.iter().all(harmless)
    };
    if let Some(value) = headers.get(REQUEST_ID).filter(sane) {
        return value.clone();
    }
    // Unlike any other, not unguessable: the standard library's random keys and a number.
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Relaxed);
    let text = format!("{:016x}", RandomState::new().hash_one((number, std::process::id())));
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(token: Option<&str>, authorization: Option<&str>) -> Result<(), &'static str> {
        let mut headers = HeaderMap::new();
        if let Some(authorization) = authorization {
            headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
        }
        Token::new(token.map(SecretString::from).as_ref()).admits(&headers)
    }

    #[test]
    fn only_the_whole_token_opens() {
        assert_eq!(admits(Some("s3cret"), Some("Bearer s3cret")), Ok(()));
        assert_eq!(admits(Some("s3cret"), Some("bearer  s3cret")), Ok(()));
        for wrong in [
            "Bearer s3cre",
            "Bearer s3cret ",
            "Bearer s3cret2",
            "Bearer S3CRET",
            "Bearer ",
            "s3cret",
            "Basic s3cret",
            "",
        ] {
            assert!(admits(Some("s3cret"), Some(wrong)).is_err(), "{wrong}");
        }
        assert!(admits(Some("s3cret"), None).is_err());
        assert!(admits(None, Some("Bearer ")).is_err());
    }

    #[test]
    fn request_ids_are_taken_over_when_harmless() {
        let id = |given: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(given).unwrap());
            request_id(&headers).to_str().unwrap().to_owned()
        };
        assert_eq!(id(b"01J-a.b_c"), "01J-a.b_c");
        for strange in [&b""[..], b"a b", b"a\"b", b"\xffx", &[b'a'; 129]] {
            assert_eq!(id(strange).len(), 16, "{strange:?}");
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
