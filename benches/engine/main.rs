//! The engine end to end, against an origin on loopback, beside the least that the job can cost.
//!
//! `cargo bench --bench engine -- speed memory jobs` runs the sections that are named, or all. Every
//! program that is measured is a child process: the real binary, or this one again in another role,
//! so that the origin costs what is measured nothing but its share of the cores. `HAULD=path`
//! measures another build.

mod child;
mod floor;
mod jobs;
mod library;
mod material;
mod memory;
mod origin;
mod speed;
#[path = "../support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::process::Command;

const SECTIONS: [&str; 3] = ["speed", "memory", "jobs"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match &words[..] {
        ["origin"] => origin::serve(),
        ["floor", url, output, connections] => {
            floor::run(url, output, connections.parse().expect("a number"));
        }
        ["synced-floor", url, output, connections] => {
            let file = floor::run(url, output, connections.parse().expect("a number"));
            file.sync_all().expect("a disk");
        }
        ["library", rest @ ..] => library::run(rest),
        sections => run(sections),
    }
}

fn run(sections: &[&str]) {
    if let Some(unknown) = sections.iter().find(|section| !SECTIONS.contains(section)) {
        panic!("there is no section {unknown}, only {SECTIONS:?}");
    }
    support::print_machine();
    let is_wanted = |section| sections.is_empty() || sections.contains(&section);
    let origin = origin::Origin::start();
    if is_wanted("speed") {
        speed::run(&origin);
    }
    if is_wanted("memory") {
        memory::run(&origin);
    }
    if is_wanted("jobs") {
        jobs::run(&origin);
    }
}

/// The binary under test.
fn hauld() -> Command {
    Command::new(std::env::var_os("HAULD").unwrap_or_else(|| env!("CARGO_BIN_EXE_hauld").into()))
}

/// This program in another role.
fn role(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a program has a path"));
    command.arg(name);
    command
}

/// An empty directory for what is downloaded, on the disk of the build. Gone when dropped.
fn scratch() -> tempfile::TempDir {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    tempfile::tempdir_in(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
}
