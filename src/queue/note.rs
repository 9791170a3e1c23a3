//! How far a running job is, left in Redis for those who look at the queue.
//!
//! The progress events are as their listeners want them; what an operator asks beside that stands here. It is
//! written by the script that publishes an event, so it costs no command of its own.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How long a note can be read: as long as the last event.
pub(super) const NOTE_SECONDS: u64 = 3600;

/// A note, with who has left it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// `<instance>/<claim>`, as guards name it: a note of an earlier attempt says nothing about this one.
    pub holder: String,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// When the attempt began.
    pub started: Timestamp,
    /// When it was left: a job that stands still leaves none.
    pub at: Timestamp,
    pub progress: JobProgress,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobProgress {
    /// Whether all is downloaded, and the course goes to its destination.
    pub delivering: bool,
    /// Title of the course; empty before it is known.
    pub course: String,
    /// Of the whole way, 0 to 100.
    pub percent: f64,
    /// The number of the lecture that is on its way, from 1; 0 before the first.
    pub lecture: u64,
    /// Lectures of the course; 0 before they are known.
    pub lectures: u64,
    /// Name of the file that is on its way; empty before the first.
    pub file: String,
    /// Of that file, 0 to 100.
    pub file_percent: f64,
    /// Bytes received.
    pub bytes: u64,
    /// Bytes that will have been received, where that is known.
    pub total_bytes: Option<u64>,
    /// Bytes per second, over the last seconds.
    pub speed: Option<u64>,
    /// Seconds until the end, as far as one can tell.
    pub remaining_seconds: Option<u64>,
}
