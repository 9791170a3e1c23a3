//! What becomes of a state in which nothing bad happens any more: every command is answered, jobs succeed, dead
//! instances are taken back, delayed elements come due. Where nobody lives, somebody starts.

use crate::fault::Fault;
use crate::fleet::{Action, State};
use crate::process::{Process, Step};
use crate::server::{Lease, TOKENS};

/// More than any peaceful end takes.
const STEPS: usize = 80;

/// Whether everything comes to an end.
pub fn ends(state: &State, fault: Option<Fault>) -> bool {
    let mut state = state.clone();
    // What is on its way arrives first.
    for index in (0..state.late.len()).rev() {
        state.happen(Action::Arrive(index), None);
    }
    for _ in 0..STEPS {
        if state.is_over() {
            return true;
        }
        round(&mut state, fault);
    }
    false
}

/// One step of everybody.
fn round(state: &mut State, fault: Option<Fault>) {
    let living: Vec<_> = state.processes.iter().flatten().map(|process| process.identity).collect();
    if living.is_empty() {
        if state.server.token > TOKENS {
            return;
        }
        state.happen(Action::Register(0), None);
    }
    for identity in 0..TOKENS {
        let place = usize::from(identity);
        if !living.contains(&identity) && state.server.leases[place] != Lease::None && state.server.is_member(identity)
        {
            state.server.leases[place] = Lease::RunOut;
            let seen = state.server.running[place].clone();
            state.server.reap(identity, &seen, None);
        }
    }
    state.server.promote(fault);
    for slot in 0..state.processes.len() {
        let Some(process) = state.processes[slot] else { continue };
        state.happen(Action::Renew(slot), None);
        if !process.is_taking() {
            state.happen(Action::GiveBack(slot), None);
        }
        if process.stray(&state.server).is_some() && fault != Some(Fault::SweepOfClaimedAlone) {
            state.happen(Action::GiveUp(slot), None);
        }
        let claimed_is_empty = state.server.claimed[usize::from(process.identity)].is_empty();
        let action = match process.step {
            Step::Lost if state.server.token > TOKENS => {
                state.processes[slot] = None::<Process>;
                continue;
            }
            Step::Lost => Action::Register(slot),
            Step::Take if !claimed_is_empty => Action::Look(slot),
            Step::Look => Action::Look(slot),
            Step::Run(..) => Action::Finish(slot),
            Step::Call(..) => Action::Call(slot),
            Step::Take if !state.server.untold.is_empty() => Action::Tell(slot),
            _ => Action::Answer(slot),
        };
        state.happen(action, None);
    }
}
