//! Directory trees: how large, onto the disk, and from one file system to another.
//!
//! Symbolic links and special files do not come from us; a tree that holds one is refused.

use std::fs::{self, FileType};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::failure;
use crate::disk::{no_links, remove_directory};
use crate::failure::{Failure, FailureKind, Result};

/// Has the kernel write all files and directories of a tree to disk, children before parents.
pub fn sync(directory: &Path, stop: &AtomicBool) -> Result<()> {
    for_each_entry(directory, stop, |path, kind| if kind.is_dir() { sync(path, stop) } else { sync_one(path) })?;
    sync_one(directory)
}

/// Counts the files of a tree.
pub fn count_files(directory: &Path, stop: &AtomicBool) -> Result<u64> {
    let mut files = 0;
    for_each_entry(directory, stop, |path, kind| {
        files += if kind.is_dir() { count_files(path, stop)? } else { 1 };
        Ok(())
    })?;
    Ok(files)
}

/// Copies a tree to `target`, which must not be there, and syncs it.
pub fn copy(directory: &Path, target: &Path, stop: &AtomicBool) -> Result<()> {
    no_links::create_directory(target).map_err(|error| failure(format_args!("making {}", target.display()), error))?;
    for_each_entry(directory, stop, |path, kind| {
        let to = target.join(path.file_name().unwrap_or_default());
        if kind.is_dir() {
            return copy(path, &to, stop);
        }
        let copy = || io::copy(&mut no_links::open(path)?, &mut no_links::create_new(&to)?);
        copy().map_err(|error| failure(format_args!("copying {} to {}", path.display(), to.display()), error))?;
        sync_one(&to)
    })?;
    sync_one(target)
}

/// Syncs one file or directory.
pub fn sync_one(path: &Path) -> Result<()> {
    let opened = no_links::open(path).or_else(|_| no_links::directory(path));
    let result = opened.and_then(|file| file.sync_all());
    result.map_err(|error| failure(format_args!("syncing {}", path.display()), error))
}

/// Removes a tree that may be missing; does not follow links.
pub fn remove(directory: &Path) -> Result<()> {
    remove_directory(directory).map_err(|error| failure(format_args!("removing {}", directory.display()), error))
}

fn for_each_entry(
    directory: &Path,
    stop: &AtomicBool,
    mut visit: impl FnMut(&Path, FileType) -> Result<()>,
) -> Result<()> {
    let reading = |error| failure(format_args!("reading {}", directory.display()), error);
    for entry in fs::read_dir(directory).map_err(reading)? {
        if stop.load(Ordering::Relaxed) {
            return Err(Failure::new(FailureKind::Interrupted, "the delivery was interrupted"));
        }
        let entry = entry.map_err(reading)?;
        let kind = entry.file_type().map_err(reading)?;
        if !kind.is_dir() && !kind.is_file() {
            let reason = format!("{} is neither a file nor a directory", entry.path().display());
            return Err(Failure::new(FailureKind::DeliveryFailed, reason));
        }
        visit(&entry.path(), kind)?;
    }
    Ok(())
}
