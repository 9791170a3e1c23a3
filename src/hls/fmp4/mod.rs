//! Fragmented MP4 (ISO/IEC 14496-12): what an initialization section declares, and how a whole file
//! of fragments is laid out in time.
//!
//! * `boxes`: the box structure. Pure
//! * `init`: the tracks of an initialization section, and whether two sections declare the same. Pure
//! * `fragments`: the fragments of a file, and when they play

mod boxes;
mod fragments;
mod init;

pub(super) use boxes::{boxes, child, u32_at, u64_at};
pub use fragments::{DecodeTime, Part, Run, top_level, walk};
pub use init::{InitTrack, same_tracks, tracks};
