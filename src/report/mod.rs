//! What the backend hears: the finalize call, that a task failed, progress and status events.
//!
//! * `finalize`: the calls
//! * `events`: what is published and never repeated

mod events;
mod finalize;

pub use events::{Events, ProgressWatch};
pub use finalize::FinalizeClient;

#[cfg(test)]
pub(crate) mod test_redis;
