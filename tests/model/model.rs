//! The queue's protocol, in small, in every order of events that there is.
//!
//! Two elements, two processes, three fencing tokens. At any moment a process may be killed, be stopped for
//! longer than its lease and go on, or lose its connection before or after the server has carried out its command; a
//! command of a connection that broke may arrive late, also after its sender is dead and taken back; the server may
//! restart. Each step stands for one command or script, whose name it bears; each script is one step because Redis
//! carries it out so.
//!
//! [`server`] is the server, [`process`] an instance, [`fleet`] what can happen and what must hold, [`fault`] the
//! protocols in which it does not, [`peace`] the end of every story.

mod fault;
mod fleet;
mod peace;
mod process;
mod server;

use stateright::{Checker, HasDiscoveries, Model};

use crate::fault::Fault;
use crate::fleet::Fleet;
use crate::server::Load;

/// Visits every state that so many troubles can lead to.
fn check(load: Load, troubles: u8, refuses: bool) {
    let fleet = Fleet { load, troubles, refuses, fault: None };
    let checker = fleet.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!("{load:?}, {troubles} troubles, refuses: {refuses}: {} states", checker.unique_state_count());
    checker.assert_properties();
}

#[test]
fn one_element_ends_once_whatever_happens() {
    check(Load::One, 3, false);
}

#[test]
fn two_elements_end_once_each_whatever_happens() {
    check(Load::Two, 2, false);
}

#[test]
fn of_two_elements_of_one_task_one_is_done_whatever_happens() {
    check(Load::Twins, 2, false);
}

#[test]
fn a_job_whose_finalize_call_was_refused_ends_once_whatever_happens() {
    check(Load::One, 2, true);
    check(Load::Twins, 1, true);
}

/// The checks can fail: each protocol that lacks something breaks a rule, with so many troubles.
#[test]
fn a_protocol_that_lacks_something_breaks_a_rule() {
    let faults = [
        (Fault::BarePop, Load::One, 1, "every element is in exactly one place"),
        (Fault::SettleWithoutLease, Load::One, 2, "no element is settled twice"),
        (Fault::SettleWithoutLease, Load::One, 2, "nothing is written for a job that somebody else has"),
        (Fault::TornReap, Load::One, 2, "every element is in exactly one place"),
        (Fault::TakeWithoutTombstone, Load::One, 2, "nothing is held by an instance that is gone"),
        (Fault::StartWithoutGuard, Load::Twins, 0, "a task is done once"),
        (Fault::SweepOfClaimedAlone, Load::One, 1, "left in peace, everything ends"),
        (Fault::TornPromote, Load::One, 0, "every element is in exactly one place"),
        (Fault::TornPromote, Load::One, 0, "one caller at most has not lost its lease"),
        (Fault::TornPromote, Load::One, 0, "nobody calls twice for an element"),
    ];
    for (fault, load, troubles, rule) in faults {
        let fleet = Fleet { load, troubles, refuses: false, fault: Some(fault) };
        let found = HasDiscoveries::AnyOf([rule].into());
        let checker = fleet.checker().threads(2).finish_when(found).spawn_bfs().join();
        let path = checker.discovery(rule);
        assert!(path.is_some(), "{fault:?} does not break the rule: {rule}");
    }
}
