//! The real daemon at its job: `hauld run` against a real Redis, an origin that misbehaves, real
//! streams.

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod bad_elements;
mod clock;
mod course;
mod crash;
mod descriptors;
mod disks;
mod drain;
mod failures;
mod ffmpeg;
mod field;
mod finalize;
mod frugal;
mod gate;
mod hook;
mod hosts;
mod http_store;
mod links;
mod logins;
mod migration;
mod name_service;
mod openapi;
mod operating;
mod orders;
mod outages;
mod page;
mod producers;
mod progress;
mod rclone;
mod readme;
mod reload;
mod retries;
mod secrets;
mod shared_downloads;
mod sharing;
mod stories;
mod table;
mod traces;
mod world;
