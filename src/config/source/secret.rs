//! Secrets: each in a file of its own, or in a variable.

use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::{ConfigError, Source, environment_name};
use crate::config::BearerSettings;

impl Source {
    /// A secret: the content of the file named by `<name>_file`, or the variable
    /// `HAULD_<NAME>`, or the variable it had before us. Never a flag, never in the file itself.
    pub fn secret(&mut self, name: &str, fallback: Option<&'static str>, help: &str) -> Option<SecretString> {
        let secret = self.read_secret(name, fallback, help);
        self.values.hide(secret.as_ref());
        secret
    }

    fn read_secret(&mut self, name: &str, fallback: Option<&'static str>, help: &str) -> Option<SecretString> {
        let file_setting = format!("{name}_file");
        let path = self.optional_text(&file_setting, None, "", help);
        if let Some(path) = path {
            return match read_secret_file(Path::new(&path)) {
                Ok(secret) => Some(secret),
                Err(reason) => {
                    self.errors.push(ConfigError {
                        name: file_setting,
                        // Without a slash it may be the secret itself, put there by mistake.
                        value: path.contains('/').then_some(path),
                        reason,
                        origin: "configuration".into(),
                    });
                    None
                }
            };
        }
        if let Some(doc) = self.docs.last_mut() {
            doc.fallback = fallback;
        }
        let text = self.environment.get(&environment_name(name)).or_else(|| self.environment.get(fallback?))?;
        (!text.is_empty()).then(|| SecretString::from(text.clone()))
    }

    /// A token for a service: as [`Source::secret`], with the file in which it may be replaced.
    pub fn bearer(&mut self, name: &str, help: &str) -> Option<BearerSettings> {
        let token = self.secret(name, None, help)?;
        let file = self.find(&format!("{name}_file"), None);
        let file = file.and_then(|found| found.value.as_str().map(PathBuf::from));
        if file.is_some() {
            // Whoever uses it looks at the file by itself.
            self.values.hide(None);
        }
        Some(BearerSettings { token, file })
    }
}

/// Reads a secret file; one trailing line end is not part of the secret.
///
/// # Errors
/// Says why it cannot be read; a file that others may read is refused.
pub fn read_secret_file(path: &Path) -> Result<SecretString, String> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = std::fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    if metadata.permissions().mode() & 0o007 != 0 {
        return Err("may be accessed by every user of this host; chmod 600 it".into());
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err("is empty".into());
    }
    Ok(SecretString::from(text.to_owned()))
}
