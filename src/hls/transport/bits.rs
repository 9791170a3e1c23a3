//! Reading bits and Exp-Golomb codes (ITU-T H.264 §9.1, H.265 §9.2).

/// Reads from the most significant bit of the first byte on. Everything is `None` past the end.
pub struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    pub fn new(bytes: &'a [u8]) -> Bits<'a> {
        Bits { bytes, at: 0 }
    }

    /// The next `count` bits, at most 32, as a number.
    pub fn take(&mut self, count: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    pub fn flag(&mut self) -> Option<bool> {
        Some(self.take(1)? == 1)
    }

    pub fn skip(&mut self, count: usize) {
        self.at += count;
    }

    /// ue(v).
    pub fn unsigned(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.take(zeros)?)
    }

    /// se(v).
    pub fn signed(&mut self) -> Option<i32> {
        let code = self.unsigned()?;
        let magnitude = code.div_ceil(2) as i32;
        Some(if code % 2 == 1 { magnitude } else { -magnitude })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_codes_of_table_9_2() {
        // 1 010 011 00100 00101 00110 00111 0001000, padded.
        let bytes = [0b1010_0110, 0b0100_0010, 0b1001_1000, 0b1110_0010, 0b0000_0000];
        let mut bits = Bits::new(&bytes);
        let codes: Vec<_> = (0..8).map(|_| bits.unsigned()).collect();
        assert_eq!(codes, (0..8).map(Some).collect::<Vec<_>>());
        assert_eq!(bits.unsigned(), None, "it ends in the middle of a code");
        let mut bits = Bits::new(&bytes);
        let codes: Vec<_> = (0..5).map(|_| bits.signed()).collect();
        assert_eq!(codes, [0, 1, -1, 2, -2].map(Some));
        assert_eq!(Bits::new(&[0; 9]).unsigned(), None, "longer than any number");
        assert_eq!(Bits::new(&[0xa5, 0xc0]).take(10), Some(0b10_1001_0111));
    }
}
