//! How many bytes a segment may have: what the operator allows, and of that no more than many times
//! what the playlist itself promises. A body without an end is left there.

use super::plan::Unit;
use crate::failure::{Failure, FailureKind};

/// What any segment may have, whatever its playlist promises: many promise too little, and a longer
/// one costs nobody much.
const LEAST_BYTES: u64 = 64 << 20;

/// For the segments of one track.
#[derive(Debug, Clone, Copy)]
pub struct Ceiling {
    /// `hls.max_segment_bytes`.
    pub max_bytes: u64,
    /// `hls.bandwidth_tolerance`; 0 means that BANDWIDTH does not count.
    pub tolerance: u64,
    /// BANDWIDTH of the variant: no segment of it has a higher bit rate (RFC 8216 §4.3.4.2). `None`
    /// without a multivariant playlist.
    pub peak_bits_per_second: Option<u64>,
}

/// The ceiling of one unit.
#[derive(Debug, Clone, Copy)]
pub struct UnitCeiling {
    pub bytes: u64,
    setting: &'static str,
}

impl Ceiling {
    /// How many bytes this unit may have.
    pub fn of(&self, unit: &Unit) -> UnitCeiling {
        let promised = self.peak_bits_per_second.map(|bits| bits as f64 / 8.0 * unit.duration_seconds);
        // Nothing and for no time is no promise. A float beyond u64 becomes its largest value.
        let promised = promised.filter(|bytes| *bytes > 0.0 && self.tolerance > 0);
        let promised = promised.map(|bytes| ((bytes * self.tolerance as f64) as u64).max(LEAST_BYTES));
        match promised.filter(|promised| *promised < self.max_bytes) {
            Some(bytes) => UnitCeiling { bytes, setting: "hls.bandwidth_tolerance" },
            None => UnitCeiling { bytes: self.max_bytes, setting: "hls.max_segment_bytes" },
        }
    }
}

impl UnitCeiling {
    /// The failure of a unit that has more.
    pub fn exceeded(&self) -> Failure {
        let UnitCeiling { bytes, setting } = self;
        Failure::new(FailureKind::BodyTooLarge, format!("more than {bytes} bytes ({setting})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_26_what_a_segment_may_have_is_derived_from_what_is_promised() {
        const MEGABIT: u64 = 1_000_000;
        let url = url::Url::parse("http://h/").unwrap();
        for (name, bits, seconds, tolerance, max_bytes, bytes, setting) in [
            ("a film of 40 Mbit/s", Some(40 * MEGABIT), 10.0, 16, 2 << 30, 800_000_000, "hls.bandwidth_tolerance"),
            ("a small one", Some(MEGABIT), 6.0, 16, 2 << 30, LEAST_BYTES, "hls.bandwidth_tolerance"),
            ("no length", Some(40 * MEGABIT), 0.0, 16, 2 << 30, 2 << 30, "hls.max_segment_bytes"),
            ("no bits", Some(0), 6.0, 16, 2 << 30, 2 << 30, "hls.max_segment_bytes"),
            ("no promise", None, 6.0, 16, 2 << 30, 2 << 30, "hls.max_segment_bytes"),
            ("switched off", Some(MEGABIT), 6.0, 0, 2 << 30, 2 << 30, "hls.max_segment_bytes"),
            ("the operator's is lower", Some(MEGABIT), 6.0, 16, 1000, 1000, "hls.max_segment_bytes"),
            ("nonsense", Some(u64::MAX), 1e9, 16, 2 << 30, 2 << 30, "hls.max_segment_bytes"),
        ] {
            let unit = Unit {
                url: url.clone(),
                byte_range: None,
                cipher: None,
                is_map: false,
                sequence: 0,
                duration_seconds: seconds,
            };
            let ceiling = Ceiling { max_bytes, tolerance, peak_bits_per_second: bits }.of(&unit);
            assert_eq!((ceiling.bytes, ceiling.setting), (bytes, setting), "{name}");
        }
    }
}
