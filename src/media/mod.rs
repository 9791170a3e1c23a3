//! What a course is on disk: its names, its lectures, and the files that are fetched as they are.
//!
//! * `course`: every lecture with its captions and assets
//! * `lecture`: one stream to one finished file
//! * `links`: new links for those that have expired
//! * `file`: one plain file
//! * `names`: where everything goes

mod course;
pub(crate) mod file;
mod lecture;
mod links;
pub(crate) mod names;

pub use course::{CourseDownload, CourseFolder, CourseRequest, FinishedLecture};
pub use lecture::{FinishedStream, StreamDownload, Target};
