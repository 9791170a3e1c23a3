//! The commands of the real binary, and through `hauld fetch` the HLS engine: exact files or a
//! clear failure, whatever the origin does.

#[path = "../support/mod.rs"]
mod support;

mod addresses;
mod bounds;
mod check;
mod choice;
mod configuration;
mod course;
mod disk;
mod events;
mod exits;
mod faults;
mod headers;
mod hostile;
mod inspect;
mod inspection;
mod limits;
mod lines;
mod one_over;
mod playlists;
mod ranges;
mod redirects;
mod remux;
mod renewal;
mod resume;
mod run;
mod shapes;
mod subtitles;
mod timeline;
mod tls;
