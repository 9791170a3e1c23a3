//! What a lecture is on disk: its names, and the files that are fetched as they are.

pub mod file;
pub mod names;
