//! The course folder to its destination: whole under its name, or not at all.
//!
//! * `folder`: the steps of one delivery and what a crash between any two of them leaves
//! * `tree`: syncing and copying a directory tree

mod folder;
mod receipt;
#[cfg(test)]
mod tests;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::{Failure, FailureKind, Result};
use crate::job::TaskId;

pub use receipt::Receipt;

/// Moves finished courses into a directory.
#[derive(Debug, Clone)]
pub struct FolderDelivery {
    directory: PathBuf,
    /// Copies even where a rename would do, so that tests need no second file system.
    always_copy: bool,
}

impl FolderDelivery {
    /// Delivers into `directory`, which is made when it is missing.
    pub fn new(directory: impl Into<PathBuf>) -> FolderDelivery {
        FolderDelivery { directory: directory.into(), always_copy: false }
    }

    /// Moves the course folder `folder` out of `sandbox` (`<staging>/Task_<id>`). Its name at the
    /// destination is `folder`, or `<folder> (Task <id>)` where that is taken already; nothing of
    /// another task is ever replaced.
    ///
    /// When this returns, all of it is on disk. A call after a crash finishes what was begun, and
    /// returns the same receipt.
    ///
    /// # Errors
    /// [`FailureKind::DiskFull`] or [`FailureKind::DeliveryFailed`]; the folder is still in the
    /// sandbox then, and nothing under a final name at the destination.
    pub async fn deliver(&self, sandbox: &Path, folder: &str, task_id: TaskId) -> Result<Receipt> {
        let (delivery, sandbox, folder) = (self.clone(), sandbox.to_owned(), folder.to_owned());
        blocking(move |stop| folder::deliver(&delivery, &sandbox, &folder, task_id, stop)).await
    }

    /// The receipt of a delivery from this sandbox that is complete.
    ///
    /// # Errors
    /// When the sandbox cannot be read.
    pub async fn delivered(&self, sandbox: &Path) -> Result<Option<Receipt>> {
        let (delivery, sandbox) = (self.clone(), sandbox.to_owned());
        blocking(move |_| folder::delivered(&delivery, &sandbox)).await
    }
}

/// Runs file work where it may take long. When the caller goes away, the work stops at the next
/// file: nothing may be delivered for a job that is not ours any more.
async fn blocking<T: Send + 'static>(work: impl FnOnce(&AtomicBool) -> Result<T> + Send + 'static) -> Result<T> {
    struct StopOnDrop(Arc<AtomicBool>);
    impl Drop for StopOnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = StopOnDrop(Arc::default());
    let flag = stop.0.clone();
    let task = tokio::task::spawn_blocking(move || work(&flag));
    task.await.unwrap_or_else(|error| Err(Failure::new(FailureKind::Internal, format!("delivery: {error}"))))
}

/// What a failure of the file system means here.
fn failure(doing: impl std::fmt::Display, error: std::io::Error) -> Failure {
    let mut failure = Failure::disk(doing, error);
    if failure.kind == FailureKind::DiskFailed {
        failure.kind = FailureKind::DeliveryFailed;
    }
    failure
}
