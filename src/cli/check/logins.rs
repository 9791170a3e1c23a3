//! The cookies and tokens for the services around us: whether they can be used, and how long.

use std::path::Path;

use url::Url;

use super::{Report, Verdict};
use crate::config::Config;
use crate::http::{Bearer, CookiesFor, shown, timestamp, unix_now};
use crate::logins::{Login, Logins};

/// What expires within this time is warned of, in seconds; the alerting rules take the same.
const SOON: i64 = 3 * 86_400;
const RENEWED: &str = "a new file is read without a restart";

/// One line for each, and one for each file that others may read.
pub(super) fn check(config: &Config, report: &mut Report) {
    let logins = match Logins::open(config) {
        Ok(logins) => logins,
        Err(failure) => return report.add_result("logins", Err(failure)),
    };
    for (login, [cookies, token]) in logins.named() {
        check_cookies(cookies, login, report);
        if let Some(bearer) = &login.token {
            let (verdict, text) = token_line(bearer);
            report.add(token, verdict, text);
        }
    }
}

fn check_cookies(what: &'static str, login: &Login, report: &mut Report) {
    let Some(cookies) = login.cookies.of_file(login.endpoint.as_ref()) else { return };
    let (verdict, text) = cookies_line(&cookies, login.endpoint.as_ref());
    report.add(what, verdict, text);
    if others_may_read(&cookies.file) {
        let text = format!("{} may be read by every user of this host: chmod 600 it", cookies.file.display());
        report.add(what, Verdict::Odd, text);
    }
}

fn cookies_line(cookies: &CookiesFor, endpoint: Option<&Url>) -> (Verdict, String) {
    let whom = endpoint.map(|url| format!(" for {}", shown(url))).unwrap_or_default();
    let (file, count, expired) = (cookies.file.display(), cookies.count, cookies.expired().count());
    if count == 0 {
        return (Verdict::Bad, format!("{file} holds no cookie{whom}: export it where one is logged in; {RENEWED}"));
    }
    if expired > 0 {
        let verdict = if expired == count { Verdict::Bad } else { Verdict::Odd };
        return (verdict, format!("{cookies}: {expired} of {count}{whom}; export them anew: {RENEWED}"));
    }
    let cookies_text = if count == 1 { "1 cookie".into() } else { format!("{count} cookies") };
    match cookies.expiries.first() {
        Some((name, at)) => {
            let verdict = if *at - unix_now() < SOON { Verdict::Odd } else { Verdict::Good };
            (verdict, format!("{file}: {cookies_text}{whom}; {name:?} expires first, {}", when(*at)))
        }
        None => (Verdict::Good, format!("{file}: {cookies_text}{whom}, which do not say when they expire")),
    }
}

fn token_line(token: &Bearer) -> (Verdict, String) {
    let name = token.name();
    match token.expiry() {
        Some(at) if at <= unix_now() => {
            (Verdict::Bad, format!("{name} has expired at {}: renew it; {RENEWED}", timestamp(at)))
        }
        Some(at) if at - unix_now() < SOON => (Verdict::Odd, format!("{name} expires {}", when(at))),
        Some(at) => (Verdict::Good, format!("{name} expires {}", when(at))),
        None => (Verdict::Good, format!("{name} does not say when it expires")),
    }
}

/// "at 2026-01-13T02:00:00Z, in 12 days"
fn when(at: i64) -> String {
    let hours = (at - unix_now()) / 3600;
    match hours / 24 {
        0 | 1 => format!("at {}, in {hours} hours", timestamp(at)),
        days => format!("at {}, in {days} days", timestamp(at)),
    }
}

fn others_may_read(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|data| data.permissions().mode() & 0o004 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line of a file of one session cookie and these that expire after so many seconds.
    fn line(expiries: &[i64], with_session: bool) -> (Verdict, String) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let cookie = |expires: i64, name: String| format!("h.example\tFALSE\t/\tFALSE\t{expires}\t{name}\tv\n");
        let mut text: String =
            expiries.iter().enumerate().map(|(n, after)| cookie(unix_now() + after, format!("c{n}"))).collect();
        text += &if with_session { cookie(0, "session".into()) } else { String::new() };
        std::fs::write(file.path(), text).unwrap();
        let login = Login::open(("x", None), Some(file.path())).unwrap();
        let endpoint = Url::parse("https://h.example/enroll").unwrap();
        cookies_line(&login.cookies.of_file(Some(&endpoint)).unwrap(), Some(&endpoint))
    }

    #[test]
    fn cookies_say_how_long_they_last() {
        const DAY: i64 = 86_400;
        let (verdict, text) = line(&[40 * DAY, 12 * DAY + 60], true);
        assert!(verdict == Verdict::Good && text.contains("3 cookies for https://h.example/enroll"), "{text}");
        assert!(text.contains("\"c1\" expires first, at ") && text.ends_with("in 12 days"), "{text}");
        let (verdict, text) = line(&[5 * 3600 + 60], true);
        assert!(verdict == Verdict::Odd && text.ends_with("in 5 hours"), "{text}");
        let (verdict, text) = line(&[-60, 12 * DAY], false);
        assert!(verdict == Verdict::Odd && text.contains("(\"c0\" expired at ") && text.contains("1 of 2"), "{text}");
        assert_eq!(line(&[-60, -90], false).0, Verdict::Bad);
        let (verdict, text) = line(&[], true);
        assert!(verdict == Verdict::Good && text.contains("do not say when they expire"), "{text}");
        let (verdict, text) = line(&[], false);
        assert!(verdict == Verdict::Bad && text.contains("holds no cookie for https://h.example/enroll"), "{text}");
    }
}
