//! The HLS engine: from a playlist URL to one exact file.
pub mod playlist;
pub mod select;
