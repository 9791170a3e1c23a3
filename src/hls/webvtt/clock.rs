//! From the main track's timestamps to times of the finished lecture.

use super::time::TIMESTAMP_PERIOD;

/// How far a discontinuity of the playlist may lie before the section that belongs to it: EXTINF is
/// rounded, and the rounding adds up.
const TOLERANCE_SECONDS: f64 = 2.0;

/// Timestamps of the main track on the lecture's timeline, where 0 is its first picture or sound.
#[derive(Debug, Clone, PartialEq)]
pub struct Clock {
    /// In the order of the lecture; never empty.
    sections: Vec<Section>,
}

/// From one discontinuity to the next.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Section {
    /// Where it begins in the lecture, in ticks of 90 kHz.
    lecture: i64,
    /// The timestamp there.
    timestamp: i64,
}

impl Clock {
    /// A lecture whose first picture or sound has this timestamp, in ticks of 90 kHz.
    pub fn starting_at(timestamp: i64) -> Clock {
        Clock { sections: vec![Section { lecture: 0, timestamp }] }
    }

    /// The next section begins at `lecture`, in ticks, and its timestamps with `timestamp`; without
    /// one they go on.
    pub fn begin_section(&mut self, lecture: i64, timestamp: Option<i64>) {
        // There is always a last one.
        let last = self.sections.last().copied().unwrap_or(Section { lecture: 0, timestamp: 0 });
        let timestamp = timestamp.unwrap_or(last.timestamp + lecture - last.lecture);
        self.sections.push(Section { lecture, timestamp });
    }

    /// Number of sections.
    pub fn sections(&self) -> usize {
        self.sections.len()
    }

    /// The section that holds after a discontinuity at this time of the playlist.
    pub fn section_at(&self, seconds: f64) -> usize {
        let begun = |section: &Section| section.lecture as f64 <= (seconds + TOLERANCE_SECONDS) * 90_000.0;
        self.sections.partition_point(begun).saturating_sub(1)
    }

    /// When a timestamp of a section is shown, in ticks: the time that is nearest to `near` of those
    /// that its 33 bits allow.
    pub fn lecture_ticks(&self, timestamp: i64, section: usize, near: i64) -> i64 {
        let section = self.sections[section.min(self.sections.len() - 1)];
        nearest(timestamp - section.timestamp + section.lecture, near)
    }
}

/// `ticks` with so many rounds of the clock more or less that it is nearest to `near`.
pub fn nearest(ticks: i64, near: i64) -> i64 {
    ticks + (near - ticks + TIMESTAMP_PERIOD / 2).div_euclid(TIMESTAMP_PERIOD) * TIMESTAMP_PERIOD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_wrap_and_jump() {
        let mut clock = Clock::starting_at(TIMESTAMP_PERIOD - 90_000);
        clock.begin_section(60 * 90_000, Some(126_000));
        clock.begin_section(90 * 90_000, None);
        let seconds = |timestamp: i64, period: f64, near: i64| {
            clock.lecture_ticks(timestamp, clock.section_at(period), near * 90_000) as f64 / 90_000.0
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
            (126_000 + 2_700_000, 90.0, 90, 90.0),
            (126_000 + 3_600_000, 1e9, 90, 100.0),
        ] {
            assert_eq!(seconds(timestamp, period, near), expected, "{timestamp} {period} {near}");
        }
    }
}
