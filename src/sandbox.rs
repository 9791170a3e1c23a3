//! A task's own directory in staging: `<staging>/Task_<id>/`.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use url::Url;

use crate::disk::{self, blocking, no_links, open_locked};
use crate::failure::{Failure, Result};
use crate::http::shown;
use crate::job::JobSpec;

/// Says which course the sandbox is for.
const COURSE_FILE: &str = ".course";
/// Says for which element the backend has accepted the finalize call.
const FINALIZED_FILE: &str = ".finalized";
/// How long a lock may be held by nobody: a child that this process has just forked has a copy of
/// every lock until it becomes another program.
const FORK_GRACE: Duration = Duration::from_secs(2);

/// One task's directory, which nobody else has meanwhile. What is in it stays after a failure, for
/// the next attempt and for a look. Clones share the lock.
#[derive(Debug, Clone)]
pub struct Sandbox {
    path: PathBuf,
    _lock: Arc<File>,
}

impl Sandbox {
    /// Opens or creates it. `None` while another job of the same task has it: the element was
    /// pushed twice, or the instance that lost it has not stopped yet. What is left of another
    /// course is removed.
    ///
    /// # Errors
    /// `disk_full`, `disk_failed`.
    pub async fn open(staging: &Path, spec: &JobSpec) -> Result<Option<Sandbox>> {
        Sandbox::open_within(Duration::ZERO, staging, spec).await
    }

    async fn open_within(patience: Duration, staging: &Path, spec: &JobSpec) -> Result<Option<Sandbox>> {
        let (path, course) = (path(staging, spec), course_line(&spec.course_url));
        blocking(move || {
            let open = || {
                no_links::create_directories(&path)?;
                no_links::directory(&path)
            };
            let Some(lock) = open_locked(&path, patience, open)? else { return Ok(None) };
            let prepared = remove_strangers(&path).and_then(|()| bind(&path, &course));
            prepared.map_err(|error| Failure::disk(format_args!("preparing {}", path.display()), error))?;
            Ok(Some(Sandbox { path, _lock: Arc::new(lock) }))
        })
        .await
    }

    /// The one that is there for this course. `None` when there is none, or another job has it.
    ///
    /// # Errors
    /// `disk_failed`.
    pub async fn existing(staging: &Path, spec: &JobSpec) -> Result<Option<Sandbox>> {
        let course = path(staging, spec).join(COURSE_FILE);
        let bound_to = tokio::fs::read_to_string(&course).await.unwrap_or_default();
        match bound_to == course_line(&spec.course_url) {
            true => Sandbox::open_within(FORK_GRACE, staging, spec).await,
            false => Ok(None),
        }
    }

    /// Waits while another job has the sandbox. It may be taken again before this returns.
    ///
    /// # Errors
    /// `disk_failed`.
    pub async fn wait(staging: &Path, spec: &JobSpec) -> Result<()> {
        while Sandbox::open_within(FORK_GRACE, staging, spec).await?.is_none() {}
        Ok(())
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Notes that the backend has accepted the finalize call for the element of this id: a run that
    /// dies or loses its job before it could tell Redis leaves this for the next one on the host.
    ///
    /// # Errors
    /// `disk_full`, `disk_failed`.
    pub async fn note_finalized(&self, id: &str) -> Result<()> {
        // Too short to be torn; a power loss may take it, which costs a repeated call.
        disk::write(&self.path.join(FINALIZED_FILE), id).await
    }

    /// Whether that has been noted.
    pub async fn is_finalized(&self, id: &str) -> bool {
        tokio::fs::read(self.path.join(FINALIZED_FILE)).await.is_ok_and(|noted| noted == id.as_bytes())
    }

    /// Removes everything from the course folder `folder` that is not in `files`: what an earlier
    /// attempt began under a name that the course does not have any more.
    ///
    /// # Errors
    /// `disk_failed`.
    pub async fn keep_only(&self, folder: &str, files: HashSet<PathBuf>) -> Result<()> {
        let (sandbox, folder) = (self.clone(), self.path.join(folder));
        blocking(move || {
            let _locked = sandbox;
            keep_only(&folder, &files)
        })
        .await
    }

    /// Removes it with everything in it: only after delivery and the finalize call have succeeded.
    ///
    /// # Errors
    /// `disk_failed`; the course is delivered all the same.
    pub async fn remove(self) -> Result<()> {
        blocking(move || {
            let removed = fs::remove_dir_all(&self.path);
            removed.map_err(|error| Failure::disk(format_args!("removing {}", self.path.display()), error))
        })
        .await
    }

    #[cfg(test)]
    pub(crate) fn at(path: &Path) -> Sandbox {
        fs::create_dir_all(path).unwrap();
        Sandbox { path: path.to_owned(), _lock: Arc::new(File::open(path).unwrap()) }
    }
}

fn path(staging: &Path, spec: &JobSpec) -> PathBuf {
    staging.join(format!("Task_{}", spec.task_id))
}

/// The whole URL counts, but its query may hold what must not be shown.
fn course_line(url: &Url) -> String {
    format!("{} {}\n", hex::encode(&Sha256::digest(url.as_str())[..16]), shown(url))
}

/// Removes what is neither a file nor a directory: links, pipes, sockets. None is ours.
fn remove_strangers(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let (kind, path) = entry.and_then(|entry| Ok((entry.file_type()?, entry.path())))?;
        if kind.is_dir() {
            remove_strangers(&path)?;
        } else if !kind.is_file() {
            tracing::warn!("{} is a link or a pipe, which nobody here makes: it is removed", path.display());
            no_links::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Makes sure that what is in the directory is of this course.
fn bind(directory: &Path, course: &str) -> io::Result<()> {
    let file = directory.join(COURSE_FILE);
    match fs::read_to_string(&file) {
        Ok(bound_to) if bound_to == course => return Ok(()),
        Ok(bound_to) => {
            tracing::warn!(was_for = bound_to.trim_end(), "the task has another course now: its sandbox is emptied");
            for entry in fs::read_dir(directory)? {
                let entry = entry?;
                match entry.file_type()?.is_dir() {
                    true => fs::remove_dir_all(entry.path())?,
                    // Last, so that a crash on the way leaves a sandbox that is still to be emptied.
                    false if entry.path() == file => {}
                    false => no_links::remove_file(&entry.path())?,
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let part = directory.join(".course.part");
    no_links::write(&part, course)?;
    no_links::rename(&part, &file)
}

/// Removes everything from a folder that is not in `files`. Blocks its thread.
///
/// # Errors
/// `disk_failed`.
pub fn keep_only(folder: &Path, files: &HashSet<PathBuf>) -> Result<()> {
    let pruned = prune(folder, files);
    pruned.map_err(|error| Failure::disk(format_args!("clearing {}", folder.display()), error))
}

/// Removes all files that are not in `files` and the directories that are empty then.
fn prune(directory: &Path, files: &HashSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            prune(&path, files)?;
            if fs::read_dir(&path)?.next().is_none() {
                no_links::remove_empty_directory(&path)?;
            }
        } else if !files.contains(&path) {
            no_links::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::TaskId;

    fn spec(url: &str) -> JobSpec {
        let task_id = TaskId::new(7).unwrap();
        JobSpec { task_id, email: "a@b".into(), course_url: url.parse().unwrap(), force: false, trace: None }
    }

    #[tokio::test]
    async fn a_task_has_its_sandbox_alone_and_finds_it_again() {
        let staging = tempfile::tempdir().unwrap();
        let spec = spec("https://h/course?id=1");
        assert!(Sandbox::existing(staging.path(), &spec).await.unwrap().is_none());
        let first = Sandbox::open(staging.path(), &spec).await.unwrap().unwrap();
        fs::write(first.path().join("kept"), "").unwrap();
        assert!(Sandbox::open(staging.path(), &spec).await.unwrap().is_none());
        let work = first.clone();
        drop(first);
        assert!(Sandbox::existing(staging.path(), &spec).await.unwrap().is_none(), "work goes on in it");
        drop(work);
        let again = Sandbox::existing(staging.path(), &spec).await.unwrap().unwrap();
        assert!(again.path().join("kept").exists());
        again.remove().await.unwrap();
        assert!(!staging.path().join("Task_7").exists());
    }

    #[tokio::test]
    async fn nothing_is_written_through_a_link() {
        use std::os::unix::fs::symlink;
        let (staging, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let spec = spec("https://h/course?id=1");
        let theirs = elsewhere.path().join("theirs");
        fs::write(&theirs, "theirs").unwrap();
        symlink(elsewhere.path(), staging.path().join("Task_7")).unwrap();
        let failure = Sandbox::open(staging.path(), &spec).await.unwrap_err();
        assert!(failure.message.contains("symbolic link"), "{failure}");
        fs::remove_file(staging.path().join("Task_7")).unwrap();

        fs::create_dir_all(staging.path().join("Task_7/Course")).unwrap();
        symlink(elsewhere.path(), staging.path().join("Task_7/Course/01 Start")).unwrap();
        symlink(&theirs, staging.path().join("Task_7/Course/001 Film.mp4.part")).unwrap();
        symlink(&theirs, staging.path().join("Task_7").join(COURSE_FILE)).unwrap();
        let sandbox = Sandbox::open(staging.path(), &spec).await.unwrap().unwrap();
        assert_eq!(fs::read_dir(sandbox.path().join("Course")).unwrap().count(), 0);
        sandbox.remove().await.unwrap();
        assert_eq!(fs::read_to_string(&theirs).unwrap(), "theirs");
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn nothing_of_another_course_stays() {
        let staging = tempfile::tempdir().unwrap();
        let (one, two) = (spec("https://h/course?id=1"), spec("https://h/course?id=2"));
        let sandbox = Sandbox::open(staging.path(), &one).await.unwrap().unwrap();
        fs::create_dir(sandbox.path().join("Course")).unwrap();
        fs::write(sandbox.path().join("Course/a.mp4"), "one").unwrap();
        fs::write(sandbox.path().join("delivery.json"), "{}").unwrap();
        drop(sandbox);
        assert!(Sandbox::existing(staging.path(), &two).await.unwrap().is_none());
        let sandbox = Sandbox::open_within(FORK_GRACE, staging.path(), &two).await.unwrap().unwrap();
        let names: Vec<_> = fs::read_dir(sandbox.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [COURSE_FILE]);
    }

    #[tokio::test]
    async fn only_what_belongs_to_the_course_stays_in_its_folder() {
        let staging = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::open(staging.path(), &spec("https://h/c")).await.unwrap().unwrap();
        let course = sandbox.path().join("Course");
        for path in ["01 A/001 x.mp4", "01 A/001 old.mp4.part", "02 Gone/001 y.mp4", "02 Gone/deep/z"] {
            fs::create_dir_all(course.join(path).parent().unwrap()).unwrap();
            fs::write(course.join(path), "").unwrap();
        }
        sandbox.keep_only("Course", HashSet::from([course.join("01 A/001 x.mp4")])).await.unwrap();
        assert!(course.join("01 A/001 x.mp4").exists());
        assert_eq!(fs::read_dir(course.join("01 A")).unwrap().count(), 1);
        assert_eq!(fs::read_dir(&course).unwrap().count(), 1);
    }
}
