//! * `pool`: how many jobs run, how long, and the drain
//! * `pipeline`: the story of one job
//! * `settle`: what follows from how an attempt ended

mod pipeline;
pub mod pool;
pub mod settle;

pub use pipeline::Pipeline;
pub use pool::{JobRunner, run};
