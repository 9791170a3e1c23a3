//! The secrets of the tests, and the search for them. A new one is a line of the table.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::support::daemon::{HOOK_TOKEN, SECRET};
use crate::support::{mariadb, remotes};

pub const REDIS_PASSWORD: &str = "redis-password-of-the-tests";
pub const CATALOG_TOKEN: &str = "catalog-token-of-the-tests";
pub const ENROLLMENT_TOKEN: &str = "enrollment-token-of-the-tests";
pub const ADMIN_TOKEN: &str = "admin-token-of-the-tests";
pub const SIGNING: &str = "signing-secret-of-the-tests";
/// In base64, as it stands in the setting.
pub const WEBHOOK: &str = "d2ViaG9vay1zZWNyZXQtb2YtdGhlLXRlc3Rz";
pub const COOKIE: &str = "cookie-of-the-tests";
/// User and password: in base64 as a proxy is told them.
pub const PROXY: &str = "proxy-user:proxy-password-of-the-tests";
pub const WRONG_TOKEN: &str = "wrong-token-of-the-tests";
pub const SIGNATURE: &str = "signature-of-the-tests";
pub const HEADER: &str = "header-secret-of-the-tests";
pub const URL_PASSWORD: &str = "url-password-of-the-tests";
pub const COURSE_TOKEN: &str = "course-token-of-the-tests";
pub const RCLONE_PASSWORD: &str = "rclone-password-of-the-tests";

/// Where each of them was planted.
const CANARIES: [(&str, &str); 19] = [
    ("the password in redis.url", REDIS_PASSWORD),
    ("store.mysql_password", mariadb::PASSWORD),
    ("resolver.catalog_token", CATALOG_TOKEN),
    ("enrollment.token", ENROLLMENT_TOKEN),
    ("hook.token", HOOK_TOKEN),
    ("hook.signing_secret_files", SIGNING),
    ("admin.token", ADMIN_TOKEN),
    ("report.secret", SECRET),
    ("report.webhook_secret", WEBHOOK),
    ("report.webhook_secret, decoded", "webhook-secret-of-the-tests"),
    ("network.proxy_credentials", PROXY),
    ("a cookie", COOKIE),
    ("the token of a caller who may not call", WRONG_TOKEN),
    ("the query of a signed URL", SIGNATURE),
    ("a header of a stream", HEADER),
    ("the password in a URL", URL_PASSWORD),
    ("the query of a course URL", COURSE_TOKEN),
    ("rclone's configuration", remotes::SECRET_KEY),
    ("rclone's environment", RCLONE_PASSWORD),
];

/// Fails when an output that says something holds one of them, in whatever form, but for those that are
/// `meant` to be there.
pub fn none_in(output: &str, text: &str, meant: &[&str]) {
    assert!(!text.is_empty(), "nothing in the {output}");
    for (place, secret) in CANARIES.iter().filter(|(_, secret)| !meant.contains(secret)) {
        for form in forms(secret) {
            let line = text.lines().find(|line| line.contains(&form));
            assert!(line.is_none(), "{place}, as {form}, in the {output}: {line:?}");
        }
    }
}

/// A secret as it is, in JSON, in a URL, and in base64.
fn forms(secret: &str) -> [String; 4] {
    let json = serde_json::Value::from(secret).to_string();
    [
        secret.to_owned(),
        json.trim_matches('"').to_owned(),
        utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string(),
        STANDARD.encode(secret).trim_end_matches('=').to_owned(),
    ]
}

#[test]
fn a_secret_is_found_in_every_form() {
    for text in [mariadb::PASSWORD, "p%40ss%20%27word%22%20of%2Dthe%2Dtable", "x \"p@ss 'word\\\" of-the-table\"\n"] {
        assert!(std::panic::catch_unwind(|| none_in("text", text, &[])).is_err(), "{text}");
    }
    let basic = format!("proxy-authorization: Basic {}", STANDARD.encode(PROXY));
    assert!(std::panic::catch_unwind(|| none_in("head", &basic, &[])).is_err());
    none_in("head", &basic, &[PROXY]);
}
