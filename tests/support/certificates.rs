//! Certificates of the tests' own, made by openssl.

use std::path::Path;
use std::process::Command;

/// Options for a new key that takes no time to make.
pub const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

/// Runs openssl in `directory`; no argument may hold a space.
///
/// # Panics
/// When it fails, with what it says.
pub fn openssl(directory: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output().expect("openssl");
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
}
