//! A task's own directory in staging: `<staging>/Task_<id>/`.

use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};
use crate::job::TaskId;

/// One task's directory. What is in it stays after a failure, for the next attempt and for a look.
#[derive(Debug)]
pub struct Sandbox {
    path: PathBuf,
}

impl Sandbox {
    /// Opens or creates it.
    ///
    /// # Errors
    /// `disk_full`, `disk_failed`.
    pub async fn open(staging: &Path, task_id: TaskId) -> Result<Sandbox> {
        let path = staging.join(format!("Task_{task_id}"));
        let created = tokio::fs::create_dir_all(&path).await;
        created.map_err(|error| Failure::disk(format_args!("creating {}", path.display()), error))?;
        Ok(Sandbox { path })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it with everything in it: only after delivery and the finalize call have succeeded.
    ///
    /// # Errors
    /// `disk_failed`; the course is delivered all the same.
    pub async fn remove(self) -> Result<()> {
        let removed = tokio::fs::remove_dir_all(&self.path).await;
        removed.map_err(|error| Failure::disk(format_args!("removing {}", self.path.display()), error))
    }
}
