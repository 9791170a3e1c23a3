//! Times in WebVTT segments: cue times in milliseconds, X-TIMESTAMP-MAP, and how they are written.

use std::fmt;

/// Ticks of the MPEG-2 clock in one millisecond (90 kHz, ISO/IEC 13818-1).
const TICKS_PER_MILLISECOND: i64 = 90;
/// MPEG-2 timestamps have 33 bits: after this many ticks (26.5 hours) they begin again at 0.
pub const TIMESTAMP_PERIOD: i64 = 1 << 33;
/// More hours than any lecture has; keeps all arithmetic far away from overflow.
const MAX_HOUR_DIGITS: usize = 6;
/// Length of the longest time, `123456:00:00.000`.
pub const MAX_TIME_BYTES: usize = MAX_HOUR_DIGITS + 10;

/// A WebVTT time in milliseconds; negative only on the way through a timestamp map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub i64);

impl Time {
    pub const ZERO: Time = Time(0);

    /// Reads `[hours:]minutes:seconds.milliseconds` (W3C WebVTT §3.3), with the decimal comma of
    /// SubRip too. `None` when it is anything else.
    pub fn parse(text: &str) -> Option<Time> {
        let (clock, fraction) = text.split_once(['.', ','])?;
        let mut parts = clock.split(':').rev();
        let seconds = number(parts.next()?, 2..=2).filter(|seconds| *seconds < 60)?;
        let minutes = number(parts.next()?, 2..=2).filter(|minutes| *minutes < 60)?;
        let hours = parts.next().map_or(Some(0), |hours| number(hours, 1..=MAX_HOUR_DIGITS))?;
        let milliseconds = number(fraction, 3..=3)?;
        parts.next().is_none().then_some(Time(((hours * 60 + minutes) * 60 + seconds) * 1000 + milliseconds))
    }

    /// A time that has been moved to the lecture's timeline. The same shift for all times of a
    /// segment, so that durations stay.
    pub fn shifted(self, milliseconds: i64) -> Time {
        Time(self.0 + milliseconds)
    }

    /// The same in ticks of the MPEG-2 clock.
    pub fn ticks(self) -> i64 {
        self.0 * TICKS_PER_MILLISECOND
    }

    /// Of so many seconds.
    pub fn from_seconds(seconds: f64) -> Time {
        Time((seconds * 1000.0).round() as i64)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hours, rest) = (self.0 / 3_600_000, self.0 % 3_600_000);
        write!(f, "{hours:02}:{:02}:{:02}.{:03}", rest / 60_000, rest / 1000 % 60, rest % 1000)
    }
}

/// So many ticks in milliseconds, to the nearest.
pub fn milliseconds(ticks: i64) -> i64 {
    (ticks + TICKS_PER_MILLISECOND / 2).div_euclid(TICKS_PER_MILLISECOND)
}

/// Digits and nothing else, no sign: as many as `digits` says.
fn number(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<i64> {
    let plain = digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}

/// X-TIMESTAMP-MAP: a cue time and the MPEG-2 timestamp that means the same (RFC 8216 §3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampMap {
    /// Ticks, 0 and up, below [`TIMESTAMP_PERIOD`].
    pub mpegts: i64,
    /// The cue time.
    pub local: Time,
}

impl TimestampMap {
    /// What holds for a segment that says nothing (RFC 8216 §3.5).
    pub const DEFAULT: TimestampMap = TimestampMap { mpegts: 0, local: Time::ZERO };

    /// Reads the value behind `X-TIMESTAMP-MAP=`: both parts, in either order. `None` when it is
    /// not understood: a guess would give wrong times.
    pub fn parse(value: &str) -> Option<TimestampMap> {
        let (mut mpegts, mut local) = (None, None);
        for part in value.split(',') {
            let (name, value) = part.split_once(':')?;
            let value = value.trim();
            let twice = match name.trim() {
                "MPEGTS" => mpegts.replace(value.parse::<u64>().ok()?).is_some(),
                "LOCAL" => local.replace(Time::parse(value)?).is_some(),
                _ => false,
            };
            if twice {
                return None;
            }
        }
        // Some packagers do not wrap what they write.
        Some(TimestampMap { mpegts: (mpegts? % TIMESTAMP_PERIOD as u64) as i64, local: local? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (text, milliseconds, written) in [
            ("00:00.000", 0, "00:00:00.000"),
            ("01:02.003", 62_003, "00:01:02.003"),
            ("1:00:00.500", 3_600_500, "01:00:00.500"),
            ("01:59:59,999", 7_199_999, "01:59:59.999"),
            ("123456:00:00.000", 123_456 * 3_600_000, "123456:00:00.000"),
        ] {
            assert_eq!(Time::parse(text), Some(Time(milliseconds)), "{text}");
            assert_eq!(Time(milliseconds).to_string(), written);
        }
        for bad in [
            "",
            "1",
            "00:00",
            "0:00.000",
            "00:60.000",
            "60:00.000",
            "00:00.00",
            "00:00.0000",
            "1:2:00:00.000",
            "-1:00:00.000",
            "+1:00:00.000",
            ":00:00.000",
            "1234567:00:00.000",
            "00:00:00:000",
        ] {
            assert_eq!(Time::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn maps_are_read_in_either_order() {
        let map = |mpegts, local| Some(TimestampMap { mpegts, local: Time(local) });
        for (value, expected) in [
            ("MPEGTS:900000,LOCAL:00:00:00.000", map(900_000, 0)),
            ("LOCAL:00:01.500,MPEGTS:0", map(0, 1500)),
            (" LOCAL:01:00:00.000 , MPEGTS: 8589934591 ", map(TIMESTAMP_PERIOD - 1, 3_600_000)),
            ("MPEGTS:8589934592,LOCAL:00:00:00.000", map(0, 0)),
            ("MPEGTS:1,LOCAL:00:00:00.000,X:1", map(1, 0)),
            ("MPEGTS:900000", None),
            ("LOCAL:00:00:00.000", None),
            ("MPEGTS:-1,LOCAL:00:00:00.000", None),
            ("MPEGTS:1,LOCAL:0", None),
            ("MPEGTS:1,MPEGTS:2,LOCAL:00:00.000", None),
            ("", None),
        ] {
            assert_eq!(TimestampMap::parse(value), expected, "{value}");
        }
    }

    #[test]
    fn ticks_go_to_the_nearest_millisecond() {
        for (ticks, expected) in [(0, 0), (44, 0), (45, 1), (90, 1), (-44, 0), (-46, -1), (-90, -1)] {
            assert_eq!(milliseconds(ticks), expected, "{ticks}");
        }
    }
}
