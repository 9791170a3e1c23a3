//! Netscape `cookies.txt`, as browsers' extensions, curl and yt-dlp write it.

use std::io::Read;
use std::path::Path;

use url::Host;

use super::cookie::Cookie;

/// Largest file that is taken for one, in bytes: tens of thousands of cookies.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The cookies of a file.
///
/// # Errors
/// Why it cannot be read, without a word of its content.
pub fn read(path: &Path) -> Result<Vec<Cookie>, String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("is larger than {} MiB: not a cookies.txt", MAX_FILE_BYTES >> 20));
    }
    let text = String::from_utf8(bytes).map_err(|_| "is not a text in UTF-8")?;
    Ok(parse(&text))
}

/// Reads each line. What is not a cookie is passed over, as every reader of the format does; of two
/// lines about the same cookie the later one counts.
pub fn parse(text: &str) -> Vec<Cookie> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut cookies: std::collections::HashMap<_, Cookie> = std::collections::HashMap::new();
    let mut order = Vec::new();
    for cookie in text.lines().filter_map(line) {
        let key = (cookie.domain.clone(), cookie.path.clone(), cookie.name.clone());
        if cookies.insert(key.clone(), cookie).is_none() {
            order.push(key);
        }
    }
    order.iter().filter_map(|key| cookies.remove(key)).collect()
}

/// The seven fields of a line: domain, subdomains, path, secure, expiry, name, value. `#HttpOnly_`
/// before the domain is part of the format, not a comment.
fn line(line: &str) -> Option<Cookie> {
    let line = line.strip_prefix("#HttpOnly_").unwrap_or(line);
    if line.starts_with('#') {
        return None;
    }
    let mut fields: Vec<&str> = line.split('\t').collect();
    if fields.len() == 1 {
        // Copied out of a terminal, where tabs become blanks.
        fields = line.split_whitespace().collect();
    }
    if fields.len() == 6 {
        // Editors cut off the tab before an empty value.
        fields.push("");
    }
    let [domain, subdomains, path, secure, expires, name, value] = fields[..] else { return None };
    // As URLs write it: IDNs in ASCII, IPv4 addresses in four numbers.
    let host = Host::parse(domain.trim().trim_start_matches('.')).ok()?;
    let subdomains = subdomains.trim().eq_ignore_ascii_case("TRUE") || domain.trim().starts_with('.');
    let path = path.trim();
    let cookie = Cookie {
        include_subdomains: subdomains && matches!(host, Host::Domain(_)),
        domain: host.to_string(),
        path: if path.starts_with('/') { path.into() } else { "/".into() },
        secure: secure.trim().eq_ignore_ascii_case("TRUE"),
        expires: expiry(expires.trim())?,
        name: name.trim().into(),
        value: value.trim().into(),
        from_file: true,
        is_deleted: false,
    };
    cookie.fits_a_header().then_some(cookie)
}

/// Unix seconds, with decimals or not. 0, and what some tools write for it (-1, nothing), is a session
/// cookie. `None` for what is no number.
fn expiry(text: &str) -> Option<Option<i64>> {
    if text.is_empty() {
        return Some(None);
    }
    let seconds: f64 = text.parse().ok().filter(|seconds: &f64| seconds.is_finite())?;
    // Saturates.
    let seconds = seconds as i64;
    Some((seconds > 0).then_some(seconds))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Name and value of the only cookie.
    fn only(text: &str) -> Option<(String, String)> {
        let [cookie] = <[Cookie; 1]>::try_from(parse(text)).ok()?;
        Some((cookie.name, cookie.value))
    }

    #[test]
    fn every_dialect_of_a_line_is_read() {
        let expected = Some(("n".to_owned(), "v".to_owned()));
        for text in [
            "h.example\tFALSE\t/\tFALSE\t0\tn\tv",
            "h.example\tFALSE\t/\tFALSE\t0\tn\tv\r\n",
            "\u{feff}h.example\tFALSE\t/\tFALSE\t0\tn\tv\n",
            "# Netscape HTTP Cookie File\r\n\r\n#HttpOnly_.h.example\ttrue\t/\tfalse\t-1\tn\tv\r\n",
            "h.example  FALSE  /  FALSE  1768262400  n  v",
            "h.example\tFALSE\t/\tFALSE\t1768262400.75\tn\tv",
            "h.example\tFALSE\t/\tFALSE\t\tn\tv",
            "H.Example\tFALSE\t\tFALSE\t99999999999999999999999999\tn\tv",
            // The later one counts.
            "h.example\tFALSE\t/\tFALSE\t0\tn\told\nh.example\tTRUE\t/\tFALSE\t0\tn\tv",
        ] {
            assert_eq!(only(text), expected, "{text:?}");
            assert_eq!(parse(text)[0].domain, "h.example", "{text:?}");
        }
        assert_eq!(only("h.example\tFALSE\t/\tFALSE\t0\tn"), Some(("n".into(), String::new())));
        assert_eq!(only("h.example\tFALSE\t/\tFALSE\t0\tn\tä b=\"c\""), Some(("n".into(), "ä b=\"c\"".into())));
    }

    #[test]
    fn what_is_no_cookie_is_passed_over() {
        for text in [
            "",
            "rubbish",
            "#h.example\tFALSE\t/\tFALSE\t0\tn\tv",
            "h.example\tFALSE\t/\tFALSE\tsoon\tn\tv",
            "h.example\tFALSE\t/\tFALSE\tNaN\tn\tv",
            "h.example\tFALSE\t/\tFALSE\t0\t\tv",
            "h.example\tFALSE\t/\tFALSE\t0\tn\tv;w",
            "h.example\tFALSE\t/\tFALSE\t0\tn\tv\u{7}",
            "h.example\tFALSE\t/\tFALSE\t0\tn\tv\tmore",
            "not a host\tFALSE\t/\tFALSE\t0\tn\tv",
            "{\"cookies\":[]}",
        ] {
            assert!(parse(text).is_empty(), "{text:?}");
        }
        let long = format!("h.example\tFALSE\t/\tFALSE\t0\tn\t{}", "v".repeat(5000));
        assert!(parse(&long).is_empty());
    }

    #[test]
    fn a_file_is_bounded_and_a_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cookies.txt");
        let line = |number: usize| format!("h.example\tFALSE\t/\tFALSE\t0\tn{number}\tv\n");
        std::fs::write(&path, (0..1_000_000).map(line).collect::<String>()).unwrap();
        assert!(read(&path).unwrap_err().contains("larger than 4 MiB"));
        std::fs::write(&path, (0..100_000).map(line).collect::<String>()).unwrap();
        assert_eq!(read(&path).unwrap().len(), 100_000);
        std::fs::write(&path, b"h.example\tFALSE\t/\tFALSE\t0\tn\t\xff\n").unwrap();
        assert!(read(&path).unwrap_err().contains("UTF-8"));
        assert!(read(&folder.path().join("none")).unwrap_err().contains("cannot be read"));
    }

    proptest! {
        #[test]
        fn nothing_breaks_the_reader(text in "\\PC*([\t\r\n#.;=]\\PC*){0,12}") {
            for cookie in parse(&text) {
                prop_assert!(cookie.fits_a_header() && cookie.path.starts_with('/') && !cookie.domain.is_empty());
            }
        }
    }
}
