//! What every room that writes files needs: names beside a file, locks, the step to a final name.

pub mod no_links;

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::failure::{Failure, FailureKind, Result};

/// How long an earlier attempt of this process may still hold a part.
const PART_LOCK_WAIT: Duration = Duration::from_secs(10);
/// Between two looks at a lock that somebody else has.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// `<path><suffix>`; the name may have dots of its own.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Runs blocking file calls on the blocking pool. They go on when the future is dropped.
///
/// # Errors
/// Those of `work`; `internal` when it panics.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Failure::new(FailureKind::Internal, format!("a file task ended early: {error}"))),
    }
}

/// Gives a whole file its final name, so that it is there and whole after a power loss too.
///
/// # Errors
/// `disk_full`, `disk_failed`.
pub async fn publish(part: &Path, destination: &Path) -> Result<()> {
    let (part, destination) = (part.to_owned(), destination.to_owned());
    blocking(move || {
        let publish = || -> io::Result<()> {
            no_links::open(&part)?.sync_all()?;
            no_links::rename(&part, &destination)?;
            no_links::directory(destination.parent().unwrap_or(Path::new("")))?.sync_all()
        };
        publish().map_err(|error| {
            Failure::disk(format_args!("publishing {} as {}", part.display(), destination.display()), error)
        })
    })
    .await
}

/// Writes a small file that nobody else may read: whole under its name, and there after a power loss.
/// Makes the directory when it is missing. Blocks its thread.
///
/// # Errors
/// `disk_full`, `disk_failed`.
pub fn write_private(directory: &Path, name: &str, content: &[u8]) -> Result<()> {
    let path = directory.join(name);
    let part = beside(&path, ".part");
    let write = || -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let mut file = private().open(&part)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&part, &path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|error| {
        // A disk that is full should not stay full of this.
        let _ = std::fs::remove_file(&part);
        Failure::disk(format_args!("writing {}", path.display()), error)
    })
}

/// What this process may still write to the disk of a directory, by the file system's word. Blocks its
/// thread.
///
/// # Errors
/// `disk_failed`.
pub fn free_bytes(directory: &Path) -> Result<u64> {
    let disk = rustix::fs::statvfs(directory)
        .map_err(|error| Failure::disk(format_args!("looking at {}", directory.display()), error.into()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Writes and removes a file of so many bytes: a mode or a mount option alone does not tell, nor do the
/// free bytes where there is a quota. Blocks its thread.
///
/// # Errors
/// `disk_full`, `disk_failed`.
pub fn try_writing(directory: &Path, bytes: usize) -> Result<()> {
    // Instances share the directory, on several hosts even: the name must be nobody else's.
    let nanoseconds = jiff::Timestamp::now().as_nanosecond();
    let path = directory.join(format!(".hauld-try-{}-{nanoseconds}", std::process::id()));
    let write = || {
        let mut file = File::create_new(&path)?;
        if bytes > 0 {
            file.write_all(&vec![0; bytes])?;
            // A full disk may say so no sooner.
            file.sync_all()?;
        }
        Ok(())
    };
    let written = write();
    let removed = if path.exists() { std::fs::remove_file(&path) } else { Ok(()) };
    written.and(removed).map_err(|error| Failure::disk(format_args!("writing to {}", directory.display()), error))
}

/// How a file that nobody else may read is opened: never at the end of a link.
fn private() -> OpenOptions {
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(OFlags::NOFOLLOW.bits() as i32);
    options
}

/// The names in a directory that end in `.json`; none when there is no directory. Blocks its thread.
///
/// # Errors
/// `disk_failed`.
pub fn json_files(directory: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::disk(format_args!("reading {}", directory.display()), error)),
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| name.ends_with(".json")).collect())
}

/// Writes a small file.
///
/// # Errors
/// `disk_full`, `disk_failed`.
pub async fn write(path: &Path, content: impl Into<Vec<u8>>) -> Result<()> {
    let (path, content) = (path.to_owned(), content.into());
    blocking(move || {
        let written = no_links::write(&path, content);
        written.map_err(|error| Failure::disk(format_args!("writing {}", path.display()), error))
    })
    .await
}

/// Removes a file that may be missing.
///
/// # Errors
/// `disk_failed`.
pub async fn remove(path: &Path) -> Result<()> {
    let path = path.to_owned();
    blocking(move || match no_links::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::disk(format_args!("removing {}", path.display()), error))
        }
        _ => Ok(()),
    })
    .await
}

/// Removes a directory with everything in it, which may be missing; does not follow links. Blocks its
/// thread.
///
/// # Errors
/// Those of the file system.
pub fn remove_directory(directory: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Opens a `.part`, creating it when it is missing, for reading and writing. Nobody else has it then.
/// Blocks its thread for up to 10 s while an attempt that was cut off ends its last write.
///
/// # Errors
/// `disk_full`, `disk_failed`, also when another download writes to it.
pub fn open_part(part: &Path) -> Result<File> {
    open_locked(part, PART_LOCK_WAIT, || no_links::open_or_create(part))?.ok_or_else(|| {
        let message = format!("{}: another download is writing to it", part.display());
        Failure::new(FailureKind::DiskFailed, message)
    })
}

/// Opens what has the name `path` and takes its lock, which goes with the last clone of the file.
/// `None` when somebody else has it for longer than `wait`. Blocks its thread meanwhile.
///
/// # Errors
/// `disk_full`, `disk_failed`.
pub fn open_locked(path: &Path, wait: Duration, open: impl Fn() -> io::Result<File>) -> Result<Option<File>> {
    let failed = |doing: &dyn Display, error| Failure::disk(format_args!("{doing} {}", path.display()), error);
    let deadline = Instant::now() + wait;
    loop {
        let file = open().map_err(|error| failed(&"opening", error))?;
        match file.try_lock() {
            // While we waited it may have got its final name, or have been removed: what has the
            // name now is another file.
            Ok(()) if is_named(&file, path).map_err(|error| failed(&"looking at", error))? => return Ok(Some(file)),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(failed(&"locking", error)),
        }
    }
}

pub(crate) fn is_named(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_one_on_the_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.part");
        let open = || File::options().write(true).create(true).truncate(false).open(&path);
        let first = open_locked(&path, Duration::ZERO, open).unwrap().unwrap();
        assert!(open_locked(&path, Duration::ZERO, open).unwrap().is_none());
        std::thread::scope(|scope| {
            let second = scope.spawn(|| open_locked(&path, Duration::from_secs(60), open).unwrap().unwrap());
            // The second has the file open by now, or will have another: both must end the same.
            std::thread::sleep(LOCK_PAUSE);
            std::fs::rename(&path, directory.path().join("a.mp4")).unwrap();
            drop(first);
            let second = second.join().unwrap();
            assert!(is_named(&second, &path).unwrap());
            assert!(!is_named(&second, &directory.path().join("a.mp4")).unwrap());
        });
    }

    #[tokio::test]
    async fn a_file_in_the_working_directory_is_published() {
        let name = format!("hauld-test-{}", std::process::id());
        let (part, whole) = (PathBuf::from(format!("{name}.part")), PathBuf::from(&name));
        std::fs::write(&part, "x").unwrap();
        publish(&part, &whole).await.unwrap();
        assert_eq!(std::fs::read(&whole).unwrap(), b"x");
        remove(&whole).await.unwrap();
        remove(&whole).await.unwrap();
    }
}
