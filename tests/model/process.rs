//! An instance: what it does next, as `Taker::next`, `Pool::job` and `Pipeline::run` do it one after the other.
//! Its sweep, which runs beside, is part of [`fleet`](crate::fleet).

use crate::fault::Fault;
use crate::server::{Claim, Element, Guard, Identity, Outcome, Record, Server, Start, Verdict};

/// One running program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Process {
    pub identity: Identity,
    pub next_claim: Claim,
    pub step: Step,
}

/// Where it is. In every step but `Run`, `Call`, `Look` and `Lost` a command is on its way to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// `BLMOVE`
    Take,
    /// `LRANGE` of the claimed list, after an error and when the sweep says so.
    Look,
    /// `start.lua`
    Start(Element, Claim),
    /// `contest.lua`
    Contest(Element, Claim, Guard),
    /// `turn_away.lua`
    TurnAway(Element),
    /// The download and the delivery, with no command at all.
    Run(Element, Claim, Record),
    /// `tell.lua`
    Tell(Claim),
    /// `confirm.lua`, noting that the job is delivered and the backend is to be told.
    Note(Element, Claim, Record),
    /// The finalize call.
    Call(Element, Claim, Record),
    /// `confirm.lua`, noting that the backend has accepted it.
    Conclude(Element, Claim, Record),
    /// `settle.lua`
    Settle(Element, Claim, Outcome, Record),
    /// The lease was found gone: `register.lua` follows.
    Lost,
}

/// A command that is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Request {
    Of(Identity, Step),
    /// `reap.lua` of a dead instance, by whom does not matter, with the jobs that were seen before.
    Reap(Identity, Vec<(Claim, Element)>),
}

impl Process {
    pub fn new(identity: Identity) -> Process {
        Process { identity, next_claim: 1, step: Step::Take }
    }

    /// Whether a command is on its way.
    pub fn waits(&self) -> bool {
        !matches!(self.step, Step::Look | Step::Run(..) | Step::Call(..) | Step::Lost)
    }

    /// Whether the taker has its hands free or in the claimed list: what is there is looked after.
    pub fn is_taking(&self) -> bool {
        matches!(
            self.step,
            Step::Take | Step::Look | Step::Start(..) | Step::Contest(..) | Step::TurnAway(_) | Step::Lost
        )
    }

    /// The claim in its hands.
    fn in_hand(&self) -> Option<Claim> {
        match self.step {
            Step::Start(_, claim)
            | Step::Contest(_, claim, _)
            | Step::Run(_, claim, _)
            | Step::Tell(claim)
            | Step::Note(_, claim, _)
            | Step::Call(_, claim, _)
            | Step::Conclude(_, claim, _)
            | Step::Settle(_, claim, ..) => Some(claim),
            Step::Take | Step::Look | Step::TurnAway(_) | Step::Lost => None,
        }
    }

    /// A job that runs under its name without its knowledge: a late command has started it.
    pub fn stray(&self, server: &Server) -> Option<(Claim, Element)> {
        let running = &server.running[usize::from(self.identity)];
        running.iter().copied().find(|(claim, _)| Some(*claim) != self.in_hand())
    }

    /// After an error: everything is asked again, but a taker looks first at what it has been given.
    pub fn hears_nothing(&mut self) {
        if self.step == Step::Take {
            self.step = Step::Look;
        }
    }

    fn claim(&mut self) -> Claim {
        self.next_claim += 1;
        self.next_claim - 1
    }

    /// In place of the next `BLMOVE` it asks for a delivered job whose call is to be made again. (In the program
    /// that goes on beside it, with claims of its own.)
    pub fn asks_for_untold(&mut self) {
        self.step = Step::Tell(self.claim());
    }

    /// What it does with an element that it was given.
    pub fn receives(&mut self, element: Option<Element>) {
        self.step = match element {
            Some(element) => Step::Start(element, self.claim()),
            None => Step::Take,
        };
    }

    /// What it makes of the answer to its own command.
    pub fn hears(&mut self, answer: Answer) {
        self.step = match (self.step, answer) {
            (_, Answer::NotOurs) => Step::Lost,
            (Step::Take, Answer::Element(element)) => return self.receives(Some(element)),
            (Step::Start(element, claim), Answer::Start(start)) => match start {
                Start::NotOurs => Step::Lost,
                Start::Started(record) => next(element, claim, record),
                Start::Held(guard) => Step::Contest(element, claim, guard),
                Start::Recent => Step::TurnAway(element),
                Start::Gone => Step::Take,
            },
            (Step::Contest(element, ..), Answer::Is(true)) => Step::TurnAway(element),
            (Step::Contest(element, claim, _), Answer::Is(false)) => Step::Start(element, claim),
            (Step::Tell(claim), Answer::Untold(Some((element, record)))) => next(element, claim, record),
            (Step::Note(element, claim, mut record), Answer::Is(true)) => {
                record.verdict = Verdict::Untold;
                Step::Call(element, claim, record)
            }
            (Step::Conclude(element, claim, record), Answer::Is(true)) => {
                Step::Settle(element, claim, Outcome::Done, record)
            }
            // Somebody else has the job, or it is settled.
            _ => Step::Take,
        };
    }
}

/// What it does with a job that it has, from what is known of it.
fn next(element: Element, claim: Claim, record: Record) -> Step {
    match record.verdict {
        Verdict::None => Step::Run(element, claim, record),
        Verdict::Untold => Step::Note(element, claim, record),
        Verdict::Told => Step::Settle(element, claim, Outcome::Done, record),
    }
}

/// What the server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    NotOurs,
    Element(Element),
    Start(Start),
    Untold(Option<(Element, Record)>),
    Is(bool),
}

/// Carries out a command; `None` when `BLMOVE` has nothing to move yet.
pub fn execute(server: &mut Server, request: &Request, fault: Option<Fault>) -> Option<Answer> {
    let (identity, step) = match request {
        Request::Of(identity, step) => (*identity, *step),
        Request::Reap(identity, seen) => {
            server.reap(*identity, seen, fault);
            return Some(Answer::Is(true));
        }
    };
    let is_member = server.is_member(identity);
    Some(match step {
        Step::Take if server.list.is_empty() => return None,
        Step::Take => server.take(identity, fault).map_or(Answer::NotOurs, Answer::Element),
        Step::Start(element, claim) => Answer::Start(server.start(identity, element, claim, fault)),
        Step::Contest(element, _, guard) => Answer::Is(server.contest(element, guard)),
        Step::TurnAway(element) => match server.turn_away(identity, element) {
            true => Answer::Is(true),
            false => Answer::NotOurs,
        },
        Step::Tell(claim) => server.tell(identity, claim).map_or(Answer::NotOurs, Answer::Untold),
        Step::Note(element, claim, _) | Step::Conclude(element, claim, _) => {
            let verdict = if matches!(step, Step::Note(..)) { Verdict::Untold } else { Verdict::Told };
            match server.confirm(identity, claim, element, verdict) {
                false if !is_member => Answer::NotOurs,
                holds => Answer::Is(holds),
            }
        }
        Step::Settle(element, claim, outcome, record) => {
            match server.settle(identity, (claim, element), outcome, record, fault) {
                Some(now) => Answer::Is(now),
                None => Answer::NotOurs,
            }
        }
        Step::Look | Step::Run(..) | Step::Call(..) | Step::Lost => unreachable!("no command"),
    })
}
