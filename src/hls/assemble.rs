//! From pieces as the network gives them to clear blocks for the file: each byte is moved once, by
//! the decryption itself where there is one.

use super::buffer::Block;
use super::decrypt::{AES_BLOCK, Decryptor, padding_length};
use crate::failure::{Failure, FailureKind, Result};

/// The assembly of one unit.
pub enum Assembler {
    /// Bytes stay as they are.
    Clear,
    /// AES-128-CBC.
    Encrypted(Box<Encrypted>),
}

/// The state of an encrypted unit between two pieces.
pub struct Encrypted {
    decryptor: Decryptor,
    /// Ciphertext that is held back: less than a cipher block, or the last whole one, which may
    /// hold padding.
    held: [u8; AES_BLOCK],
    held_length: usize,
}

impl Assembler {
    /// Begins a unit.
    pub fn new(decryptor: Option<Decryptor>) -> Self {
        match decryptor {
            Some(decryptor) => {
                Assembler::Encrypted(Box::new(Encrypted { decryptor, held: [0; AES_BLOCK], held_length: 0 }))
            }
            None => Assembler::Clear,
        }
    }

    /// Puts bytes into the block and returns what did not fit. When something is returned, the
    /// block is full.
    pub fn fill<'a>(&mut self, piece: &'a [u8], block: &mut Block) -> &'a [u8] {
        match self {
            Assembler::Clear => {
                let (now, later) = piece.split_at(block.room().min(piece.len()));
                block.append(now.len(), |place| place.copy_from_slice(now));
                later
            }
            Assembler::Encrypted(encrypted) => encrypted.fill(piece, block),
        }
    }

    /// Whether [`Assembler::finish`] needs more room than there is in the block.
    pub fn is_full(&self, block: &Block) -> bool {
        matches!(self, Assembler::Encrypted(_)) && block.room() < AES_BLOCK
    }

    /// Ends the unit: what was held back goes into the block, without padding. With `unpadded`
    /// bytes that are no padding are taken for media: some packagers leave it out where it would be
    /// a whole cipher block.
    ///
    /// # Errors
    /// `decryption_failed` when the ciphertext is empty, not a multiple of 16 bytes, or ends in wrong
    /// padding.
    pub fn finish(&mut self, block: &mut Block, unpadded: bool) -> Result<()> {
        match self {
            Assembler::Clear => Ok(()),
            Assembler::Encrypted(encrypted) => encrypted.finish(block, unpadded),
        }
    }
}

impl Encrypted {
    fn fill<'a>(&mut self, mut piece: &'a [u8], block: &mut Block) -> &'a [u8] {
        if self.held_length > 0 {
            let (now, later) = piece.split_at((AES_BLOCK - self.held_length).min(piece.len()));
            self.held[self.held_length..][..now.len()].copy_from_slice(now);
            self.held_length += now.len();
            piece = later;
            if piece.is_empty() || block.room() < AES_BLOCK {
                return piece;
            }
            let (decryptor, held) = (&mut self.decryptor, &self.held);
            block.append(AES_BLOCK, |place| decryptor.decrypt(held, place));
            self.held_length = 0;
        }
        // At least one byte and at most one cipher block stays back.
        let whole = piece.len().saturating_sub(1) / AES_BLOCK * AES_BLOCK;
        let (now, later) = piece.split_at(whole.min(block.room() / AES_BLOCK * AES_BLOCK));
        block.append(now.len(), |place| self.decryptor.decrypt(now, place));
        if later.len() <= AES_BLOCK {
            self.held[..later.len()].copy_from_slice(later);
            self.held_length = later.len();
            return &[];
        }
        later
    }

    fn finish(&mut self, block: &mut Block, unpadded: bool) -> Result<()> {
        let failed = |message: String| Err(Failure::new(FailureKind::DecryptionFailed, message));
        match self.held_length {
            0 => return failed("the ciphertext is empty".into()),
            AES_BLOCK => {}
            over => return failed(format!("the ciphertext is not a multiple of 16 bytes ({over} too many)")),
        }
        let mut last = [0; AES_BLOCK];
        self.decryptor.decrypt(&self.held, &mut last);
        let padding = match padding_length(&last) {
            Ok(padding) => padding,
            Err(_) if unpadded => {
                tracing::debug!("whole packets without padding: taken as they are");
                0
            }
            Err(failure) => return Err(failure),
        };
        block.append(AES_BLOCK - padding, |place| place.copy_from_slice(&last[..AES_BLOCK - padding]));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use aes::Aes128;
    use cbc::cipher::{BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7};
    use proptest::prelude::*;
    use tokio::sync::watch;

    use super::*;
    use crate::hls::buffer::{BLOCK_BYTES, Budget};
    use crate::hls::slot::Turn;
    use crate::metrics::Metrics;

    const KEY: [u8; 16] = [3; 16];
    const IV: [u8; 16] = [5; 16];

    fn encrypt(clear: &[u8]) -> Vec<u8> {
        cbc::Encryptor::<Aes128>::new(&KEY.into(), &IV.into()).encrypt_padded_vec::<Pkcs7>(clear)
    }

    fn new_block() -> Block {
        let budget = Budget::new(1 << 20, Metrics::new());
        let mut turn = Turn::new(watch::channel(0).1, 0);
        // Never waits: the budget is new.
        futures_util::FutureExt::now_or_never(budget.block(&mut turn)).unwrap().unwrap()
    }

    fn assemble(pieces: &[&[u8]], encrypted: bool, unpadded: bool) -> Result<Vec<u8>> {
        let mut assembler = Assembler::new(encrypted.then(|| Decryptor::new(&KEY, &IV)));
        let mut clear = Vec::new();
        let mut block = new_block();
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                rest = assembler.fill(rest, &mut block);
                if !rest.is_empty() {
                    clear.extend_from_slice(&std::mem::replace(&mut block, new_block()));
                }
            }
        }
        if assembler.is_full(&block) {
            clear.extend_from_slice(&std::mem::replace(&mut block, new_block()));
        }
        assembler.finish(&mut block, unpadded)?;
        clear.extend_from_slice(&block);
        Ok(clear)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_cut_gives_the_same_bytes(
            length in prop_oneof![0usize..100, (BLOCK_BYTES - 40)..(BLOCK_BYTES + 40), (2 * BLOCK_BYTES - 40)..(2 * BLOCK_BYTES + 40)],
            cuts in prop::collection::vec(prop_oneof![1usize..40, 1usize..300_000], 1..8),
        ) {
            let clear: Vec<u8> = (0..length).map(|index| (index * 7 + index / 251) as u8).collect();
            for encrypted in [false, true] {
                let sent = if encrypted { encrypt(&clear) } else { clear.clone() };
                let mut pieces = Vec::new();
                let mut rest = &sent[..];
                for cut in cuts.iter().cycle() {
                    if rest.is_empty() { break; }
                    let (now, later) = rest.split_at((*cut).min(rest.len()));
                    pieces.push(now);
                    rest = later;
                }
                prop_assert!(assemble(&pieces, encrypted, false).unwrap() == clear, "encrypted: {}", encrypted);
            }
        }
    }

    #[test]
    fn line_18_damaged_ciphertext_is_refused() {
        let sent = encrypt(b"some clear text that is longer than a block");
        for damaged in [&sent[..sent.len() - 5], &sent[..sent.len() - 16], &[], &sent[..7]] {
            let failure = assemble(&[damaged], true, false).unwrap_err();
            assert_eq!(failure.kind, FailureKind::DecryptionFailed, "{} bytes", damaged.len());
        }
    }

    #[test]
    fn line_19_padding_may_be_missing_only_where_that_is_allowed() {
        let clear = [200; 64];
        let sent = encrypt(&clear);
        let unpadded = &sent[..64];
        assert!(assemble(&[unpadded], true, false).is_err());
        assert_eq!(assemble(&[unpadded], true, true).unwrap(), clear);
        assert_eq!(assemble(&[&sent], true, true).unwrap(), clear, "what is there is taken off all the same");
    }
}
