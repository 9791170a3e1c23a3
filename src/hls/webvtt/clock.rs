//! From the main track's timestamps to times of the finished lecture.

use super::time::TIMESTAMP_PERIOD;

/// How far a discontinuity of the playlist may lie before the jump of the timestamps that belongs to
/// it: EXTINF is rounded, and the rounding adds up.
const TOLERANCE_SECONDS: f64 = 2.0;

/// Timestamps of the main track on the lecture's timeline, where 0 is its first picture or sound.
#[derive(Debug, Clone, PartialEq)]
pub struct Clock {
    /// In the order of the lecture; never empty.
    pieces: Vec<Piece>,
}

/// Between two jumps of the timestamps.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Piece {
    /// Where it begins in the lecture, in ticks of 90 kHz.
    lecture: i64,
    /// The timestamp there.
    timestamp: i64,
}

impl Clock {
    /// A lecture whose first picture or sound has this timestamp, in ticks of 90 kHz.
    pub fn starting_at(timestamp: i64) -> Clock {
        Clock { pieces: vec![Piece { lecture: 0, timestamp }] }
    }

    /// From `lecture` on, in ticks, timestamps go on with `timestamp`.
    pub fn jump(&mut self, lecture: i64, timestamp: i64) {
        self.pieces.push(Piece { lecture, timestamp });
    }

    /// When a timestamp is shown, in ticks: the time that is nearest to `near` of those that its 33
    /// bits allow. `period_seconds` is where the discontinuity begins that it belongs to.
    pub fn lecture_ticks(&self, timestamp: i64, period_seconds: f64, near: i64) -> i64 {
        let begun = |piece: &&Piece| piece.lecture as f64 <= (period_seconds + TOLERANCE_SECONDS) * 90_000.0;
        // The first begins at 0.
        let piece = self.pieces.iter().take_while(begun).last().unwrap_or(&self.pieces[0]);
        let ticks = timestamp - piece.timestamp + piece.lecture;
        ticks + (near - ticks + TIMESTAMP_PERIOD / 2).div_euclid(TIMESTAMP_PERIOD) * TIMESTAMP_PERIOD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_wrap_and_jump() {
        let mut clock = Clock::starting_at(TIMESTAMP_PERIOD - 90_000);
        clock.jump(60 * 90_000, 126_000);
        let seconds = |timestamp: i64, period: f64, near: i64| {
            clock.lecture_ticks(timestamp, period, near * 90_000) as f64 / 90_000.0
        };
        for (timestamp, period, near, expected) in [
            (TIMESTAMP_PERIOD - 90_000, 0.0, 0, 0.0),
            (0, 0.0, 0, 1.0),
            (TIMESTAMP_PERIOD - 180_000, 0.0, 0, -1.0),
            (59 * 90_000, 0.0, 50, 60.0),
            // A day and three hours in.
            (0, 0.0, 97_200, 1.0 + TIMESTAMP_PERIOD as f64 / 90_000.0),
            (126_000, 60.0, 60, 60.0),
            (126_000 + 900_000, 59.9, 70, 70.0),
            (126_000 + 900_000, 58.1, 70, 70.0),
            (59 * 90_000, 57.0, 50, 60.0),
        ] {
            assert_eq!(seconds(timestamp, period, near), expected, "{timestamp} {period} {near}");
        }
    }
}
