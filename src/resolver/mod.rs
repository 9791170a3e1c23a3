//! Course URL in, [`Course`] out.
mod course;
pub use course::{Asset, Caption, Course, Lecture, Section, Stream, StreamKind};
