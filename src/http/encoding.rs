//! Bodies that come gzip'd although nobody asked for it: misconfigured stores do that. Undone as
//! they arrive, within bounds.

use std::io::{BufRead, ErrorKind, Read};

use bytes::{Buf, Bytes};
use flate2::bufread::MultiGzDecoder;
use reqwest::header::{CONTENT_ENCODING, HeaderMap};

use crate::failure::{Failure, FailureKind, Result};

/// Up to here a body may grow as it likes.
const FREE_BYTES: u64 = 1 << 20;
/// How many times its size on the wire a body may have beyond that. Media hardly shrinks, playlists
/// shrink to a twentieth; what shrinks more was made to fill somebody's memory.
const MAX_RATIO: u64 = 200;
/// Bytes that tell gzip from anything else.
pub const GZIP_MARK_BYTES: usize = 3;
/// The most that [`Collector`] undoes at once.
const STEP: usize = 16 * 1024;

/// How a body is encoded on the wire (RFC 9110 §8.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    Gzip,
}

impl Encoding {
    /// What the head of an answer says.
    ///
    /// # Errors
    /// `http_rejected` for an encoding, or several, that cannot be undone. None was asked for.
    pub fn of(headers: &HeaderMap) -> Result<Encoding> {
        let values: Vec<_> = headers.get_all(CONTENT_ENCODING).iter().collect();
        let text = match &values[..] {
            [] => "",
            [value] => value.to_str().unwrap_or("?").trim(),
            _ => "several of them",
        };
        match text.to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Encoding::Identity),
            "gzip" | "x-gzip" => Ok(Encoding::Gzip),
            _ => {
                let message = format!("the body came in a Content-Encoding that was not asked for: {text:?}");
                Err(Failure::new(FailureKind::HttpRejected, message))
            }
        }
    }

    /// Whether bytes in the clear begin as a gzip stream does (RFC 1952 §2.3.1): some stores keep
    /// them so and do not say it.
    pub fn of_body(bytes: &[u8]) -> Encoding {
        if bytes.starts_with(&[0x1f, 0x8b, 0x08]) { Encoding::Gzip } else { Encoding::Identity }
    }
}

/// Undoes gzip: what comes from the wire is fed, what it stands for is read, never more than fits
/// into the reader's buffer.
pub struct Gunzip {
    decoder: MultiGzDecoder<Feed>,
    received: u64,
    produced: u64,
    limit: u64,
}

/// What is there of the stream.
struct Feed {
    bytes: Bytes,
    is_complete: bool,
}

impl BufRead for Feed {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.bytes.is_empty() && !self.is_complete {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(&self.bytes)
    }

    fn consume(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

impl Read for Feed {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let count = self.fill_buf()?.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

impl Gunzip {
    /// For a body of at most `limit` bytes in the clear.
    pub fn new(limit: u64) -> Gunzip {
        let feed = Feed { bytes: Bytes::new(), is_complete: false };
        Gunzip { decoder: MultiGzDecoder::new(feed), received: 0, produced: 0, limit }
    }

    /// Takes the next bytes from the wire, when [`Gunzip::read`] has used up the last ones.
    pub fn feed(&mut self, bytes: Bytes) {
        self.received += bytes.len() as u64;
        self.decoder.get_mut().bytes = bytes;
    }

    /// Nothing more comes from the wire.
    pub fn complete(&mut self) {
        self.decoder.get_mut().is_complete = true;
    }

    /// Reads clear bytes into a buffer that is not empty. 0: more has to be fed; after
    /// [`Gunzip::complete`] it was all, and whole.
    ///
    /// # Errors
    /// `body_truncated` when the stream ends early, `body_too_large` over the limit or when it grows
    /// beyond measure, `http_rejected` when it is damaged or something follows that is not gzip.
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let failed = |kind, message: String| Err(Failure::new(kind, message));
        match self.decoder.read(into) {
            Ok(count) => {
                self.produced += count as u64;
                let fair = FREE_BYTES.max(self.received.saturating_mul(MAX_RATIO));
                if self.produced > self.limit {
                    return failed(FailureKind::BodyTooLarge, format!("more than {} bytes, gzip undone", self.limit));
                }
                if self.produced > fair {
                    let message = format!("{} bytes of gzip grew beyond {fair} bytes", self.received);
                    return failed(FailureKind::BodyTooLarge, message);
                }
                Ok(count)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                failed(FailureKind::BodyTruncated, "the gzip stream ends early".into())
            }
            Err(error) => failed(FailureKind::HttpRejected, format!("the gzip stream is damaged: {error}")),
        }
    }
}

/// Collects a whole body in memory, undoing its encoding.
pub struct Collector {
    body: Vec<u8>,
    limit: usize,
    gunzip: Option<Gunzip>,
}

impl Collector {
    /// For a body of at most `limit` bytes in the clear, under these headers.
    ///
    /// # Errors
    /// As [`Encoding::of`].
    pub fn new(headers: &HeaderMap, limit: usize) -> Result<Collector> {
        let gunzip = match Encoding::of(headers)? {
            Encoding::Identity => None,
            Encoding::Gzip => Some(Gunzip::new(limit as u64)),
        };
        Ok(Collector { body: Vec::new(), limit, gunzip })
    }

    /// Takes the next bytes from the wire.
    ///
    /// # Errors
    /// `body_too_large`, or as [`Gunzip::read`].
    pub fn push(&mut self, bytes: Bytes) -> Result<()> {
        if let Some(gunzip) = &mut self.gunzip {
            gunzip.feed(bytes);
            return self.drain();
        }
        if self.body.len() + bytes.len() > self.limit {
            return Err(Failure::new(FailureKind::BodyTooLarge, format!("more than {} bytes", self.limit)));
        }
        self.body.extend_from_slice(&bytes);
        Ok(())
    }

    fn drain(&mut self) -> Result<()> {
        let Some(gunzip) = &mut self.gunzip else { return Ok(()) };
        loop {
            let before = self.body.len();
            self.body.resize(before + STEP, 0);
            let read = gunzip.read(&mut self.body[before..]);
            self.body.truncate(before + read.as_ref().copied().unwrap_or_default());
            if read? == 0 {
                return Ok(());
            }
        }
    }

    /// The whole body.
    ///
    /// # Errors
    /// As [`Gunzip::read`].
    pub fn finish(mut self) -> Result<Vec<u8>> {
        if let Some(gunzip) = &mut self.gunzip {
            gunzip.complete();
            self.drain()?;
        }
        Ok(self.body)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(clear: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(clear).unwrap();
        encoder.finish().unwrap()
    }

    fn headers(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (CONTENT_ENCODING, value.parse().unwrap())).collect()
    }

    fn collect(encoding: &'static str, wire: &[u8], piece: usize, limit: usize) -> Result<Vec<u8>> {
        let mut collector = Collector::new(&headers(&[encoding]), limit)?;
        for piece in wire.chunks(piece) {
            collector.push(Bytes::copy_from_slice(piece))?;
        }
        collector.finish()
    }

    #[test]
    fn a_body_comes_out_as_it_went_in_however_it_is_cut() {
        let clear: Vec<u8> = (0..200_000_u32).map(|number| (number.wrapping_mul(number) >> 7) as u8).collect();
        let wire = gzip(&clear);
        let two = [gzip(&clear[..1000]), gzip(&clear[1000..])].concat();
        for piece in [1, 10, 999, 1 << 20] {
            assert!(collect("gzip", &wire, piece, clear.len()).unwrap() == clear, "{piece}");
            assert!(collect("X-GZip", &two, piece, clear.len()).unwrap() == clear, "two members, {piece}");
            assert!(collect("identity", &wire, piece, wire.len()).unwrap() == wire, "{piece}");
        }
        assert!(collect("gzip", &gzip(b""), 3, 0).unwrap().is_empty());
    }

    #[test]
    fn line_27_what_is_damaged_or_grows_without_measure_is_refused() {
        let clear: Vec<u8> = (0..100_000_u32).map(|number| (number.wrapping_mul(number) >> 7) as u8).collect();
        let wire = gzip(&clear);
        let bomb = gzip(&vec![0; 8 << 20]);
        let mut damaged = wire.clone();
        damaged[5000] ^= 0xff;
        let mut wrong_sum = wire.clone();
        let end = wrong_sum.len() - 6;
        wrong_sum[end] ^= 1;
        let cut = |count: usize| wire[..wire.len() - count].to_vec();
        use FailureKind::{BodyTooLarge, BodyTruncated, HttpRejected};
        for (name, wire, limit, kind) in [
            ("a bomb", bomb, usize::MAX, BodyTooLarge),
            ("over the limit", wire.clone(), clear.len() - 1, BodyTooLarge),
            ("cut", cut(500), usize::MAX, BodyTruncated),
            ("cut in the check sum", cut(3), usize::MAX, BodyTruncated),
            ("cut in the head", wire[..5].to_vec(), usize::MAX, BodyTruncated),
            ("empty", Vec::new(), usize::MAX, BodyTruncated),
            ("damaged", damaged, usize::MAX, HttpRejected),
            ("wrong check sum", wrong_sum, usize::MAX, HttpRejected),
            ("rubbish behind", [&wire[..], b"rubbish that is long enough"].concat(), usize::MAX, HttpRejected),
            ("no gzip", b"#EXTM3U\n#EXT-X-VERSION:3".to_vec(), usize::MAX, HttpRejected),
        ] {
            for piece in [7, 1 << 20] {
                let result = collect("gzip", &wire, piece, limit);
                assert_eq!(result.map(|body| body.len()).map_err(|failure| failure.kind), Err(kind), "{name}");
            }
        }
    }

    #[test]
    fn line_27_a_bomb_is_left_before_it_has_filled_the_memory() {
        let mut gunzip = Gunzip::new(u64::MAX);
        gunzip.feed(gzip(&vec![0; 8 << 20]).into());
        let mut buffer = [0; STEP];
        let failure = loop {
            if let Err(failure) = gunzip.read(&mut buffer) {
                break failure;
            }
        };
        assert!(gunzip.produced < 3 << 20 && failure.message.contains("grew"), "{}: {failure}", gunzip.produced);
    }

    #[test]
    fn line_27_encodings_that_nobody_asked_for_are_refused() {
        assert_eq!(Encoding::of(&headers(&[])).unwrap(), Encoding::Identity);
        assert_eq!(Encoding::of(&headers(&[" GZIP "])).unwrap(), Encoding::Gzip);
        for values in [&["br"][..], &["zstd"], &["deflate"], &["gzip, gzip"], &["gzip", "gzip"], &["gzip, br"]] {
            assert_eq!(Encoding::of(&headers(values)).unwrap_err().kind, FailureKind::HttpRejected, "{values:?}");
        }
        assert_eq!(Encoding::of_body(&gzip(b"x")), Encoding::Gzip);
        assert_eq!(Encoding::of_body(b"G\x1f\x8b\x08"), Encoding::Identity);
    }
}
