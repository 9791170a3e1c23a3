//! The account of the queue: how many elements are where, and what does not add up.
//!
//! Nothing is changed. Keys move while they are read, so whatever looks odd is looked at a second
//! time: only what is the same both times is a finding.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use redis::{AsyncCommands, RedisError};

use super::findings::{Account, Finding, FindingKind};
use super::recovery::{held_of, held_parts};
use super::view::{Depths, Totals};
use super::{DeadEnvelope, QueueView};
use crate::failure::Result;
use crate::job::Element;
use crate::redis_client;

/// Between the two looks: an element is in the hands of a script or an answer for much less.
const SECOND_LOOK: Duration = Duration::from_secs(1);
/// Elements that one read fetches at most.
const PAGE: isize = 1000;
/// How long a dead instance, or a retry that is due, may be left alone: some sweeps.
const PATIENCE_MILLISECONDS: f64 = 60_000.0;
/// How long a look at one place may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

impl QueueView {
    /// The account. Takes a second or more, and reads the whole queue.
    ///
    /// # Errors
    /// `queue_unavailable`.
    pub async fn account(&self) -> Result<Account> {
        let failed = |error| redis_client::failure("reading the queue", &error);
        let first: HashSet<Finding> = self.odd().await.map_err(failed)?.into_iter().collect();
        let mut findings = Vec::new();
        if !first.is_empty() {
            tokio::time::sleep(SECOND_LOOK).await;
            findings = self.odd().await.map_err(failed)?;
            findings.retain(|finding| first.contains(finding));
            findings.sort();
            findings.dedup();
        }
        let Totals { depths, counts, instances } = self.totals(redis::pipe().atomic().clone()).await.map_err(failed)?;
        findings.extend(self.uncounted(&depths, &counts));
        Ok(Account { depths, counts, instances, findings })
    }

    /// What went in and out of the places that we alone fill and empty.
    fn uncounted(&self, depths: &Depths, counts: &BTreeMap<String, i64>) -> Vec<Finding> {
        let count = |name: &str| counts.get(name).copied().unwrap_or(0);
        let delayed = ("delayed", &self.keys.delayed, depths.delayed, count("retry") - count("promoted"));
        let untold = ("untold", &self.keys.untold, depths.untold, count("untold") - count("told"));
        let dead = ("dead", &self.keys.dead, depths.dead, count("dead") - count("revived") - count("purged"));
        let mut findings = Vec::new();
        for (place, key, holds, expected) in [delayed, untold, dead] {
            if i64::try_from(holds).unwrap_or(i64::MAX) != expected {
                findings.push(Finding {
                    kind: FindingKind::Count,
                    key: key.clone(),
                    member: String::new(),
                    text: format!("{place} holds {holds}, by the counts it should be {expected}: somebody added or removed by hand"),
                });
            }
        }
        findings
    }

    /// Everything that looks odd now.
    async fn odd(&self) -> Result<Vec<Finding>, RedisError> {
        let mut look = Look::default();
        self.look_at_instances(&mut look).await?;
        let retry = "a retry that is due: no instance is there to bring it back";
        self.look_at_set(&mut look, &self.keys.delayed, "delayed", retry).await?;
        let call = "a finalize call that is due: no instance is there to make it";
        self.look_at_set(&mut look, &self.keys.untold, "untold", call).await?;
        self.look_at_guards(&mut look).await?;
        self.look_at_records(&mut look).await?;
        self.look_at_dead(&mut look).await?;
        self.look_at_rq(&mut look).await?;
        Ok(look.findings)
    }

    async fn look_at_instances(&self, look: &mut Look) -> Result<(), RedisError> {
        let keys = &self.keys;
        let mut commands = self.commands.clone();
        let leases: Vec<(String, f64)> = commands.zrange_withscores(&keys.leases, 0, -1).await?;
        let leases: HashMap<String, f64> = leases.into_iter().collect();
        look.now = self.server_time().await?;
        for key in self.places().await? {
            let Some((place, instance)) = keys.place_of(&key) else { continue };
            let elements: Vec<(String, Vec<u8>)> = match place {
                "running" => match commands.hgetall::<_, Vec<(String, Vec<u8>)>>(&key).await {
                    Ok(jobs) => jobs,
                    Err(error) if error.code() == Some("WRONGTYPE") => {
                        look.find(FindingKind::Foreign, &key, "", "is not a hash");
                        continue;
                    }
                    Err(error) => return Err(error),
                },
                _ => match commands.lrange::<_, Vec<Vec<u8>>>(&key, 0, -1).await {
                    Ok(elements) => elements.into_iter().map(|element| (String::new(), element)).collect(),
                    // The tombstone of an instance that has gone.
                    Err(error) if error.code() == Some("WRONGTYPE") => continue,
                    Err(error) => return Err(error),
                },
            };
            let expiry = leases.get(instance).copied();
            for (claim, bytes) in elements {
                let shown = if claim.is_empty() { Element(bytes.clone()).id() } else { claim.clone() };
                match expiry {
                    None => look.find(
                        FindingKind::Orphan,
                        &key,
                        &shown,
                        "an element in the place of an instance without a lease",
                    ),
                    Some(expiry) if look.now - expiry > PATIENCE_MILLISECONDS => {
                        look.find(
                            FindingKind::DeadInstance,
                            &key,
                            &shown,
                            "an element of a dead instance: no instance is there to take it back",
                        );
                    }
                    Some(_) => {}
                }
                if place == "running" {
                    look.holders.insert(format!("{instance}/{claim}"));
                    look.held(&key, &claim, &bytes, "running");
                } else {
                    look.ids.insert(Element(bytes).id());
                }
            }
        }
        Ok(())
    }

    /// `delayed` or `untold`, and what is said of a member that nobody takes care of.
    async fn look_at_set(&self, look: &mut Look, key: &str, place: &str, overdue: &str) -> Result<(), RedisError> {
        for page in 0.. {
            let first = page * PAGE;
            let members: Vec<(Vec<u8>, f64)> =
                self.commands.clone().zrange_withscores(key, first, first + PAGE - 1).await?;
            let last = members.len() < PAGE as usize;
            for (member, due) in members {
                let shown = String::from_utf8_lossy(&member).into_owned();
                look.holders.insert(format!("{place}/{shown}"));
                look.held(key, &shown, held_of(&member), place);
                if look.now - due > PATIENCE_MILLISECONDS {
                    look.find(FindingKind::Overdue, key, &shown, overdue);
                }
            }
            if last {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn look_at_guards(&self, look: &mut Look) -> Result<(), RedisError> {
        let guards: Vec<(String, Vec<u8>)> = self.commands.clone().hgetall(&self.keys.guards).await?;
        for (task, holder) in guards {
            let holder = String::from_utf8_lossy(&holder);
            if !look.holders.contains(&*holder) {
                let text = format!("the guard of task {task} names a holder that does not have it: {holder}");
                look.find(FindingKind::StaleGuard, &self.keys.guards, &task, &text);
            }
        }
        Ok(())
    }

    async fn look_at_records(&self, look: &mut Look) -> Result<(), RedisError> {
        let mut commands = self.commands.clone();
        let records: Vec<String> = commands.hkeys(&self.keys.records).await?;
        if records.is_empty() {
            return Ok(());
        }
        for page in 0.. {
            let first = page * PAGE;
            let elements: Vec<Vec<u8>> = commands.lrange(&self.keys.list, first, first + PAGE - 1).await?;
            let last = elements.len() < PAGE as usize;
            look.ids.extend(elements.into_iter().map(|element| Element(element).id()));
            if last {
                break;
            }
        }
        if let Some(queue) = self.keys.rq_queue() {
            let scheduled: Vec<Vec<u8>> = commands.zrange(format!("rq:scheduled:{queue}"), 0, -1).await?;
            look.ids.extend(scheduled.into_iter().map(|id| Element(id).id()));
        }
        for id in records {
            if !look.ids.contains(&id) {
                look.find(FindingKind::StaleRecord, &self.keys.records, &id, "a record of an element that is nowhere");
            }
        }
        Ok(())
    }

    async fn look_at_dead(&self, look: &mut Look) -> Result<(), RedisError> {
        let key = &self.keys.dead;
        for page in 0.. {
            let first = page * PAGE;
            let entries: Vec<Vec<u8>> = self.commands.clone().lrange(key, first, first + PAGE - 1).await?;
            let last = entries.len() < PAGE as usize;
            for entry in entries {
                if serde_json::from_slice::<DeadEnvelope>(&entry).is_err() {
                    let shown = String::from_utf8_lossy(&entry).chars().take(80).collect::<String>();
                    look.find(FindingKind::Foreign, key, &shown, "an entry that is not one of ours");
                }
            }
            if last {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn look_at_rq(&self, look: &mut Look) -> Result<(), RedisError> {
        let mut commands = self.commands.clone();
        let key = self.keys.rq_intermediate();
        let taken: Vec<Vec<u8>> = commands.lrange(&key, 0, -1).await?;
        for element in taken {
            if element.trim_ascii_start().first() == Some(&b'{') {
                let id = Element(element).id();
                look.find(
                    FindingKind::TakenByRq,
                    &key,
                    &id,
                    "an RQ worker has taken an element of ours: RQ deletes it",
                );
            }
        }
        if commands.sismember("rq:queues", &self.keys.list).await? && !self.is_worker_of_rq().await? {
            let text = "RQ knows the list as a queue of its own: its maintenance deletes what is not its own";
            look.find(FindingKind::KnownToRq, "rq:queues", &self.keys.list, text);
        }
        Ok(())
    }

    /// Whether an instance of ours runs the jobs of RQ in the list (`rq.compat`): then RQ is to know it.
    async fn is_worker_of_rq(&self) -> Result<bool, RedisError> {
        let Some(queue) = self.keys.rq_queue() else { return Ok(false) };
        let mut commands = self.commands.clone();
        let instances: Vec<String> = commands.zrange(&self.keys.leases, 0, -1).await?;
        for instance in instances {
            if commands.sismember(format!("rq:workers:{queue}"), format!("rq:worker:{instance}")).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Every `claimed:` and `running:` key there is, with a lease or not.
    pub(super) async fn places(&self) -> Result<Vec<String>, RedisError> {
        // On the server that has our slot.
        let mut connection = self.commands.blocking(&self.keys.list, ANSWER_WITHIN).await?;
        let mut found = Vec::new();
        for pattern in [self.keys.claimed("*"), self.keys.running("*")] {
            let pattern = pattern.replace('[', "\\[");
            let mut cursor = 0_u64;
            loop {
                let mut scan = redis::cmd("SCAN");
                scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(1000);
                let (next, keys): (u64, Vec<String>) = scan.query_async(&mut connection).await?;
                found.extend(keys);
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    }
}

/// What one look has seen.
#[derive(Default)]
struct Look {
    now: f64,
    findings: Vec<Finding>,
    /// `<instance>/<claim>`, `delayed/<member>` and `untold/<member>`, as guards name them.
    holders: HashSet<String>,
    /// Every element that is somewhere.
    ids: HashSet<String>,
    /// Where the elements are that only one place may have.
    placed: HashMap<String, String>,
}

impl Look {
    fn find(&mut self, kind: FindingKind, key: &str, member: &str, text: &str) {
        self.findings.push(Finding { kind, key: key.into(), member: member.into(), text: text.into() });
    }

    /// A value of the running hash or of a sorted set.
    fn held(&mut self, key: &str, member: &str, held: &[u8], place: &str) {
        let (id, element) = held_parts(held);
        let id = String::from_utf8_lossy(id).into_owned();
        if element.id() != id {
            self.find(FindingKind::Foreign, key, member, "is not as we wrote it");
        }
        if let Some(other) = self.placed.insert(id.clone(), format!("{place} ({key})")) {
            self.find(FindingKind::Twice, key, member, &format!("the same element is also {other}"));
        }
        self.ids.insert(id);
    }
}
