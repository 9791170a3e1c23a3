//! Which key a unit is decrypted with, or why it cannot be.

use url::Url;

use crate::failure::{Context, Failure, FailureKind, Result};
use crate::hls::playlist::Key;

/// The key to decrypt with: AES-128 with the identity format. `None` when nothing is encrypted.
pub(super) fn usable_key(keys: &[Key]) -> Result<Option<&Key>> {
    if keys.is_empty() {
        return Ok(None);
    }
    let identity = keys.iter().find(|key| key.key_format == "identity");
    if let Some(key) = identity
        && &*key.method == "AES-128"
        && !key.uri.as_deref().is_some_and(|uri| uri.starts_with("skd:"))
    {
        return Ok(Some(key));
    }
    // Every one of them is unusable; the first names the system.
    let key = identity.unwrap_or(&keys[0]);
    let fair_play = key.uri.as_deref().is_some_and(|uri| uri.starts_with("skd:"));
    let system = match key.key_format.to_ascii_lowercase().as_str() {
        _ if fair_play => Some("FairPlay"),
        "com.apple.streamingkeydelivery" => Some("FairPlay"),
        "com.microsoft.playready" | "urn:uuid:9a04f079-9840-4286-ab92-e65be0885f95" => Some("PlayReady"),
        "urn:uuid:edef8ba9-79d6-4ace-a3c8-27dcd51d21ed" => Some("Widevine"),
        "identity" => None,
        _ => Some("an unknown DRM system"),
    };
    let (method, format) = (&key.method, &key.key_format);
    if let Some(system) = system {
        let message = format!(
            "the stream is protected by {system} (METHOD={method:?}, KEYFORMAT={format:?}); DRM is not worked around"
        );
        return Err(Failure::new(FailureKind::DrmProtected, message));
    }
    if method.starts_with("SAMPLE-AES") {
        let message = format!("the stream is protected (METHOD={method:?}); DRM is not worked around");
        return Err(Failure::new(FailureKind::DrmProtected, message));
    }
    let message = format!("the stream is encrypted with METHOD={method:?}; only AES-128 is supported");
    Err(Failure::new(FailureKind::EncryptionUnsupported, message))
}

/// Where a key is.
pub(super) fn key_url(key: &Key) -> Result<Url> {
    crate::http::parse_url(key.uri.as_deref().unwrap_or_default()).at(|| "the key's URI")
}
