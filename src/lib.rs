//! `hauld` takes download jobs from a Redis list, makes sure that the customer is enrolled, streams
//! every lecture of the course to disk, delivers the folder and reports back.
//!
//! The rooms, in the order in which a job goes through them:
//!
//! * [`hook`]: embedded HTTP: authenticate, read, answer
//! * [`orders`]: enroll through [`enroll`], then enqueue: kept until every task is at its end
//! * [`job`]: the queue element and what becomes of it
//! * [`queue`]: take, lease, settle, recovery: the only room that speaks the list protocol
//! * [`rq`]: jobs of RQ in the list, and its books about them
//! * [`worker`]: the pool, and the pipeline: the story of one job, the only place that knows all rooms
//! * [`gate`]: nothing is downloaded before the customer is enrolled, says the [`store`]
//! * [`resolver`]: course URL to course
//! * [`media`]: course to folder, in the task's [`sandbox`]; [`sharing`]: once for several jobs of a course
//! * [`hls`]: playlist to one exact file for each track
//! * [`remux`]: .ts to .mp4, with ffmpeg as a [`child`] process
//! * [`delivery`]: the folder to its destination
//! * [`report`]: finalize call, progress and status events
//!
//! What an operator sees of everything is in [`overview`]; what is done with one task is in [`tasks`]: look, requeue,
//! cancel; with the dead list, in [`dead`].
//!
//! What they all use:
//!
//! * [`failure`]: the closed list of failure kinds, and the only "retry or not"
//! * [`permits`] and [`current`]: what may change while it is in use
//! * [`config`], [`http`], [`logins`], [`redis_client`], [`disk`], [`volumes`], [`signature`], [`metrics`], [`progress`], [`logging`], [`traces`]
//!
//! What puts them together:
//!
//! * [`app`]: the composition root of the daemon; [`reload`]: what SIGHUP changes of it; [`cli`]: the commands
//! * [`admin`]: health, metrics and the operator page on their own port; [`serve`]: the HTTP server of hook and admin,
//!   `admission`: what both ask of a caller's token
//!
//! [`fuzzing`] is for the fuzz targets alone. Crates of their own are `hauld-cipher`, which is built for speed, and
//! `hauld-confine`, the one place with `unsafe` code: what is set up in a child before it runs.
#![forbid(unsafe_code)]

pub mod admin;
mod admission;
pub mod app;
pub mod child;
pub mod cli;
pub mod config;
pub mod current;
pub mod dead;
pub mod delivery;
pub mod disk;
pub mod enroll;
pub mod failure;
#[doc(hidden)]
pub mod fuzzing;
pub mod gate;
pub mod hls;
pub mod hook;
pub mod http;
pub mod job;
pub mod logging;
pub mod logins;
pub mod media;
pub mod metrics;
pub mod orders;
pub mod overview;
pub mod permits;
pub mod progress;
pub mod queue;
pub mod redis_client;
pub mod reload;
pub mod remux;
pub mod report;
pub mod resolver;
pub mod rq;
pub mod sandbox;
pub mod serve;
pub mod sharing;
pub mod signature;
pub mod store;
pub mod tasks;
pub mod traces;
pub mod volumes;
pub mod worker;
