//! What rclone says on standard error, and what follows from it.

use std::collections::VecDeque;
use std::fmt::Write;

use serde::Deserialize;
use url::Url;

use crate::failure::FailureKind;
use crate::http::shown;

/// Errors that are kept: the last ones tell why it ended.
const KEPT: usize = 3;
/// Of the text that a failure gets.
const MAX_CHARS: usize = 500;

/// The destination has no room. Spelled as the services do.
const FULL: [&str; 8] = [
    "no space left on device",
    "disk quota exceeded",
    "uotaExceeded",
    "quotaLimitReached",
    "nsufficient storage",
    "Insufficient Storage",
    "insufficient_space",
    "StorageFull",
];
/// Trying again changes nothing before somebody has mended something.
const REFUSED: [&str; 12] = [
    "AccessDenied",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "status code: 401",
    "status code: 403",
    "invalid_grant",
    "invalid_client",
    "insufficientPermissions",
    "insufficientFilePermissions",
    "unable to authenticate",
    "didn't find section in config file",
    "didn't find backend called",
];
/// The same as the last words.
const REFUSED_AT_END: [&str; 3] = ["permission denied", "Forbidden", "Unauthorized"];

/// The numbers of a run.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Sent so far.
    pub bytes: u64,
    /// To be sent, as far as it is known.
    pub total_bytes: u64,
    checks: u64,
    transfers: u64,
    #[serde(default)]
    transferring: Vec<Transfer>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Transfer {
    name: String,
    #[serde(default)]
    bytes: u64,
}

#[derive(Deserialize)]
struct Line {
    level: String,
    msg: String,
    object: Option<String>,
    stats: Option<Stats>,
}

/// The errors of a run.
#[derive(Debug, Default)]
pub struct Said {
    errors: VecDeque<Error>,
}

#[derive(Debug)]
struct Error {
    /// The path of the file that it is about; empty when it is about none.
    object: String,
    message: String,
}

impl Stats {
    /// The name of a file that is on its way.
    pub fn current_file(&self) -> Option<&str> {
        let name = &self.transferring.first()?.name;
        name.rsplit('/').next()
    }
}

impl Said {
    /// Takes a line in. Numbers are returned, errors kept.
    pub fn hear(&mut self, line: &[u8]) -> Option<Stats> {
        let text = String::from_utf8_lossy(line);
        match serde_json::from_str::<Line>(&text) {
            Ok(Line { stats: Some(stats), .. }) => return Some(stats),
            Ok(line) if is_error(&line) => {
                self.keep(Error { object: line.object.unwrap_or_default(), message: line.msg });
            }
            Ok(_) => {}
            // What ends it is said as plain text by rclone 1.60.
            Err(_) => self.keep(Error { object: String::new(), message: without_date(&text).to_owned() }),
        }
        None
    }

    fn keep(&mut self, error: Error) {
        if self.errors.len() == KEPT {
            self.errors.pop_front();
        }
        self.errors.push_back(error);
    }

    /// All that was kept.
    pub fn errors(&self) -> String {
        self.errors.iter().fold(String::new(), |mut all, Error { object, message }| {
            let colon = if object.is_empty() { "" } else { ": " };
            let _ = writeln!(all, "{object}{colon}{message}");
            all
        })
    }

    /// The same without anything that somebody has named: courses and their files may be called
    /// whatever they like.
    fn reasons(&self, target: &str) -> String {
        let messages: Vec<&str> = self.errors.iter().map(|error| error.message.as_str()).collect();
        let said = replace_urls(&messages.join("\n"), |_| String::new());
        let objects = self.errors.iter().map(|error| error.object.as_str());
        let names = std::iter::once(target).chain(objects).filter(|name| !name.is_empty());
        names.fold(said, |said, name| said.replace(name, ""))
    }

    /// The last error, fit for a log: on one line, addresses without credentials, cut.
    pub fn shown(&self) -> String {
        let said = replace_urls(&self.errors(), |url| url.as_ref().map_or_else(|| "…".to_owned(), shown));
        let line = said.split_whitespace().collect::<Vec<_>>().join(" ");
        match line.is_empty() {
            true => "it said nothing".to_owned(),
            false => line.chars().filter(|character| !character.is_control()).take(MAX_CHARS).collect(),
        }
    }

    /// What became of the delivery. Documented exit statuses: 1 not further told, 2 usage, 3 and 4 what is
    /// needed is not there, 5 temporary, 6 less serious, 7 fatal, 8 and 10 a limit that was set.
    pub fn kind(&self, code: Option<i32>, target: &str) -> FailureKind {
        let said = self.reasons(target);
        let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
        let ends = |word: &&str| said.lines().any(|line| line.trim_end().ends_with(word));
        match code {
            _ if has(&FULL) => FailureKind::DiskFull,
            _ if has(&REFUSED) || REFUSED_AT_END.iter().any(ends) => FailureKind::DeliveryRefused,
            Some(2 | 3 | 4 | 7) => FailureKind::DeliveryRefused,
            _ => FailureKind::DeliveryFailed,
        }
    }
}

/// The levels of errors are called otherwise by newer versions (`critical`), and their last words may
/// come as a notice.
fn is_error(line: &Line) -> bool {
    let is_news = ["debug", "info", "notice", "warning", "warn"].contains(&line.level.as_str());
    !is_news || line.msg.starts_with("Failed to ")
}

/// `2026/11/28 02:36:14 Failed to copy: …` from the third word on.
fn without_date(line: &str) -> &str {
    let mut words = line.splitn(3, ' ');
    match (words.next(), words.next(), words.next()) {
        (Some(date), Some(_), Some(rest)) if date.len() == 10 && date.matches('/').count() == 2 => rest,
        _ => line,
    }
}

/// Puts something else in the place of every URL.
fn replace_urls(text: &str, mut replacement: impl FnMut(Option<Url>) -> String) -> String {
    let mut replaced = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let is_scheme = |character: char| character.is_ascii_alphanumeric();
        let start = rest[..at].rfind(|character| !is_scheme(character)).map_or(0, |before| {
            // cannot be within a character: `before` is where one begins.
            before + rest[before..].chars().next().map_or(0, char::len_utf8)
        });
        let ends = |character: char| character.is_whitespace() || "\"'<>`".contains(character);
        let end = rest[at..].find(ends).map_or(rest.len(), |length| at + length);
        replaced.push_str(&rest[..start]);
        replaced.push_str(&replacement(Url::parse(&rest[start..end]).ok()));
        rest = &rest[end..];
    }
    replaced + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(lines: &[&str]) -> Said {
        let mut said = Said::default();
        for line in lines {
            assert_eq!(said.hear(line.as_bytes()), None);
        }
        said
    }

    #[test]
    fn numbers_are_read() {
        let line = br#"{"level":"warning","msg":"x","source":"a.go:1","stats":{"bytes":5,"checks":0,"deletedDirs":0,"eta":null,"speed":1.5,"totalBytes":9,"transfers":1,"transferring":[{"bytes":5,"name":"01 A/001 b.mp4","size":9}]},"time":"t"}"#;
        let stats = Said::default().hear(line).unwrap();
        assert_eq!((stats.bytes, stats.total_bytes, stats.current_file()), (5, 9, Some("001 b.mp4")));
    }

    #[test]
    fn credentials_are_not_shown() {
        let said = said(&[
            r#"{"level":"error","msg":"Failed to copy: Put \"https://user:secret@h:1/b/x?X-Amz-Signature=abc\": EOF","object":"x"}"#,
            "2026/11/28 02:36:14 Failed to copy: Put https://h/?token=abc",
        ]);
        assert_eq!(said.shown(), "x: Failed to copy: Put \"https://h:1/b/x?…\": EOF Failed to copy: Put https://h/?…");
        assert_eq!(Said::default().shown(), "it said nothing");
        assert_eq!(replace_urls("é://x ://y", |url| format!("{}", url.is_some())), "éfalse false");
    }

    #[test]
    fn ends_are_told_apart() {
        use FailureKind::*;
        let kind = |code, line: &str| said(&[line]).kind(Some(code), "r:AccessDenied");
        assert_eq!(kind(1, "Failed to copy: dial tcp: connection refused"), DeliveryFailed);
        assert_eq!(kind(1, "Failed to copy: AccessDenied: x\n\tstatus code: 403, request id: 1"), DeliveryRefused);
        assert_eq!(kind(1, "open /srv/x: permission denied"), DeliveryRefused);
        assert_eq!(kind(1, "permission denied.mp4: unexpected EOF"), DeliveryFailed);
        assert_eq!(kind(1, "googleapi: Error 403: Rate Limit Exceeded, rateLimitExceeded"), DeliveryFailed);
        assert_eq!(kind(7, "googleapi: Error 403: x, storageQuotaExceeded"), DiskFull);
        assert_eq!(kind(1, "write /srv/x: no space left on device"), DiskFull);
        assert_eq!(kind(1, "r:AccessDenied/x: EOF"), DeliveryFailed);
        assert_eq!(kind(1, "Get \"https://h/AccessDenied\": EOF"), DeliveryFailed);
        for (code, expected) in
            [(1, DeliveryFailed), (2, DeliveryRefused), (3, DeliveryRefused), (5, DeliveryFailed), (6, DeliveryFailed)]
        {
            assert_eq!(kind(code, "x"), expected, "{code}");
        }
        for (code, expected) in [(7, DeliveryRefused), (8, DeliveryFailed), (10, DeliveryFailed)] {
            assert_eq!(kind(code, "x"), expected, "{code}");
        }
        assert_eq!(said(&[]).kind(None, ""), DeliveryFailed);
    }

    #[test]
    fn the_name_of_a_file_is_no_reason() {
        for name in ["01 A/Fixing AccessDenied errors.mp4", "no space left on device", "Forbidden"] {
            let line = serde_json::json!({"level": "error", "object": name, "msg": "Failed to copy: EOF"});
            let last = format!("Failed to copy: open /staging/{name}: EOF");
            let said = said(&[&line.to_string(), &last]);
            assert_eq!(said.kind(Some(1), "r:x"), FailureKind::DeliveryFailed, "{name}");
            assert!(said.shown().starts_with(&format!("{name}: Failed to copy: EOF")), "{}", said.shown());
        }
        let refused =
            said(&[r#"{"level":"error","object":"AccessDenied.mp4","msg":"AccessDenied.mp4: AccessDenied: x"}"#]);
        assert_eq!(refused.kind(Some(1), "r:x"), FailureKind::DeliveryRefused);
    }

    #[test]
    fn the_last_words_of_newer_versions_are_heard() {
        for level in ["critical", "fatal", "error", "notice", "alert"] {
            let line = format!(
                r#"{{"time":"2026-11-28T02:36:14Z","level":"{level}","msg":"Failed to lsf with 2 errors: last error was: AccessDenied: x","source":"slog/logger.go:256"}}"#
            );
            assert_eq!(said(&[&line]).kind(Some(1), "r:x"), FailureKind::DeliveryRefused, "{level}");
        }
        for level in ["debug", "info", "notice", "warning"] {
            let line = format!(r#"{{"level":"{level}","msg":"AccessDenied: trying the next region"}}"#);
            assert_eq!(said(&[&line]).shown(), "it said nothing", "{level}");
        }
    }
}
