//! Protocols that are not ours: each lacks one thing, and the checks must see it.

/// What is wrong with the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// `BRPOP` in place of `BLMOVE`.
    BarePop,
    /// A settle that looks neither at the lease nor whether the job is still there.
    SettleWithoutLease,
    /// What a dead instance had is read, put back and deleted by a client, without a look at its lease in between.
    TornReap,
    /// Nothing in the place of a claimed list whose instance is gone.
    TakeWithoutTombstone,
    /// A job is started whoever else has its task.
    StartWithoutGuard,
    /// The sweep looks for strays among what was handed over, not among what runs.
    SweepOfClaimedAlone,
    /// Elements that are due are pushed by a client, which dies before it removes them where they
    /// were; and there are no guards, which would hide the worst of it.
    TornPromote,
}
