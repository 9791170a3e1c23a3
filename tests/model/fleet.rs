//! The whole: two places for processes, the commands on their way, the server; and everything that can happen.

use stateright::{Model, Property};

use crate::fault::Fault;
use crate::peace;
use crate::process::{Process, Request, Step, execute};
use crate::server::{ELEMENTS, Element, Identity, Lease, Load, Outcome, Server, TOKENS};

const SLOTS: usize = 2;
/// Commands on their way whose sender has given up waiting or is dead.
const LATE: usize = 1;
/// The attempts at this element may fail.
const FAILS: Element = 0;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub server: Server,
    pub processes: [Option<Process>; SLOTS],
    /// From connections that broke: they may be carried out, whenever, and nobody hears of it.
    pub late: Vec<Request>,
    /// How much trouble there may still be.
    pub troubles: u8,
    /// Whether the backend may still refuse a call, once.
    pub may_refuse: bool,
    /// Identities whose finalize call was accepted, for each element.
    pub callers: [Vec<Identity>; ELEMENTS],
}

/// What can happen next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// A new process, or one that has lost its lease: `register.lua`.
    Register(usize),
    /// `kill -9`, at any step; what it has sent may still be on its way.
    Kill(usize, Sent),
    /// The server carries out the command of a process.
    Answer(usize),
    /// The same, and the connection breaks before the answer.
    AnswerLost(usize),
    /// The connection breaks; the command stays on its way.
    Break(usize),
    /// A command from a connection that broke reaches the server.
    Arrive(usize),
    /// The server is killed and starts again, with everything it has answered.
    Restart,
    /// `LRANGE` of the own claimed list.
    Look(usize),
    /// The job is delivered.
    Finish(usize),
    /// The attempt fails.
    Fail(usize),
    /// The finalize call is made, and accepted.
    Call(usize),
    /// The finalize call is made, and refused.
    Refuse(usize),
    /// A process asks for a delivered job whose call is to be made again.
    Tell(usize),
    /// A lease runs out: its process is dead, stopped (SIGSTOP), cut off or slow. It may go on later.
    RunOut(Identity),
    /// `renew.lua`
    Renew(usize),
    /// `give_back.lua`, by the sweep of a process that is not taking.
    GiveBack(usize),
    /// `settle.lua`, by the sweep of a process that finds a job of its own running and does not have it in hand.
    GiveUp(usize),
    /// `promote.lua`, by anybody.
    Promote,
    /// The lease of an instance that is dead, with no command of it on its way, runs out and it is reaped: nothing can
    /// come between.
    TakeBack(Identity),
    /// Somebody has read what a dead instance had: `reap.lua` is on its way.
    Reap(Identity),
}

/// What becomes of the command of a process that is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sent {
    Arrives,
    Vanishes,
}

/// The protocol, or one with a fault.
#[derive(Clone)]
pub struct Fleet {
    /// So often something bad happens: a kill, a lost answer, a broken connection, a restart, a lease that runs out
    /// although its process lives.
    pub troubles: u8,
    /// Whether the backend refuses a finalize call, once at most.
    pub refuses: bool,
    pub load: Load,
    pub fault: Option<Fault>,
}

impl Model for Fleet {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut server = Server::new(self.load);
        let processes = [(); SLOTS].map(|()| Some(Process::new(server.register())));
        vec![State {
            server,
            processes,
            late: Vec::new(),
            troubles: self.troubles,
            may_refuse: self.refuses,
            callers: Default::default(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let server = &state.server;
        let has_room = state.late.len() < LATE;
        for (slot, process) in state.processes.iter().enumerate() {
            let Some(process) = process else {
                if server.token < TOKENS {
                    actions.push(Action::Register(slot));
                }
                continue;
            };
            actions.push(Action::Kill(slot, Sent::Vanishes));
            if process.waits() {
                if has_room {
                    actions.extend([Action::Kill(slot, Sent::Arrives), Action::Break(slot)]);
                }
                if process.step != Step::Take || !server.list.is_empty() {
                    actions.extend([Action::Answer(slot), Action::AnswerLost(slot)]);
                }
            }
            match process.step {
                Step::Lost if server.token < TOKENS => actions.push(Action::Register(slot)),
                Step::Look => actions.push(Action::Look(slot)),
                Step::Run(element, ..) => {
                    actions.push(Action::Finish(slot));
                    if element == FAILS {
                        actions.push(Action::Fail(slot));
                    }
                }
                Step::Call(element, ..) => {
                    actions.push(Action::Call(slot));
                    if element == FAILS && state.may_refuse {
                        actions.push(Action::Refuse(slot));
                    }
                }
                // The sweep has seen something in the claimed list.
                Step::Take if !server.claimed[usize::from(process.identity)].is_empty() => {
                    actions.push(Action::Look(slot));
                }
                _ => {}
            }
            if process.step == Step::Take && !server.untold.is_empty() {
                actions.push(Action::Tell(slot));
            }
            if server.leases[usize::from(process.identity)] == Lease::RunOut {
                actions.push(Action::Renew(slot));
            }
            if !process.is_taking() && !server.claimed[usize::from(process.identity)].is_empty() {
                actions.push(Action::GiveBack(slot));
            }
            if process.stray(server).is_some() && self.fault != Some(Fault::SweepOfClaimedAlone) {
                actions.push(Action::GiveUp(slot));
            }
        }
        actions.extend((0..state.late.len()).map(Action::Arrive));
        if !state.late.is_empty() {
            actions.push(Action::Restart);
        }
        if state.processes.iter().any(Option::is_some) {
            if !server.delayed.is_empty() {
                actions.push(Action::Promote);
            }
            let run_out = |identity: &Identity| server.leases[usize::from(*identity)] == Lease::RunOut;
            if has_room {
                actions.extend((0..TOKENS).filter(run_out).map(Action::Reap));
            }
            actions.extend((0..TOKENS).filter(|identity| state.is_silent(*identity)).map(Action::TakeBack));
        }
        let is_good =
            |identity: &Identity| server.leases[usize::from(*identity)] == Lease::Good && !state.is_silent(*identity);
        actions.extend((0..TOKENS).filter(is_good).map(Action::RunOut));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        if state.is_trouble(&action) {
            state.troubles = state.troubles.checked_sub(1)?;
        }
        state.happen(action, self.fault);
        // Two places are as good as one another.
        state.processes.sort_by_key(|process| process.map(|process| process.identity));
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Fleet>> {
        let mut properties = vec![
            Property::always("every element is in exactly one place", |_, state: &State| {
                state.server.elements().all(|element| state.server.places_of(element) == 1)
            }),
            Property::always("no element is settled twice", |_, state: &State| {
                (0..ELEMENTS).all(|element| state.server.done[element] + state.server.dead[element] <= 1)
            }),
            Property::always("nothing is written for a job that somebody else has", |_, state: &State| {
                !state.server.foreign_write
            }),
            Property::always("nothing is held by an instance that is gone", |_, state: &State| !state.server.strands()),
            Property::always("one caller at most has not lost its lease", |_, state: &State| {
                let living = |callers: &Vec<Identity>| {
                    callers.iter().filter(|identity| state.server.is_member(**identity)).count()
                };
                state.callers.iter().all(|callers| living(callers) <= 1)
            }),
            Property::always("nobody calls twice for an element", |_, state: &State| {
                state
                    .callers
                    .iter()
                    .all(|callers| (1..callers.len()).all(|index| !callers[..index].contains(&callers[index])))
            }),
            Property::always("a task is done once", |fleet: &Fleet, state: &State| {
                fleet.load != Load::Twins || state.server.done.iter().sum::<u8>() <= 1
            }),
            Property::always("left in peace, everything ends", |fleet: &Fleet, state: &State| {
                peace::ends(state, fleet.fault)
            }),
            Property::sometimes("one is given up after its attempts", |_, state: &State| state.server.dead[0] == 1),
            Property::sometimes("a successor finishes what was begun", |_, state: &State| {
                state.callers.iter().any(|callers| callers.len() > 1) && state.is_over()
            }),
        ];
        if self.refuses {
            properties
                .push(Property::sometimes("a call that was refused is accepted in the end", |_, state: &State| {
                    !state.may_refuse && state.server.done[usize::from(FAILS)] == 1
                }));
        }
        if self.load == Load::Two {
            properties.push(Property::sometimes("both are done", |_, state: &State| state.server.done == [1, 1]));
        }
        properties
    }
}

impl State {
    /// Whether nothing is left to do.
    pub fn is_over(&self) -> bool {
        self.server.elements().map(usize::from).all(|element| self.server.done[element] + self.server.dead[element] > 0)
    }

    /// Whether nothing will ever come from an instance that is a member still.
    fn is_silent(&self, identity: Identity) -> bool {
        let is_of = |request: &Request| matches!(request, Request::Of(other, _) | Request::Reap(other, _) if *other == identity);
        self.server.is_member(identity)
            && !self.processes.iter().flatten().any(|process| process.identity == identity)
            && !self.late.iter().any(is_of)
    }

    /// Whether it counts as trouble.
    fn is_trouble(&self, action: &Action) -> bool {
        match action {
            Action::Kill(..) | Action::AnswerLost(_) | Action::Break(_) | Action::Restart => true,
            Action::RunOut(identity) => self.processes.iter().flatten().any(|process| process.identity == *identity),
            _ => false,
        }
    }

    /// One thing happens. It must be one that can.
    pub fn happen(&mut self, action: Action, fault: Option<Fault>) {
        match action {
            Action::Register(slot) => self.processes[slot] = Some(Process::new(self.server.register())),
            Action::Kill(slot, sent) => {
                let process = self.processes[slot].take().expect("it runs");
                if sent == Sent::Arrives {
                    self.late.push(Request::Of(process.identity, process.step));
                }
            }
            Action::Answer(slot) => {
                let process = self.processes[slot].as_mut().expect("it runs");
                let request = Request::Of(process.identity, process.step);
                if let Some(answer) = execute(&mut self.server, &request, fault) {
                    process.hears(answer);
                }
            }
            Action::AnswerLost(slot) => {
                let process = self.processes[slot].as_mut().expect("it runs");
                let request = Request::Of(process.identity, process.step);
                execute(&mut self.server, &request, fault);
                process.hears_nothing();
            }
            Action::Break(slot) => {
                let process = self.processes[slot].as_mut().expect("it runs");
                self.late.push(Request::Of(process.identity, process.step));
                process.hears_nothing();
            }
            Action::Arrive(index) => {
                let request = &self.late[index];
                // A BLMOVE goes on waiting.
                if execute(&mut self.server, request, fault).is_some() {
                    self.late.remove(index);
                }
            }
            Action::Restart => {
                self.late.clear();
                self.processes.iter_mut().flatten().for_each(Process::hears_nothing);
            }
            Action::Look(slot) => {
                let process = self.processes[slot].as_mut().expect("it runs");
                let oldest = self.server.claimed[usize::from(process.identity)].last().copied();
                process.receives(oldest);
            }
            Action::Finish(slot) => self.advance(slot, |step| match step {
                Step::Run(element, claim, record) => Step::Note(element, claim, record),
                other => other,
            }),
            Action::Fail(slot) => self.advance(slot, |step| match step {
                Step::Run(element, claim, mut record) => {
                    let is_last = Server::is_last_attempt(record);
                    record.attempts += 1;
                    Step::Settle(element, claim, if is_last { Outcome::Dead } else { Outcome::Retry }, record)
                }
                other => other,
            }),
            Action::Call(slot) => {
                let process = self.processes[slot].expect("it runs");
                if let Step::Call(element, claim, record) = process.step {
                    self.callers[usize::from(element)].push(process.identity);
                    self.advance(slot, |_| Step::Conclude(element, claim, record));
                }
            }
            Action::Refuse(slot) => {
                self.may_refuse = false;
                self.advance(slot, |step| match step {
                    Step::Call(element, claim, record) => Step::Settle(element, claim, Outcome::Untold, record),
                    other => other,
                });
            }
            Action::Tell(slot) => self.processes[slot].as_mut().expect("it runs").asks_for_untold(),
            Action::RunOut(identity) => self.server.leases[usize::from(identity)] = Lease::RunOut,
            Action::Renew(slot) => self.server.renew(self.processes[slot].expect("it runs").identity),
            Action::GiveBack(slot) => self.server.give_back(self.processes[slot].expect("it runs").identity),
            Action::GiveUp(slot) => {
                let process = self.processes[slot].expect("it runs");
                if let Some(stray) = process.stray(&self.server) {
                    self.server.hand_back(process.identity, stray);
                }
            }
            Action::Promote => self.server.promote(fault),
            Action::TakeBack(identity) => {
                let place = usize::from(identity);
                self.server.leases[place] = Lease::RunOut;
                let seen = self.server.running[place].clone();
                self.server.reap(identity, &seen, fault);
            }
            Action::Reap(identity) => {
                let seen = self.server.running[usize::from(identity)].clone();
                self.late.push(Request::Reap(identity, seen));
            }
        }
    }

    fn advance(&mut self, slot: usize, next: impl Fn(Step) -> Step) {
        let process = self.processes[slot].as_mut().expect("it runs");
        process.step = next(process.step);
    }
}
