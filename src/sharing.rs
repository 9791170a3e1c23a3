//! One download for all customers of a course who come at one time (`staging.share_downloads`).
//!
//! The course is downloaded into a directory of its own, `<staging>/.shared/<course>/`, by whoever has
//! the turn. Everybody else who wants it waits for the turn, finds it finished, and takes a copy into
//! his own sandbox; the last one takes the files themselves. All instances with this staging directory
//! take part. The gate is not of this room: whoever comes here has passed it.
//!
//! Two locks of the kernel, which end with the process that has them: everybody who wants the course
//! holds the directory's, shared; who has the turn holds that of `.turn`. After a failure or a crash the
//! next one goes on with what is there.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use url::Url;

use crate::delivery::{copy_tree, stoppable};
use crate::disk::{blocking, is_named, no_links, open_locked, remove_directory, write_private};
use crate::failure::{Failure, FailureKind, Result};
use crate::http::shown;
use crate::sandbox::{Sandbox, keep_only};

/// Whose turn it is. Its time of change says when the last turn began.
const TURN_FILE: &str = ".turn";
/// Holds the name of the course's folder when all of it is there.
const FINISHED_FILE: &str = ".finished";
/// In a sandbox: holds the name of the folder that was put there.
const HANDED_OVER_FILE: &str = ".handed-over";
/// For an operator who looks: which course it is.
const COURSE_FILE: &str = ".course";
/// Between two looks whether the turn has come.
const LOOK: Duration = Duration::from_millis(200);
/// How long what nobody wants any more is kept for an attempt that goes on with it.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// The courses of one staging directory that are downloaded once for several jobs.
#[derive(Debug, Clone)]
pub struct SharedDownloads {
    directory: PathBuf,
    /// What makes files of one course differ between instances.
    quality: String,
}

/// The turn at one course. It passes to the next one when this is dropped.
#[derive(Debug)]
pub struct Turn {
    path: PathBuf,
    /// The directory, with its lock.
    wanted: File,
    _turn: File,
}

impl SharedDownloads {
    /// Below this staging directory. `quality` says in what form: only downloads of the same form are
    /// shared.
    pub fn new(staging: &Path, quality: String) -> SharedDownloads {
        SharedDownloads { directory: staging.join(".shared"), quality }
    }

    /// Waits until nobody else works on the course. Others see from now on that it is wanted.
    ///
    /// # Errors
    /// `disk_full`, `disk_failed`.
    pub async fn turn(&self, course_url: &Url) -> Result<Turn> {
        let hash = Sha256::new().chain_update(&self.quality).chain_update([0]).chain_update(course_url.as_str());
        let path = self.directory.join(&hex::encode(hash.finalize())[..32]);
        let course = shown(course_url);
        self.sweep().await?;
        let wanted = loop {
            let (path, course) = (path.clone(), course.clone());
            match blocking(move || want(&path, &course)).await? {
                Some(wanted) => break wanted,
                // Whoever came last is just removing it.
                None => tokio::time::sleep(LOOK).await,
            }
        };
        let turn_file = path.join(TURN_FILE);
        let mut waits = false;
        loop {
            let file = turn_file.clone();
            let take = move || open_locked(&file, Duration::ZERO, || no_links::open_or_create(&file));
            if let Some(turn) = blocking(take).await? {
                let begun = turn.set_modified(SystemTime::now());
                begun.map_err(|error| Failure::disk(format_args!("marking {}", turn_file.display()), error))?;
                return Ok(Turn { path, wanted, _turn: turn });
            }
            if !std::mem::replace(&mut waits, true) {
                tracing::info!(course_url = course, "DOWNLOAD waiting: another job downloads this course");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The folder that was put into the sandbox for an earlier attempt, within a day: for a delivery
    /// that failed nothing has to be downloaded again.
    pub async fn handed_over(sandbox: &Sandbox) -> Option<String> {
        let file = sandbox.path().join(HANDED_OVER_FILE);
        let since = tokio::fs::metadata(&file).await.and_then(|file| file.modified()).ok()?;
        if since.elapsed().is_ok_and(|age| age > KEPT) {
            return None;
        }
        let folder = tokio::fs::read_to_string(file).await.ok()?;
        let is_there = tokio::fs::metadata(sandbox.path().join(&folder)).await.is_ok_and(|found| found.is_dir());
        is_there.then_some(folder)
    }

    /// Removes what was left by jobs that did not come back. What cannot be removed is in nobody's way.
    async fn sweep(&self) -> Result<()> {
        let directory = self.directory.clone();
        blocking(move || {
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                if let Err(failure) = remove_if_old(&entry.path()) {
                    let (kind, path) = (failure.kind.name(), entry.path());
                    tracing::warn!(kind, path = %path.display(), "an old shared download stays: {failure}");
                }
            }
            Ok(())
        })
        .await
    }
}

/// Removes a shared download whose last turn was long ago, if nobody wants it.
fn remove_if_old(path: &Path) -> Result<()> {
    let last_turn = fs::metadata(path.join(TURN_FILE)).and_then(|file| file.modified());
    if !last_turn.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > KEPT)) {
        return Ok(());
    }
    if let Some(_alone) = open_locked(path, Duration::ZERO, || File::open(path))? {
        tracing::info!(path = %path.display(), "removing a shared download that nobody came back for");
        remove_directory(path).map_err(|error| Failure::disk(format_args!("removing {}", path.display()), error))?;
    }
    Ok(())
}

/// Opens or makes the directory and holds its lock, shared. `None` when it is being removed.
fn want(path: &Path, course: &str) -> Result<Option<File>> {
    let want = || -> io::Result<Option<File>> {
        no_links::create_directories(path)?;
        let directory = no_links::directory(path)?;
        let is_first = directory.try_lock().is_ok();
        if is_first && is_named(&directory, path)? {
            // Whoever finished it is gone: what is there is from another time, and looked through again.
            match no_links::remove_file(&path.join(FINISHED_FILE)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => no_links::write(&path.join(COURSE_FILE), format!("{course}\n"))?,
            }
        }
        let is_shared = directory.try_lock_shared().is_ok();
        Ok((is_shared && is_named(&directory, path)?).then_some(directory))
    };
    want().map_err(|error| Failure::disk(format_args!("preparing {}", path.display()), error))
}

impl Turn {
    /// Where the course is downloaded to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The course's folder, when somebody has finished it.
    pub async fn finished(&self) -> Option<String> {
        tokio::fs::read_to_string(self.path.join(FINISHED_FILE)).await.ok()
    }

    /// All of the course is in the folder of this name: whoever waits need not download it. What is not
    /// in `files` is removed first. It goes on when the future is dropped.
    ///
    /// # Errors
    /// `disk_full`, `disk_failed`.
    pub async fn finish(self, folder: &str, files: HashSet<PathBuf>) -> Result<Turn> {
        let folder = folder.to_owned();
        blocking(move || {
            keep_only(&self.path.join(&folder), &files)?;
            write_private(&self.path, FINISHED_FILE, folder.as_bytes())?;
            Ok(self)
        })
        .await
    }

    /// Puts the folder into the sandbox: a copy as long as somebody else wants the course, else the
    /// files themselves, after which the directory is gone. A copy ends at the next file when the future
    /// is dropped.
    ///
    /// # Errors
    /// `disk_full`, `disk_failed`.
    pub async fn hand_over(self, folder: &str, sandbox: &Sandbox) -> Result<()> {
        let (sandbox, folder) = (sandbox.clone(), folder.to_owned());
        stoppable(move |stop| {
            let (source, target) = (self.path.join(&folder), sandbox.path().join(&folder));
            let copied = sandbox.path().join(".shared.part");
            let failed =
                |error| Failure::disk(format_args!("moving {} to {}", source.display(), target.display()), error);
            for old in [&target, &copied] {
                remove_directory(old).map_err(failed)?;
            }
            // It says nothing as long as there is no folder of this name.
            no_links::write(&sandbox.path().join(HANDED_OVER_FILE), &folder).map_err(failed)?;
            // It does not matter that a lock that cannot be had is lost: this one is done.
            if self.wanted.try_lock().is_ok() {
                no_links::rename(&source, &target).map_err(failed)?;
                if let Err(error) = remove_directory(&self.path) {
                    tracing::warn!(path = %self.path.display(), "a shared download is handed over, but stays: {error}");
                }
                return Ok(());
            }
            copy_tree(&source, &copied, stop).and_then(|()| no_links::rename(&copied, &target).map_err(failed)).map_err(
                |mut failure| {
                    // A disk that is full should not stay full of this.
                    let _ = remove_directory(&copied);
                    if failure.kind == FailureKind::DeliveryFailed {
                        failure.kind = FailureKind::DiskFailed;
                    }
                    failure
                },
            )
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(staging: &Path) -> SharedDownloads {
        SharedDownloads::new(staging, "720 mp4".into())
    }

    fn url(path: &str) -> Url {
        Url::parse("https://learn.example.com/").unwrap().join(path).unwrap()
    }

    fn sandbox(staging: &Path, task: u64) -> Sandbox {
        Sandbox::at(&staging.join(format!("Task_{task}")))
    }

    /// What the sandboxes of tasks 1 to 3 and the shared directory hold.
    fn found(staging: &Path) -> ([Option<String>; 3], usize) {
        let read = |task| fs::read_to_string(staging.join(format!("Task_{task}/Course/01.ts"))).ok();
        ([1, 2, 3].map(read), fs::read_dir(staging.join(".shared")).unwrap().count())
    }

    /// Downloads the course, and returns its files.
    fn download(turn: &Turn, text: &str) -> HashSet<PathBuf> {
        let file = turn.path().join("Course/01.ts");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        fs::write(file.with_extension("ts.part"), "of an earlier attempt").unwrap();
        HashSet::from([file])
    }

    #[tokio::test]
    async fn who_waits_gets_what_the_first_one_has_and_the_last_one_clears_up() {
        let staging = tempfile::tempdir().unwrap();
        let shared = shared(staging.path());
        let first = shared.turn(&url("a")).await.unwrap();
        assert_eq!(first.finished().await, None);
        let waiting = [2, 3].map(|task| {
            let (shared, sandbox) = (shared.clone(), sandbox(staging.path(), task));
            tokio::spawn(async move {
                let turn = shared.turn(&url("a")).await.unwrap();
                let folder = turn.finished().await.expect("finished by the first");
                turn.hand_over(&folder, &sandbox).await.unwrap();
            })
        });
        let inode = format!(":{} ", std::os::unix::fs::MetadataExt::ino(&first.wanted.metadata().unwrap()));
        while fs::read_to_string("/proc/locks").unwrap().matches(&inode).count() < 3 {
            tokio::time::sleep(LOOK / 10).await;
        }
        shared.turn(&url("b")).await.unwrap();
        let files = download(&first, "bytes");
        let first = first.finish("Course", files).await.unwrap();
        // A file of an earlier attempt of the task is no part of the course.
        fs::create_dir_all(staging.path().join("Task_1/Course/old")).unwrap();
        first.hand_over("Course", &sandbox(staging.path(), 1)).await.unwrap();
        for waiting in waiting {
            waiting.await.unwrap();
        }
        let bytes = || Some("bytes".to_owned());
        assert_eq!(found(staging.path()).0, [bytes(), bytes(), bytes()]);
        assert!(!staging.path().join("Task_1/Course/old").exists());
        assert!(!staging.path().join("Task_1/Course/01.ts.part").exists());
        for task in [1, 2, 3] {
            let sandbox = sandbox(staging.path(), task);
            assert_eq!(SharedDownloads::handed_over(&sandbox).await.as_deref(), Some("Course"));
            fs::remove_dir_all(sandbox.path().join("Course")).unwrap();
            assert_eq!(SharedDownloads::handed_over(&sandbox).await, None, "it is delivered by now");
        }
        assert_eq!(found(staging.path()).1, 1, "b is unfinished and stays for the next attempt");
    }

    #[tokio::test]
    async fn a_turn_that_fails_passes_on_and_one_that_crashed_is_looked_through_again() {
        let staging = tempfile::tempdir().unwrap();
        let shared = shared(staging.path());
        let failing = shared.turn(&url("a")).await.unwrap();
        download(&failing, "part");
        drop(failing);
        let next = shared.turn(&url("a")).await.unwrap();
        assert_eq!(fs::read_to_string(next.path().join("Course/01.ts")).unwrap(), "part");
        // It dies when it has finished, and nobody else is there.
        let files = download(&next, "all");
        drop(next.finish("Course", files).await.unwrap());
        let later = shared.turn(&url("a")).await.unwrap();
        assert_eq!(later.finished().await, None, "finished at another time");
        later.hand_over("Course", &sandbox(staging.path(), 3)).await.unwrap();
        assert_eq!(found(staging.path()), ([None, None, Some("all".into())], 0));
    }

    #[tokio::test]
    async fn what_differs_is_not_shared_and_what_nobody_wants_goes() {
        let staging = tempfile::tempdir().unwrap();
        let turn = shared(staging.path()).turn(&url("a")).await.unwrap();
        let other = SharedDownloads::new(staging.path(), "1080 mp4".into()).turn(&url("a")).await.unwrap();
        assert_ne!(turn.path(), other.path());
        let old = SystemTime::now() - KEPT - Duration::from_secs(60);
        for turn in [&turn, &other] {
            turn._turn.set_modified(old).unwrap();
        }
        drop(turn);
        shared(staging.path()).turn(&url("b")).await.unwrap();
        assert!(other.path().exists(), "somebody has it");
        assert_eq!(found(staging.path()).1, 2, "the other one is gone");
    }
}
