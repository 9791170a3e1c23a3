//! How a server says that it does not accept our credentials any more, other than by 401: it sends a
//! browser to its login page.

use std::fmt;

use reqwest::header::{CONTENT_TYPE, HeaderMap};
use url::Url;

use super::shown;
use crate::failure::{Failure, FailureKind};

/// What is one word of the name of a page where one logs in, or two.
const WORDS: [&str; 3] = ["login", "logon", "signin"];
const PAIRS: [[&str; 2]; 3] = [["log", "in"], ["log", "on"], ["sign", "in"]];
/// What is the whole name of one.
const NAMES: [&str; 8] = ["auth", "authorize", "authenticate", "oauth", "oauth2", "saml", "sso", "idp"];

/// Whether a redirect from one URL to another leads to a login page, by its name: a segment of the
/// path like `login` or `sign_in`, or another host whose first label is one of these words.
pub fn is_login_page(from: &Url, to: &Url) -> bool {
    let names_one = |name: &str| {
        let name = name.to_ascii_lowercase();
        let words: Vec<&str> = name.split(['-', '_', '.']).collect();
        NAMES.contains(&words.concat().as_str())
            || words.iter().any(|word| WORDS.contains(word))
            || words.windows(2).any(|pair| PAIRS.iter().any(|words| pair == words))
    };
    let segments = |url: &Url| url.path_segments().is_some_and(|mut segments| segments.any(names_one));
    // A service that lives below such a path redirects within it for other reasons.
    let by_path = segments(to) && !segments(from);
    let by_host =
        from.host() != to.host() && to.domain().and_then(|host| host.split('.').next()).is_some_and(names_one);
    by_path || by_host
}

/// Whether an answer is a page for people.
pub fn is_html(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.trim_start().to_ascii_lowercase().starts_with("text/html")
}

/// What it means that a service answered `answer` to `login`.
pub fn rejected(url: &Url, answer: impl fmt::Display, login: impl fmt::Display) -> Failure {
    let message = format!("{}: {answer}: it does not accept {login}; a new file is read by itself", shown(url));
    Failure::new(FailureKind::CredentialsRejected, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn login_pages_are_known_by_their_names() {
        let url = |text: &str| Url::parse(text).unwrap();
        let from = url("https://learn.example.com/api/course?url=x");
        for to in [
            "https://learn.example.com/login?next=/api/course",
            "https://learn.example.com/users/sign_in",
            "https://learn.example.com/wp-login.php",
            "https://learn.example.com/account/Sign-In/",
            "https://learn.example.com/log_in.html",
            "https://learn.example.com/oauth2/authorize?client_id=1",
            "https://login.example.com/",
            "https://auth.example.net/realms/x",
            "https://sso.example.com/",
        ] {
            assert!(is_login_page(&from, &url(to)), "{to}");
        }
        for to in [
            "https://learn.example.com/api/course/?url=login",
            "https://learn.example.com/authors/1",
            "https://learn.example.com/api/v2/course",
            "https://media.login-free.example.com/a.ts",
            "https://cdn.example.com/signed/a.ts",
            "https://learn.example.com/courses/designing-apis",
            "https://learn.example.com/courses/code-signing/",
            "https://learn.example.com/catalog-index",
            "https://learn.example.com/catalog.info",
            "https://learn.example.com/dialog-intro",
            "https://learn.example.com/analog-input",
            "https://catalog-internal.example.com/",
            "https://1.2.3.4/",
        ] {
            assert!(!is_login_page(&from, &url(to)), "{to}");
        }
        let below = url("https://auth.example.com/sso/enroll");
        assert!(!is_login_page(&below, &url("https://auth.example.com/sso/enroll/")));
    }
}
