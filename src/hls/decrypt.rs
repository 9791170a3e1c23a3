//! AES-128-CBC with PKCS#7 padding, as bytes arrive (RFC 8216 §5.2).

use crate::failure::{Failure, FailureKind, Result};
pub use hauld_cipher::{AES_BLOCK, Decryptor};

/// Length of the padding at the end of the last clear block (PKCS#7: 1 to 16 bytes, each holding
/// the length).
///
/// # Errors
/// `decryption_failed`: the key or the IV is wrong, or the ciphertext was damaged.
pub fn padding_length(last_block: &[u8; AES_BLOCK]) -> Result<usize> {
    let length = last_block[AES_BLOCK - 1];
    let valid = (1..=AES_BLOCK as u8).contains(&length)
        && last_block[AES_BLOCK - usize::from(length)..].iter().all(|byte| *byte == length);
    if !valid {
        let message = "the padding is wrong after decryption: wrong key or IV, or damaged bytes";
        return Err(Failure::new(FailureKind::DecryptionFailed, message));
    }
    Ok(usize::from(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decrypts_the_cbc_vector_of_sp_800_38a() {
        // NIST SP 800-38A, F.2.2: CBC-AES128.Decrypt.
        let key: [u8; 16] = hex::decode("2b7e151628aed2a6abf7158809cf4f3c").unwrap().try_into().unwrap();
        let iv: [u8; 16] = hex::decode("000102030405060708090a0b0c0d0e0f").unwrap().try_into().unwrap();
        let ciphertext = hex::decode("7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2").unwrap();
        let mut clear = [0; 32];
        Decryptor::new(&key, &iv).decrypt(&ciphertext, &mut clear);
        assert_eq!(hex::encode(clear), "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51");
    }

    #[test]
    fn chaining_goes_on_over_calls() {
        let (key, iv) = ([7; 16], [9; 16]);
        let ciphertext: Vec<u8> = (0..160).collect();
        let (mut whole, mut parts) = ([0; 160], [0; 160]);
        Decryptor::new(&key, &iv).decrypt(&ciphertext, &mut whole);
        let mut decryptor = Decryptor::new(&key, &iv);
        decryptor.decrypt(&ciphertext[..48], &mut parts[..48]);
        decryptor.decrypt(&ciphertext[48..], &mut parts[48..]);
        assert_eq!(whole, parts);
    }

    #[test]
    fn padding_is_checked_in_every_byte() {
        let mut block = [0; 16];
        block[12..].fill(4);
        assert_eq!(padding_length(&block).unwrap(), 4);
        assert_eq!(padding_length(&[16; 16]).unwrap(), 16);
        block[13] = 3;
        assert!(padding_length(&block).is_err());
        assert!(padding_length(&[0; 16]).is_err());
        assert!(padding_length(&[17; 16]).is_err());
    }
}
