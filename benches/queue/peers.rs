//! The workers in Python, from the virtual environment that `make bench` makes.

use std::path::{Path, PathBuf};
use std::process::Command;

/// `peers.py` with these arguments.
///
/// # Panics
/// When the virtual environment is missing.
pub fn command(arguments: &[&str]) -> Command {
    let python = python();
    assert!(python.is_file(), "{} is missing: `make bench-deps` makes it", python.display());
    let mut command = Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/queue/peers.py")).args(arguments);
    command
}

/// Beside what is built: `target/python/rq-3.0.0/bin/python`.
fn python() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target directory");
    target.join("python/rq-3.0.0/bin/python")
}
