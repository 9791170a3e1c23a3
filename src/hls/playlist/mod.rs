//! Playlist text in, typed playlist out (RFC 8216 §4). No I/O.
mod types;
pub use types::*;
