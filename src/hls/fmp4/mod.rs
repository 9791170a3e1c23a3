//! Fragmented MP4 (ISO/IEC 14496-12): what an initialization section declares, and how a whole file
//! of fragments is laid out in time.
//!
//! * `boxes`: the box structure. Pure
//! * `init`: the tracks of an initialization section, and whether two sections declare the same. Pure

mod boxes;
mod init;

pub use init::same_tracks;
