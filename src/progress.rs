//! How far a job is: written by the engine, read by whoever shows it. Never blocks a download.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Shared between one job and its watchers.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes received for this job, retries not counted twice.
    bytes: AtomicU64,
    items_done: AtomicU64,
    items_total: AtomicU64,
    segments_done: AtomicU64,
    segments_total: AtomicU64,
    current_file: Mutex<String>,
}

/// One look at a [`Progress`].
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// 0 to 100; `None` before the size of the job is known.
    pub percent: Option<f64>,
    /// Name of the file that is being downloaded; empty before the first.
    pub current_file: String,
    /// Bytes received.
    pub bytes_downloaded: u64,
    /// Files finished.
    pub items_done: u64,
    /// Files in all; 0 before it is known.
    pub items_total: u64,
}

impl Progress {
    /// The number of files in the job is known.
    pub fn set_items(&self, total: u64) {
        self.items_total.store(total, Relaxed);
    }

    /// The next file begins.
    pub fn start_item(&self, name: &str) {
        self.segments_total.store(0, Relaxed);
        self.segments_done.store(0, Relaxed);
        // A poisoned lock still holds a whole string: only assignments happen under it.
        *self.current_file.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = name.to_owned();
    }

    /// The file has this many more segments (video and audio are added up); `done` of them were
    /// there already.
    pub fn add_segments(&self, total: u64, done: u64) {
        self.segments_done.fetch_add(done, Relaxed);
        self.segments_total.fetch_add(total, Relaxed);
    }

    /// So many segments have been written.
    pub fn segments_done(&self, count: u64) {
        self.segments_done.fetch_add(count, Relaxed);
    }

    /// Bytes have arrived.
    pub fn add_bytes(&self, count: u64) {
        self.bytes.fetch_add(count, Relaxed);
    }

    /// Bytes that had arrived have to be fetched again.
    pub fn take_back_bytes(&self, count: u64) {
        self.bytes.fetch_sub(count, Relaxed);
    }

    /// The file is finished.
    pub fn finish_item(&self) {
        self.segments_total.store(0, Relaxed);
        self.segments_done.store(0, Relaxed);
        self.items_done.fetch_add(1, Relaxed);
    }

    /// So many bytes of the course, of so many, are at its destination; `file` is on its way.
    pub fn uploaded(&self, _bytes: u64, _total: u64, file: Option<&str>) {
        if let Some(file) = file {
            *self.current_file.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = file.to_owned();
        }
    }

    /// How far it is now.
    pub fn snapshot(&self) -> Snapshot {
        let items_total = self.items_total.load(Relaxed);
        let items_done = self.items_done.load(Relaxed);
        let segments_total = self.segments_total.load(Relaxed);
        let within = match segments_total {
            0 => 0.0,
            total => self.segments_done.load(Relaxed).min(total) as f64 / total as f64,
        };
        let percent = (items_total > 0)
            .then(|| (items_done as f64 + within).min(items_total as f64) * 100.0 / items_total as f64);
        Snapshot {
            percent,
            current_file: self.current_file.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone(),
            bytes_downloaded: self.bytes.load(Relaxed),
            items_done,
            items_total,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_counts_files_and_the_segments_of_the_current_one() {
        let progress = Progress::default();
        assert_eq!(progress.snapshot().percent, None);
        progress.set_items(4);
        progress.start_item("a");
        progress.add_segments(10, 5);
        assert_eq!(progress.snapshot().percent, Some(12.5));
        progress.finish_item();
        assert_eq!(progress.snapshot().percent, Some(25.0));
        for _ in 0..3 {
            progress.start_item("b");
            progress.finish_item();
        }
        assert_eq!(progress.snapshot().percent, Some(100.0));
    }
}
