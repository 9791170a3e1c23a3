//! The ID3 tag in front of packed audio, a PRIV frame of which tells when its first sample is due
//! (RFC 8216 §3.4).

/// Who owns the PRIV frame; 8 bytes follow behind a zero.
const OWNER: &[u8] = b"com.apple.streaming.transportStreamTimestamp\0";
/// Head of an ID3 tag.
const HEAD: usize = 10;

/// The timestamp in the tag at the head of `bytes`: 33 bits, in ticks of 90 kHz. `None` when there
/// is none, or when one of the upper 31 bits, which must be zero, is set.
pub fn timestamp(bytes: &[u8]) -> Option<u64> {
    let tag = bytes.get(..tag_length(bytes)?.min(bytes.len()))?;
    let at = tag.windows(OWNER.len()).position(|window| window == OWNER)? + OWNER.len();
    let ticks = u64::from_be_bytes(*tag.get(at..)?.first_chunk()?);
    (ticks < 1 << 33).then_some(ticks)
}

/// Length in bytes of the tag at the head of `bytes`, its head included (ID3v2 §3.1).
pub fn tag_length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.get(..HEAD).filter(|head| head.starts_with(b"ID3"))?;
    let size = head[6..].iter().fold(0, |size, byte| size << 7 | usize::from(byte & 0x7f));
    // A footer is as long as the head.
    Some(HEAD + size + if head[5] & 0x10 != 0 { HEAD } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_audio_says_it_in_its_tag() {
        let tag = |value: i64| [b"ID3\x04\0\0\0\0\0\x3fPRIV\0\0\0\x35\0\0", OWNER, &value.to_be_bytes()].concat();
        assert_eq!(timestamp(&tag(900_000)), Some(900_000));
        assert_eq!(timestamp(&tag(900_000)[..60]), None);
        assert_eq!(timestamp(b"\xff\xf1"), None);
    }
}
