//! Every kind of server that `redis.url` can name, and what happens when it fails over, moves or
//! falls silent. The real things, on free ports.

#[path = "../support/mod.rs"]
mod support;

mod alone;
mod cluster;
mod courses;
#[path = "../jobs/world.rs"]
#[allow(dead_code, reason = "only a part of it is used here")]
mod jobs;
mod sentinel;
mod silence;
mod works;
