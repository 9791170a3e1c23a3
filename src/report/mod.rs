//! What the backend hears: the finalize call (CONTRACTS §6), progress and status events (§4).

mod events;
mod finalize;

pub use events::{Events, ProgressWatch};
pub use finalize::FinalizeClient;

#[cfg(test)]
pub(crate) mod test_redis;
