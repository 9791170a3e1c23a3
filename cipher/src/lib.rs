//! AES-128-CBC, decrypted in whole cipher blocks, as bytes arrive. A crate of its own because generic
//! code, which that of a cipher is, is made where it is used and as that crate is optimised: hauld is for
//! size, this is for speed (see the profiles of the package `hauld`).
#![forbid(unsafe_code)]

use aes::Aes128;
use aes::cipher::array::Array;
use aes::cipher::consts::U16;
use aes::cipher::{BlockCipherDecrypt, KeyInit};

/// AES block length in bytes.
pub const AES_BLOCK: usize = 16;

/// How much is moved and decrypted at a time: it stays in the nearest caches between the two.
const STEP_BYTES: usize = 32 * 1024;

/// State of one unit's decryption.
pub struct Decryptor {
    cipher: Aes128,
    /// The ciphertext of the block before, at first the IV.
    before: u128,
}

impl Decryptor {
    /// Key set-up costs less than a tenth of a microsecond.
    pub fn new(key: &[u8; AES_BLOCK], iv: &[u8; AES_BLOCK]) -> Self {
        Decryptor { cipher: Aes128::new(&(*key).into()), before: u128::from_ne_bytes(*iv) }
    }

    /// Decrypts whole cipher blocks from `ciphertext` to `clear`, which has the same length. Always in
    /// one call for many blocks: one call per block is twenty times slower.
    ///
    /// Moved first and then decrypted in place: where `clear` is not in the cache, and the next
    /// block of the file never is, a plain copy writes whole lines without reading them before, and
    /// the cipher's own stores do not. From one place to the other it took twice as long.
    pub fn decrypt(&mut self, ciphertext: &[u8], clear: &mut [u8]) {
        let steps = ciphertext.chunks(STEP_BYTES).zip(clear.chunks_mut(STEP_BYTES));
        for (from, to) in steps {
            to.copy_from_slice(from);
            let blocks = Array::<u8, U16>::slice_as_chunks_mut(to).0;
            self.cipher.decrypt_blocks(blocks);
            // What the mode is about (NIST SP 800-38A, 6.2). The crate `cbc` does the same on the way, where
            // the passes for size of the last optimisation leave it at a third of the speed.
            for (block, from) in blocks.iter_mut().zip(from.as_chunks().0) {
                let clear = u128::from_ne_bytes((*block).into()) ^ self.before;
                *block = clear.to_ne_bytes().into();
                self.before = u128::from_ne_bytes(*from);
            }
        }
    }
}
