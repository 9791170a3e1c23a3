//! A file that an operator replaces while the daemon runs.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// How seldom it is looked at: there may be hundreds of requests in a second.
const PAUSE: Duration = Duration::from_secs(1);

/// Remembers what a file looked like when it was read, so that it is read again when it has changed.
#[derive(Debug)]
pub struct WatchedFile {
    /// What it holds, for the log: "the token", "the cookie jar".
    what: &'static str,
    path: PathBuf,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    /// Nothing when what is there now could not be used: it is read again until it can.
    stamp: Option<Stamp>,
    /// Nothing when it is to be looked at in any case.
    at: Option<Instant>,
    /// That it cannot be used was said already.
    told: bool,
}

/// What changes whenever a file is written or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    /// Of the inode: also set when somebody puts the time of modification back.
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Result<Stamp, String> {
        let data = std::fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
        Ok(Stamp {
            device: data.dev(),
            inode: data.ino(),
            bytes: data.size(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        })
    }
}

impl WatchedFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// What `read` says, or why the file cannot be looked at.
    pub fn open<T>(
        what: &'static str,
        path: &Path,
        read: impl FnOnce(&Path) -> Result<T, String>,
    ) -> Result<(WatchedFile, T), String> {
        let stamp = Stamp::of(path)?;
        let value = read(path)?;
        let seen = Seen { stamp: Some(stamp), at: Some(Instant::now()), told: false };
        Ok((WatchedFile { what, path: path.to_owned(), seen: Mutex::new(seen) }, value))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Calls `read`, which reads the file and puts what it holds in its place, if it has changed; looks
    /// at most once a second, and never waits for somebody else who is looking. A file that cannot be
    /// used leaves what was read before; that is logged once.
    pub fn look(&self, read: impl FnOnce(&Path) -> Result<(), String>) {
        let mut seen = match self.seen.try_lock() {
            Ok(seen) => seen,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if seen.at.is_none_or(|at| at.elapsed() >= PAUSE) {
            self.look_now(&mut seen, read);
        }
    }

    /// Calls `read` whether the file has changed or not.
    pub fn read_again(&self, read: impl FnOnce(&Path) -> Result<(), String>) {
        let mut seen = self.seen();
        (seen.stamp, seen.told) = (None, false);
        self.look_now(&mut seen, read);
    }

    fn look_now(&self, seen: &mut Seen, read: impl FnOnce(&Path) -> Result<(), String>) {
        seen.at = Some(Instant::now());
        // Before it is read: what is written meanwhile is seen the next time.
        let looked = Stamp::of(&self.path);
        if seen.stamp.is_some() && looked.as_ref().ok() == seen.stamp.as_ref() {
            return;
        }
        match looked.and_then(|stamp| read(&self.path).map(|()| stamp)) {
            Ok(stamp) => {
                (seen.stamp, seen.told) = (Some(stamp), false);
                tracing::info!("{} in {} was read again", self.what, self.path.display());
            }
            Err(reason) => {
                // The disk may have been to blame: the same file is read once more.
                seen.stamp = None;
                if !std::mem::replace(&mut seen.told, true) {
                    tracing::error!("{} in {} stays as it was: the file {reason}", self.what, self.path.display());
                }
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As if the pause since the last look were over.
    #[cfg(test)]
    pub fn is_due(&self) {
        self.seen().at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Result<String, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        if text.is_empty() { Err("is empty".into()) } else { Ok(text) }
    }

    /// What is read of a file that is due, and whether a complaint has been made.
    fn look(file: &WatchedFile) -> (Option<String>, bool) {
        let mut value = None;
        file.is_due();
        file.look(|path| read(path).map(|text| value = Some(text)));
        (value, file.seen().told)
    }

    fn text(text: &str) -> (Option<String>, bool) {
        (Some(text.to_owned()), false)
    }

    #[test]
    fn only_what_has_changed_and_can_be_used_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert!(WatchedFile::open("it", &path, read).is_err());
        std::fs::write(&path, "one").unwrap();
        let (file, value) = WatchedFile::open("it", &path, read).unwrap();
        assert_eq!((value.as_str(), look(&file)), ("one", (None, false)));
        // Another file of the same size in its place.
        let other = folder.path().join("other");
        std::fs::write(&other, "two").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(look(&file), text("two"));
        assert_eq!(look(&file), (None, false));
        for _ in 0..2 {
            std::fs::write(&path, "").unwrap();
            assert_eq!(look(&file), (None, true));
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(look(&file), (None, true));
        std::fs::write(&path, "three").unwrap();
        assert_eq!(look(&file), text("three"));
        let mut value = None;
        file.read_again(|path| read(path).map(|text| value = Some(text)));
        assert_eq!(value.as_deref(), Some("three"));
    }

    #[test]
    fn what_could_not_be_read_is_read_once_more() {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&path, "one").unwrap();
        let (file, _) = WatchedFile::open("it", path.path(), read).unwrap();
        std::fs::write(&path, "other").unwrap();
        file.is_due();
        file.look(|_| Err("cannot be read: out of file descriptors".into()));
        assert_eq!(look(&file), text("other"));
    }

    #[test]
    fn it_is_looked_at_once_in_a_while_and_by_one_at_a_time() {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&path, "one").unwrap();
        let (file, _) = WatchedFile::open("it", path.path(), read).unwrap();
        std::fs::write(&path, "other").unwrap();
        file.seen().at = Some(Instant::now() + Duration::from_secs(3600));
        file.look(|_| panic!("it was looked at a moment ago"));
        file.is_due();
        let mut reads = 0;
        file.look(|_| {
            reads += 1;
            // Would wait for ever for itself.
            file.look(|_| panic!("somebody else is looking"));
            Ok(())
        });
        assert_eq!(reads, 1);
    }
}
