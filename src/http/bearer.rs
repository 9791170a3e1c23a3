//! A bearer token, read again when its file has changed.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

use super::watched_file::WatchedFile;
use crate::config::{BearerSettings, read_secret_file};
use crate::failure::{Failure, FailureKind, Result};

/// What goes into the `Authorization` header. `Debug` shows where it is from, never the token.
pub struct Bearer {
    setting: &'static str,
    /// Nothing when the token stands in the environment, which does not change.
    file: Option<WatchedFile>,
    header: Mutex<HeaderValue>,
}

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

impl Bearer {
    /// The token of the setting `setting`, whose file is read once more.
    ///
    /// # Errors
    /// `internal` when the file cannot be read or the token has characters that no header can hold.
    pub fn open(setting: &'static str, settings: &BearerSettings) -> Result<Bearer> {
        let wrong = |reason: String| Failure::new(FailureKind::Internal, format!("{setting}: {reason}"));
        let (file, header) = match &settings.file {
            Some(path) => {
                let opened = WatchedFile::open("the token", path, read);
                opened.map(|(file, header)| (Some(file), header)).map_err(wrong)?
            }
            None => (None, header(&settings.token).map_err(wrong)?),
        };
        Ok(Bearer { setting, file, header: Mutex::new(header) })
    }

    /// `Bearer <token>` as of now, marked sensitive. A file that cannot be used leaves the token as it
    /// was.
    pub fn header(&self) -> HeaderValue {
        if let Some(file) = &self.file {
            file.look(|path| self.adopt(path));
        }
        self.held().clone()
    }

    /// Reads the file again, whether it has changed or not.
    pub fn read_again(&self) {
        if let Some(file) = &self.file {
            file.read_again(|path| self.adopt(path));
        }
    }

    /// When the token expires, in Unix seconds, if it is a JSON Web Token that says so (RFC 7519
    /// §4.1.4). Nothing is verified: that is up to whom it is shown to.
    pub fn expiry(&self) -> Option<i64> {
        let header = self.header();
        let (_, claims) = header.to_str().ok()?.split_once('.')?;
        let claims = URL_SAFE_NO_PAD.decode(claims.split('.').next()?.trim_end_matches('=')).ok()?;
        let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
        let expiry = claims.get("exp")?;
        // A number of seconds that may have decimals.
        expiry.as_i64().or_else(|| expiry.as_f64().map(|seconds| seconds as i64))
    }

    /// How it is called in messages: by its file, or by its setting.
    pub fn name(&self) -> String {
        match &self.file {
            Some(file) => format!("the token in {}", file.path().display()),
            None => format!("the token of {}", self.setting),
        }
    }

    fn adopt(&self, path: &Path) -> Result<(), String> {
        let header = read(path)?;
        *self.held() = header;
        Ok(())
    }

    fn held(&self) -> MutexGuard<'_, HeaderValue> {
        self.header.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &Path) -> Result<HeaderValue, String> {
    header(&read_secret_file(path)?)
}

fn header(token: &SecretString) -> Result<HeaderValue, String> {
    let mut header = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
        .map_err(|_| "holds characters that no HTTP header can hold".to_owned())?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    fn bearer(token: &str, file: Option<PathBuf>) -> Result<Bearer> {
        Bearer::open("enrollment.token", &BearerSettings { token: SecretString::from(token.to_owned()), file })
    }

    /// The header, with the file as it is now.
    fn header_now(bearer: &Bearer) -> HeaderValue {
        bearer.file.iter().for_each(WatchedFile::is_due);
        bearer.header()
    }

    fn write(path: &Path, text: &str, mode: u32) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn the_token_is_that_of_the_file_now() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        write(&path, "first\n", 0o600);
        let bearer = bearer("first", Some(path.clone())).unwrap();
        assert_eq!(header_now(&bearer), "Bearer first");
        write(&path, "second\r\n", 0o600);
        assert_eq!(header_now(&bearer), "Bearer second");
        // What cannot be used leaves the old one.
        for (text, mode) in [("third", 0o644), ("", 0o600), ("a\nb", 0o600)] {
            write(&path, text, mode);
            assert_eq!(header_now(&bearer), "Bearer second", "{text:?} {mode:o}");
        }
        std::fs::remove_file(&path).unwrap();
        bearer.read_again();
        assert_eq!(header_now(&bearer), "Bearer second");
        write(&path, "fourth", 0o600);
        assert_eq!(header_now(&bearer), "Bearer fourth");
        assert!(bearer.header().is_sensitive() && !format!("{bearer:?}").contains("fourth"));
    }

    #[test]
    fn only_a_json_web_token_says_when_it_expires() {
        let expiry = |token: &str| bearer(token, None).unwrap().expiry();
        let jwt = |claims: &str| format!("eyJhbGciOiJIUzI1NiJ9.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(expiry(&jwt(r#"{"sub":"hauld","exp":1768262400}"#)), Some(1_768_262_400));
        assert_eq!(expiry(&jwt(r#"{"exp":1768262400.9}"#)), Some(1_768_262_400));
        assert_eq!(expiry(&jwt(r#"{"exp":1e300}"#)), Some(i64::MAX));
        for token in ["opaque", "a.b.c", "..", &jwt("{}"), &jwt(r#"{"exp":"soon"}"#), &jwt("[1]")] {
            assert_eq!(expiry(token), None, "{token}");
        }
    }

    #[test]
    fn what_no_header_can_hold_is_refused_at_the_start() {
        let failure = bearer("a\nb", None).unwrap_err();
        assert!(failure.message.starts_with("enrollment.token: holds characters"), "{failure}");
        assert!(bearer("a", Some("/nonexistent/token".into())).unwrap_err().message.contains("cannot be read"));
    }
}
