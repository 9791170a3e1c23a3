//! File calls that follow no symbolic link, at no place of a path. Nobody here makes links in staging and at the
//! destination: one that is there was planted, and what is written, moved or removed through it would be
//! somebody else's. Looking first would leave a moment in which one can be planted, so the kernel is told
//! (openat2, RESOLVE_NO_SYMLINKS), and what has a parent is reached through the open parent.
//!
//! All of them block their thread.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RenameFlags, ResolveFlags, mkdirat, openat, openat2, renameat, renameat_with, unlinkat,
};
use rustix::io::Errno;

/// The same directory with no symbolic link on the way to it: what the operator has named may have some.
/// What is missing of it has none yet.
///
/// # Errors
/// Those of the file system.
pub fn real(directory: &Path) -> io::Result<PathBuf> {
    let named = std::path::absolute(if directory.as_os_str().is_empty() { Path::new(".") } else { directory })?;
    let real = real_or_missing(&named)?;
    Ok(if real == named { directory.to_owned() } else { real })
}

fn real_or_missing(absolute: &Path) -> io::Result<PathBuf> {
    match (absolute.canonicalize(), absolute.parent(), absolute.file_name()) {
        (Err(error), Some(parent), Some(name)) if error.kind() == io::ErrorKind::NotFound => {
            Ok(real_or_missing(parent)?.join(name))
        }
        (result, ..) => result,
    }
}

/// Opens a file for reading.
pub fn open(path: &Path) -> io::Result<File> {
    regular(path, OFlags::RDONLY)
}

/// Opens a file for reading and writing, creating it when it is missing.
pub fn open_or_create(path: &Path) -> io::Result<File> {
    regular(path, OFlags::RDWR | OFlags::CREATE)
}

/// Opens an empty file for writing, in place of what was in it.
pub fn create(path: &Path) -> io::Result<File> {
    regular(path, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC)
}

/// Creates a file that must not be there.
pub fn create_new(path: &Path) -> io::Result<File> {
    regular(path, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)
}

/// Writes a whole file.
pub fn write(path: &Path, content: impl AsRef<[u8]>) -> io::Result<()> {
    create(path)?.write_all(content.as_ref())
}

/// Opens a directory.
pub fn directory(path: &Path) -> io::Result<File> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    resolve(path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Makes a directory that must not be there.
pub fn create_directory(path: &Path) -> io::Result<()> {
    let (parent, name) = parent(path)?;
    Ok(mkdirat(parent, name, Mode::from_raw_mode(0o777))?)
}

/// Makes a directory and those above it, where they are missing.
pub fn create_directories(path: &Path) -> io::Result<()> {
    match directory(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        done => return done.map(drop),
    }
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
        create_directories(above)?;
    }
    match create_directory(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => directory(path).map(drop),
        done => done,
    }
}

/// Renames a file or directory, in place of a file that has the name.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let ((from_parent, from), (to_parent, to)) = (parent(from)?, parent(to)?);
    Ok(renameat(from_parent, from, to_parent, to)?)
}

/// Renames a file or directory to a name that must be free. Some network file systems cannot refuse to
/// replace; the plain rename still refuses to replace a directory that holds anything.
pub fn rename_to_free_name(from: &Path, to: &Path) -> io::Result<()> {
    let ((from_parent, from), (to_parent, to)) = (parent(from)?, parent(to)?);
    match renameat_with(&from_parent, from, &to_parent, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(renameat(from_parent, from, to_parent, to)?),
        result => Ok(result?),
    }
}

/// Removes a file, or a link itself.
pub fn remove_file(path: &Path) -> io::Result<()> {
    let (parent, name) = parent(path)?;
    Ok(unlinkat(parent, name, AtFlags::empty())?)
}

/// Removes an empty directory.
pub fn remove_empty_directory(path: &Path) -> io::Result<()> {
    let (parent, name) = parent(path)?;
    Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

/// The open directory that something is in, and its name there.
fn parent(path: &Path) -> io::Result<(File, &OsStr)> {
    let name = path.file_name().ok_or_else(|| io::Error::other("it has no name of its own"))?;
    Ok((directory(path.parent().unwrap_or(Path::new("")))?, name))
}

/// A pipe or a device that was planted in place of a file is none; opening it does not wait.
fn regular(path: &Path, flags: OFlags) -> io::Result<File> {
    let file = resolve(path, flags | OFlags::NONBLOCK)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a file")),
    }
}

fn resolve(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(if flags.contains(OFlags::CREATE) { 0o666 } else { 0 });
    let opened = match openat2(CWD, path, flags, mode, ResolveFlags::NO_SYMLINKS) {
        // A kernel before 5.6, or a filter of system calls that is older than that: the end of the path at least.
        Err(Errno::NOSYS | Errno::PERM) => openat(CWD, path, flags | OFlags::NOFOLLOW, mode),
        result => result,
    };
    match opened {
        Ok(file) => Ok(file.into()),
        Err(Errno::LOOP) => Err(io::Error::other("a symbolic link is in the way")),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// `here/link` leads to `there`, where there is a file `theirs`.
    fn world() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let (here, there) = (root.path().join("here"), root.path().join("there"));
        for directory in [&here, &there] {
            fs::create_dir(directory).unwrap();
        }
        fs::write(there.join("theirs"), "theirs").unwrap();
        symlink(&there, here.join("link")).unwrap();
        symlink(there.join("theirs"), here.join("leaf")).unwrap();
        fs::write(here.join("ours"), "ours").unwrap();
        (root, here, there)
    }

    #[test]
    fn line_36_nothing_is_reached_through_a_link() {
        let (_root, here, there) = world();
        let (through, leaf, ours) = (here.join("link/theirs"), here.join("leaf"), here.join("ours"));
        let refused = |result: io::Result<()>| {
            let error = result.unwrap_err();
            assert!(error.to_string().contains("a symbolic link is in the way"), "{error}");
        };
        for path in [&through, &leaf] {
            refused(open(path).map(drop));
            refused(open_or_create(path).map(drop));
            refused(write(path, "x"));
        }
        refused(create_new(&here.join("link/new")).map(drop));
        refused(directory(&here.join("link")).map(drop));
        refused(create_directories(&here.join("link/a/b")));
        refused(rename(&through, &here.join("a")));
        refused(rename(&ours, &here.join("link/a")));
        refused(rename_to_free_name(&ours, &here.join("link/a")));
        refused(remove_file(&through));
        refused(remove_empty_directory(&through));
        assert_eq!(fs::read_to_string(there.join("theirs")).unwrap(), "theirs");
        assert_eq!(fs::read_dir(&there).unwrap().count(), 1);
        // A link itself is something like any other.
        remove_file(&leaf).unwrap();
        assert!(there.join("theirs").exists());
    }

    #[test]
    fn without_links_everything_is_as_usual() {
        let (_root, here, _) = world();
        create_directories(&here.join("a/b")).unwrap();
        create_directories(&here.join("a/b")).unwrap();
        assert_eq!(create_directory(&here.join("a")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        write(&here.join("a/b/file"), "long").unwrap();
        write(&here.join("a/b/file"), "x").unwrap();
        assert_eq!(create_new(&here.join("a/b/file")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        rename(&here.join("a/b/file"), &here.join("ours")).unwrap();
        assert_eq!(fs::read_to_string(here.join("ours")).unwrap(), "x");
        let taken = rename_to_free_name(&here.join("ours"), &here.join("leaf")).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        remove_empty_directory(&here.join("a/b")).unwrap();
        assert_eq!(open(&here.join("a/b")).unwrap_err().kind(), io::ErrorKind::NotFound);
        let pipe = here.join("pipe");
        rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        for opened in [open(&pipe), open_or_create(&pipe), directory(&pipe)] {
            assert!(opened.is_err());
        }
    }

    #[test]
    fn what_the_operator_has_named_may_have_links() {
        let (_root, here, there) = world();
        assert_eq!(real(&here.join("link")).unwrap(), there.canonicalize().unwrap());
        assert_eq!(real(&here.join("link/a/b")).unwrap(), there.canonicalize().unwrap().join("a/b"));
        assert_eq!(real(Path::new("")).unwrap(), Path::new(""));
        assert_eq!(real(Path::new("src")).unwrap(), Path::new("src"));
        assert_eq!(real(Path::new("missing/x")).unwrap(), Path::new("missing/x"));
    }
}
