//! Whether there is room where jobs write. While there is none, none is taken: each would only run into it.
//!
//! The free space is looked at all the time. A quota, or a disk that fails, shows only when something is
//! written: that is tried once a job has met it, until it has passed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::io::Errno;
use tokio::sync::{Notify, watch};

use crate::disk::{blocking, free_bytes, try_writing};
use crate::failure::{Failure, FailureKind, Result};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// What is written to try it.
const TRIED_BYTES: usize = 1 << 20;

/// The disks that jobs write to.
pub struct Volumes {
    directories: Vec<PathBuf>,
    min_free_bytes: u64,
    /// A job has met a disk that is full, or that fails.
    suspected: Notify,
}

impl Volumes {
    /// Those of these directories, which are made when they are missing. Fewer than `min_free_bytes` are
    /// as good as none.
    pub fn new(directories: Vec<PathBuf>, min_free_bytes: u64) -> Volumes {
        Volumes { directories, min_free_bytes, suspected: Notify::new() }
    }

    /// A job has failed so: if that is about a disk, it is tried by writing, now.
    pub fn met(&self, kind: FailureKind) {
        if matches!(kind, FailureKind::DiskFull | FailureKind::DiskFailed) {
            self.suspected.notify_one();
        }
    }

    /// Looks until it is dropped, and says in `hindrance` why no jobs are to be taken. Says there that
    /// nothing is wrong only after it has looked.
    pub async fn watch(&self, hindrance: &watch::Sender<Option<String>>) {
        let mut hindered = false;
        let mut is_suspected = false;
        loop {
            match self.look(hindered, is_suspected || hindered).await {
                Ok(()) => {
                    if std::mem::replace(&mut hindered, false) {
                        tracing::info!("there is room on the disks: jobs are taken again");
                    }
                    hindrance.send_if_modified(|reason| reason.take().is_some());
                }
                Err(failure) => {
                    if !std::mem::replace(&mut hindered, true) {
                        let kind = failure.kind.name();
                        tracing::error!(
                            kind,
                            "{failure}; no jobs are taken until that has passed; to do: {}",
                            failure.kind.remedy()
                        );
                    }
                    hindrance.send_replace(Some(failure.message));
                }
            }
            is_suspected = tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => false,
                () = self.suspected.notified() => true,
            };
        }
    }

    async fn look(&self, hindered: bool, by_writing: bool) -> Result<()> {
        // Some more than the least, so that it does not come and go.
        let wanted = self.min_free_bytes.saturating_add(if hindered { self.min_free_bytes / 4 } else { 0 });
        for directory in &self.directories {
            let directory = directory.clone();
            blocking(move || look(&directory, wanted, by_writing)).await?;
        }
        Ok(())
    }
}

/// Whether there is room in a directory. Blocks its thread.
fn look(directory: &Path, wanted: u64, by_writing: bool) -> Result<()> {
    let failed = |doing: &str, error| Failure::disk(format_args!("{doing} {}", directory.display()), error);
    std::fs::create_dir_all(directory).map_err(|error| failed("creating", error))?;
    let disk = statvfs(directory).map_err(|error| failed("looking at", error.into()))?;
    if disk.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Err(failed("writing to", Errno::ROFS.into()));
    }
    let full = |reason: String| Failure::new(FailureKind::DiskFull, format!("{}: {reason}", directory.display()));
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < wanted {
        return Err(full(format!("{free} bytes are free, and {wanted} are wanted before more is begun")));
    }
    // A file system that makes them as they are needed has none to count.
    if disk.f_files > 0 && disk.f_favail == 0 {
        return Err(full("no more files can be made: it is out of inodes".into()));
    }
    if by_writing {
        try_writing(directory, TRIED_BYTES)?;
    }
    Ok(())
}

/// Refuses to begin a file of about so many bytes where there is no room for it, before anything is asked
/// for. That it is about so many is an estimate, often of the highest bit rate: only what has no room for
/// the half of it is refused. What is there of the file already counts as room.
///
/// # Errors
/// `disk_full` with both figures, `disk_failed`.
pub async fn expect_room(file: &Path, bytes: u64) -> Result<()> {
    let file = file.to_owned();
    blocking(move || {
        let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let free = free_bytes(directory)?;
        let written = std::fs::metadata(&file).map_or(0, |file| file.len());
        let room = free.saturating_add(written);
        if room >= bytes / 2 {
            return Ok(());
        }
        let message = format!(
            "{}: about {bytes} bytes are needed for {}, and {room} are there",
            directory.display(),
            file.file_name().unwrap_or_default().display()
        );
        Err(Failure::new(FailureKind::DiskFull, message))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_made_and_has_room_or_says_why_not() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("a/b");
        look(&place, 1, true).unwrap();
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0, "what was tried is gone");
        let failure = look(&place, u64::MAX, false).unwrap_err();
        assert_eq!(failure.kind, FailureKind::DiskFull);
        assert!(failure.message.contains(&format!("{} are wanted", u64::MAX)), "{failure}");
        assert_eq!(look(Path::new("/proc/hauld"), 0, false).unwrap_err().kind, FailureKind::DiskFailed);
        std::fs::write(directory.path().join("file"), "").unwrap();
        assert_eq!(look(&directory.path().join("file/x"), 0, false).unwrap_err().kind, FailureKind::DiskFailed);
    }

    #[tokio::test]
    async fn a_file_that_cannot_fit_is_not_begun() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.part");
        expect_room(&file, 1 << 20).await.unwrap();
        let failure = expect_room(&file, 1 << 60).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::DiskFull);
        assert!(
            failure.message.contains(&format!("about {} bytes are needed for a.part, and ", 1_u64 << 60)),
            "{failure}"
        );
        std::fs::File::create(&file).unwrap().set_len(1 << 40).unwrap();
        expect_room(&file, 1 << 40).await.unwrap();
        expect_room(Path::new("a.part"), 1).await.unwrap();
    }

    #[tokio::test]
    async fn a_disk_that_is_met_is_tried_at_once_and_room_is_said_after_a_look() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("staging");
        let volumes = std::sync::Arc::new(Volumes::new(vec![place.clone()], 0));
        let (hindrance, mut hindered) = watch::channel(Some("starting".to_owned()));
        let watching = tokio::spawn({
            let volumes = volumes.clone();
            async move { volumes.watch(&hindrance).await }
        });
        hindered.wait_for(Option::is_none).await.unwrap();
        std::fs::remove_dir(&place).unwrap();
        std::fs::write(&place, "in the way").unwrap();
        volumes.met(FailureKind::ServerError);
        volumes.met(FailureKind::DiskFailed);
        let reason = hindered.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        assert!(reason.contains("staging"), "{reason}");
        std::fs::remove_file(&place).unwrap();
        volumes.met(FailureKind::DiskFull);
        hindered.wait_for(Option::is_none).await.unwrap();
        watching.abort();
    }
}
