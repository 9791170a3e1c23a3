//! `Set-Cookie`: what a server may set.

use reqwest::header::HeaderValue;
use url::{Host, Url};

use super::cookie::Cookie;

/// Longest header that is looked at, in bytes: name, value and attributes.
const MAX_BYTES: usize = 8192;

/// The cookie of a `Set-Cookie` header of an answer from `url` (RFC 6265 §5.2, §5.3). One that has
/// expired already means that the server wants it forgotten. `None` for what is no cookie, and for
/// what this server may not set: for another domain than its own, for a public suffix, without TLS what
/// only goes over TLS.
pub fn read(value: &HeaderValue, url: &Url, now: i64) -> Option<Cookie> {
    let text = std::str::from_utf8(value.as_bytes()).ok().filter(|text| text.len() <= MAX_BYTES)?;
    let set = cookie::Cookie::parse(text).ok()?;
    let (domain, include_subdomains) = domain(set.domain(), url)?;
    let secure = set.secure() == Some(true);
    if secure && url.scheme() != "https" {
        return None;
    }
    let path = set.path().filter(|path| path.starts_with('/')).unwrap_or_else(|| default_path(url));
    let after = set.max_age().map(|age| now.saturating_add(age.whole_seconds()));
    let expires = after.or_else(|| Some(set.expires_datetime()?.unix_timestamp()));
    let cookie = Cookie {
        domain,
        include_subdomains,
        path: path.to_owned(),
        secure,
        expires,
        name: set.name().to_owned(),
        value: set.value().to_owned(),
        from_file: false,
        is_deleted: expires.is_some_and(|expires| expires <= now),
    };
    (cookie.fits_a_header() && keeps_its_promise(&cookie)).then_some(cookie)
}

/// The domain that a cookie is for, and whether it goes to hosts below it, too.
fn domain(attribute: Option<&str>, url: &Url) -> Option<(String, bool)> {
    let host = url.host()?.to_owned();
    let Some(attribute) = attribute.filter(|domain| !domain.is_empty()) else {
        return Some((host.to_string(), false));
    };
    let domain = Host::parse(attribute.trim_start_matches('.')).ok()?;
    if let (Host::Domain(domain), Host::Domain(host)) = (&domain, &host) {
        let is_above = host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        // `None` for "com", "co.uk" or "cloudfront.net": everybody has hosts there.
        if is_above && psl::domain_str(domain).is_some() {
            return Some((domain.clone(), true));
        }
    }
    // An address, or a public suffix that is a host itself: it may set for itself alone.
    (domain == host).then(|| (host.to_string(), false))
}

/// RFC 6265 §5.1.4.
fn default_path(url: &Url) -> &str {
    match url.path().rfind('/') {
        None | Some(0) => "/",
        Some(end) => &url.path()[..end],
    }
}

/// The names that promise something about where the cookie is from (RFC 6265bis §4.1.3).
fn keeps_its_promise(cookie: &Cookie) -> bool {
    let promises = |prefix: &str| cookie.name.get(..prefix.len()).is_some_and(|name| name.eq_ignore_ascii_case(prefix));
    match () {
        () if promises("__Host-") => cookie.secure && !cookie.include_subdomains && cookie.path == "/",
        () if promises("__Secure-") => cookie.secure,
        () => true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_768_262_400;

    fn set(text: &str, url: &str) -> Option<Cookie> {
        read(&HeaderValue::from_str(text).unwrap(), &Url::parse(url).unwrap(), NOW)
    }

    /// Domain, subdomains, path.
    fn place(text: &str, url: &str) -> Option<(String, bool, String)> {
        set(text, url).map(|cookie| (cookie.domain, cookie.include_subdomains, cookie.path))
    }

    #[test]
    fn a_server_sets_for_its_own_domain_only() {
        let at = |domain: &str, subdomains: bool, path: &str| Some((domain.to_owned(), subdomains, path.to_owned()));
        let url = "https://a.learn.example.co.uk/course/1/index.m3u8";
        assert_eq!(place("n=v", url), at("a.learn.example.co.uk", false, "/course/1"));
        assert_eq!(place("n=v; Path=/", url), at("a.learn.example.co.uk", false, "/"));
        assert_eq!(place("n=v; Path=course", url), at("a.learn.example.co.uk", false, "/course/1"));
        assert_eq!(place("n=v; path=/x; domain=.Example.CO.UK", url), at("example.co.uk", true, "/x"));
        assert_eq!(place("n=v; Domain=", url), at("a.learn.example.co.uk", false, "/course/1"));
        for foreign in ["b.learn.example.co.uk", "co.uk", "uk", "mple.co.uk", "example.com", "x y", "10.0.0.1"] {
            assert_eq!(place(&format!("n=v; Domain={foreign}"), url), None, "{foreign}");
        }
        assert_eq!(
            place("n=v; Domain=d1.cloudfront.net", "https://d1.cloudfront.net/"),
            at("d1.cloudfront.net", true, "/")
        );
        assert_eq!(place("n=v; Domain=cloudfront.net", "https://d1.cloudfront.net/"), None);
        assert_eq!(place("n=v; Domain=intranet", "http://media.intranet/"), None);
        assert_eq!(place("n=v; Domain=corp.intranet", "http://media.corp.intranet/"), at("corp.intranet", true, "/"));
        assert_eq!(place("n=v; Domain=localhost", "http://localhost/"), at("localhost", false, "/"));
        assert_eq!(place("n=v; Domain=127.0.0.1", "http://127.0.0.1:8/a/b"), at("127.0.0.1", false, "/a"));
        assert_eq!(place("n=v; Domain=0.0.1", "http://127.0.0.1/"), None);
    }

    #[test]
    fn the_time_it_lasts() {
        let expires = |attributes: &str| set(&format!("n=v{attributes}"), "https://h.example/").unwrap().expires;
        assert_eq!(expires(""), None);
        assert_eq!(expires("; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT"), Some(NOW + 60));
        assert_eq!(expires("; Expires=Tue, 13 Jan 2026 00:00:01 GMT"), Some(NOW + 1));
        assert_eq!(expires("; Expires=Tue, 13-Jan-2026 00:00:01 GMT"), Some(NOW + 1));
        assert_eq!(expires("; Expires=soon; Max-Age=soon"), None);
        assert_eq!(expires("; Max-Age=99999999999999999999999"), Some(i64::MAX));
        let deleted = |attributes: &str| set(&format!("n={attributes}"), "https://h.example/").unwrap().is_deleted;
        assert!(
            deleted("; Max-Age=0") && deleted("; Max-Age=-1") && deleted("; Expires=Thu, 01 Jan 1970 00:00:00 GMT")
        );
        assert!(!deleted("; Max-Age=1"));
    }

    #[test]
    fn promises_are_kept() {
        let given = |text: &str, url: &str| set(text, url).is_some();
        let (https, http) = ("https://a.example.com/", "http://a.example.com/");
        assert!(given("n=v; Secure", https) && !given("n=v; Secure", http));
        assert!(given("__Secure-n=v; Secure", https) && !given("__Secure-n=v", https));
        assert!(given("__Host-n=v; Secure; Path=/", https));
        assert!(!given("__Host-n=v; Secure; Path=/; Domain=example.com", https));
        assert!(!given("__Host-n=v; Secure; Path=/x", https));
        for nonsense in ["", "n", "=v", "; Path=/", &format!("n={}", "v".repeat(9000))] {
            assert!(!given(nonsense, https), "{nonsense:.20}");
        }
    }

    proptest! {
        #[test]
        fn nothing_breaks_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let url = Url::parse("https://a.example.com/x/y").unwrap();
            if let Ok(value) = HeaderValue::from_bytes(&bytes)
                && let Some(cookie) = read(&value, &url, NOW)
            {
                prop_assert!(cookie.fits_a_header() && "a.example.com".ends_with(&cookie.domain));
            }
        }

        /// What a server of one site sets never goes to another site.
        #[test]
        fn cookies_stay_at_their_site(
            host in "[a-c]\\.(x|y)\\.(com|co\\.uk)", domain in "\\.?([a-c]\\.)?(x|y\\.)?(com|co\\.uk)",
            other in "[a-c]\\.(x|y)\\.(com|co\\.uk)",
        ) {
            let from = format!("https://{host}/");
            if let Some(cookie) = set(&format!("n=v; Path=/; Domain={domain}"), &from)
                && cookie.goes_to(&Url::parse(&format!("https://{other}/")).unwrap())
            {
                prop_assert_eq!(psl::domain_str(&host), psl::domain_str(&other));
            }
        }
    }
}
