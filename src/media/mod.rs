//! What a course is on disk: its names, its lectures, and the files that are fetched as they are.
//!
//! * `course`: every lecture with its captions and assets
//! * `lecture`: one stream to one finished file
//! * `file`: one plain file
//! * `names`: where everything goes

mod course;
mod file;
mod lecture;
mod names;

pub use course::{CourseDownload, CourseFolder};
pub use lecture::{FinishedStream, StreamDownload, Target};
