//! What the integration tests stand on: a real Redis, a real HTTP origin that misbehaves on
//! demand, real streams, stand-ins for the backend's services, and the real binary.
//!
//! Everything here runs on ports of 127.0.0.1 of its own, keeps its files in temporary
//! directories, and is stopped when it is dropped, also by a panic. Functions that are not `async`
//! may be called from any test; those that wait panic with a sentence when their limit is over.
//!
//! * [`redis`]: a redis-server of the test's own, which can be killed, paused and restarted
//! * [`mariadb`]: a MariaDB server with the backend's table of tasks
//! * [`sentinel`], [`cluster`]: several of them that belong together
//! * [`origin`]: an HTTP/1.1 server with faults, holds and a record of every request
//! * [`media`]: HLS streams made with ffmpeg, and what a decoder makes of a file
//! * [`clapper`]: films that tell whether picture and sound are in step
//! * [`proxy`]: cuts, freezes and deafens the connections between a program and a server
//! * [`publish`]: puts a stream on an origin, in every shape the engine must understand
//! * [`catalog`], [`backend`], [`task_service`]: the services around the daemon
//! * [`daemon`]: the binary under test
//! * [`namespace`]: mounts of a test's own
//! * [`pool`]: a worker pool without the binary
//! * [`producer`]: pushes jobs with the Node clients that backends use
//! * [`remotes`]: where rclone delivers to
//! * [`clock`]: a clock that jumps, for the programs under it
//! * [`certificates`], [`process`], [`port`], [`wait`]: the small parts of the above
#![allow(dead_code, unused_imports, reason = "each test binary uses only a part of this module")]

pub mod backend;
pub mod catalog;
pub mod certificates;
pub mod clapper;
pub mod clock;
pub mod cluster;
pub mod daemon;
pub mod mariadb;
pub mod media;
pub mod namespace;
pub mod origin;
pub mod pool;
pub mod port;
pub mod process;
pub mod producer;
pub mod proxy;
pub mod publish;
pub mod redis;
pub mod remotes;
pub mod sentinel;
pub mod task_service;
pub mod wait;

pub use backend::Backend;
pub use catalog::{Catalog, Lecture, Manifest};
pub use clock::Clock;
pub use daemon::{Daemon, hauld};
pub use mariadb::MariaDb;
pub use media::Stream;
pub use origin::{Fault, Origin, Reply};
pub use proxy::Proxy;
pub use publish::{Publish, Published};
pub use redis::RedisServer;
pub use remotes::Remotes;

/// A client as the crate builds it, for tests that ask the origin or the hook themselves.
pub fn http_client() -> reqwest::Client {
    let config =
        hauld::config::Config::load(None, Default::default(), Default::default()).expect("the defaults are valid");
    hauld::http::client(&config.http).expect("an HTTP client")
}

/// The Python environment of this name, which `make deps` or `make bench-deps` has made beside what is built.
pub fn python_environment(name: &str) -> std::path::PathBuf {
    let target = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target directory");
    let environment = target.join("python").join(name);
    assert!(environment.is_dir(), "{} is missing: run `make deps bench-deps`", environment.display());
    environment
}

/// A server program that `make deps` has put below the target directory.
pub fn bundled_server(name: &str) -> std::path::PathBuf {
    let environment = python_environment("servers");
    let mut folders = vec![environment.join("lib")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if path.file_name().is_some_and(|file| file == name) {
                return path;
            }
        }
    }
    panic!("{name} is not in {}: run `make deps`", environment.display())
}
