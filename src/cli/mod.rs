//! What the commands do and show.
pub mod inspect;
