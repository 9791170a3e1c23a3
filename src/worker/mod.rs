//! * `pool`: how many jobs run, how long, and the drain
//! * `pipeline`: the story of one job
//! * `notices`: telling the backend of failures
//! * `settle`: what follows from how an attempt ended

mod notices;
mod pipeline;
pub mod pool;
pub mod settle;

pub use pipeline::Pipeline;
pub use pool::{JobRunner, run};
