//! The admin port: health and metrics for programs, and a page for people.
//!
//! * `probes`: `/livez`, `/readyz`, `/metrics`
//! * `page`: the page, its routes and what they are made of; `events`: what it is told; `actions`: what it does
//! * `access`: who may see the page, and who may act

mod access;
mod actions;
mod events;
mod page;
mod probes;
mod speed;

pub use page::Page;
pub use probes::{Admin, Ping, redis_ping};
