//! The client that everything is fetched with (courses, playlists, keys, segments, files): GET over
//! HTTP/1.1, one TCP connection for each request in flight. It follows redirects itself: headers and
//! cookies are made anew for each hop.
//!
//! It is hyper's own client rather than the one of [`super::client`], because that one cannot bound
//! its read buffers: with 32 requests in flight they alone would take 16 MiB.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, LOCATION, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;
use url::Url;

use super::connector::{Connector, Proxy};
use super::guard::Guard;
use super::{Collector, POOL_IDLE, RequestHeaders, check_url, error_failure, shown, status_failure};
use super::{is_html, is_login_page, rejected};
use crate::config::{HeadLimits, HttpSettings, MinimumRate, NetworkSettings};
use crate::failure::{Context, Failure, FailureKind, Result};

/// Largest piece of a body that is read at once: large enough that system calls cost little, small
/// enough that the allocator serves it without asking the kernel for fresh pages.
const READ_BYTES: usize = 128 * 1024;

/// Asks for everything that is fetched; cheap to clone.
#[derive(Clone)]
pub struct MediaClient {
    client: Client<Connector, Empty<Bytes>>,
    user_agent: HeaderValue,
    idle_timeout: Duration,
    minimum_rate: MinimumRate,
    head: HeadLimits,
    max_redirects: usize,
    max_key_redirects: usize,
}

/// An answer whose body has yet to come. Dropping it closes its connection.
pub struct MediaResponse {
    /// Where it was found in the end.
    pub url: Url,
    /// What was asked for; failures name it.
    asked: Url,
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Incoming,
    idle_timeout: Duration,
    pace: Pace,
}

impl MediaClient {
    /// Builds the client.
    ///
    /// # Errors
    /// `internal` when the User-Agent is not fit for a header.
    pub fn new(settings: &HttpSettings) -> Result<MediaClient> {
        MediaClient::guarded(settings, Guard::new(&settings.network))
    }

    fn guarded(settings: &HttpSettings, guard: Guard) -> Result<MediaClient> {
        let proxy = settings.network.proxy.as_ref().map(Proxy::new).transpose()?;
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .http1_max_buf_size(READ_BYTES.max(2 * settings.head.max_bytes))
            .http1_max_headers(settings.head.max_headers)
            .build(Connector::new(guard, settings.connect_timeout, settings.network.authorities.as_deref(), proxy));
        let user_agent = HeaderValue::try_from(&settings.user_agent).map_err(|error| {
            Failure::new(FailureKind::Internal, format!("cannot build the HTTP client: http.user_agent: {error}"))
        })?;
        let &HttpSettings { idle_timeout, minimum_rate, head, ref network, .. } = settings;
        let &NetworkSettings { max_redirects, max_key_redirects, .. } = network;
        Ok(MediaClient { client, user_agent, idle_timeout, minimum_rate, head, max_redirects, max_key_redirects })
    }

    /// This client, following as many redirects as a key may have.
    pub fn for_keys(&self) -> MediaClient {
        MediaClient { max_redirects: self.max_redirects.min(self.max_key_redirects), ..self.clone() }
    }

    /// Asks for `url` with the stream's headers for it and `extra` ones, over redirects.
    ///
    /// # Errors
    /// `redirect_refused`, `address_refused`, `credentials_rejected` for a redirect to a login page,
    /// `tls_failed`, `timed_out` or `connection_failed`; a status is no error here.
    pub async fn get(&self, url: &Url, headers: &RequestHeaders, extra: &HeaderMap) -> Result<MediaResponse> {
        let mut at = url.clone();
        let mut hops = 0;
        loop {
            let response = self.ask(url, &at, headers, extra).await?;
            headers.store_cookies(&at, &response.headers);
            let redirects = matches!(response.status.as_u16(), 301 | 302 | 303 | 307 | 308);
            let Some(location) = response.headers.get(LOCATION).filter(|_| redirects) else {
                return response.unless_login_page(headers);
            };
            // Bytes and not text: a location need not be ASCII to be a URL.
            let next = at.join(&String::from_utf8_lossy(location.as_bytes()));
            hops += 1;
            let checked = match next {
                _ if hops > self.max_redirects => Err("too many redirects"),
                Ok(next) => check_redirect(&at, &next).map(|()| next),
                Err(_) => Err("its target is not a URL"),
            };
            at = checked.map_err(|reason| {
                Failure::new(FailureKind::RedirectRefused, format!("{}: redirect refused: {reason}", shown(url)))
            })?;
        }
    }

    /// One request of what may become several. Failures name the URL that was asked first.
    async fn ask(&self, first: &Url, url: &Url, headers: &RequestHeaders, extra: &HeaderMap) -> Result<MediaResponse> {
        let invalid = |error: &dyn std::fmt::Display| {
            Failure::new(FailureKind::UrlInvalid, format!("{}: cannot be asked: {error}", shown(first)))
        };
        let mut target = url.clone();
        target.set_fragment(None);
        let mut request = Request::get(target.as_str()).body(Empty::new()).map_err(|error| invalid(&error))?;
        let map = request.headers_mut();
        *map = headers.for_url(url);
        map.extend(extra.iter().map(|(name, value)| (name.clone(), value.clone())));
        map.entry(USER_AGENT).or_insert_with(|| self.user_agent.clone());
        let Ok(answer) = tokio::time::timeout(self.idle_timeout, self.client.request(request)).await else {
            return Err(timed_out(first));
        };
        let (head, body) = answer.map_err(|error| error_failure(first, &error, true))?.into_parts();
        check_head(&head.headers, self.head).at(|| shown(first))?;
        let idle_timeout = self.idle_timeout;
        Ok(MediaResponse {
            url: url.clone(),
            asked: first.clone(),
            status: head.status,
            headers: head.headers,
            body,
            idle_timeout,
            pace: Pace::new(self.minimum_rate),
        })
    }
}

/// The declared length of a body in bytes.
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

impl MediaResponse {
    /// Whether a redirect has led here.
    pub fn was_redirected(&self) -> bool {
        self.url != self.asked
    }

    /// What it means that the answer is not the one that was asked for. 401 is about our cookies for
    /// where it came from if they have run out. If not, it may as well be about this one file: such a job
    /// must not wait for new cookies without end. 403 may be about a link that has expired as well.
    pub fn refusal(&self, headers: &RequestHeaders) -> Failure {
        let mut failure = status_failure(&self.asked, self.status, &self.headers);
        let login = match self.status {
            // A redirect's target has not seen the cookies for what was asked.
            StatusCode::UNAUTHORIZED => headers.login_for(&self.url),
            StatusCode::FORBIDDEN => {
                let login = headers.login_for(&self.asked).or_else(|| headers.login_for(&self.url));
                login.filter(|login| login.expired().next().is_some())
            }
            _ => None,
        };
        match login {
            Some(login) if self.status == StatusCode::UNAUTHORIZED && login.has_run_out() => {
                rejected(&self.asked, format_args!("the server answered {}", self.status), login)
            }
            Some(login) => {
                failure.message = format!("{}; look at {login}", failure.message);
                failure
            }
            None => failure,
        }
    }

    /// Itself, unless it is the login page that a redirect of our cookies has led to.
    fn unless_login_page(self, headers: &RequestHeaders) -> Result<MediaResponse> {
        if self.was_redirected()
            && is_html(&self.headers)
            && is_login_page(&self.asked, &self.url)
            && let Some(login) = headers.login_for(&self.asked)
        {
            return Err(rejected(&self.asked, format_args!("redirected to {}", shown(&self.url)), login));
        }
        Ok(self)
    }

    /// The declared length of the body in bytes.
    pub fn content_length(&self) -> Option<u64> {
        content_length(&self.headers)
    }

    /// The next piece of the body, up to 128 KiB; `None` at its end.
    ///
    /// # Errors
    /// `body_truncated`, `timed_out` for silence and for a body that comes too slowly,
    /// `connection_failed`.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        loop {
            let asked = Instant::now();
            let Ok(frame) = tokio::time::timeout(self.idle_timeout, self.body.frame()).await else {
                return Err(timed_out(&self.asked));
            };
            match frame {
                None => return Ok(None),
                // Anything else is trailers, which say nothing about media.
                Some(Ok(frame)) => {
                    let data = frame.into_data().unwrap_or_default();
                    self.pace.count(asked.elapsed(), data.len()).at(|| shown(&self.asked))?;
                    if !data.is_empty() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(error)) => return Err(error_failure(&self.asked, &error, false)),
            }
        }
    }

    /// The whole body, of at most `limit` bytes, counting what arrives and not what is declared, with
    /// gzip undone.
    ///
    /// # Errors
    /// `body_too_large` over the limit, or as [`Collector`] and [`MediaResponse::chunk`].
    pub async fn read_body(mut self, limit: usize) -> Result<Vec<u8>> {
        if self.content_length().is_some_and(|length| length > limit as u64) {
            return Err(super::body_too_large(&self.asked, limit));
        }
        let mut body = Collector::new(&self.headers, limit).at(|| shown(&self.asked))?;
        while let Some(chunk) = self.chunk().await? {
            body.push(chunk).at(|| shown(&self.asked))?;
        }
        let body = body.finish().at(|| shown(&self.asked))?;
        self.leave().await;
        Ok(body)
    }

    /// Ends an answer whose body has come to its end, so that its connection is free before
    /// whoever waits for this one asks in turn: that request would open another connection, and
    /// those begin slowly.
    pub async fn leave(self) {
        drop(self);
        // The connection goes back to the pool by way of two tasks of the client's.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }
}

/// How fast a body comes, by the time that was spent waiting for it: not by that in which it was left
/// lying because we were busy.
struct Pace {
    least: MinimumRate,
    waited: Duration,
    received: u64,
}

impl Pace {
    fn new(least: MinimumRate) -> Pace {
        Pace { least, waited: Duration::ZERO, received: 0 }
    }

    fn count(&mut self, waited: Duration, bytes: usize) -> Result<()> {
        self.waited += waited;
        self.received += bytes as u64;
        if self.waited < self.least.window {
            return Ok(());
        }
        let rate = self.received as f64 / self.waited.as_secs_f64();
        if rate < self.least.bytes_per_second as f64 {
            let message = format!("{rate:.0} bytes a second came, {} must", self.least.bytes_per_second);
            return Err(Failure::new(FailureKind::TimedOut, message));
        }
        *self = Pace::new(self.least);
        Ok(())
    }
}

/// Whether a redirect may be followed, as far as its URL tells.
fn check_redirect(from: &Url, to: &Url) -> Result<(), &'static str> {
    if check_url(to).is_err() {
        return Err("only http and https are asked, without credentials");
    }
    if from.scheme() == "https" && to.scheme() == "http" {
        return Err("from https down to http");
    }
    Ok(())
}

/// Whether the headers of an answer are as few bytes as they must be. What is far larger never comes here.
fn check_head(headers: &HeaderMap, limits: HeadLimits) -> Result<()> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes <= limits.max_bytes {
        return Ok(());
    }
    let message = format!("the headers have {bytes} bytes, more than {} (http.max_header_bytes)", limits.max_bytes);
    Err(Failure::new(FailureKind::HttpRejected, message))
}

fn timed_out(url: &Url) -> Failure {
    Failure::new(FailureKind::TimedOut, format!("{}: the server stopped answering", shown(url)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::net::TcpListener;

    use super::*;
    use crate::config::Config;

    /// Answers every connection once, and counts them.
    async fn serve_one_request_each(listener: TcpListener, served: Arc<AtomicUsize>) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut stream, _)) = listener.accept().await {
            served.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
        }
    }

    #[tokio::test]
    async fn line_13_a_name_that_leads_elsewhere_a_moment_later_is_checked_again_and_what_was_checked_is_connected_to()
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://rebound.example:{}/", listener.local_addr().unwrap().port())).unwrap();
        let (served, lookups) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        tokio::spawn(serve_one_request_each(listener, served.clone()));
        // 127.0.0.1 stands for a public address here: it is let through, 127.0.0.2 is not.
        let guard = Guard::answering(&["127.0.0.1"], &[&["127.0.0.1"], &["127.0.0.2"]], lookups.clone());
        let config = Config::load(None, Default::default(), Default::default()).unwrap();
        let client = MediaClient::guarded(&config.http, guard).unwrap();
        let headers = RequestHeaders::new(&url, &[], Arc::default()).unwrap();
        let ask = async || client.get(&url, &headers, &HeaderMap::new()).await;

        let body = ask().await.unwrap().read_body(100).await.unwrap();
        assert_eq!(body, b"ok");
        assert_eq!(lookups.load(Ordering::SeqCst), 1, "connecting does not look the name up again");
        let failure = ask().await.err().expect("the name leads inside now");
        assert_eq!(failure.kind, FailureKind::AddressRefused);
        assert!(failure.message.contains("127.0.0.2, a loopback address"), "{failure}");
        assert_eq!((lookups.load(Ordering::SeqCst), served.load(Ordering::SeqCst)), (2, 1));
    }

    #[test]
    fn line_25_a_body_that_drips_is_given_up_and_one_that_waits_for_us_is_not() {
        let least = MinimumRate { bytes_per_second: 100, window: Duration::from_secs(10) };
        let mut pace = Pace::new(least);
        for _ in 0..9 {
            pace.count(Duration::from_secs(1), 1).unwrap();
        }
        assert_eq!(pace.count(Duration::from_secs(1), 1).unwrap_err().kind, FailureKind::TimedOut);
        let mut pace = Pace::new(least);
        for _ in 0..100 {
            pace.count(Duration::from_millis(1), 1).unwrap();
        }
        let mut pace = Pace::new(least);
        pace.count(Duration::from_secs(10), 1000).unwrap();
        assert!(pace.count(Duration::from_secs(10), 999).is_err(), "each window counts for itself");
    }

    #[test]
    fn line_14_redirects_never_lead_down() {
        let check = |from: &str, to: &str| check_redirect(&Url::parse(from).unwrap(), &Url::parse(to).unwrap());
        assert!(check("http://h/", "https://other/").is_ok());
        assert!(check("https://h/", "https://other/").is_ok());
        for to in ["http://h/", "ftp://h/", "https://user:p4ss@h/", "data:,x", "file:///etc/passwd"] {
            assert!(check("https://h/", to).is_err(), "{to}");
        }
    }
}
