//! Tests of what the other integration tests stand on.

#[path = "../support/mod.rs"]
mod support;

mod origin;
mod processes;
mod proxy;
mod redis;
mod services;
mod streams;
