//! The only room that knows the Redis list protocol: keys, scripts, take, settle, recovery.
mod producer;
pub use producer::Producer;
