//! A real HTTP/1.1 origin that does what a test tells it to: serve, fail, stall, hold, count.
//!
//! It runs on a thread of its own, so a test that blocks does not stop it. Paths are compared as
//! they stand on the wire, not decoded. Wherever a *pattern* is asked for, it is
//! `/a/b.ts` (that path, with any query), `/a/b.ts?x=1` (that path with that query) or `/a/*`
//! (everything below, each path counted for itself).
//!
//! ```ignore
//! let origin = Origin::start();
//! origin.put("/a/seg1.ts", bytes);
//! origin.fault("/a/seg1.ts", Fault::Status(503).times(2));
//! let hold = origin.hold("/a/seg9.ts");
//! hold.wait_for(1).await;            // the request is there and gets no answer
//! hold.release();
//! assert_eq!(origin.requests_for("/a/seg1.ts").len(), 3);
//! ```

mod connection;
mod fault;
mod message;
mod record;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use super::{port, wait};

pub use fault::{Fault, Plan};
pub use message::{Reply, Request};

/// How long a test waits for a request that should come.
const REQUEST_LIMIT: Duration = Duration::from_secs(20);

/// The server. Dropping it closes every connection.
pub struct Origin {
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

type Handler = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;
type Mood = Arc<dyn Fn(&Request) -> Option<Fault> + Send + Sync>;

/// What the connections and the test share.
struct Shared {
    address: SocketAddr,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    replies: HashMap<String, Reply>,
    handlers: Vec<(String, Handler)>,
    directories: Vec<(String, PathBuf)>,
    faults: Vec<fault::Installed>,
    mood: Option<Mood>,
    holds: Vec<Arc<Gate>>,
    requests: Vec<Request>,
    connections: usize,
    active: usize,
    most_active: usize,
}

impl Origin {
    /// Starts a server on a free port.
    pub fn start() -> Origin {
        let listener = port::listener();
        listener.set_nonblocking(true).expect("a listener that does not block");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared { address, state: Mutex::default() });
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("the listener");
                tokio::select! {
                    () = connection::accept(served, listener) => {}
                    _ = stopped => {}
                }
            });
        });
        Origin { shared, stop: Some(stop), thread: Some(thread) }
    }

    /// `http://127.0.0.1:<port>` and `path` (empty, or beginning with `/`).
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.shared.address)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.shared.address.port()
    }

    /// Serves `body` with the content type that goes with the extension. A path with a query is
    /// preferred over the path alone.
    pub fn put(&self, path: &str, body: impl Into<Bytes>) {
        self.put_reply(path, Reply::of(path, body));
    }

    /// Serves `body` with this content type.
    pub fn put_as(&self, path: &str, content_type: &str, body: impl Into<Bytes>) {
        self.put_reply(path, Reply::ok(content_type, body));
    }

    /// Serves any reply.
    pub fn put_reply(&self, path: &str, reply: Reply) {
        self.state().replies.insert(path.to_owned(), reply);
    }

    /// What was put at the path.
    pub fn served(&self, path: &str) -> Option<Reply> {
        self.state().replies.get(path).cloned()
    }

    /// The path answers 404 from now on.
    pub fn remove(&self, path: &str) {
        self.state().replies.remove(path);
    }

    /// Serves the files below `directory` under `prefix`, as they are when asked for.
    pub fn serve_directory(&self, prefix: &str, directory: impl Into<PathBuf>) {
        self.state().directories.push((prefix.to_owned(), directory.into()));
    }

    /// Answers every request that matches `pattern` with what `handler` says. Later ones win.
    pub fn answer(&self, pattern: &str, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        self.state().handlers.insert(0, (pattern.to_owned(), Arc::new(handler)));
    }

    /// Does something wrong with every request that matches `pattern`, or with as many as
    /// [`Fault::times`] says. Several faults of one path are used up in the order in which they
    /// were given.
    pub fn fault(&self, pattern: &str, fault: impl Into<Plan>) {
        self.state().faults.push(fault::Installed::new(pattern, fault.into()));
    }

    /// Does wrong with each request what `mood` says; where it says nothing, what [`Origin::fault`] says.
    pub fn misbehave(&self, mood: impl Fn(&Request) -> Option<Fault> + Send + Sync + 'static) {
        self.state().mood = Some(Arc::new(mood));
    }

    /// Takes back every fault that was given with this pattern.
    pub fn heal(&self, pattern: &str) {
        self.state().faults.retain(|fault| fault.pattern != pattern);
    }

    /// Requests that match `pattern` get no answer until the hold is released.
    pub fn hold(&self, pattern: &str) -> Hold {
        self.add_hold(pattern, None)
    }

    /// Answers get stuck after the head and `bytes` bytes of the body until the hold is released.
    pub fn hold_body(&self, pattern: &str, bytes: usize) -> Hold {
        self.add_hold(pattern, Some(bytes))
    }

    fn add_hold(&self, pattern: &str, after: Option<usize>) -> Hold {
        let gate =
            Arc::new(Gate { pattern: pattern.to_owned(), after, open: watch::Sender::new(false), held: Mutex::new(0) });
        self.state().holds.push(Arc::clone(&gate));
        Hold { gate, shared: Arc::clone(&self.shared) }
    }

    /// The numbers of requests: everything in [`Origin`] that counts begins again. Requests that
    /// are being answered now are forgotten, too.
    pub fn forget_requests(&self) {
        let mut state = self.state();
        state.requests.iter_mut().for_each(|request| request.forgotten = true);
        state.most_active = state.active;
    }

    /// Every request, in the order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.iter().filter(|request| !request.forgotten).cloned().collect()
    }

    /// The requests that match `pattern`, in the order of arrival.
    pub fn requests_for(&self, pattern: &str) -> Vec<Request> {
        let state = self.state();
        state.requests.iter().filter(|request| !request.forgotten && request.matches(pattern)).cloned().collect()
    }

    /// How many requests match `pattern`.
    pub fn count(&self, pattern: &str) -> usize {
        let state = self.state();
        state.requests.iter().filter(|request| !request.forgotten && request.matches(pattern)).count()
    }

    /// How often each path was asked for.
    pub fn counts(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for request in self.requests() {
            *counts.entry(request.path).or_default() += 1;
        }
        counts
    }

    /// Waits until `count` requests that match `pattern` have come, and returns all there are.
    ///
    /// # Panics
    /// After 20 s.
    pub async fn wait_for_request(&self, pattern: &str, count: usize) -> Vec<Request> {
        let what = format!("the origin was asked {count} times for {pattern}");
        wait::until(&what, REQUEST_LIMIT, || (self.count(pattern) >= count).then(|| self.requests_for(pattern))).await
    }

    /// Waits until every request has been answered, or left by its client.
    ///
    /// # Panics
    /// After 20 s.
    pub async fn wait_until_idle(&self) {
        wait::until("the origin is idle", REQUEST_LIMIT, || (self.in_flight() == 0).then_some(())).await;
    }

    /// Requests that are being answered, held ones among them.
    pub fn in_flight(&self) -> usize {
        self.state().active
    }

    /// The most requests that were being answered at one time.
    pub fn most_in_flight(&self) -> usize {
        self.state().most_active
    }

    /// Connections that were ever opened.
    pub fn connections(&self) -> usize {
        self.state().connections
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A handler of the test may panic (a failed assertion) while it is called without the lock;
        // what is under the lock is never half done.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Where requests wait.
struct Gate {
    pattern: String,
    /// `None`: before the head; otherwise after so many bytes of the body.
    after: Option<usize>,
    open: watch::Sender<bool>,
    held: Mutex<usize>,
}

impl Gate {
    async fn wait(&self) {
        *self.held.lock().expect("held") += 1;
        let mut open = self.open.subscribe();
        // An error means that the gate is gone, which is open enough.
        let _ = open.wait_for(|open| *open).await;
    }
}

/// Holds answers back until it is released or dropped.
pub struct Hold {
    gate: Arc<Gate>,
    shared: Arc<Shared>,
}

impl Hold {
    /// How many requests have come to wait here.
    pub fn held(&self) -> usize {
        *self.gate.held.lock().expect("held")
    }

    /// Waits until `count` requests have come to wait here.
    ///
    /// # Panics
    /// After 20 s.
    pub async fn wait_for(&self, count: usize) {
        let what = format!("{count} requests are held at {}", self.gate.pattern);
        wait::until(&what, REQUEST_LIMIT, || (self.held() >= count).then_some(())).await;
    }

    /// Lets everything through, now and later.
    pub fn release(self) {}
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shared.state().holds.retain(|gate| !Arc::ptr_eq(gate, &self.gate));
        self.gate.open.send_replace(true);
    }
}
