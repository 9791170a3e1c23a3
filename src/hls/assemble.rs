//! From chunks as the network gives them to clear blocks for the file: copied once, decrypted in
//! place.

use super::buffer::{BLOCK_BYTES, Block, Budget};
use super::decrypt::{AES_BLOCK, Decryptor, padding_length};
use crate::failure::{Failure, FailureKind, Result};

/// The assembly of one unit.
pub struct Assembler {
    budget: Budget,
    decryptor: Option<Decryptor>,
    block: Block,
    /// Bytes of the block that are clear. All of them when nothing is encrypted.
    clear: usize,
}

impl Assembler {
    /// Begins a unit.
    pub fn new(budget: Budget, decryptor: Option<Decryptor>) -> Self {
        let block = budget.block();
        Assembler { budget, decryptor, block, clear: 0 }
    }

    /// Takes bytes in and returns what did not fit. When something is returned, the block is full
    /// and [`Assembler::take`] must follow.
    pub fn fill<'a>(&mut self, chunk: &'a [u8]) -> &'a [u8] {
        let room = BLOCK_BYTES - self.block.bytes.len();
        let (now, later) = chunk.split_at(room.min(chunk.len()));
        self.block.bytes.extend_from_slice(now);
        self.clear += match &mut self.decryptor {
            Some(decryptor) => decryptor.decrypt(&mut self.block.bytes[self.clear..]),
            None => now.len(),
        };
        later
    }

    /// The full block. Of an encrypted unit the last clear 16 bytes stay behind: they may be
    /// padding.
    pub fn take(&mut self) -> Block {
        let mut next = self.budget.block();
        if self.decryptor.is_some() {
            let keep = self.clear.saturating_sub(AES_BLOCK);
            next.bytes.extend_from_slice(&self.block.bytes[keep..]);
            self.block.bytes.truncate(keep);
            self.clear = next.bytes.len().min(AES_BLOCK);
        } else {
            self.clear = 0;
        }
        std::mem::replace(&mut self.block, next)
    }

    /// The last block, without padding.
    ///
    /// # Errors
    /// `decryption_failed` when the ciphertext is empty, not a multiple of 16 bytes, or ends in wrong
    /// padding.
    pub fn finish(mut self) -> Result<Block> {
        if self.decryptor.is_none() {
            return Ok(self.block);
        }
        let bytes = &mut self.block.bytes;
        if bytes.len() != self.clear {
            let message =
                format!("the ciphertext is not a multiple of 16 bytes ({} too many)", bytes.len() - self.clear);
            return Err(Failure::new(FailureKind::DecryptionFailed, message));
        }
        let Some(last) = bytes.last_chunk::<AES_BLOCK>() else {
            return Err(Failure::new(FailureKind::DecryptionFailed, "the ciphertext is empty"));
        };
        let padding = padding_length(last)?;
        bytes.truncate(bytes.len() - padding);
        Ok(self.block)
    }
}

#[cfg(test)]
mod tests {
    use aes::Aes128;
    use cbc::cipher::{BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7};
    use proptest::prelude::*;

    use super::*;
    use crate::metrics::Metrics;

    const KEY: [u8; 16] = [3; 16];
    const IV: [u8; 16] = [5; 16];

    fn encrypt(clear: &[u8]) -> Vec<u8> {
        cbc::Encryptor::<Aes128>::new(&KEY.into(), &IV.into()).encrypt_padded_vec::<Pkcs7>(clear)
    }

    fn assemble(chunks: &[&[u8]], encrypted: bool) -> Result<Vec<u8>> {
        let budget = Budget::new(1 << 20, Metrics::new());
        let mut assembler = Assembler::new(budget, encrypted.then(|| Decryptor::new(&KEY, &IV)));
        let mut clear = Vec::new();
        for chunk in chunks {
            let mut rest = *chunk;
            loop {
                rest = assembler.fill(rest);
                if rest.is_empty() {
                    break;
                }
                clear.extend_from_slice(&assembler.take().bytes);
            }
        }
        clear.extend_from_slice(&assembler.finish()?.bytes);
        Ok(clear)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_cut_gives_the_same_bytes(
            length in prop_oneof![0usize..100, (BLOCK_BYTES - 40)..(BLOCK_BYTES + 40), (2 * BLOCK_BYTES - 40)..(2 * BLOCK_BYTES + 40)],
            cuts in prop::collection::vec(1usize..300_000, 1..8),
        ) {
            let clear: Vec<u8> = (0..length).map(|index| (index * 7 + index / 251) as u8).collect();
            for encrypted in [false, true] {
                let sent = if encrypted { encrypt(&clear) } else { clear.clone() };
                let mut chunks = Vec::new();
                let mut rest = &sent[..];
                for cut in cuts.iter().cycle() {
                    if rest.is_empty() { break; }
                    let (now, later) = rest.split_at((*cut).min(rest.len()));
                    chunks.push(now);
                    rest = later;
                }
                prop_assert!(assemble(&chunks, encrypted).unwrap() == clear, "encrypted: {}", encrypted);
            }
        }
    }

    #[test]
    fn damaged_ciphertext_is_refused() {
        let sent = encrypt(b"some clear text that is longer than a block");
        for damaged in [&sent[..sent.len() - 5], &sent[..sent.len() - 16], &[], &sent[..7]] {
            let failure = assemble(&[damaged], true).unwrap_err();
            assert_eq!(failure.kind, FailureKind::DecryptionFailed, "{} bytes", damaged.len());
        }
    }
}
