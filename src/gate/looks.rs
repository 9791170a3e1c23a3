//! Looks at the task store for all jobs at the gate together: one question for all whose look is due.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use crate::failure::Result;
use crate::job::TaskId;
use crate::store::{TaskRecord, TaskStore};

/// How long a look waits for the one before it, whose time others use to join. Should that one get no
/// answer, those who came later are not held up.
const PATIENCE: Duration = Duration::from_millis(100);

/// What the store says of a task.
pub(super) type Seen = Result<Option<TaskRecord>>;

/// The jobs that are at the gate of this process.
pub(super) struct Looks {
    store: Arc<dyn TaskStore>,
    seats: Mutex<Seats>,
    /// Held by the look that is under way.
    turn: tokio::sync::Mutex<()>,
    /// Another task waits for hints, or one no more.
    listeners: Notify,
}

#[derive(Default)]
struct Seats {
    last: u64,
    taken: HashMap<u64, Seat>,
}

/// A job at the gate, as the looks see it.
struct Seat {
    task_id: TaskId,
    state: State,
    /// Whether hints are of use.
    listens: bool,
    answers: UnboundedSender<Seen>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Has its answer.
    Waiting,
    /// The next look asks for it.
    Due,
    /// The look that is under way asks for it.
    Asked,
    /// As `Asked`, but what that look sees may be too old.
    AskedTooEarly,
}

/// The place of one job at the gate, until it is dropped.
pub(super) struct Place {
    looks: Arc<Looks>,
    number: u64,
    answers: UnboundedReceiver<Seen>,
}

impl Looks {
    pub(super) fn new(store: Arc<dyn TaskStore>) -> Arc<Looks> {
        let (turn, listeners) = Default::default();
        Arc::new(Looks { store, seats: Mutex::default(), turn, listeners })
    }

    /// Takes a place for a job of the task.
    pub(super) fn join(self: &Arc<Self>, task_id: TaskId) -> Place {
        let (sender, answers) = unbounded_channel();
        let mut seats = self.seats();
        seats.last += 1;
        let number = seats.last;
        seats.taken.insert(number, Seat { task_id, state: State::Waiting, listens: false, answers: sender });
        Place { looks: Arc::clone(self), number, answers }
    }

    /// The tasks of which a hint would be of use.
    pub(super) fn listening(&self) -> BTreeSet<TaskId> {
        self.seats().taken.values().filter(|seat| seat.listens).map(|seat| seat.task_id).collect()
    }

    /// Returns when there are others than before the call, or before the last one.
    pub(super) async fn listeners_changed(&self) {
        self.listeners.notified().await;
    }

    /// Asks for an answer that is not older than now for all jobs of the task.
    pub(super) fn ask_for(self: &Arc<Self>, task_id: TaskId) {
        let mut seats = self.seats();
        let of_task = seats.taken.values_mut().filter(|seat| seat.task_id == task_id);
        let wanted = of_task.map(Seat::ask).fold(false, |wanted, due| wanted | due);
        drop(seats);
        self.begin(wanted);
    }

    /// Begins a look if there is a seat that wants one now.
    fn begin(self: &Arc<Self>, wanted: bool) {
        if wanted {
            // A task, so that the look goes on for the others when the job that began it is stopped.
            tokio::spawn(Arc::clone(self).look());
        }
    }

    async fn look(self: Arc<Self>) {
        let _turn = timeout(PATIENCE, self.turn.lock()).await;
        let asking = self.seats().take_due();
        let task_ids: Vec<TaskId> = asking.keys().copied().collect();
        if task_ids.is_empty() {
            // Another look has taken them along.
            return;
        }
        let mut answers = self.store.read_many(&task_ids);
        while let Some((task_id, answer)) = answers.next().await {
            for number in asking.get(&task_id).into_iter().flatten() {
                let too_early = self.seats().tell(*number, &answer);
                self.begin(too_early);
            }
        }
    }

    /// A poisoned lock still guards whole seats: nothing that may panic happens under it.
    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seats {
    /// Marks the seats that want a look, and returns which of each task they are.
    fn take_due(&mut self) -> BTreeMap<TaskId, Vec<u64>> {
        let mut asking = BTreeMap::<TaskId, Vec<u64>>::new();
        for (number, seat) in self.taken.iter_mut().filter(|(_, seat)| seat.state == State::Due) {
            seat.state = State::Asked;
            asking.entry(seat.task_id).or_default().push(*number);
        }
        asking
    }

    /// Hands over an answer. Returns whether it came too early, and another look is wanted.
    fn tell(&mut self, number: u64, answer: &Seen) -> bool {
        let Some(seat) = self.taken.get_mut(&number) else { return false };
        match mem::replace(&mut seat.state, State::Waiting) {
            State::AskedTooEarly => {
                seat.state = State::Due;
                true
            }
            _ => {
                // Whoever does not listen any more is about to leave.
                let _ = seat.answers.send(answer.clone());
                false
            }
        }
    }
}

impl Seat {
    /// Asks for an answer that is not older than now. Returns whether a look is to begin.
    fn ask(&mut self) -> bool {
        match self.state {
            State::Waiting => self.state = State::Due,
            State::Asked => self.state = State::AskedTooEarly,
            State::Due | State::AskedTooEarly => {}
        }
        self.state == State::Due
    }
}

impl Place {
    /// Asks for an answer that is not older than now, for this job alone.
    pub(super) fn ask(&self) {
        let wanted = self.looks.seats().taken.get_mut(&self.number).is_some_and(Seat::ask);
        self.looks.begin(wanted);
    }

    /// From now on hints are of use.
    pub(super) fn listen(&self) {
        let seat_listens = |seat: &mut Seat| mem::replace(&mut seat.listens, true);
        let listened = self.looks.seats().taken.get_mut(&self.number).is_none_or(seat_listens);
        if !listened {
            self.looks.listeners.notify_one();
        }
    }

    /// Asks for all jobs that wait, unless it was asked for this one already: from then on their looks
    /// are due at the same time.
    pub(super) fn ask_for_all(&self) {
        let mut seats = self.looks.seats();
        let waits = |seat: &Seat| seat.state == State::Waiting;
        let wanted = seats.taken.get(&self.number).is_some_and(waits);
        if wanted {
            seats.taken.values_mut().filter(|seat| waits(seat)).for_each(|seat| seat.state = State::Due);
        }
        drop(seats);
        self.looks.begin(wanted);
    }

    /// The next answer, whoever has asked for it.
    pub(super) async fn answer(&mut self) -> Seen {
        match self.answers.recv().await {
            Some(answer) => answer,
            // cannot happen: the sender is in the seat, which stays as long as this place
            None => std::future::pending().await,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let seat = self.looks.seats().taken.remove(&self.number);
        if seat.is_some_and(|seat| seat.listens) {
            self.looks.listeners.notify_one();
        }
    }
}
