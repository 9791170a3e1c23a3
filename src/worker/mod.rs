//! * `pool`: how many jobs run, how long, and the drain
//! * `pipeline`: the story of one job; `ending`: how it ends, and who is told
//! * `notices`: telling the backend of failures
//! * `settle`: what follows from how an attempt ended

mod ending;
mod notices;
mod pipeline;
pub mod pool;
pub mod settle;

pub use pipeline::Pipeline;
pub use pool::{JobRunner, Limits, run};
