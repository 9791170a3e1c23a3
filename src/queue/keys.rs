//! Every key of the queue.
//!
//! The prefix is `{<list>}:hauld:`: the braces make Redis Cluster keep our keys in the slot of the
//! producers' list, whose own name never changes.
//!
//! | key | type | content |
//! | --- | --- | --- |
//! | `<list>` | list | waiting elements: producers `LPUSH`, we take from the right |
//! | `claimed:<instance>` | list | elements handed over to the instance and not started yet, the newest on the left; after the instance has gone, for [`TOMBSTONE`], a string: a move into it fails on the server, so a late take of a dead instance loses nothing |
//! | `running:<instance>` | hash | claim number → `<id>:<task id>:<element>` of every job that the instance runs; the id is [`Element::id`](crate::job::Element::id), the task id is empty where there is none |
//! | `leases` | sorted set | instance → expiry, ms of the server's clock; being a member is the right to start, report and settle |
//! | `instances` | hash | instance → JSON `{token, host, name, pid, started_at, version}` |
//! | `token` | counter | fencing token of the youngest instance; never goes back |
//! | `sweeps` | hash | `last`: when any instance renewed; `grace`: no lease is reaped before (ms of the server's clock) |
//! | `delayed` | sorted set | `<token>-<claim>:<id>:<task id>:<element>` → due, ms of the server's clock; the claim keeps identical elements apart |
//! | `untold` | sorted set | as `delayed`: delivered, but the backend has not accepted the finalize call yet → when it is made again |
//! | `notices` | sorted set | JSON of a call that tells the backend of a failure → when it is made, ms of the server's clock; later while somebody makes it |
//! | `records` | hash | id of the element → JSON: attempts, crashes, their history, a verdict that is not settled yet |
//! | `guards` | hash | task id → `<instance>/<claim>` that runs it, `delayed/<member>` or `untold/<member>`: a second element of the task is set aside |
//! | `recent` | sorted set | task id → until when a second element is set aside after `done`, ms of the server's clock |
//! | `paused` | hash | `*` or `<host>-<worker.instance>` → JSON `{since, reason}`: nothing is started |
//! | `cancelled` | sorted set | task id → until when nothing of it is started and what runs is stopped, ms of the server's clock |
//! | `progress:<task id>` | string | JSON of how far the job of the task is ([`Note`](super::note::Note)); an hour long |
//! | `dead` | list | JSON envelopes ([`DeadEnvelope`](super::DeadEnvelope)), the newest on the left |
//! | `counts` | hash | elements since the beginning: `done`, `retry`, `promoted`, `untold`, `told` (made to be told again), `dead`, `revived`, `purged`, `returned`, `reaped` |
//! | `story:<task id>` | list | JSON of each step that the task has come through ([`Line`](super::story::Line)), the newest on the right; at most 256, kept for 30 days |
//! | `stories` | sorted set | task id → when its story grew last, ms of the server's clock; at most 10,000 |
//! | `rq_ended` | hash | id of a job of RQ → how it ended, until those that wait for it have been told (`rq.compat`) |

use std::time::Duration;

use crate::job::TaskId;

/// How long the place of a gone instance stays blocked. A command that an instance sent before it
/// was taken for dead can reach the server only while its connection lives: minutes, not a day.
pub(super) const TOMBSTONE: Duration = Duration::from_secs(86_400);

/// The names, computed once.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
    pub(super) list: String,
    pub(super) leases: String,
    pub(super) instances: String,
    pub(super) token: String,
    pub(super) sweeps: String,
    pub(super) delayed: String,
    pub(super) untold: String,
    pub(super) notices: String,
    pub(super) records: String,
    pub(super) guards: String,
    pub(super) recent: String,
    pub(super) paused: String,
    pub(super) cancelled: String,
    pub(super) dead: String,
    pub(super) counts: String,
    pub(super) stories: String,
    pub(super) rq_ended: String,
}

impl Keys {
    pub(super) fn new(list: &str) -> Keys {
        let prefix = prefix(list);
        let key = |name: &str| format!("{prefix}{name}");
        Keys {
            list: list.to_owned(),
            leases: key("leases"),
            instances: key("instances"),
            token: key("token"),
            sweeps: key("sweeps"),
            delayed: key("delayed"),
            untold: key("untold"),
            notices: key("notices"),
            records: key("records"),
            guards: key("guards"),
            recent: key("recent"),
            paused: key("paused"),
            cancelled: key("cancelled"),
            dead: key("dead"),
            counts: key("counts"),
            stories: key("stories"),
            rq_ended: key("rq_ended"),
            prefix,
        }
    }

    pub(super) fn claimed(&self, instance: &str) -> String {
        format!("{}claimed:{instance}", self.prefix)
    }

    pub(super) fn running(&self, instance: &str) -> String {
        format!("{}running:{instance}", self.prefix)
    }

    pub(super) fn progress(&self, task_id: TaskId) -> String {
        format!("{}progress:{task_id}", self.prefix)
    }

    pub(super) fn story(&self, task_id: TaskId) -> String {
        format!("{}story:{task_id}", self.prefix)
    }

    /// The place (`claimed`, `running`) and the instance that a key is for.
    pub(super) fn place_of<'a>(&self, key: &'a str) -> Option<(&'a str, &'a str)> {
        key.strip_prefix(&self.prefix)?.split_once(':')
    }

    /// The name that RQ would give the list as a queue, if it is one.
    pub(super) fn rq_queue(&self) -> Option<&str> {
        self.list.strip_prefix("rq:queue:")
    }

    /// Where a worker of RQ would put an element of this list.
    pub(super) fn rq_intermediate(&self) -> String {
        format!("{}:intermediate", self.list)
    }
}

/// What every key of ours begins with that belongs to this list.
pub(crate) fn prefix(list: &str) -> String {
    if has_hash_tag(list) { format!("{list}:hauld:") } else { format!("{{{list}}}:hauld:") }
}

/// The hash of an RQ job.
pub(super) fn rq_job(id: &str) -> String {
    format!("rq:job:{id}")
}

/// Whether the name chooses its Cluster slot itself (a non-empty text in the first braces).
fn has_hash_tag(name: &str) -> bool {
    name.split_once('{').and_then(|(_, rest)| rest.split_once('}')).is_some_and(|(tag, _)| !tag.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_keys_share_the_slot_of_the_list() {
        let keys = Keys::new("rq:queue:downloads");
        assert_eq!(keys.leases, "{rq:queue:downloads}:hauld:leases");
        assert_eq!(keys.claimed("h-0-1-ab"), "{rq:queue:downloads}:hauld:claimed:h-0-1-ab");
        assert_eq!(Keys::new("{rq}:queue:downloads").leases, "{rq}:queue:downloads:hauld:leases");
        assert_eq!(Keys::new("a{}b").leases, "{a{}b}:hauld:leases");
    }
}
