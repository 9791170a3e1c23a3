//! The server: its keys, and what each script does with them in one step.

use crate::fault::Fault;

/// Elements, tasks, identities and claims are small numbers.
pub type Element = u8;
pub type Identity = u8;
pub type Claim = u8;

pub const ELEMENTS: usize = 2;
/// One fencing token more than processes; the last place is for [`peace`](crate::peace) alone.
pub const TOKENS: Identity = 3;
const PLACES: usize = TOKENS as usize + 1;
/// Attempts that may fail, and instances that may die, before an element is given up.
const MOST: u8 = 2;

/// What waits at the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Load {
    One,
    /// Of two tasks.
    Two,
    /// Of one task.
    Twins,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lease {
    /// Never registered.
    None,
    Good,
    /// Its time is over, and nobody has noticed yet.
    RunOut,
    /// Reaped: in the place of the claimed list there is a tombstone.
    Gone,
}

/// What `records` remembers of an element.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Record {
    pub attempts: u8,
    pub crashes: u8,
    pub verdict: Verdict,
}

/// What is noted about the end of a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Verdict {
    #[default]
    None,
    /// It is delivered, and the backend is to be told.
    Untold,
    /// The backend has accepted the finalize call.
    Told,
}

/// Who has a task, says `guards`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Guard {
    Runs(Identity, Claim),
    Delayed(Identity, Claim),
    Untold(Identity, Claim),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    Done,
    Retry,
    Untold,
    Dead,
}

/// What the start script answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    NotOurs,
    Started(Record),
    Held(Guard),
    Recent,
    Gone,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    load: Load,
    /// Taken from the end.
    pub list: Vec<Element>,
    pub leases: [Lease; PLACES],
    /// The newest first.
    pub claimed: [Vec<Element>; PLACES],
    pub running: [Vec<(Claim, Element)>; PLACES],
    pub delayed: Vec<(Identity, Claim, Element)>,
    pub untold: Vec<(Identity, Claim, Element)>,
    pub records: [Record; ELEMENTS],
    pub guards: [Option<Guard>; ELEMENTS],
    pub recent: [bool; ELEMENTS],
    pub token: Identity,
    pub done: [u8; ELEMENTS],
    pub dead: [u8; ELEMENTS],
    /// Something was written for a job by somebody who did not have it.
    pub foreign_write: bool,
}

impl Server {
    pub fn new(load: Load) -> Server {
        Server {
            load,
            list: if load == Load::One { vec![0] } else { vec![1, 0] },
            leases: [Lease::None; PLACES],
            claimed: Default::default(),
            running: Default::default(),
            delayed: Vec::new(),
            untold: Vec::new(),
            records: Default::default(),
            guards: Default::default(),
            recent: Default::default(),
            token: 0,
            done: Default::default(),
            dead: Default::default(),
            foreign_write: false,
        }
    }

    pub fn elements(&self) -> std::ops::Range<Element> {
        if self.load == Load::One { 0..1 } else { 0..2 }
    }

    fn task(&self, element: Element) -> usize {
        if self.load == Load::Twins { 0 } else { element.into() }
    }

    /// Whether the identity is a member of `leases`.
    pub fn is_member(&self, identity: Identity) -> bool {
        matches!(self.leases[usize::from(identity)], Lease::Good | Lease::RunOut)
    }

    fn has_tombstone(&self, identity: Identity) -> bool {
        self.leases[usize::from(identity)] == Lease::Gone
    }

    /// `register.lua`
    pub fn register(&mut self) -> Identity {
        let identity = self.token;
        self.token += 1;
        self.leases[usize::from(identity)] = Lease::Good;
        identity
    }

    /// `renew.lua`
    pub fn renew(&mut self, identity: Identity) {
        if self.is_member(identity) {
            self.leases[usize::from(identity)] = Lease::Good;
        }
    }

    /// `BLMOVE`, or `take.lua`. `Err` is WRONGTYPE: there is a tombstone. Only called when something waits.
    pub fn take(&mut self, identity: Identity, fault: Option<Fault>) -> Result<Element, ()> {
        if self.has_tombstone(identity) && fault != Some(Fault::TakeWithoutTombstone) {
            return Err(());
        }
        let element = self.list.pop().expect("something waits");
        if fault != Some(Fault::BarePop) {
            self.claimed[usize::from(identity)].insert(0, element);
        }
        Ok(element)
    }

    /// `start.lua`
    pub fn start(&mut self, identity: Identity, element: Element, claim: Claim, fault: Option<Fault>) -> Start {
        let (place, task) = (usize::from(identity), self.task(element));
        if !self.is_member(identity) {
            return Start::NotOurs;
        }
        let holder = Guard::Runs(identity, claim);
        if !matches!(fault, Some(Fault::StartWithoutGuard | Fault::TornPromote)) {
            match self.guards[task] {
                Some(guard) if guard != holder => return Start::Held(guard),
                None if self.recent[task] => return Start::Recent,
                _ => {}
            }
        }
        if remove(&mut self.claimed[place], &element) || fault == Some(Fault::BarePop) {
            self.running[place].push((claim, element));
            self.guards[task] = Some(holder);
            return Start::Started(self.records[usize::from(element)]);
        }
        match self.running[place].iter().any(|(known, _)| *known == claim) {
            true => Start::Started(self.records[usize::from(element)]),
            false => Start::Gone,
        }
    }

    /// `contest.lua`
    pub fn contest(&mut self, element: Element, guard: Guard) -> bool {
        let task = self.task(element);
        if self.guards[task] != Some(guard) {
            return false;
        }
        let holds = match guard {
            Guard::Runs(identity, claim) => {
                self.running[usize::from(identity)].iter().any(|(known, _)| *known == claim)
            }
            Guard::Delayed(identity, claim) => {
                self.delayed.iter().any(|(by, known, _)| (*by, *known) == (identity, claim))
            }
            Guard::Untold(identity, claim) => {
                self.untold.iter().any(|(by, known, _)| (*by, *known) == (identity, claim))
            }
        };
        if !holds {
            self.guards[task] = None;
        }
        holds
    }

    /// `turn_away.lua`: to the dead list, as a duplicate. `false` when the lease is gone.
    pub fn turn_away(&mut self, identity: Identity, element: Element) -> bool {
        if !self.is_member(identity) {
            return false;
        }
        if remove(&mut self.claimed[usize::from(identity)], &element) {
            self.dead[usize::from(element)] += 1;
        }
        true
    }

    /// `tell.lua`: a delivered job whose call is to be made again, with what is remembered of it. `Err` when
    /// the lease is gone.
    pub fn tell(&mut self, identity: Identity, claim: Claim) -> Result<Option<(Element, Record)>, ()> {
        let place = usize::from(identity);
        if !self.is_member(identity) {
            return Err(());
        }
        let running = self.running[place].iter().find(|(known, _)| *known == claim);
        let element = match running {
            Some((_, element)) => *element,
            None if self.untold.is_empty() => return Ok(None),
            None => {
                let (by, known, element) = self.untold.remove(0);
                self.running[place].push((claim, element));
                let task = self.task(element);
                if self.guards[task] == Some(Guard::Untold(by, known)) {
                    self.guards[task] = Some(Guard::Runs(identity, claim));
                }
                element
            }
        };
        Ok(Some((element, self.records[usize::from(element)])))
    }

    /// `confirm.lua` with a verdict.
    pub fn confirm(&mut self, identity: Identity, claim: Claim, element: Element, verdict: Verdict) -> bool {
        let holds = self.running[usize::from(identity)].contains(&(claim, element));
        if !self.is_member(identity) || !holds {
            return false;
        }
        self.leases[usize::from(identity)] = Lease::Good;
        self.records[usize::from(element)].verdict = verdict;
        true
    }

    /// `settle.lua`. `None` when the lease is gone, else whether it was settled now.
    pub fn settle(
        &mut self,
        identity: Identity,
        (claim, element): (Claim, Element),
        outcome: Outcome,
        record: Record,
        fault: Option<Fault>,
    ) -> Option<bool> {
        let (place, task) = (usize::from(identity), self.task(element));
        let trusts = fault == Some(Fault::SettleWithoutLease);
        if !self.is_member(identity) && !trusts {
            return None;
        }
        if !remove(&mut self.running[place], &(claim, element)) {
            if !trusts {
                return Some(false);
            }
            self.foreign_write = true;
        }
        let holder = Guard::Runs(identity, claim);
        match outcome {
            Outcome::Retry => self.delayed.push((identity, claim, element)),
            Outcome::Untold => self.untold.push((identity, claim, element)),
            Outcome::Done => self.done[usize::from(element)] += 1,
            Outcome::Dead => self.dead[usize::from(element)] += 1,
        }
        match outcome {
            Outcome::Retry => self.guards[task] = Some(Guard::Delayed(identity, claim)),
            Outcome::Untold => self.guards[task] = Some(Guard::Untold(identity, claim)),
            Outcome::Done | Outcome::Dead if self.guards[task] == Some(holder) => self.guards[task] = None,
            Outcome::Done | Outcome::Dead => {}
        }
        self.recent[task] |= outcome == Outcome::Done;
        let stays = matches!(outcome, Outcome::Retry | Outcome::Untold);
        self.records[usize::from(element)] = if stays { record } else { Record::default() };
        Some(true)
    }

    /// `settle.lua` with `returned`
    pub fn hand_back(&mut self, identity: Identity, (claim, element): (Claim, Element)) {
        if self.is_member(identity) && remove(&mut self.running[usize::from(identity)], &(claim, element)) {
            self.list.push(element);
            self.free(element, Guard::Runs(identity, claim));
        }
    }

    /// `promote.lua`
    pub fn promote(&mut self, fault: Option<Fault>) {
        if fault == Some(Fault::TornPromote) {
            let due = self.delayed.iter().map(|(.., element)| *element);
            let missing: Vec<Element> = due.filter(|element| !self.list.contains(element)).collect();
            self.list.extend(missing);
            return;
        }
        for (identity, claim, element) in std::mem::take(&mut self.delayed) {
            self.list.push(element);
            self.free(element, Guard::Delayed(identity, claim));
        }
    }

    /// `give_back.lua`
    pub fn give_back(&mut self, identity: Identity) {
        if self.is_member(identity) {
            let claimed = std::mem::take(&mut self.claimed[usize::from(identity)]);
            self.list.extend(claimed);
        }
    }

    /// `reap.lua`: the caller has `seen` so many running jobs and counts a crash for each.
    pub fn reap(&mut self, identity: Identity, seen: &[(Claim, Element)], fault: Option<Fault>) {
        let place = usize::from(identity);
        if fault == Some(Fault::TornReap) {
            // What was seen goes back, and the keys are deleted: two steps of a client, not a script.
            self.list.extend(self.claimed[place].iter().chain(seen.iter().map(|(_, element)| element)));
            self.claimed[place].clear();
            self.running[place].clear();
            self.leases[place] = Lease::Gone;
            return;
        }
        if self.leases[place] != Lease::RunOut {
            return;
        }
        let claimed = std::mem::take(&mut self.claimed[place]);
        self.list.extend(claimed);
        let mut running = std::mem::take(&mut self.running[place]);
        running.sort_by_key(|(claim, _)| std::cmp::Reverse(*claim));
        for (claim, element) in running {
            let record = &mut self.records[usize::from(element)];
            // A job whose end is known is not what killed the instance.
            if seen.contains(&(claim, element)) && record.verdict == Verdict::None {
                record.crashes += 1;
            }
            if record.crashes >= MOST {
                *record = Record::default();
                self.dead[usize::from(element)] += 1;
            } else {
                self.list.push(element);
            }
            self.free(element, Guard::Runs(identity, claim));
        }
        self.leases[place] = Lease::Gone;
    }

    fn free(&mut self, element: Element, guard: Guard) {
        let task = self.task(element);
        if self.guards[task] == Some(guard) {
            self.guards[task] = None;
        }
    }

    /// In how many places the element is.
    pub fn places_of(&self, element: Element) -> usize {
        let held = self.claimed.iter().flatten().chain(self.running.iter().flatten().map(|(_, held)| held));
        let later = self.delayed.iter().chain(&self.untold).map(|(.., element)| element);
        let waiting = self.list.iter().chain(later);
        let ended = usize::from(self.done[usize::from(element)] + self.dead[usize::from(element)]);
        held.chain(waiting).filter(|other| **other == element).count() + ended
    }

    /// Whether somebody who will never come back holds an element that nobody will take back.
    pub fn strands(&self) -> bool {
        (0..TOKENS).any(|identity| {
            let place = usize::from(identity);
            let holds = !self.claimed[place].is_empty() || !self.running[place].is_empty();
            holds && !self.is_member(identity)
        })
    }

    /// Whether an attempt that fails now is the last one.
    pub fn is_last_attempt(record: Record) -> bool {
        record.attempts + 1 >= MOST
    }
}

fn remove<T: PartialEq>(list: &mut Vec<T>, item: &T) -> bool {
    let found = list.iter().rposition(|other| other == item);
    found.map(|index| list.remove(index)).is_some()
}
