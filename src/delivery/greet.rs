//! The look at the destination when a daemon starts.

use std::time::Duration;

use tokio::sync::watch;

use super::Delivery;
use crate::failure::JobPolicy;

/// How long one look at rclone's remote may take.
const LIMIT: Duration = Duration::from_secs(15);
/// Between the first looks at a remote that refuses.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// Between the later ones.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Looks whether courses can be delivered, before any is downloaded. Ends when they can, or when the
/// remote is only away: jobs are tried again then. One that refuses would have every job given up, so
/// it is looked at until it does not refuse any more; `hindrance` says why so long.
pub async fn greet(delivery: &Delivery, hindrance: &watch::Sender<Option<String>>) {
    let Delivery::Rclone(delivery) = delivery else { return };
    let mut pause = FIRST_PAUSE;
    let mut refused = false;
    loop {
        match tokio::time::timeout(LIMIT, delivery.examine()).await {
            Ok(Ok(state)) => {
                tracing::info!(state, "rclone found");
                return;
            }
            Ok(Err(failure)) if failure.kind.job_policy() == JobPolicy::GiveUp => {
                if !std::mem::replace(&mut refused, true) {
                    tracing::error!(
                        kind = failure.kind.name(),
                        "courses cannot be delivered: {failure}; no jobs are taken until rclone and its \
                         configuration are mended (for another `delivery` or environment: restart); orders are taken"
                    );
                }
                hindrance.send_replace(Some(format!("courses cannot be delivered: {failure}")));
            }
            Ok(Err(failure)) if !refused => {
                tracing::warn!(kind = failure.kind.name(), "courses cannot be delivered now: {failure}");
                return;
            }
            Err(_) if !refused => {
                tracing::warn!("the remote has not answered within {} s", LIMIT.as_secs());
                return;
            }
            // Whether it still refuses is not known.
            _ => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
