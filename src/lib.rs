//! `hauld` takes download jobs from a Redis list, makes sure that the customer is enrolled, streams
//! every lecture of the course to disk, delivers the folder and reports back.
//!
//! The rooms, in the order in which a job goes through them:
//!
//! * [`job`]: the queue element and what becomes of it
//! * [`hook`]: embedded HTTP: authenticate, read, enroll through [`enroll`], enqueue
//! * [`queue`]: take, lease, settle, recovery: the only room that speaks the list protocol
//! * [`worker`]: how many jobs run, how long, and what follows from how they end
//! * [`gate`]: nothing is downloaded before the customer is enrolled
//! * [`store`]: the status of a task, in and out
//! * [`resolver`]: course URL to course
//! * [`hls`]: playlist to one exact file
//! * [`cli`]: what the commands show
//! * [`report`]: finalize call, progress and status events
//! * [`media`]: names on disk, and files that are fetched as they are
//! * [`remux`]: .ts to .mp4 without re-encoding
//! * [`delivery`]: the course folder to its destination, whole or not at all
//!
//! and what they all use:
//!
//! * [`failure`]: the closed list of failure kinds, and the only "retry or not"
//! * [`config`], [`http`], [`redis_client`], [`metrics`], [`progress`], [`logging`]
//! * [`admin`]: health and metrics on their own port; [`serve`]: the HTTP server of hook and admin
#![deny(unsafe_code)]

pub mod cli;
pub mod admin;
//! * [`config`], [`http`], [`redis_client`], [`metrics`], [`progress`], [`child`]
#![deny(unsafe_code)]

pub mod child;
pub mod config;
pub mod enroll;
pub mod delivery;
pub mod failure;
pub mod gate;
pub mod hls;
pub mod hook;
pub mod http;
pub mod job;
pub mod logging;
pub mod media;
pub mod metrics;
pub mod progress;
pub mod queue;
pub mod redis_client;
pub mod report;
pub mod remux;
pub mod resolver;
pub mod serve;
pub mod store;
pub mod worker;
