//! The workers in Python, from the virtual environment that `make bench` makes.

use std::path::Path;
use std::process::Command;

/// `peers.py` with these arguments.
///
/// # Panics
/// When the virtual environment is missing.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(super::world::python_environment("rq-3.0.0").join("bin/python"));
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/queue/peers.py")).args(arguments);
    command
}
