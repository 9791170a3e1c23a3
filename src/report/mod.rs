//! What the backend hears: the finalize call, progress and status events.

mod events;
mod finalize;

pub use events::{Events, ProgressWatch};
pub use finalize::FinalizeClient;

#[cfg(test)]
pub(crate) mod test_redis;
