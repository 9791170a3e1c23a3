//! Cookies: of a file that is read again when it changes, and what servers have set since.
//!
//! * `cookie`: one cookie, and where it goes
//! * `netscape`: the file
//! * `set_cookie`: what a server may set

mod cookie;
pub(crate) mod netscape;
pub(crate) mod set_cookie;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reqwest::header::{HeaderMap, HeaderValue, SET_COOKIE};
use url::Url;

use self::cookie::Cookie;
use super::watched_file::WatchedFile;
use crate::failure::{Failure, FailureKind, Result};

/// `Set-Cookie` headers of one answer that are looked at.
const MOST_OF_ONE_ANSWER: usize = 50;
/// Cookies that servers have set for one domain; the oldest goes first (RFC 6265 §6.1).
const MOST_OF_A_DOMAIN: usize = 50;
/// Cookies that servers have set in all.
const MOST_SET: usize = 1000;
/// Names that are told of cookies that have expired.
const MOST_TOLD: usize = 3;

/// Cookies. The file is looked at once a second, as long as they are used; it is never written. What is
/// new in it takes the place of what servers have made of its cookies. `Debug` shows no values.
#[derive(Default)]
pub struct CookieJar {
    file: Option<WatchedFile>,
    state: Mutex<State>,
    /// Of a job's jar: the cookies that all jobs share.
    shared: Option<Arc<CookieJar>>,
}

#[derive(Default)]
struct State {
    cookies: Vec<Cookie>,
    /// As the file had them when it was read, whatever servers have made of them since.
    read: Vec<Cookie>,
}

/// The cookies of a file that belong to a URL, as an operator is told of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CookiesFor {
    pub file: PathBuf,
    pub count: usize,
    /// Names and times, in Unix seconds, the soonest first.
    pub expiries: Vec<(String, i64)>,
    /// Names of those that the server has told us to forget.
    pub deleted: Vec<String>,
}

impl fmt::Debug for CookieJar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.lock().cookies).finish()
    }
}

impl CookieJar {
    /// The cookies of a file.
    ///
    /// # Errors
    /// `disk_failed` when it cannot be read. A file without a cookie is one: there may be some later.
    pub fn open(path: &Path) -> Result<CookieJar> {
        let opened = WatchedFile::open("the cookie jar", path, netscape::read);
        let (file, cookies) = opened.map_err(|reason| {
            Failure::new(FailureKind::DiskFailed, format!("the cookies file {} {reason}", path.display()))
        })?;
        let state = State { read: cookies.clone(), cookies };
        Ok(CookieJar { file: Some(file), state: Mutex::new(state), shared: None })
    }

    /// A jar for one job. What servers renew of the file's cookies is renewed for all; what they set
    /// beside those stays with the job: another job of the same host has its own.
    pub fn for_job(self: &Arc<Self>) -> Arc<CookieJar> {
        Arc::new(CookieJar { shared: Some(self.clone()), ..CookieJar::default() })
    }

    /// Reads the file again, whether it has changed or not.
    pub fn read_again(&self) {
        if let Some(file) = &self.file {
            file.read_again(|path| self.adopt(path));
        }
    }

    /// The `Cookie` header for a URL, marked sensitive.
    pub fn header_for(&self, url: &Url) -> Option<HeaderValue> {
        let now = unix_now();
        let mut cookies = self.belonging_to(url);
        cookies.retain(|cookie| !cookie.has_expired(now));
        // RFC 6265 §5.4: those of longer paths first.
        cookies.sort_by_key(|cookie| Reverse(cookie.path.len()));
        let pairs: Vec<String> = cookies.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
        if pairs.is_empty() {
            return None;
        }
        // cannot fail: each fits a header
        let mut header = HeaderValue::from_bytes(pairs.join("; ").as_bytes()).ok()?;
        header.set_sensitive(true);
        Some(header)
    }

    /// Keeps what an answer from `url` sets.
    pub fn store(&self, url: &Url, headers: &HeaderMap) {
        for value in headers.get_all(SET_COOKIE).iter().take(MOST_OF_ONE_ANSWER) {
            if let Some(cookie) = set_cookie::read(value, url, unix_now()) {
                self.keep(cookie, url.scheme() == "https");
            }
        }
    }

    fn keep(&self, cookie: Cookie, over_tls: bool) {
        let shared = self.shared.as_deref();
        if !over_tls && iter::once(self).chain(shared).any(|jar| jar.lock().shields_from(&cookie)) {
            return;
        }
        let shared = shared.filter(|shared| shared.lock().has_of_file(&cookie));
        shared.unwrap_or(self).lock().keep(cookie);
    }

    /// Everything that belongs to a URL, whether it has expired or not.
    fn belonging_to(&self, url: &Url) -> Vec<Cookie> {
        let mut cookies: Vec<Cookie> =
            self.looked().cookies.iter().filter(|cookie| cookie.goes_to(url)).cloned().collect();
        if let Some(shared) = &self.shared {
            let mut others = shared.belonging_to(url);
            others.retain(|other| !cookies.iter().any(|own| own.is_same(other)));
            cookies.append(&mut others);
        }
        cookies
    }

    /// What the file has for a URL, or in all; `None` without a file.
    pub fn of_file(&self, url: Option<&Url>) -> Option<CookiesFor> {
        if let Some(shared) = &self.shared {
            return shared.of_file(url);
        }
        let file = self.file.as_ref()?.path().to_owned();
        let state = self.looked();
        let of_file = state.cookies.iter().filter(|cookie| cookie.from_file);
        let cookies: Vec<&Cookie> = of_file.filter(|cookie| url.is_none_or(|url| cookie.goes_to(url))).collect();
        let (deleted, there): (Vec<&Cookie>, _) = cookies.iter().partition(|cookie| cookie.is_deleted);
        let mut expiries: Vec<(String, i64)> =
            there.iter().filter_map(|cookie| Some((cookie.name.clone(), cookie.expires?))).collect();
        expiries.sort_by_key(|(_, expires)| *expires);
        let deleted = deleted.iter().map(|cookie| cookie.name.clone()).collect();
        Some(CookiesFor { file, count: cookies.len(), expiries, deleted })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, with the file as it is now.
    fn looked(&self) -> MutexGuard<'_, State> {
        if let Some(file) = &self.file {
            file.look(|path| self.adopt(path));
        }
        self.lock()
    }

    fn adopt(&self, path: &Path) -> Result<(), String> {
        let cookies = netscape::read(path)?;
        if cookies.is_empty() {
            return Err("holds no cookie".into());
        }
        self.lock().adopt(cookies);
        Ok(())
    }
}

impl State {
    /// Takes over what the file has now. A cookie that stands there as it stood before says nothing
    /// new: what a server has made of it since stays.
    fn adopt(&mut self, new: Vec<Cookie>) {
        let by_key = |cookies: &[Cookie]| -> HashMap<[String; 3], Cookie> {
            cookies.iter().map(|cookie| (cookie.key().map(str::to_owned), cookie.clone())).collect()
        };
        let (before, mut held) = (by_key(&self.read), by_key(&self.cookies));
        let mut cookies: Vec<Cookie> = Vec::with_capacity(new.len());
        for cookie in &new {
            let key = cookie.key().map(str::to_owned);
            let held = held.remove(&key).filter(|_| before.get(&key) == Some(cookie));
            cookies.push(held.unwrap_or_else(|| cookie.clone()));
        }
        // In their order: the oldest goes first when there are too many.
        self.cookies.retain(|old| !old.from_file && held.contains_key(&old.key().map(str::to_owned)));
        cookies.append(&mut self.cookies);
        (self.cookies, self.read) = (cookies, new);
    }

    fn has_of_file(&self, cookie: &Cookie) -> bool {
        self.cookies.iter().any(|held| held.from_file && held.is_same(cookie))
    }

    fn shields_from(&self, cookie: &Cookie) -> bool {
        self.cookies.iter().any(|held| held.is_shielded_from(cookie))
    }

    /// Keeps what a server has set: in place of the same cookie, or as a new one.
    fn keep(&mut self, cookie: Cookie) {
        let Some(at) = self.cookies.iter().position(|held| held.is_same(&cookie)) else {
            if !cookie.is_deleted {
                self.make_room_for(&cookie);
                self.cookies.push(cookie);
            }
            return;
        };
        let held = &mut self.cookies[at];
        if cookie.is_deleted && !held.from_file {
            self.cookies.remove(at);
            return;
        }
        *held = Cookie { from_file: held.from_file, ..cookie };
    }

    fn make_room_for(&mut self, cookie: &Cookie) {
        for (most, domain) in [(MOST_OF_A_DOMAIN, Some(&cookie.domain)), (MOST_SET, None)] {
            let is_one = |held: &Cookie| !held.from_file && domain.is_none_or(|domain| held.domain == *domain);
            if self.cookies.iter().filter(|held| is_one(held)).count() >= most
                && let Some(oldest) = self.cookies.iter().position(is_one)
            {
                self.cookies.remove(oldest);
            }
        }
    }
}

impl CookiesFor {
    /// Whether one of them has expired or was deleted by the server: only a new file helps.
    pub fn has_run_out(&self) -> bool {
        self.expired().next().is_some() || !self.deleted.is_empty()
    }

    /// Those that have expired, with the time.
    pub fn expired(&self) -> impl Iterator<Item = &(String, i64)> {
        let now = unix_now();
        self.expiries.iter().take_while(move |(_, expires)| *expires <= now)
    }
}

/// "the cookies in /etc/hauld/cookies.txt ("session" expired at 2026-01-13T02:00:00Z)"
impl fmt::Display for CookiesFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the cookies in {}", self.file.display())?;
        let expired = self.expired().map(|(name, at)| format!("{name:?} expired at {}", timestamp(*at)));
        let deleted = self.deleted.iter().map(|name| format!("the server has deleted {name:?}"));
        let told: Vec<String> = expired.chain(deleted).take(MOST_TOLD).collect();
        match told.is_empty() {
            true => Ok(()),
            false => write!(f, " ({})", told.join(", ")),
        }
    }
}

/// Unix seconds now.
pub fn unix_now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// A time in Unix seconds as text.
pub fn timestamp(seconds: i64) -> String {
    let timestamp = jiff::Timestamp::from_second(seconds);
    timestamp.map_or_else(|_| "a time far away".to_owned(), |timestamp| timestamp.to_string())
}
