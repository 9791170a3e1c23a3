//! A unit's bytes on their way from the wire into its slot: gzip undone, decrypted, inspected.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use tokio::sync::SetOnce;

use super::assemble::Assembler;
use super::buffer::{BLOCK_BYTES, Block, Budget};
use super::ceiling::UnitCeiling;
use super::decrypt::Decryptor;
use super::inspection::Inspection;
use super::plan::Unit;
use super::prefix::{Leading, PREFIX_WINDOW};
use super::slot::{Slot, Turn};
use super::sniff::{MediaKind, SNIFF_BYTES};
use super::subtitles::{MAX_BYTES, TRAILER_BYTES};
use super::transport::{Facts, PACKET};
use crate::failure::{Failure, FailureKind, Result};
use crate::http::{Encoding, GZIP_MARK_BYTES, Gunzip, shown};

/// How much gzip is undone at once.
const CLEAR_STEP: usize = 16 * 1024;
// The first block is enough to find the stream behind a picture, and to tell what it is.
const _: () = assert!(BLOCK_BYTES - 16 >= PREFIX_WINDOW && PREFIX_WINDOW > SNIFF_BYTES);

/// Takes in one unit, from the first byte to the last.
pub struct Intake<'a> {
    unit: &'a Unit,
    /// What the units of the track are, told by the head of the file.
    kind: &'a SetOnce<MediaKind>,
    budget: &'a Budget,
    slot: &'a Slot,
    turn: &'a mut Turn,
    assembler: Assembler,
    block: Option<Block>,
    gunzip: Option<Box<(Gunzip, [u8; CLEAR_STEP])>>,
    /// The first bytes of the body, while they are too few to tell whether they are gzip.
    first: Option<Bytes>,
    /// Bytes that went into the assembler.
    assembled: u64,
    /// Begins with the first block.
    inspection: Option<Inspection>,
    /// Of subtitles: how many bytes may still come. The end of the unit is marked behind it.
    pub text: Option<&'a AtomicU64>,
    /// The most that the unit may have, with gzip undone; `None` means no limit.
    pub ceiling: Option<UnitCeiling>,
    /// How many blocks it may still have, when none may be waited for: of a second request.
    pub spare_blocks: Option<usize>,
    /// Whether bytes in front of a transport stream may be left out when they are no picture.
    pub allow_leading_bytes: bool,
    /// How many have been left out.
    leading_bytes: u64,
    /// Bytes of the unit so far, in the clear.
    clear: u64,
}

impl<'a> Intake<'a> {
    /// Begins a unit whose body is encoded so.
    ///
    /// # Errors
    /// `http_rejected` for a part of a body that is encoded as a whole.
    pub fn new(
        unit: &'a Unit,
        encoding: Encoding,
        decryptor: Option<Decryptor>,
        kind: &'a SetOnce<MediaKind>,
        budget: &'a Budget,
        slot: &'a Slot,
        turn: &'a mut Turn,
    ) -> Result<Intake<'a>> {
        if encoding == Encoding::Gzip && unit.byte_range.is_some() {
            let message = "a byte range was asked for, and it came gzip'd";
            return Err(Failure::new(FailureKind::HttpRejected, message));
        }
        Ok(Intake {
            unit,
            kind,
            budget,
            slot,
            turn,
            assembler: Assembler::new(decryptor),
            block: None,
            gunzip: (encoding == Encoding::Gzip).then(gunzip),
            first: Some(Bytes::new()),
            assembled: 0,
            inspection: None,
            text: None,
            ceiling: None,
            spare_blocks: None,
            allow_leading_bytes: false,
            leading_bytes: 0,
            clear: 0,
        })
    }

    /// Takes the next bytes of the body.
    ///
    /// # Errors
    /// What is wrong with them, or `disk_failed` when there is no memory.
    pub async fn take(&mut self, piece: Bytes) -> Result<()> {
        let Some(first) = self.first.take() else { return self.pass(piece).await };
        let first = if first.is_empty() { piece } else { Bytes::from([first, piece].concat()) };
        if first.len() < GZIP_MARK_BYTES {
            self.first = Some(first);
            return Ok(());
        }
        self.begin(first).await
    }

    /// Takes the first bytes: as many as tell whether they are gzip, or all.
    async fn begin(&mut self, first: Bytes) -> Result<()> {
        let may_be_gzip = self.unit.cipher.is_none() && self.unit.byte_range.is_none() && self.gunzip.is_none();
        if may_be_gzip && Encoding::of_body(&first) == Encoding::Gzip {
            self.gunzip = Some(gunzip());
        }
        self.pass(first).await
    }

    async fn pass(&mut self, piece: Bytes) -> Result<()> {
        match &mut self.gunzip {
            None => self.fill(&piece).await,
            Some(gunzip) => {
                gunzip.0.feed(piece);
                self.undo().await
            }
        }
    }

    async fn undo(&mut self) -> Result<()> {
        let Some(mut gunzip) = self.gunzip.take() else { return Ok(()) };
        let (decoder, buffer) = &mut *gunzip;
        loop {
            let count = decoder.read(buffer)?;
            if count == 0 {
                break;
            }
            self.fill(&buffer[..count]).await?;
        }
        self.gunzip = Some(gunzip);
        Ok(())
    }

    async fn fill(&mut self, mut rest: &[u8]) -> Result<()> {
        self.assembled += rest.len() as u64;
        if let Some(ceiling) = self.ceiling.filter(|ceiling| self.assembled > ceiling.bytes) {
            return Err(ceiling.exceeded());
        }
        while !rest.is_empty() {
            let mut block = self.block().await?;
            rest = self.assembler.fill(rest, &mut block);
            if rest.is_empty() {
                self.block = Some(block);
            } else {
                self.hand_over(block, false).await?;
            }
        }
        Ok(())
    }

    /// The block that is being filled.
    async fn block(&mut self) -> Result<Block> {
        match self.block.take() {
            Some(block) => Ok(block),
            None => match self.budget.block_at_once()? {
                Some(block) => {
                    self.spare_blocks =
                        self.spare_blocks.map(|left| left.checked_sub(1).ok_or_else(no_memory)).transpose()?;
                    Ok(block)
                }
                None if self.spare_blocks.is_some() => Err(no_memory()),
                None => {
                    self.slot.wait_for_memory();
                    self.budget.block(self.turn).await
                }
            },
        }
    }

    async fn hand_over(&mut self, mut block: Block, is_last: bool) -> Result<()> {
        self.look(&mut block, is_last).await?;
        self.count(block.len() as u64)?;
        if !block.is_empty() {
            self.slot.hand_over(block, self.turn).await;
        }
        Ok(())
    }

    /// Looks at the next block: at the first one, is it media, and of the track's kind?
    async fn look(&mut self, block: &mut Block, is_last: bool) -> Result<()> {
        let inspection = match &mut self.inspection {
            Some(inspection) => inspection,
            None => {
                if let Some(leading) = Leading::of(block, is_last) {
                    if !leading.is_picture && !self.allow_leading_bytes {
                        return Err(leading.refused());
                    }
                    tracing::debug!("{}: {leading}: left out", shown(&self.unit.url));
                    block.cut_front(leading.bytes);
                    self.leading_bytes = leading.bytes as u64;
                }
                let kind = MediaKind::of(&block[..block.len().min(SNIFF_BYTES)])?;
                let expected = self.expected(kind).await;
                if kind != expected {
                    let message = format!("{kind:?} came where the track is {expected:?}");
                    return Err(Failure::new(FailureKind::SegmentInvalid, message));
                }
                self.inspection.insert(Inspection::new(kind, self.unit.is_map))
            }
        };
        inspection.inspect(block)
    }

    /// Counts bytes of the unit, and bounds what subtitles may have in all.
    fn count(&mut self, bytes: u64) -> Result<()> {
        self.clear += bytes;
        let Some(room) = self.text else { return Ok(()) };
        let taken = room.fetch_update(Relaxed, Relaxed, |room| room.checked_sub(bytes));
        let too_large =
            |_| Failure::new(FailureKind::BodyTooLarge, format!("more than {MAX_BYTES} bytes of subtitles"));
        taken.map(drop).map_err(too_large)
    }

    /// The track's kind, which the head of the file tells: whoever comes before it waits, or a stray
    /// page in the middle would decide what all the others are. `kind` is that of this unit.
    async fn expected(&mut self, kind: MediaKind) -> MediaKind {
        tokio::select! {
            biased;
            known = self.kind.wait() => return *known,
            () = self.turn.come() => {}
        }
        // An error says that it has been told meanwhile.
        let _ = self.kind.set(kind);
        self.kind.get().copied().unwrap_or(kind)
    }

    /// Ends the unit, and says what is in it.
    ///
    /// # Errors
    /// As [`Intake::take`], and `decryption_failed`.
    pub async fn finish(mut self) -> Result<Facts> {
        if let Some(first) = self.first.take() {
            self.begin(first).await?;
        }
        if let Some(gunzip) = &mut self.gunzip {
            gunzip.0.complete();
            self.undo().await?;
        }
        let mut block = self.block().await?;
        if self.assembler.is_full(&block) {
            self.hand_over(block, false).await?;
            block = self.block().await?;
        }
        // With padding a transport stream never has a length like this.
        let whole_packets = self.assembled.is_multiple_of(PACKET as u64);
        let kind = self.kind.get().copied().or_else(|| MediaKind::of(&block[..block.len().min(SNIFF_BYTES)]).ok());
        let unpadded = whole_packets && kind == Some(MediaKind::TransportStream);
        self.assembler.finish(&mut block, unpadded)?;
        self.look(&mut block, true).await?;
        self.count(block.len() as u64)?;
        let facts = self.inspection.take().map(Inspection::finish).transpose()?.unwrap_or_default();
        let facts = Facts { leading_bytes: self.leading_bytes, ..facts };
        if self.text.is_some() {
            if block.room() < TRAILER_BYTES {
                self.slot.hand_over(block, self.turn).await;
                block = self.block().await?;
            }
            block.append(TRAILER_BYTES, |place| place.copy_from_slice(&self.clear.to_le_bytes()));
        }
        if !block.is_empty() {
            self.slot.hand_over(block, self.turn).await;
        }
        Ok(facts)
    }
}

fn no_memory() -> Failure {
    Failure::new(FailureKind::HostExhausted, "no memory is to spare for a second request")
}

fn gunzip() -> Box<(Gunzip, [u8; CLEAR_STEP])> {
    Box::new((Gunzip::new(u64::MAX), [0; CLEAR_STEP]))
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;
    use crate::metrics::Metrics;

    #[tokio::test]
    async fn line_25_a_second_request_has_little_memory_and_waits_for_none() {
        let url = url::Url::parse("http://h/").unwrap();
        let unit = Unit { url, byte_range: None, cipher: None, is_map: false, sequence: 0, duration_seconds: 4.0 };
        let packets = Bytes::from([&[0x47, 0x1f, 0xff, 0x10][..], &[0; PACKET - 4]].concat().repeat(1000));
        // How many blocks it may have, how many there are, and how many pieces of one block and a half fit.
        for (spare, blocks, fit) in [(None, 32, 10), (Some(4), 32, 2), (Some(20), 4, 2), (Some(20), 32, 10)] {
            let (budget, slot) = (Budget::new(blocks * BLOCK_BYTES, Metrics::new()), Slot::default());
            let mut turn = Turn::new(watch::channel(0).1, 1).never();
            let kind = SetOnce::new_with(Some(MediaKind::TransportStream));
            let mut intake = Intake::new(&unit, Encoding::Identity, None, &kind, &budget, &slot, &mut turn).unwrap();
            intake.spare_blocks = spare;
            for piece in 1..=10 {
                let taken = intake.take(packets.clone()).await;
                match piece <= fit {
                    true => taken.unwrap(),
                    false => {
                        assert_eq!(
                            taken.unwrap_err().kind,
                            FailureKind::HostExhausted,
                            "{spare:?} of {blocks}: {piece}"
                        );
                        break;
                    }
                }
            }
        }
    }
}
