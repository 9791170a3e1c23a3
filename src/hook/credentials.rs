//! Tokens and secrets of those who may ask: read from files, and again on SIGHUP.

use std::path::Path;

use secrecy::{ExposeSecret, SecretSlice, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::{HookSettings, read_secret_file};
use crate::signature::webhook_secret;

/// Who may ask.
#[derive(Default)]
pub struct Credentials {
    tokens: Vec<Token>,
    pub(super) secrets: Vec<Secret>,
}

/// A bearer token, kept as its SHA-256: hashes have one length, so that comparing them tells nothing
/// about the token's.
struct Token {
    name: String,
    hash: [u8; 32],
}

/// The key of a caller that signs.
pub(super) struct Secret {
    pub name: String,
    pub key: SecretSlice<u8>,
}

impl Credentials {
    /// Reads every file of the settings.
    ///
    /// # Errors
    /// The setting and what is wrong with a file, without a word of its content.
    pub fn read(settings: &HookSettings) -> Result<Credentials, String> {
        let mut credentials = Credentials::default();
        credentials.tokens.extend(settings.token.as_ref().map(|token| Token::new("token", token.expose_secret())));
        for path in &settings.token_files {
            for token in lines("hook.token_files", path)?.expose_secret().lines().filter_map(line) {
                credentials.tokens.push(Token::new(&name(path), token));
            }
        }
        for path in &settings.signing_secret_files {
            let wrong = |reason: &str| format!("hook.signing_secret_files: {}: {reason}", path.display());
            for text in lines("hook.signing_secret_files", path)?.expose_secret().lines().filter_map(line) {
                let key = webhook_secret(text).map_err(wrong)?;
                if key.expose_secret().len() < 16 {
                    return Err(wrong("a secret has fewer than 16 bytes"));
                }
                credentials.secrets.push(Secret { name: name(path), key });
            }
        }
        Ok(credentials)
    }

    /// Nobody has to prove who it is.
    pub(super) fn are_none(&self) -> bool {
        self.tokens.is_empty() && self.secrets.is_empty()
    }

    /// Whose token it is. Every one is compared, so that the time tells nothing.
    pub(super) fn holder(&self, token: &[u8]) -> Option<&str> {
        let given: [u8; 32] = Sha256::digest(token).into();
        let mut holder = None;
        for token in &self.tokens {
            if bool::from(given.ct_eq(&token.hash)) {
                holder = Some(token.name.as_str());
            }
        }
        holder
    }

    /// How many there are: tokens, secrets.
    pub fn len(&self) -> (usize, usize) {
        (self.tokens.len(), self.secrets.len())
    }
}

impl Token {
    fn new(name: &str, token: &str) -> Token {
        Token { name: name.to_owned(), hash: Sha256::digest(token).into() }
    }
}

/// A caller is called after its file, so that it stays the same when its token is replaced.
fn name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn lines(setting: &str, path: &Path) -> Result<SecretString, String> {
    let text = read_secret_file(path).map_err(|reason| format!("{setting}: {}: {reason}", path.display()))?;
    match text.expose_secret().lines().any(|text| line(text).is_some()) {
        true => Ok(text),
        false => Err(format!("{setting}: {}: holds nothing but comments", path.display())),
    }
}

/// A line that is neither empty nor a comment.
fn line(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|text| !text.is_empty() && !text.starts_with('#'))
}
