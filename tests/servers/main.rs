//! Every kind of server that `redis.url` can name, and what happens when it fails over, moves or
//! falls silent. The real things, on free ports.

#[path = "../support/mod.rs"]
mod support;

mod cluster;
mod sentinel;
mod silence;
mod works;
