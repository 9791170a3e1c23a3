//! EXT-X-KEY and EXT-X-SESSION-KEY (RFC 8216 §4.3.2.4).

use std::borrow::Cow;

use crate::failure::Result;

use super::Key;
use super::attributes::{Attribute, Attributes};
use super::reading::Reading;

/// KEYFORMAT when there is none: the resource is the key itself.
pub(super) const IDENTITY: &str = "identity";

/// Reads the attributes of one key; `None` is METHOD=NONE. Nothing is guessed: with a wrong key
/// the file would be garbage. `tag` is for messages.
///
/// # Errors
/// [`FailureKind::PlaylistInvalid`] or [`FailureKind::UrlInvalid`].
pub(super) fn parse(tag: &str, list: &[u8], reading: &mut Reading) -> Result<Option<Key>> {
    let (mut method, mut uri, mut iv, mut key_format) = (None, None, None, None);
    for attribute in Attributes::new(list) {
        let attribute = attribute.map_err(|reason| reading.invalid(format!("{tag}: {reason}")))?;
        let place = match attribute.name {
            b"METHOD" => &mut method,
            b"URI" => &mut uri,
            b"IV" => &mut iv,
            b"KEYFORMAT" => &mut key_format,
            _ => continue,
        };
        if place.replace(attribute).is_some() {
            return Err(reading.invalid(format!("{tag}: {} stands twice", String::from_utf8_lossy(attribute.name))));
        }
        let should_be_quoted = matches!(attribute.name, b"URI" | b"KEYFORMAT");
        if attribute.quoted != should_be_quoted {
            let name = String::from_utf8_lossy(attribute.name);
            let how = if should_be_quoted { "without quotes" } else { "in quotes" };
            reading.note(format!("{tag}: {name} {how}: read all the same"));
        }
    }
    let method = method.filter(|method| !method.value.is_empty());
    let method = reading.text(method.ok_or_else(|| reading.invalid(format!("{tag}: METHOD is missing")))?.value)?;
    if method == "NONE" {
        if uri.is_some() || iv.is_some() || key_format.is_some() {
            reading.note(format!("{tag}: METHOD=NONE with other attributes: not encrypted"));
        }
        return Ok(None);
    }
    let key_format = match key_format {
        Some(Attribute { value: [], .. }) | None => IDENTITY.into(),
        Some(attribute) => match reading.text(attribute.value)? {
            // One format however it is written: else two of its keys would be in force at once.
            format if format.eq_ignore_ascii_case(IDENTITY) => IDENTITY.into(),
            format => name(&format),
        },
    };
    let iv = match iv {
        Some(attribute) => {
            let text = reading.text(attribute.value)?;
            Some(parse_iv(&text).map_err(|reason| reading.invalid(format!("{tag}: {reason}")))?)
        }
        None => None,
    };
    let uri = match uri {
        Some(attribute) => Some(absolute(reading, attribute, &key_format)?),
        None if method == "AES-128" => return Err(reading.invalid(format!("{tag}: METHOD=AES-128 without URI"))),
        None => None,
    };
    Ok(Some(Key { method: name(&method), uri, iv, key_format }))
}

/// A method or format, without memory of its own when it is a usual one: each segment may have a key.
fn name(text: &str) -> Cow<'static, str> {
    const USUAL: [&str; 4] = ["AES-128", "SAMPLE-AES", IDENTITY, "com.apple.streamingkeydelivery"];
    match USUAL.iter().find(|usual| **usual == text) {
        Some(usual) => Cow::Borrowed(usual),
        None => Cow::Owned(text.to_owned()),
    }
}

/// The URI of a key as an absolute URL. One of another scheme is left as it is: what may be asked is
/// decided where it is asked.
fn absolute(reading: &mut Reading, attribute: Attribute, key_format: &str) -> Result<Box<str>> {
    let uri = reading.uri_text(attribute.value)?;
    let scheme = uri.split_once(':').map(|(scheme, _)| scheme).filter(|scheme| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
    });
    if scheme.is_some_and(|scheme| !["http", "https"].iter().any(|http| scheme.eq_ignore_ascii_case(http))) {
        return Ok(uri.into());
    }
    match reading.resolve(&uri) {
        Ok(url) => Ok(String::from(url).into()),
        // A DRM system may write what it likes: it is refused by its name, not for its URI.
        Err(_) if key_format != IDENTITY => Ok(uri.into()),
        Err(failure) => Err(failure),
    }
}

/// Hexadecimal with 0x or 0X and at most 32 digits; a shorter one is a number, so zeros go in front.
fn parse_iv(text: &str) -> std::result::Result<[u8; 16], &'static str> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let digits = digits.ok_or("IV does not begin with 0x")?;
    if digits.is_empty() || digits.len() > 32 {
        return Err("IV is not 1 to 32 hexadecimal digits");
    }
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("IV is not hexadecimal");
    }
    let number = u128::from_str_radix(digits, 16).map_err(|_| "IV is not hexadecimal")?;
    Ok(number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_iv_gets_zeros_in_front() {
        assert_eq!(parse_iv("0xA").unwrap()[15], 10);
        assert_eq!(parse_iv("0X0102").unwrap()[14..], [1, 2]);
        assert_eq!(parse_iv("0x000102030405060708090a0b0c0d0e0f").unwrap(), std::array::from_fn(|n| n as u8));
    }

    #[test]
    fn line_17_an_iv_is_never_guessed() {
        for bad in ["", "0x", "1234", "0xZZ", "0x+1", "0x1 ", "x12", &format!("0x{}", "0".repeat(33))] {
            assert!(parse_iv(bad).is_err(), "{bad:?}");
        }
    }
}
