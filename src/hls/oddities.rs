//! What is wrong with segments that are taken all the same, as that is allowed: counted, and told in the
//! end. Nothing of this is ever silent.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::fetch::Fetcher;
use super::plan::Gaps;
use super::transport::Facts;
use crate::failure::FailureKind;
use crate::metrics::Metrics;
use crate::progress::Progress;

/// Those of one track.
#[derive(Debug, Default)]
pub struct Oddities {
    with_leading_bytes: AtomicU64,
    without_packets: AtomicU64,
}

impl Oddities {
    /// Counts a segment that is taken.
    pub fn count(&self, facts: &Facts, metrics: &Metrics) {
        if facts.leading_bytes > 0 {
            self.with_leading_bytes.fetch_add(1, Relaxed);
            metrics.odd_segments("leading_bytes", 1);
        }
        if facts.damage.is_some() {
            self.without_packets.fetch_add(1, Relaxed);
            metrics.odd_segments(FailureKind::PacketsMissing.name(), 1);
        }
    }

    /// What is to be told of the track in the end. `gaps` are its segments that were left out.
    pub fn remarks(&self, gaps: Gaps, metrics: &Metrics) -> Vec<String> {
        let Gaps { segments, seconds } = gaps;
        metrics.odd_segments(FailureKind::SegmentMissing.name(), segments.into());
        let with_leading_bytes = self.with_leading_bytes.load(Relaxed);
        let without_packets = self.without_packets.load(Relaxed);
        let said = [
            (u64::from(segments), format!("declared absent by the playlist ({seconds:.1} s): it lacks them")),
            (without_packets, "with lost packets: it has holes there".to_owned()),
            (with_leading_bytes, "with other bytes, such as a picture, in front of the stream: left out".to_owned()),
        ];
        let some = said.into_iter().filter(|(count, _)| *count > 0);
        some.map(|(count, what)| format!("{count} {} {what}", if count == 1 { "segment" } else { "segments" }))
            .collect()
    }
}

/// Tells what is odd about a track when it is dropped, also where the track failed or was stopped: what is
/// written by then is not seen again.
pub struct Telling<'a> {
    pub fetcher: &'a Fetcher,
    pub progress: &'a Progress,
    pub url: String,
    pub whose: String,
    /// Known in the end.
    pub gaps: Gaps,
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        let Telling { fetcher, progress, url, whose, gaps } = self;
        for remark in fetcher.oddities.remarks(*gaps, &fetcher.metrics) {
            let remark = format!("{whose}{remark}");
            tracing::warn!("{url}: {remark}");
            progress.remark(remark);
        }
    }
}
