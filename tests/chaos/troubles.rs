//! What the origin does wrong by chance. Whatever it does, a job is to succeed all the same: of everything that
//! is asked for only the first answer is spoiled, and of each task only one in a way that costs it an attempt.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::element::{self, Kind};
use crate::films::Doom;
use crate::plan::{Shares, pick};
use crate::support::Fault;
use crate::support::origin::Request;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Unavailable,
    TooMany,
    Reset,
    Cut,
    CutChunks,
    Stall,
    Drip,
    Late,
    Redirect,
    NotFound,
    Page,
    Garbage,
    Empty,
    Expired,
    Rejected,
    WholeForRange,
    WrongRange,
}

/// What can happen to every answer.
const ANY: Shares<Trouble> = &[
    (Trouble::Unavailable, 20),
    (Trouble::TooMany, 15),
    (Trouble::Reset, 15),
    (Trouble::Cut, 15),
    (Trouble::CutChunks, 10),
    (Trouble::Stall, 5),
    (Trouble::Drip, 10),
    (Trouble::Late, 10),
];
/// What can happen to a file.
const OF_FILES: Shares<Trouble> = &[(Trouble::Redirect, 40), (Trouble::Expired, 20), (Trouble::Rejected, 10)];
/// What can happen to a part of a stream: it is seen, where in a file that may hold anything it would not be.
const OF_STREAMS: Shares<Trouble> = &[
    (Trouble::Redirect, 20),
    (Trouble::NotFound, 20),
    (Trouble::Page, 20),
    (Trouble::Garbage, 20),
    (Trouble::Empty, 15),
    (Trouble::Expired, 10),
    (Trouble::Rejected, 5),
];
/// What can happen to a part of a file that holds a whole stream.
const OF_RANGES: Shares<Trouble> =
    &[(Trouble::Redirect, 20), (Trouble::WholeForRange, 20), (Trouble::WrongRange, 20), (Trouble::Expired, 10)];
/// What can happen to the backend: it has not heard of what it answers so.
const OF_CALLS: Shares<Trouble> = &[(Trouble::Unavailable, 60), (Trouble::Late, 40)];

impl Trouble {
    fn name(self) -> &'static str {
        match self {
            Trouble::Unavailable => "503",
            Trouble::TooMany => "429 with Retry-After",
            Trouble::Reset => "reset connection",
            Trouble::Cut => "cut body",
            Trouble::CutChunks => "cut chunks",
            Trouble::Stall => "stalled body",
            Trouble::Drip => "slow body",
            Trouble::Late => "late answer",
            Trouble::Redirect => "redirect",
            Trouble::NotFound => "404",
            Trouble::Page => "page instead",
            Trouble::Garbage => "garbage instead",
            Trouble::Empty => "empty body",
            Trouble::Expired => "403",
            Trouble::Rejected => "400",
            Trouble::WholeForRange => "whole file for a range",
            Trouble::WrongRange => "wrong range",
        }
    }

    fn may_cost_an_attempt(self) -> bool {
        matches!(self, Trouble::Expired | Trouble::Rejected | Trouble::WholeForRange | Trouble::WrongRange)
    }

    fn fault(self, rng: &mut fastrand::Rng, request: &Request) -> Fault {
        match self {
            Trouble::Unavailable => Fault::Status(503),
            Trouble::TooMany => Fault::status_with(429, &[("Retry-After", "1")]),
            Trouble::Reset => Fault::DropBeforeHead,
            Trouble::Cut => Fault::CutAt(rng.usize(..400)),
            Trouble::CutChunks => Fault::CutChunkedAt(rng.usize(..400)),
            Trouble::Stall => Fault::StallAfter(rng.usize(..400)),
            Trouble::Drip => Fault::Drip { bytes: 4_000, pause: Duration::from_millis(50) },
            Trouble::Late => Fault::Delay(Duration::from_millis(rng.u64(100..1_500))),
            Trouble::Redirect => Fault::Redirect(format!("{}?moved", request.path)),
            Trouble::NotFound => Fault::Status(404),
            Trouble::Page => Fault::Html,
            // No whole block of the cipher, no packet and no box.
            Trouble::Garbage => Fault::Body(std::iter::repeat_with(|| rng.u8(..)).take(1_001).collect()),
            Trouble::Empty => Fault::Empty,
            Trouble::Expired => Fault::Status(403),
            Trouble::Rejected => Fault::Status(400),
            Trouble::WholeForRange => Fault::IgnoreRange,
            Trouble::WrongRange => Fault::WrongContentRange,
        }
    }
}

/// What was asked for, and what may go wrong with it.
struct Asked {
    what: String,
    task: u64,
    troubles: [Shares<Trouble>; 2],
}

/// `None`: of a job that is to die for a reason of its own.
fn asked(request: &Request) -> Option<Asked> {
    let mut parts = request.path.split('/').skip(1);
    let (place, second, third) = (parts.next()?, parts.next()?, parts.next());
    let number = |text: &str| text.parse().ok();
    let (what, task, troubles) = match place {
        "catalog" => {
            let (kind, task) = element::read_course_url(&request.query("url")?)?;
            // What the second answer of a flaky one is depends on the first.
            if kind.death().is_some() || kind == Kind::Flaky {
                return None;
            }
            (format!("course {task}"), task, [ANY, ANY])
        }
        "backend" => {
            let task = request.json()["task_id"].as_u64()?;
            (format!("call {task}"), task, [OF_CALLS, OF_CALLS])
        }
        "films" => {
            let (film, name) = (third?, request.path.rsplit('/').next()?);
            if Doom::ALL.into_iter().any(|doom| doom.name() == film) {
                return None;
            }
            let special = if name.starts_with("all.") { OF_RANGES } else { OF_STREAMS };
            let range = request.header("Range").unwrap_or_default();
            (format!("{} {range}", request.path), number(second)?, [ANY, special])
        }
        _ => (request.path.clone(), number(second)?, [ANY, OF_FILES]),
    };
    Some(Asked { what, task, troubles })
}

/// The moods of the origin.
pub struct Troubles {
    /// Of a hundred things that are asked for so many meet one.
    percent: u32,
    state: Mutex<State>,
}

struct State {
    rng: fastrand::Rng,
    asked: HashSet<String>,
    /// Those that have lost an attempt.
    tasks: HashSet<u64>,
    counts: BTreeMap<&'static str, usize>,
}

impl Troubles {
    pub fn new(percent: u32, rng: fastrand::Rng) -> Troubles {
        let state = State { rng, asked: HashSet::new(), tasks: HashSet::new(), counts: BTreeMap::new() };
        Troubles { percent, state: Mutex::new(state) }
    }

    pub fn of(&self, request: &Request) -> Option<Fault> {
        if self.percent == 0 {
            return None;
        }
        let Asked { what, task, troubles } = asked(request)?;
        let state = &mut *self.state();
        if !state.asked.insert(what) || state.rng.u32(..100) >= self.percent {
            return None;
        }
        let shares = troubles[usize::from(state.rng.bool())];
        let trouble = pick(&mut state.rng, shares);
        if trouble.may_cost_an_attempt() && !state.tasks.insert(task) {
            return None;
        }
        *state.counts.entry(trouble.name()).or_default() += 1;
        Some(trouble.fault(&mut state.rng, request))
    }

    /// How often each thing went wrong.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        self.state().counts.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
