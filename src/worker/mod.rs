//! How many jobs run, how long, and what follows from how they end.

pub mod pool;
pub mod settle;

pub use pool::{JobRunner, run};
