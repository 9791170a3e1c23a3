//! The queue and the pool against a real Redis server.

#[path = "../support/mod.rs"]
mod support;

mod audit;
mod doubles;
mod hints;
mod http_store;
mod outages;
mod overview;
mod pause;
mod pool;
mod recovery;
mod settle;
mod store;
mod stories;
mod table;
mod take;
mod untold;
mod verdicts;
mod world;
