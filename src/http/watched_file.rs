//! A file that an operator replaces while the daemon runs.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Remembers what a file looked like when it was read. Looking is one system call, so that it is done
/// before each use, and what is used next is what the file holds.
#[derive(Debug)]
pub struct WatchedFile {
    /// What it holds, for the log: "the token", "the cookie jar".
    what: &'static str,
    path: PathBuf,
    seen: Option<Stamp>,
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
    fn of(path: &Path) -> std::io::Result<Stamp> {
        let data = std::fs::metadata(path)?;
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
        let mut file = WatchedFile { what, path: path.to_owned(), seen: None, told: false };
        let stamp = file.look()?;
        let value = read(path)?;
        file.seen = Some(stamp);
        Ok((file, value))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file holds, if it has changed since it was read. A file that cannot be used leaves
    /// what was read before; that is logged once.
    pub fn changed<T>(&mut self, read: impl FnOnce(&Path) -> Result<T, String>) -> Option<T> {
        // Before it is read: what is written meanwhile is seen the next time.
        let looked = self.look();
        if self.seen.is_some() && looked.as_ref().ok() == self.seen.as_ref() {
            return None;
        }
        self.seen = looked.as_ref().ok().copied();
        match looked.and_then(|_| read(&self.path)) {
            Ok(value) => {
                self.told = false;
                tracing::info!("{} in {} was read again", self.what, self.path.display());
                Some(value)
            }
            Err(reason) => {
                if !std::mem::replace(&mut self.told, true) {
                    tracing::error!("{} in {} stays as it was: the file {reason}", self.what, self.path.display());
                }
                None
            }
        }
    }

    /// Has it read again in any case.
    pub fn forget(&mut self) {
        (self.seen, self.told) = (None, false);
    }

    fn look(&self) -> Result<Stamp, String> {
        Stamp::of(&self.path).map_err(|error| format!("cannot be read: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Result<String, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        if text.is_empty() { Err("is empty".into()) } else { Ok(text) }
    }

    #[test]
    fn only_what_has_changed_and_can_be_used_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert!(WatchedFile::open("it", &path, read).is_err());
        std::fs::write(&path, "one").unwrap();
        let (mut file, value) = WatchedFile::open("it", &path, read).unwrap();
        assert_eq!((value.as_str(), file.changed(read)), ("one", None));
        // Another file of the same size in its place.
        let other = folder.path().join("other");
        std::fs::write(&other, "two").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(file.changed(read).as_deref(), Some("two"));
        assert_eq!(file.changed(read), None);
        for _ in 0..2 {
            std::fs::write(&path, "").unwrap();
            assert_eq!((file.changed(read), file.told), (None, true));
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!((file.changed(read), file.told), (None, true));
        std::fs::write(&path, "three").unwrap();
        assert_eq!((file.changed(read).as_deref(), file.told), (Some("three"), false));
        file.forget();
        assert_eq!(file.changed(read).as_deref(), Some("three"));
    }
}
