//! The engine's readers of what comes from the wire, for [`crate::fuzzing`].
//!
//! What most of them have to hold: how a body is cut into pieces on its way changes nothing.

use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderValue};
use tokio::runtime::Runtime;
use tokio::sync::{SetOnce, watch};
use url::Url;

use super::assemble::Assembler;
use super::body::Body;
use super::buffer::{BLOCK_BYTES, Budget, Use};
use super::decrypt::{AES_BLOCK, Decryptor};
use super::fmp4::{same_tracks, tracks, walk};
use super::fragment::Fragment;
use super::intake::Intake;
use super::plan::Unit;
use super::playlist::ByteRange;
use super::slot::{Arrival, Slot, Turn};
use super::transport::{Facts, Inspector, PACKET, crc32};
use super::webvtt::{Clock, SegmentText, stitch};
use super::{MediaKind, id3, journal, timestamps};
use crate::failure::Result;
use crate::fuzzing::{Spool, check_same, is_presentable, odd_pieces, presentable};
use crate::http::Encoding;
use crate::metrics::Metrics;
use crate::remux::{Input, InputFormat, timeline};

/// What the engine has once for all units.
struct World {
    runtime: Runtime,
    budget: Budget,
    _use: Use,
}

thread_local! {
    static WORLD: World = {
        let budget = Budget::new(16 << 20, Metrics::new());
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime for one thread");
        World { runtime, _use: budget.begin(), budget }
    };
}

fn unit_of(byte_range: Option<ByteRange>, is_map: bool) -> Unit {
    let url = Url::parse("https://h.example/a.ts").expect("it is a URL");
    Unit { url, byte_range, cipher: None, is_map, sequence: 0, duration_seconds: 6.0 }
}

/// A unit from the wire into the file: gzip, pictures in front, the kind of media and what is in it.
pub fn unit(bytes: &[u8]) -> bool {
    let whole = taken_in(bytes, bytes.len().max(1));
    check_same(&whole, &taken_in(bytes, odd_pieces(bytes)));
    if let Ok((written, _)) = &whole {
        assert!(written.len() <= (1 << 20).max(200 * bytes.len()) + 8, "{} bytes", written.len());
    }
    whole.is_ok()
}

fn taken_in(bytes: &[u8], piece: usize) -> Result<(Vec<u8>, Facts)> {
    let unit = unit_of(None, bytes.get(4..8) == Some(b"ftyp"));
    let kind = SetOnce::new();
    let room = AtomicU64::new(1 << 20);
    let slot = Slot::default();
    let (_head, head) = watch::channel(0);
    let write = async {
        let mut written = Vec::new();
        loop {
            let Arrival { blocks, end, .. } = slot.arrival().await;
            blocks.iter().for_each(|block| written.extend_from_slice(block));
            if let Some(end) = end {
                return end.map(|facts| (written, facts));
            }
        }
    };
    WORLD.with(|World { runtime, budget, .. }| {
        let fetch = async {
            let mut turn = Turn::new(head, 0);
            let mut intake = Intake::new(&unit, Encoding::Identity, None, &kind, budget, &slot, &mut turn)?;
            intake.text = bytes.starts_with(b"WEBVTT").then_some(&room);
            for piece in bytes.chunks(piece) {
                intake.take(Bytes::copy_from_slice(piece)).await?;
            }
            intake.finish().await
        };
        let fetch = async { slot.finish(fetch.await) };
        runtime.block_on(async { tokio::join!(fetch, write).1 })
    })
}

/// Decryption over the edge of a block.
pub fn decryption(bytes: &[u8]) -> bool {
    let whole = decrypted(bytes, bytes.len().max(1));
    check_same(&whole, &decrypted(bytes, odd_pieces(bytes)));
    if let Ok(clear) = &whole {
        assert!(clear.len() < bytes.len() && bytes.len().is_multiple_of(AES_BLOCK), "{} bytes", clear.len());
    }
    whole.is_ok()
}

fn decrypted(bytes: &[u8], piece: usize) -> Result<Vec<u8>> {
    const IN_FRONT: usize = BLOCK_BYTES - 4 * AES_BLOCK;
    WORLD.with(|world| {
        let another = || Ok(world.budget.block_at_once()?.expect("nobody else takes blocks"));
        let mut block = another()?;
        block.append(IN_FRONT, |place| place.fill(0));
        let mut assembler = Assembler::new(Some(Decryptor::new(&[1; AES_BLOCK], &[2; AES_BLOCK])));
        let mut written = Vec::new();
        for mut rest in bytes.chunks(piece) {
            loop {
                rest = assembler.fill(rest, &mut block);
                if rest.is_empty() {
                    break;
                }
                written.extend_from_slice(&block);
                block = another()?;
            }
        }
        if assembler.is_full(&block) {
            written.extend_from_slice(&block);
            block = another()?;
        }
        assembler.finish(&mut block, false)?;
        written.extend_from_slice(&block);
        Ok(written.split_off(IN_FRONT))
    })
}

/// The packets of a transport stream, and the tables in them.
pub fn transport_stream(bytes: &[u8]) -> bool {
    let bytes = with_checksums(bytes);
    let inspected = |piece: usize| {
        let mut inspector = Inspector::new();
        bytes.chunks(piece).try_for_each(|piece| inspector.inspect(piece))?;
        inspector.finish()
    };
    let facts = inspected(bytes.len().max(1));
    check_same(&facts, &inspected(odd_pieces(&bytes)));
    let Ok(facts) = facts else { return false };
    assert_eq!(facts.compatible(&facts), Ok(()));
    assert!(facts.first_pts().is_none_or(|ticks| ticks < 1 << 33), "{facts:?}");
    !facts.streams.is_empty()
}

/// The tables that lie in one packet, with a checksum that is right: no mutation finds it.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for packet in bytes.chunks_exact_mut(PACKET) {
        let start = if packet[3] & 0x20 != 0 { 5 + usize::from(packet[4]) } else { 4 };
        let Some([0, section @ ..]) = packet.get_mut(start..) else { continue };
        let &mut [table, high, low, ..] = section else { continue };
        let length = 3 + usize::from(u16::from_be_bytes([high, low]) & 0x0fff);
        if let Some(section) = section.get_mut(..length).filter(|_| length >= 12 && matches!(table, 0 | 2)) {
            let (content, sum) = section.split_at_mut(length - 4);
            sum.copy_from_slice(&crc32(content).to_be_bytes());
        }
    }
    bytes
}

/// Initialization sections and fragments.
pub fn fragmented_mp4(bytes: &[u8]) -> bool {
    let inspected = |piece: usize| {
        let mut fragment = Fragment::new(bytes.get(4..8) == Some(b"ftyp"));
        bytes.chunks(piece).try_for_each(|piece| fragment.inspect(piece))?;
        fragment.finish()
    };
    let whole = inspected(bytes.len().max(1));
    check_same(&whole, &inspected(odd_pieces(bytes)));
    let tracks = tracks(bytes);
    assert_eq!(same_tracks(bytes, bytes).is_ok(), tracks.is_some());
    let spool = Spool::with(bytes);
    presentable(walk(&spool.open(), |_, _| Ok(())));
    whole.is_ok() && tracks.is_some()
}

/// The tag in front of packed audio.
pub fn id3_tag(bytes: &[u8]) -> bool {
    let ticks = id3::timestamp(bytes);
    assert!(ticks.is_none_or(|ticks| ticks < 1 << 33));
    assert!(id3::tag_length(bytes).is_none_or(|length| (10..1 << 29).contains(&length)));
    ticks.is_some()
}

/// A track with a discontinuity: one timeline for it, and for its subtitles.
pub fn timeline(bytes: &[u8]) -> bool {
    let (kind, format, section) = match MediaKind::of(bytes) {
        Ok(kind @ MediaKind::TransportStream) => (kind, InputFormat::MpegTs, bytes.len() / 2 / PACKET * PACKET),
        Ok(kind @ MediaKind::FragmentedMp4) => (kind, InputFormat::FragmentedMp4, last(bytes, b"moof", 4)),
        Ok(kind @ MediaKind::PackedAudio) => (kind, InputFormat::PackedAudio, last(bytes, b"ID3", 0)),
        Ok(MediaKind::WebVtt) | Err(_) => return false,
    };
    let (spool, section) = (Spool::with(bytes), section as u64);
    for range in [0..section, section..u64::MAX] {
        let first = timestamps::first(&spool.open(), kind, range).expect("a file that can be read");
        assert!(first.is_none_or(|ticks| (0..1 << 33).contains(&ticks)), "{first:?}");
    }
    let path = spool.path.clone();
    let input =
        |format| Input { path: path.clone(), format, sections: vec![section], is_joined: false, expected: None };
    let mut is_joined = false;
    // Alone, and as the sound of itself.
    for inputs in [vec![input(format)], vec![input(format), input(format)]] {
        match timeline::join(inputs, &|| false) {
            Ok(inputs) => is_joined |= inputs[0].is_joined,
            Err(failure) => is_presentable(&failure),
        }
    }
    is_joined
}

/// Where the last `mark` stands, or so many bytes before it.
fn last(bytes: &[u8], mark: &[u8], before: usize) -> usize {
    bytes.windows(mark.len()).rposition(|window| window == mark).map_or(0, |at| at.saturating_sub(before))
}

/// The segments of a rendition, with a separator between them; a byte below 8 in front of a segment says
/// whether it is a discontinuity and when it begins.
pub fn webvtt(bytes: &[u8]) -> bool {
    let segment = |(number, bytes): (usize, &'_ [u8])| {
        let (first, bytes) = match bytes.split_first() {
            Some((first @ ..8, rest)) => (*first, rest),
            _ => (0, bytes),
        };
        let start_seconds = [6.0 * number as f64, 0.0, 100_000.0, 5e13][usize::from(first >> 1)];
        (bytes.to_vec(), first & 1 == 1, start_seconds)
    };
    let segments: Vec<_> = bytes.split(|byte| *byte == 0x1e).enumerate().map(segment).collect();
    let texts = segments.iter().zip(0..).map(|((bytes, discontinuity, start_seconds), sequence)| SegmentText {
        bytes,
        start_seconds: *start_seconds,
        discontinuity: *discontinuity,
        sequence,
    });
    let texts: Vec<_> = texts.collect();
    let mut clock = Clock::starting_at((1 << 33) - 90_000);
    clock.begin_section(540_000, Some(126_000));
    let mut is_text = false;
    for clock in [None, Some(&clock)] {
        match stitch(&texts, clock) {
            Ok(stitched) => {
                is_text = true;
                let text = SegmentText {
                    bytes: stitched.text.as_bytes(),
                    start_seconds: 0.0,
                    discontinuity: false,
                    sequence: 0,
                };
                stitch(&[text], Some(&Clock::starting_at(0))).expect("what is written can be read");
            }
            Err(failure) => is_presentable(&failure),
        }
    }
    is_text
}

/// An answer to a byte range: a line with Content-Range, one with Content-Length, then the body.
pub fn byte_range(bytes: &[u8]) -> bool {
    let mut lines = bytes.splitn(3, |byte| *byte == b'\n');
    let mut headers = HeaderMap::new();
    for name in [CONTENT_RANGE, CONTENT_LENGTH] {
        let Ok(value) = HeaderValue::from_bytes(lines.next().unwrap_or_default()) else { return false };
        headers.insert(name, value);
    }
    let content = lines.next().unwrap_or_default();
    let mut is_whole = false;
    for (status, range) in [
        (StatusCode::PARTIAL_CONTENT, Some(ByteRange { offset: 4, length: 6 })),
        (StatusCode::OK, Some(ByteRange { offset: 4, length: 6 })),
        (StatusCode::OK, None),
    ] {
        let unit = unit_of(range, false);
        let received = |piece: usize| {
            let mut body = Body::of(&unit, status, &headers)?;
            let mut received = Vec::new();
            for piece in content.chunks(piece) {
                received.extend_from_slice(body.take(piece)?);
            }
            body.check_end(&unit).map(|()| received)
        };
        let whole = received(content.len().max(1));
        check_same(&whole, &received(odd_pieces(content)));
        if let (Ok(whole), Some(range)) = (&whole, range) {
            assert_eq!(whole.len() as u64, range.length);
        }
        is_whole |= whole.is_ok();
    }
    is_whole
}

/// The record of a part, as it is and with a checksum that is right.
pub fn part_record(bytes: &[u8]) -> bool {
    let _ = journal::parse(bytes, "f");
    let line = String::from_utf8_lossy(bytes.split(|byte| *byte == b'\n').next().unwrap_or_default());
    journal::parse(format!("{line} {}\n", journal::checksum(&line)).as_bytes(), "f").is_some()
}
