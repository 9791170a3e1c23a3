//! HMAC-SHA256, as calls to the backend and requests to the hook are signed: in the field's own way, and
//! by Standard Webhooks.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice};
use sha2::Sha256;

/// What a secret of Standard Webhooks begins with; base64 follows.
const WEBHOOK_SECRET: &str = "whsec_";

/// Hex HMAC-SHA256 over the parts, nothing between them.
pub fn old(secret: &str, parts: &[&str]) -> String {
    hex::encode(hmac(secret.as_bytes(), parts.iter().map(|part| part.as_bytes())))
}

/// The header `webhook-signature` (<https://www.standardwebhooks.com>) of a message.
pub fn webhook(secret: &SecretSlice<u8>, id: &str, timestamp: &str, body: &[u8]) -> String {
    format!("v1,{}", STANDARD.encode(hmac(secret.expose_secret(), webhook_parts(id, timestamp, body))))
}

/// What a signature of Standard Webhooks is over.
pub fn webhook_parts<'a>(id: &'a str, timestamp: &'a str, body: &'a [u8]) -> [&'a [u8]; 5] {
    [id.as_bytes(), b".", timestamp.as_bytes(), b".", body]
}

/// The bytes of a secret: after `whsec_` they are base64, any other text is its own bytes.
///
/// # Errors
/// When what follows `whsec_` is not base64.
pub fn webhook_secret(text: &str) -> Result<SecretSlice<u8>, &'static str> {
    let bytes = match text.strip_prefix(WEBHOOK_SECRET) {
        Some(encoded) => STANDARD.decode(encoded).map_err(|_| "what follows whsec_ is not base64")?,
        None => text.as_bytes().to_vec(),
    };
    Ok(SecretSlice::from(bytes))
}

/// HMAC-SHA256 over the parts, nothing between them.
pub fn hmac<'a>(secret: &[u8], parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mac = Hmac::<Sha256>::new_from_slice(secret);
    let mut mac = mac.expect("an HMAC key"); // cannot fail: HMAC takes keys of every length
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_signature_is_what_openssl_computes() {
        // printf '43Course Name1768262400' | openssl dgst -sha256 -hmac s3cret
        assert_eq!(
            old("s3cret", &["43", "Course Name", "1768262400"]),
            "6f615695e724ccde4f6af2273de6cd38ed7502ff475494cf4fe16e62b7209f19"
        );
        // printf '7Kurs Ä – 日本1700000000' | openssl dgst -sha256 -hmac 'pä55'
        assert_eq!(
            old("pä55", &["7", "Kurs Ä – 日本", "1700000000"]),
            "543301020283cdf3669b56f01423823f37151d7e65032201bd41358d1dcf3f13"
        );
    }

    #[test]
    fn the_webhook_signature_is_that_of_the_specification() {
        // The example of the specification of Standard Webhooks and of Svix's documentation.
        let secret = webhook_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(
            webhook(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        assert!(webhook_secret("whsec_not base64").is_err());
    }
}
