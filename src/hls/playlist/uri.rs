//! What the URIs of a playlist stand for (RFC 3986 §5), and what can be said of them without asking
//! the URL parser, which costs more than all the rest of a line.

use url::Url;

use crate::failure::{Failure, FailureKind, Result};

/// A URI of the playlist at `base` as a URL that may be asked. The query of `base` is not inherited.
pub(super) fn resolve(base: &Url, uri: &str) -> Result<Url> {
    // The URI itself is not shown: what cannot be taken apart cannot be cleared of credentials.
    let url = base.join(uri).map_err(|error| Failure::new(FailureKind::UrlInvalid, format!("not a URI: {error}")))?;
    crate::http::check_url(&url)?;
    Ok(url)
}

/// The path of a URI once it is resolved, in two parts; `None` when only the URL parser can tell.
pub(super) fn plain_path<'a>(base: &'a Url, uri: &'a str) -> Option<[&'a str; 2]> {
    let (folder, rest) = match origin(uri) {
        Some(origin) => ("", &uri[origin.len()..]),
        None if uri.starts_with("//") => return None,
        None if uri.starts_with('/') => ("", uri),
        None => (&base.path()[..=base.path().rfind('/')?], uri),
    };
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    // Percent signs, blanks, backslashes, colons and dots as names may be rewritten.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.' | b'~' | b'=');
    let is_dots = |name: &str| matches!(name, "." | "..");
    let plain = !path.is_empty() && path.bytes().all(is_plain) && !path.split('/').any(is_dots);
    plain.then_some([folder, path])
}

/// Whether joining with any http base cannot fail and stays on its host: a path or query, nothing
/// that could begin a scheme or a host.
pub(super) fn is_plainly_relative(uri: &str) -> bool {
    let bytes = uri.as_bytes();
    // The URL parser takes out tabs and other control characters, and blanks in front: `/<tab>/host`
    // is a host.
    if bytes.first() == Some(&b' ') || bytes.iter().fold(false, |found, &byte| found | (byte < b' ')) {
        return false;
    }
    match bytes.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#' | b'\\' | b':')) {
        None => true,
        Some(position) => match bytes[position] {
            b'/' if position == 0 => !matches!(bytes.get(1), Some(b'/' | b'\\')),
            b'/' | b'?' | b'#' => true,
            _ => false,
        },
    }
}

/// `https://host:port` of an absolute URI, as written; `None` when it is not plainly one.
pub(super) fn origin(uri: &str) -> Option<&str> {
    let host = uri.strip_prefix("https://").or_else(|| uri.strip_prefix("http://"))?;
    if host.bytes().any(|byte| byte < b' ') {
        return None;
    }
    let end = host.bytes().position(|byte| matches!(byte, b'/' | b'?' | b'#' | b'\\'))?;
    // A slash or two at once would be skipped by the URL parser, and the host stand behind them.
    (end > 0).then(|| &uri[..uri.len() - host.len() + end])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// URIs of three pieces that each mean something to the URL parser.
    fn uris() -> impl Iterator<Item = String> {
        const PIECES: [&str; 22] = [
            "a",
            "b.ts",
            "/",
            "\\",
            ":",
            "?",
            "#",
            "//",
            ".",
            "..",
            "@",
            "http:",
            "https://o",
            "%2e",
            "%",
            " ",
            "\t",
            "ä",
            "[",
            "data:,",
            "=",
            "",
        ];
        let mut uris = Vec::new();
        for first in PIECES {
            for second in PIECES {
                uris.extend(PIECES.map(|third| format!("{first}{second}{third}")));
            }
        }
        uris.into_iter()
    }

    #[test]
    fn what_is_plainly_relative_always_resolves_to_the_base_host() {
        let base = Url::parse("https://h.example:8443/a/b.m3u8?x=1").unwrap();
        for uri in uris().filter(|uri| is_plainly_relative(uri)) {
            let url = base.join(&uri).unwrap_or_else(|error| panic!("{uri:?}: {error}"));
            assert_eq!(url.origin(), base.origin(), "{uri:?}");
        }
    }

    #[test]
    fn a_plain_path_is_what_the_url_parser_says() {
        let mut plain = 0;
        for base in ["https://h.example/a/b.m3u8?x=1", "https://h.example", "https://h.example/a%20b/c/"] {
            let base = Url::parse(base).unwrap();
            for uri in uris() {
                if let (Some(path), Ok(url)) = (plain_path(&base, &uri), base.join(&uri)) {
                    assert_eq!(path.concat(), url.path(), "{uri:?} at {base}");
                    plain += 1;
                }
            }
        }
        assert!(plain > 1000, "{plain}");
        let base = Url::parse("https://h.example/a/b.m3u8").unwrap();
        for uri in ["x.ts", "/x/y-1_2.ts?sig=%2F", "../x.ts", "https://o.example:1/x.ts#t", "v/./x.ts"] {
            assert_eq!(plain_path(&base, uri).is_some(), !uri.contains("./"), "{uri:?}");
        }
    }

    #[test]
    fn one_origin_is_one_host() {
        assert_eq!(origin("https://h.example:1/a?b"), Some("https://h.example:1"));
        assert_eq!(origin("https://h.example\\a"), Some("https://h.example"));
        for uri in ["https:///h/x", "https://h\t/x", "HTTPS://h/x", "ftp://h/x", "a/b", "https://h"] {
            assert_eq!(origin(uri), None, "{uri:?}");
        }
    }
}
