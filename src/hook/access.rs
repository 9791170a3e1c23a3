//! Who gets in, and what is seen of it: tokens and signatures, limits, request id, one log line,
//! metrics.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::{Quota, RateLimiter};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tracing::Instrument;

use super::credentials::Credentials;
use super::problem::Problem;
use super::signature::{self, Signed, WINDOW_SECONDS};
use super::{Hook, ROUTES, body};
use crate::admission::{Attempts, Limiter, bearer_token, wait};
use crate::current::Current;
use crate::metrics::RouteLabel;
use crate::queue;
use crate::redis_client::Commands;
use crate::serve::Peer;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id that is taken over from a caller.
const MAX_REQUEST_ID_BYTES: usize = 128;
/// Bodies that are read at once of callers who have not proved yet who they are: a signature covers
/// the body, so it must be read first.
const UNPROVEN_BODIES: usize = 64;
/// How long a signed request is remembered: as long as its timestamp can be in the window.
const REMEMBERED: Duration = Duration::from_secs(2 * WINDOW_SECONDS.unsigned_abs());
/// Signed requests that are remembered in memory; Redis remembers them for all instances.
const MOST_REMEMBERED: usize = 100_000;
/// Between two looks for what can be forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// The name of its file; nobody else has it.
    pub name: String,
    /// The id that it gave its signed message.
    pub message_id: Option<String>,
}

impl Caller {
    /// What a key of this caller is called: other callers may use the same.
    pub fn hash(&self, key: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(&self.name);
        hash.update([0]);
        hash.update(key);
        hex::encode(&hash.finalize()[..16])
    }
}

/// What decides.
pub(super) struct Access {
    credentials: Current<Credentials>,
    commands: Commands,
    /// What the keys of signed requests begin with.
    seen_prefix: String,
    seen: Mutex<HashMap<String, Instant>>,
    max_requests: AtomicU32,
    requests: Current<Limiter<String>>,
    failures: Attempts,
    forgotten: Mutex<Instant>,
    unproven: Semaphore,
}

impl Access {
    pub fn new(credentials: Credentials, commands: Commands, list: &str, max_requests: NonZeroU32) -> Access {
        Access {
            credentials: Current::new(credentials),
            commands,
            seen_prefix: format!("{}hook_seen:", queue::key_prefix(list)),
            seen: Mutex::default(),
            max_requests: AtomicU32::new(max_requests.get()),
            requests: Current::new(RateLimiter::hashmap(Quota::per_second(max_requests))),
            failures: Attempts::new(),
            forgotten: Mutex::new(Instant::now()),
            unproven: Semaphore::new(UNPROVEN_BODIES),
        }
    }

    pub fn replace(&self, credentials: Credentials, max_requests: NonZeroU32) {
        self.credentials.replace(credentials);
        // The same limit goes on with what it has counted.
        if self.max_requests.swap(max_requests.get(), Relaxed) != max_requests.get() {
            self.requests.replace(RateLimiter::hashmap(Quota::per_second(max_requests)));
        }
    }

    /// Who it is, with the request as it can be read further.
    async fn admit(&self, request: Request) -> Result<(Caller, Request), Problem> {
        let credentials = self.credentials.get();
        let headers = request.headers();
        if headers.contains_key(header::AUTHORIZATION) {
            let name = bearer(&credentials, headers).map_err(turned_away)?;
            let caller = Caller { name, message_id: None };
            return Ok((caller, request));
        }
        if signature::is_there(headers) {
            // The semaphore is never closed.
            let _permit = self.unproven.acquire().await.map_err(|_| Problem::internal())?;
            let (parts, bytes) = body::collect(request).await?;
            let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
            let now = jiff::Timestamp::now().as_second();
            let signed = signature::check(&credentials, &parts.headers, target, &bytes, now).map_err(turned_away)?;
            if !self.is_first(&signed).await {
                return Err(Problem::replayed());
            }
            let caller = Caller { name: signed.caller, message_id: signed.message_id };
            return Ok((caller, Request::from_parts(parts, Body::from(bytes))));
        }
        if credentials.are_none() {
            // Only on a loopback address: the configuration is refused otherwise.
            return Ok((Caller { name: "anybody".into(), message_id: None }, request));
        }
        Err(turned_away("neither a token nor a signature"))
    }

    /// Whether the signed request has not been seen before, here or by another instance.
    async fn is_first(&self, signed: &Signed) -> bool {
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.len() >= MOST_REMEMBERED {
                seen.retain(|_, at| at.elapsed() < REMEMBERED);
            }
            if seen.len() >= MOST_REMEMBERED || seen.insert(signed.fingerprint.clone(), Instant::now()).is_some() {
                return false;
            }
        }
        let key = format!("{}{}", self.seen_prefix, signed.fingerprint);
        let mut set = redis::cmd("SET");
        set.arg(key).arg(1).arg("NX").arg("EX").arg(REMEMBERED.as_secs());
        let answer: Result<Option<String>, _> = set.query_async(&mut self.commands.clone()).await;
        // While Redis is away this instance alone remembers.
        !matches!(answer, Ok(None))
    }

    /// Forgets callers that have been quiet.
    fn forget_the_quiet(&self) {
        let mut forgotten = self.forgotten.lock().unwrap_or_else(PoisonError::into_inner);
        if forgotten.elapsed() > FORGET_EVERY {
            *forgotten = Instant::now();
            self.requests.get().retain_recent();
            self.failures.forget_the_quiet();
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, at| at.elapsed() < REMEMBERED);
        }
    }
}

/// Whose token is in the header. Says why not.
fn bearer(credentials: &Credentials, headers: &HeaderMap) -> Result<String, &'static str> {
    credentials.holder(bearer_token(headers)?).map(str::to_owned).ok_or("wrong token")
}

/// The cause is for the log only.
fn turned_away(cause: &'static str) -> Problem {
    tracing::warn!(cause, "a request to the hook was turned away");
    Problem::unauthorized()
}

/// Lets only those through who prove who they are, and not too many at once.
pub(super) async fn authenticate(State(hook): State<Arc<Hook>>, request: Request, next: Next) -> Response {
    let access = &hook.access;
    access.forget_the_quiet();
    let address = request.extensions().get::<Peer>().map(|Peer(peer)| peer.ip());
    let address = address.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)).ip());
    let (caller, mut request) = match access.admit(request).await {
        Ok(admitted) => admitted,
        Err(problem) if problem.is_unauthorized() => {
            return access.failures.failed(address).map_or_else(too_many, |()| problem).into_response();
        }
        Err(problem) => return problem.into_response(),
    };
    if let Err(until) = access.requests.get().check_key(&caller.name) {
        return too_many(wait(&until)).into_response();
    }
    tracing::Span::current().record("caller", &caller.name);
    request.extensions_mut().insert(caller);
    next.run(request).await
}

fn too_many(wait: Duration) -> Problem {
    Problem::too_many_requests(wait.as_secs() + 1)
}

/// Gives each request an id, which is in its answer and in every log line of it, and counts it.
pub(super) async fn observe(State(hook): State<Arc<Hook>>, request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let id = request_id(request.headers());
    let method = request.method().clone();
    let route = route(request.extensions().get::<MatchedPath>());
    // An error's span: at log level warn, too, the lines of a request have its id.
    let request_id = id.to_str().unwrap_or_default();
    let span = tracing::error_span!("hook", request_id, caller = tracing::field::Empty);
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
    let known = ROUTES.into_iter().find(|known| matched.is_some_and(|path| path.as_str() == *known));
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
    use secrecy::SecretString;

    use super::*;
    use crate::config::Config;

    fn admits(authorization: Option<&str>) -> Result<String, &'static str> {
        let mut headers = HeaderMap::new();
        if let Some(authorization) = authorization {
            headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
        }
        let mut settings = Config::load(None, Default::default(), Default::default()).unwrap().hook;
        settings.token = Some(SecretString::from("s3cret"));
        bearer(&Credentials::read(&settings).unwrap(), &headers)
    }

    #[test]
    fn only_the_whole_token_opens() {
        assert_eq!(admits(Some("Bearer s3cret")), Ok("token".into()));
        assert_eq!(admits(Some("bearer  s3cret")), Ok("token".into()));
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
            assert!(admits(Some(wrong)).is_err(), "{wrong}");
        }
        assert!(admits(None).is_err());
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
