//! The Lua scripts: every change of more than one key. They name all their keys, use the server's
//! clock and cost O(elements moved). No script needs more than Redis 6.2.

use redis::Script;

macro_rules! scripts {
    ($($(#[doc = $doc:literal])+ $name:ident = $($file:literal)+;)+) => {
        /// All scripts with their hashes.
        pub(super) struct Scripts {
            $($(#[doc = $doc])+ pub(super) $name: Script,)+
        }

        impl Scripts {
            pub(super) fn new() -> Scripts {
                Scripts {
                    $($name: Script::new(concat!($(include_str!(concat!("scripts/", $file, ".lua"))),+)),)+
                }
            }
        }
    };
}

// A file that others need stands in front of them.
scripts! {
    /// A new instance with its lease.
    register = "clock" "register";
    /// Renews a lease, names the expired ones.
    renew = "clock" "renew";
    /// What waits, without waiting for more.
    take = "take";
    /// From claimed to running.
    start = "clock" "also" "start";
    /// Whether a guard is still true.
    contest = "contest";
    /// A claimed element that is not started.
    turn_away = "also" "turn_away";
    /// What was handed over and cannot be started now.
    give_back = "give_back";
    /// Whether a job is still ours, and a note about it.
    confirm = "clock" "confirm";
    /// A note about a job of a process that has died.
    recall = "recall";
    /// done, retry, dead or returned.
    settle = "clock" "held" "also" "settle";
    /// A delivered job whose finalize call is due.
    tell = "clock" "held" "tell";
    /// A call that tells the backend of a failure.
    notice = "clock" "notice";
    /// Delayed elements that are due.
    promote = "clock" "held" "promote";
    /// What a dead instance held.
    reap = "clock" "held" "also" "put_back" "release" "reap";
    /// A message of somebody who still has the lease.
    publish = "publish";
    /// An entry of the dead list: back to the queue, or away.
    unbury = "unbury";
    /// What is in the place of an instance without a lease.
    adopt = "held" "put_back" "adopt";
    /// An element that nobody runs: to the dead list.
    withdraw = "withdraw";
    /// The counts, after somebody has added or removed by hand.
    recount = "recount";
    /// What RQ's books say of a worker or a job that is there.
    rq_write = "also" "rq_write";
    /// Jobs of RQ that are due.
    rq_promote = "rq_promote";
    /// What waits for jobs of RQ that have ended.
    rq_release = "rq_release";
    /// Steps of a task, for whoever asks later.
    story = "clock" "story";
    /// The end of an instance.
    deregister = "held" "also" "put_back" "release" "deregister";
}
