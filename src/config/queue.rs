//! The settings of the queue protocol.

use std::time::Duration;

use super::source::Source;
use super::{QueueSettings, RqCompat, seconds};

pub(super) fn read(s: &mut Source) -> QueueSettings {
    QueueSettings {
        list: s.text("queue.list", "rq:queue:downloads", "The list that producers push to."),
        block: seconds(s.integer("queue.block_seconds", 2, 1..=60, "How long one blocking take waits on the server.")),
        lease: seconds(s.integer(
            "queue.lease_seconds",
            15,
            2..=3600,
            "Silence after which the other instances take back what an instance held.",
        )),
        sweep: seconds(s.integer(
            "queue.sweep_seconds",
            5,
            1..=1800,
            "How often an instance renews its lease, looks for dead ones and for retries that are due.",
        )),
        max_attempts: s.integer("queue.max_attempts", 3, 1..=100, "Attempts at a job before it goes to the dead list.")
            as u32,
        retry_delay: seconds(s.integer(
            "queue.retry_delay_seconds",
            20,
            0..=86_400,
            "Pause between two attempts; it doubles with every attempt when a server is overloaded or down.",
        )),
        max_retry_delay: seconds(s.integer(
            "queue.max_retry_delay_seconds",
            1800,
            1..=86_400,
            "What the pause between two attempts grows to at most.",
        )),
        max_crashes: s.integer(
            "queue.max_crashes",
            3,
            1..=100,
            "Deaths of an instance that ran the element before it goes to the dead list.",
        ) as u32,
        crash_window: hours(s.integer("queue.crash_window_hours", 72, 1..=8760, "How long such a death counts.")),
        dedupe: seconds(s.integer(
            "queue.dedupe_seconds",
            300,
            0..=604_800,
            "How long after a job is done a second one of the same task is set aside; 0 means never.",
        )),
        max_dead: s.count("queue.max_dead", 10_000, 1..=10_000_000, "Entries of the dead list; the oldest go first."),
        max_dead_age: hours(s.integer(
            "queue.max_dead_hours",
            2160,
            1..=87_600,
            "Age at which an entry of the dead list goes.",
        )),
        rq: s.choice(
            "rq.compat",
            "off",
            &[("off", RqCompat::Off), ("worker", RqCompat::Worker)],
            "Jobs of RQ whose ids are in the list: off (left to RQ's workers), worker (run, and RQ's books are kept).",
        ),
    }
}

fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3600)
}
