//! The Lua scripts: every change of more than one key. They name all their keys, use the server's
//! clock and cost O(elements moved). No script needs more than Redis 6.2.

use redis::Script;

macro_rules! scripts {
    ($($(#[doc = $doc:literal])+ $name:ident = $file:literal;)+) => {
        /// All scripts with their hashes.
        pub(super) struct Scripts {
            $($(#[doc = $doc])+ pub(super) $name: Script,)+
        }

        impl Scripts {
            pub(super) fn new() -> Scripts {
                Scripts {
                    $($name: Script::new(concat!(include_str!("scripts/clock.lua"), include_str!($file))),)+
                }
            }
        }
    };
}

scripts! {
    /// A new instance with its lease.
    register = "scripts/register.lua";
    /// Renews a lease, names the expired ones.
    renew = "scripts/renew.lua";
    /// done, retry, dead or returned.
    settle = "scripts/settle.lua";
    /// Delayed elements that are due.
    promote = "scripts/promote.lua";
    /// What a dead instance held.
    reap = "scripts/reap.lua";
    /// The end of an instance.
    deregister = "scripts/deregister.lua";
}
