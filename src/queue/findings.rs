//! What an account says.

use std::collections::BTreeMap;

use serde::Serialize;

use super::view::Depths;

/// The whole account.
#[derive(Debug, Serialize)]
pub struct Account {
    /// At one instant.
    pub depths: Depths,
    /// Since the beginning, from the same instant.
    pub counts: BTreeMap<String, i64>,
    /// Instances with a lease.
    pub instances: usize,
    /// What does not add up.
    pub findings: Vec<Finding>,
}

/// One thing that does not add up.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Finding {
    pub kind: FindingKind,
    /// The key it is in.
    pub key: String,
    /// The member, field or element, when there is one.
    pub member: String,
    /// For the operator.
    pub text: String,
}

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// Elements in the place of an instance that has no lease.
    Orphan,
    /// Elements of an instance that is dead, and nobody takes them back.
    DeadInstance,
    /// A retry or a finalize call that is due, and nobody takes care of it.
    Overdue,
    /// A guard whose holder does not have the element.
    StaleGuard,
    /// A record of an element that is nowhere.
    StaleRecord,
    /// A sorted set or the dead list holds more or less than went in and out.
    Count,
    /// A place holds something that we did not write, or bytes that have changed.
    Foreign,
    /// The same element in two places.
    Twice,
    /// An element of ours that an RQ worker has taken.
    TakenByRq,
    /// RQ knows the list: its maintenance deletes what is not its own.
    KnownToRq,
}

impl FindingKind {
    /// Whether [`Queue::repair`](super::Queue::repair) can do something about it.
    pub fn is_mendable(self) -> bool {
        !matches!(self, FindingKind::Foreign | FindingKind::Twice | FindingKind::KnownToRq)
    }
}
