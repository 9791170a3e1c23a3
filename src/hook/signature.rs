//! Signed requests: Standard Webhooks (`webhook-id`, `webhook-timestamp`, `webhook-signature`), and
//! the field's own `X-Timestamp` and `X-Signature`.
//!
//! What is signed is the body; where there is none, the path with its query stands in its place, so
//! that a signature cannot be carried to another path.

use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::credentials::Credentials;
use crate::signature::{hmac, webhook_parts};

/// How old, or how far in the future, a signed request may be.
pub(super) const WINDOW_SECONDS: i64 = 300;
/// Longest message id.
const MAX_ID_BYTES: usize = 256;
/// Signatures of one request that are looked at: senders put several there while they change secrets.
const MAX_SIGNATURES: usize = 8;

/// A signature that was found right.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Signed {
    /// Whose secret it was.
    pub caller: String,
    /// The sender's id of the message, which stays when it is sent again.
    pub message_id: Option<String>,
    /// Different for every signed request.
    pub fingerprint: String,
}

/// Whether a request claims to be signed.
pub(super) fn is_there(headers: &HeaderMap) -> bool {
    headers.contains_key("webhook-signature") || headers.contains_key("x-signature")
}

/// Checks the signature of a request; `now` in Unix seconds. Says why not; the caller must not hear it.
pub(super) fn check(
    credentials: &Credentials,
    headers: &HeaderMap,
    target: &str,
    body: &[u8],
    now: i64,
) -> Result<Signed, &'static str> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let content = if body.is_empty() { target.as_bytes() } else { body };
    let in_time = |timestamp: &str| {
        let seconds: i64 = timestamp.parse().map_err(|_| "the timestamp is not a number of seconds")?;
        match now.abs_diff(seconds) <= WINDOW_SECONDS.unsigned_abs() {
            true => Ok(()),
            false => Err("the timestamp is too old or too new"),
        }
    };
    if let Some(signatures) = text("webhook-signature") {
        let id = text("webhook-id").filter(|id| (1..=MAX_ID_BYTES).contains(&id.len())).ok_or("no webhook-id")?;
        let timestamp = text("webhook-timestamp").ok_or("no webhook-timestamp")?;
        in_time(timestamp)?;
        let given: Vec<Vec<u8>> = signatures
            .split_ascii_whitespace()
            .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok())
            .take(MAX_SIGNATURES)
            .collect();
        let parts = webhook_parts(id, timestamp, content);
        let (caller, fingerprint) = signer(credentials, &parts, &given).ok_or("wrong signature")?;
        return Ok(Signed { caller, message_id: Some(id.to_owned()), fingerprint });
    }
    let signature = text("x-signature").ok_or("no signature")?;
    let timestamp = text("x-timestamp").ok_or("no X-Timestamp")?;
    in_time(timestamp)?;
    let given = [hex::decode(signature).map_err(|_| "X-Signature is not hex")?];
    let (caller, fingerprint) =
        signer(credentials, &[content, timestamp.as_bytes()], &given).ok_or("wrong signature")?;
    Ok(Signed { caller, message_id: None, fingerprint })
}

/// Whose signature one of `given` is, and what tells this request from all others. Every secret is
/// tried, so that the time tells nothing.
fn signer(credentials: &Credentials, parts: &[&[u8]], given: &[Vec<u8>]) -> Option<(String, String)> {
    let mut signer = None;
    for secret in &credentials.secrets {
        let right = hmac(secret.key.expose_secret(), parts.iter().copied());
        for signature in given {
            if bool::from(signature.ct_eq(&right[..])) {
                signer = Some((secret.name.clone(), hex::encode(Sha256::digest(right))));
            }
        }
    }
    signer
}
