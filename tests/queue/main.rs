//! The queue and the pool against a real Redis server.

#[path = "../support/mod.rs"]
mod support;

mod outages;
mod pool;
mod recovery;
mod settle;
mod store;
mod take;
mod world;
