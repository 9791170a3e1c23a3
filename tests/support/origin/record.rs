//! The record of what was asked, and what is decided when a request arrives.

use std::sync::Arc;
use std::time::Instant;

use super::fault::Fault;
use super::message::Request;
use super::{Gate, Shared};

/// A request's head, parsed.
pub(super) struct Head {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    pub(super) content_length: usize,
    pub(super) keep_alive: bool,
}

impl Head {
    /// Reads the lines up to the empty one. Bodies in chunks are not understood: no client here
    /// sends one.
    pub(super) fn parse(text: &str) -> Option<Head> {
        let mut lines = text.lines();
        let mut first = lines.next()?.split(' ');
        let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        let get =
            |wanted: &str| headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value);
        let content_length = get("Content-Length").map_or(Some(0), |text| text.parse().ok())?;
        let keep_alive = !get("Connection").is_some_and(|text| text.eq_ignore_ascii_case("close"));
        if get("Transfer-Encoding").is_some() {
            return None;
        }
        Some(Head { method, target, headers, content_length, keep_alive })
    }
}

/// The place of one request in the record; the request is over when it is dropped.
pub(super) struct Ticket<'a> {
    shared: &'a Shared,
    order: usize,
}

impl Shared {
    pub(super) fn count_connection(&self) -> usize {
        let mut state = self.state();
        state.connections += 1;
        state.connections - 1
    }

    /// Writes a request down.
    pub(super) fn record(&self, connection: usize, head: Head, body: Vec<u8>) -> Ticket<'_> {
        let mut state = self.state();
        let order = state.requests.len();
        let path = head.target.split('?').next().unwrap_or_default().to_owned();
        state.requests.push(Request {
            order,
            connection,
            at: Instant::now(),
            method: head.method,
            target: head.target,
            path,
            headers: head.headers,
            body,
            status: None,
            bytes_sent: 0,
            finished: false,
            forgotten: false,
        });
        state.active += 1;
        state.most_active = state.most_active.max(state.active);
        Ticket { shared: self, order }
    }

    /// The fault that strikes a request, and where it is held.
    pub(super) fn decide(&self, request: &Request) -> (Option<Fault>, Vec<Arc<Gate>>) {
        let mood = self.state().mood.clone();
        let of_the_mood = mood.and_then(|mood| mood(request));
        let mut state = self.state();
        let active = state.active;
        let fault = of_the_mood.or_else(|| state.faults.iter_mut().find_map(|fault| fault.strike(request, active)));
        let gates = state.holds.iter().filter(|gate| request.matches(&gate.pattern)).cloned().collect();
        (fault, gates)
    }
}

impl Ticket<'_> {
    pub(super) fn request(&self) -> Request {
        self.shared.state().requests[self.order].clone()
    }

    pub(super) fn sent_head(&self, status: u16) {
        self.shared.state().requests[self.order].status = Some(status);
    }

    pub(super) fn sent_body(&self, bytes: usize) {
        self.shared.state().requests[self.order].bytes_sent += bytes;
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.requests[self.order].finished = true;
        state.active -= 1;
    }
}
