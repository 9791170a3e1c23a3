//! The one client builder, and the one translation from HTTP trouble to failure kinds.

mod bearer;
mod connection;
mod connector;
pub(crate) mod cookies;
mod encoding;
mod guard;
mod headers;
mod login_page;
mod lookup;
mod media_client;
mod rate;
mod retry;
mod watched_file;

use std::error::Error as _;
use std::time::{Duration, SystemTime};

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use reqwest::header::{HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Client, ClientBuilder, Response, StatusCode};
use url::Url;

pub use bearer::Bearer;
pub use connection::OPEN_CONNECTIONS;
pub use cookies::{CookieJar, CookiesFor, timestamp, unix_now};
pub use encoding::{Collector, Encoding, GZIP_MARK_BYTES, Gunzip};
use guard::Guard;
pub use guard::{AllowedHost, is_host};
pub use headers::{RequestHeaders, headers_for};
pub use login_page::{is_html, is_login_page, rejected};
use lookup::Lookup;
pub use media_client::{MediaClient, MediaResponse, content_length};
pub use rate::RateLimit;
pub use retry::{LONGEST_PAUSE, pause, pause_bound};

use crate::config::{HttpSettings, ProxySettings};
use crate::failure::{Failure, FailureKind, Result, is_exhaustion};

/// How long a connection is kept for the next request: below the 30 s and more of common origins, so
/// that a request never races with an idle close.
const POOL_IDLE: Duration = Duration::from_secs(20);
/// Longest URL that is looked at.
const MAX_URL_BYTES: usize = 8 * 1024;

/// Reads an http or https URL.
///
/// # Errors
/// [`FailureKind::UrlInvalid`] when it is not one, has no host, carries credentials or is too long.
pub fn parse_url(text: &str) -> Result<Url> {
    let invalid = |reason: String| Failure::new(FailureKind::UrlInvalid, reason);
    if text.len() > MAX_URL_BYTES {
        return Err(invalid(format!("a URL of {} bytes is too long", text.len())));
    }
    let url = Url::parse(text.trim()).map_err(|error| invalid(format!("not a URL: {error}")))?;
    check_url(&url)?;
    Ok(url)
}

/// Whether a URL may be asked at all.
///
/// # Errors
/// [`FailureKind::UrlInvalid`] with the reason.
pub fn check_url(url: &Url) -> Result<()> {
    let invalid = |reason: &str| Err(Failure::new(FailureKind::UrlInvalid, format!("{}: {reason}", shown(url))));
    if !matches!(url.scheme(), "http" | "https") {
        return invalid("only http and https are asked");
    }
    if !url.has_host() {
        return invalid("has no host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return invalid("carries credentials");
    }
    Ok(())
}

/// A URL as it may be shown: no user, no password, no fragment, and the query only as `?…`, since
/// signatures and tokens stand there. Control characters are percent-encoded. Of a URL without a
/// hierarchy (`data:`) only the scheme.
pub fn shown(url: &Url) -> String {
    const SET: &AsciiSet = &CONTROLS.add(b' ');
    if url.cannot_be_a_base() {
        // The rest of a `data:` URL may be a key.
        return format!("{}:…", url.scheme());
    }
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let query = if url.query().is_some() { "?…" } else { "" };
    format!("{}://{host}{port}{}{query}", url.scheme(), utf8_percent_encode(url.path(), SET))
}

/// Builds a client for what the configuration names: a redirect is an answer like any other (what a
/// stranger names is asked by [`MediaClient`]), silence is bounded, no proxy comes from the
/// environment, bodies are as they are on the wire. HTTP/1.1 only: one connection for each request in flight.
///
/// # Errors
/// [`FailureKind::Internal`] when the TLS roots of the host cannot be loaded.
pub fn client(settings: &HttpSettings) -> Result<Client> {
    build(builder(settings)?)
}

/// As [`client`], for calls that change something: each has a connection of its own, since a call that
/// meets the idle close of a kept connection could not be sent again.
///
/// # Errors
/// As [`client`].
pub fn call_client(settings: &HttpSettings) -> Result<Client> {
    build(builder(settings)?.pool_max_idle_per_host(0))
}

fn builder(settings: &HttpSettings) -> Result<ClientBuilder> {
    install_crypto_provider();
    let builder = Client::builder()
        .user_agent(settings.user_agent.clone())
        .connect_timeout(settings.connect_timeout)
        .read_timeout(settings.idle_timeout)
        .tcp_nodelay(true)
        .dns_resolver(Lookup)
        .redirect(reqwest::redirect::Policy::none())
        .pool_idle_timeout(POOL_IDLE)
        .no_proxy()
        .http1_only();
    let builder = match &settings.network.proxy {
        Some(proxy) => builder.proxy(through(proxy, Guard::new(&settings.network))),
        None => builder,
    };
    let Some(authorities) = &settings.network.authorities else { return Ok(builder) };
    Ok(builder.tls_certs_merge(reqwest::Certificate::from_pem_bundle(authorities).map_err(not_built)?))
}

/// The proxy for all but our own hosts.
fn through(proxy: &ProxySettings, guard: Guard) -> reqwest::Proxy {
    let url = proxy.url.clone();
    let is_inside = move |url: &Url| url.as_str().parse().is_ok_and(|uri| guard.is_inside(&uri));
    let through = reqwest::Proxy::custom(move |asked| (!is_inside(asked)).then(|| url.clone()));
    match proxy.authorization() {
        Some(authorization) => through.custom_http_auth(authorization),
        None => through,
    }
}

fn build(builder: ClientBuilder) -> Result<Client> {
    builder.build().map_err(not_built)
}

fn not_built(error: reqwest::Error) -> Failure {
    Failure::new(FailureKind::Internal, format!("cannot build the HTTP client: {error}"))
}

pub(crate) fn install_crypto_provider() {
    // Only the first call of a process installs the provider; that it is there already is no error.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// What a failed request means. `url` is the one that was asked.
pub fn request_failure(url: &Url, error: &reqwest::Error) -> Failure {
    // The text of the error itself repeats the URL with its query.
    let mut failure = cause_failure(url, error.source(), error.is_request());
    if error.is_timeout() {
        let reason = if error.is_connect() { CONNECTING_TIMED_OUT } else { "the server stopped answering" };
        failure = Failure::new(FailureKind::TimedOut, format!("{}: {reason}", shown(url)));
    }
    failure
}

const CONNECTING_TIMED_OUT: &str = "connecting took too long";

/// What an error of the media client means: `before_head` tells whether an answer had begun.
fn error_failure(url: &Url, error: &(dyn std::error::Error + 'static), before_head: bool) -> Failure {
    cause_failure(url, Some(error), before_head)
}

/// Walks down to the cause, which says what it was.
fn cause_failure(url: &Url, mut source: Option<&(dyn std::error::Error + 'static)>, before_head: bool) -> Failure {
    let mut kind = FailureKind::ConnectionFailed;
    let mut reason = "the request failed".to_owned();
    while let Some(cause) = source {
        reason = cause.to_string();
        if cause.is::<guard::AddressRefused>() {
            kind = FailureKind::AddressRefused;
            break;
        }
        if cause.is::<lookup::LookupTimedOut>() {
            kind = FailureKind::TimedOut;
            break;
        }
        if cause.is::<rustls::Error>() {
            kind = FailureKind::TlsFailed;
        }
        if let Some(hyper) = cause.downcast_ref::<hyper::Error>()
            && (hyper.is_incomplete_message() || hyper.is_body_write_aborted())
            // Before the head of the answer there is no body that could be cut.
            && !before_head
        {
            kind = FailureKind::BodyTruncated;
        }
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            match io.kind() {
                std::io::ErrorKind::UnexpectedEof if !before_head => kind = FailureKind::BodyTruncated,
                std::io::ErrorKind::TimedOut => kind = FailureKind::TimedOut,
                _ => {}
            }
            if is_exhaustion(io) {
                kind = FailureKind::HostExhausted;
            }
            if before_head && kind == FailureKind::TimedOut {
                reason = CONNECTING_TIMED_OUT.into();
            }
            if is_tls(io) {
                kind = FailureKind::TlsFailed;
            }
        }
        source = cause.source();
    }
    Failure::new(kind, format!("{}: {reason}", shown(url)))
}

/// Errors of rustls come wrapped in an io::Error, some in two, which hides them from `source`.
fn is_tls(error: &std::io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|inner| inner.is::<rustls::Error>() || inner.downcast_ref::<std::io::Error>().is_some_and(is_tls))
}

/// What a status other than the one asked for means.
pub fn status_failure(url: &Url, status: StatusCode, headers: &HeaderMap) -> Failure {
    let kind = match status.as_u16() {
        404 => FailureKind::NotFound,
        401 | 403 | 410 => FailureKind::LinkExpired,
        429 => FailureKind::RateLimited,
        // The client hands back only those that it does not know how to follow: to another scheme.
        301 | 302 | 303 | 307 | 308 => FailureKind::RedirectRefused,
        500..=599 => FailureKind::ServerError,
        _ => FailureKind::HttpRejected,
    };
    let mut failure = Failure::new(kind, format!("{}: the server answered {status}", shown(url)));
    failure.retry_after = retry_after(headers, SystemTime::now());
    failure.is_overload = matches!(status.as_u16(), 429 | 503);
    failure
}

/// Where a redirect leads to; `None` when it does not say, or no URL.
pub fn redirect_target(url: &Url, headers: &HeaderMap) -> Option<Url> {
    url.join(headers.get(LOCATION)?.to_str().ok()?).ok()
}

/// `Retry-After` in seconds or as a date (RFC 9110 §10.2.3).
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    Some(httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default())
}

/// Reads a body of at most `limit` bytes, counting what arrives and not what is declared, with gzip
/// undone.
///
/// # Errors
/// [`FailureKind::BodyTooLarge`] over the limit, what [`Collector`] or [`request_failure`] says.
pub async fn read_body(mut response: Response, limit: usize) -> Result<Vec<u8>> {
    let url = response.url().clone();
    let at = |failure: Failure| failure.at(shown(&url));
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(body_too_large(&url, limit));
    }
    let mut body = Collector::new(response.headers(), limit).map_err(at)?;
    while let Some(chunk) = response.chunk().await.map_err(|error| request_failure(&url, &error))? {
        body.push(chunk).map_err(at)?;
    }
    body.finish().map_err(at)
}

fn body_too_large(url: &Url, limit: usize) -> Failure {
    Failure::new(FailureKind::BodyTooLarge, format!("{}: more than {limit} bytes", shown(url)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_44_shown_urls_hold_no_credentials() {
        let url = Url::parse("https://user:pass@h.example:8443/a%20b/c.m3u8?token=SECRET#frag").unwrap();
        assert_eq!(shown(&url), "https://h.example:8443/a%20b/c.m3u8?…");
        assert_eq!(shown(&Url::parse("data:text/plain;base64,S0VZ").unwrap()), "data:…");
    }

    #[test]
    fn line_44_only_http_without_credentials_is_asked() {
        assert!(parse_url("https://h.example/x").is_ok());
        for bad in ["file:///etc/passwd", "ftp://h/x", "//h/x", "http://u:p@h/", "data:,x", ""] {
            assert_eq!(parse_url(bad).unwrap_err().kind, FailureKind::UrlInvalid, "{bad}");
        }
        let failure = parse_url("http://u:p4ss@h/").unwrap_err();
        assert!(!failure.message.contains("p4ss"), "{}", failure.message);
    }

    #[test]
    fn line_33_retry_after_is_read_as_seconds_and_as_a_date() {
        let read = |text: &str, now| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers, now)
        };
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(read("7", now), Some(Duration::from_secs(7)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:47 GMT", now), Some(Duration::from_secs(10)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:07 GMT", now), Some(Duration::ZERO));
        assert_eq!(read("soon", now), None);
    }

    #[tokio::test]
    async fn a_failed_request_does_not_repeat_the_url() {
        install_crypto_provider();
        let url = Url::parse("http://127.0.0.1:9/x?token=SECRET").unwrap();
        let unsupported = reqwest::Client::builder().no_proxy().build().unwrap().get("x:?token=SECRET").send().await;
        let mut answer = axum::http::Response::new("");
        *answer.status_mut() = StatusCode::NOT_FOUND;
        for error in
            [unsupported.unwrap_err(), Response::from(answer).error_for_status().unwrap_err().with_url(url.clone())]
        {
            let failure = request_failure(&url, &error);
            assert!(!failure.message.contains("SECRET"), "{failure}");
        }
    }

    #[test]
    fn statuses_become_kinds() {
        let url = Url::parse("http://h/x?sig=1").unwrap();
        let kind = |code| status_failure(&url, StatusCode::from_u16(code).unwrap(), &HeaderMap::new()).kind;
        assert_eq!(kind(404), FailureKind::NotFound);
        assert_eq!(kind(403), FailureKind::LinkExpired);
        assert_eq!(kind(410), FailureKind::LinkExpired);
        assert_eq!(kind(429), FailureKind::RateLimited);
        assert_eq!(kind(503), FailureKind::ServerError);
        assert_eq!(kind(416), FailureKind::HttpRejected);
        assert_eq!(kind(302), FailureKind::RedirectRefused);
    }
}
