//! What a lecture is on disk.

pub mod names;
