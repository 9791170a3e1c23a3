//! What the page is told, as server-sent events: one look at Redis a second for all who watch, and none when
//! nobody does.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event, Sse};
use futures_util::Stream;
use serde_json::{Value, json};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::speed::{SAMPLE_EVERY, Speed};
use crate::failure::Result;
use crate::metrics::Metrics;
use crate::overview::{Overview, Overviews};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Who may watch at once: each holds a connection of the port, on which the probes come too.
const MOST_VIEWERS: usize = 32;

/// What every viewer is shown, written once.
#[derive(Debug, Clone, Default)]
struct Shown {
    /// What changes all the time.
    now: Arc<str>,
    /// The lists, which seldom do.
    lists: Arc<str>,
    /// Why the last look has failed; then the rest is of an earlier one.
    trouble: Option<Arc<str>>,
}

/// Looks as long as somebody watches.
pub(super) struct Watch {
    overviews: Overviews,
    shown: watch::Sender<Shown>,
    /// Somebody has come.
    wanted: Notify,
    viewers: Arc<Semaphore>,
    speed: Speed,
    metrics: Arc<Metrics>,
    hindered: watch::Receiver<Option<String>>,
    draining: CancellationToken,
    end: CancellationToken,
}

impl Watch {
    pub(super) fn new(
        overviews: Overviews,
        metrics: Arc<Metrics>,
        hindered: watch::Receiver<Option<String>>,
        draining: CancellationToken,
        end: CancellationToken,
    ) -> Watch {
        Watch {
            overviews,
            shown: watch::Sender::default(),
            wanted: Notify::new(),
            viewers: Arc::new(Semaphore::new(MOST_VIEWERS)),
            speed: Speed::new(metrics.received_bytes.get()),
            metrics,
            hindered,
            draining,
            end,
        }
    }

    /// Counts the bytes that arrive, and looks for those who watch, until the end.
    pub(super) async fn run(self: Arc<Self>) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        let mut samples = tokio::time::interval(SAMPLE_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        samples.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.end.cancelled() => return,
                _ = samples.tick() => self.speed.count(self.metrics.received_bytes.get()),
                _ = looks.tick(), if self.shown.receiver_count() > 0 => self.look().await,
                // The first of them is not kept waiting.
                () = self.wanted.notified() => looks.reset_immediately(),
            }
        }
    }

    async fn look(&self) {
        let looked = self.overviews.look().await;
        self.shown.send_modify(|shown| match looked {
            Ok(overview) => {
                let (now, lists) = self.texts(&overview);
                if *shown.lists != *lists {
                    shown.lists = lists.into();
                }
                (shown.now, shown.trouble) = (now.into(), None);
            }
            Err(failure) => shown.trouble = Some(json!({ "message": failure.message }).to_string().into()),
        });
    }

    /// The overview in two parts.
    fn texts(&self, overview: &Overview) -> (String, String) {
        // cannot fail: texts and numbers only
        let mut now = serde_json::to_value(overview).unwrap_or_default();
        let mut take = |name: &str| now.get_mut(name).map(Value::take).unwrap_or_default();
        let lists = json!({ "failures": take("failures"), "dead": take("dead") });
        if let Some(now) = now.as_object_mut() {
            now.shift_remove("failures");
            now.shift_remove("dead");
            now.insert("state".into(), self.state().into());
        }
        (now.to_string(), lists.to_string())
    }

    /// How this very instance is.
    fn state(&self) -> String {
        let hindered = self.hindered.borrow();
        match &*hindered {
            _ if self.draining.is_cancelled() => "stopping".to_owned(),
            Some(reason) => reason.clone(),
            None => "running".to_owned(),
        }
    }

    /// Everything from now on, for one viewer, beginning with `hello`; `None` when there are too many.
    pub(super) fn stream(
        self: &Arc<Self>,
        hello: &Value,
    ) -> Option<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>> {
        let seat = self.viewers.clone().try_acquire_owned().ok()?;
        let viewer = Viewer {
            watch: self.clone(),
            shown: self.shown.subscribe(),
            outgoing: VecDeque::from([event("hello", &hello.to_string())]),
            lists: Arc::default(),
            sampled: 0,
            _seat: seat,
        };
        self.wanted.notify_one();
        let events = futures_util::stream::unfold(viewer, async |mut viewer| {
            let event = viewer.next().await?;
            Some((Ok(event), viewer))
        });
        Some(Sse::new(events))
    }
}

/// One open page.
struct Viewer {
    watch: Arc<Watch>,
    shown: watch::Receiver<Shown>,
    outgoing: VecDeque<Event>,
    /// The lists that it has.
    lists: Arc<str>,
    /// The end of the last sample that it has.
    sampled: i64,
    _seat: OwnedSemaphorePermit,
}

impl Viewer {
    /// `None` at the end of the daemon, which is not to wait for viewers.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.outgoing.pop_front() {
                return Some(event);
            }
            tokio::select! {
                biased;
                () = self.watch.end.cancelled() => return None,
                changed = self.shown.changed() => changed.ok()?,
            }
            self.take_over();
        }
    }

    /// What this viewer does not know yet.
    fn take_over(&mut self) {
        let shown = self.shown.borrow_and_update().clone();
        let samples = self.watch.speed.since(self.sampled);
        if let Some(last) = samples.last() {
            self.sampled = last.at;
            self.outgoing.push_back(event("speed", &json!(samples).to_string()));
        }
        if let Some(trouble) = shown.trouble {
            self.outgoing.push_back(event("trouble", &trouble));
            return;
        }
        if !Arc::ptr_eq(&self.lists, &shown.lists) {
            self.outgoing.push_back(event("lists", &shown.lists));
            self.lists = shown.lists;
        }
        self.outgoing.push_back(event("now", &shown.now));
    }
}

/// JSON has no line ends of its own, which is what an event may not have.
fn event(name: &str, json: &str) -> Event {
    Event::default().event(name).data(json)
}
