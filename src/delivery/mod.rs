//! The course folder to its destination: whole under its name, or not at all.
//!
//! * `folder`: the steps of one delivery and what a crash between any two of them leaves
//! * `tree`: syncing and copying a directory tree

mod folder;
mod receipt;
#[cfg(test)]
mod tests;
mod tree;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::disk::blocking;
use crate::failure::{Failure, FailureKind, Result};
use crate::job::TaskId;
use crate::sandbox::Sandbox;

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
    pub async fn deliver(&self, sandbox: &Sandbox, folder: &str, task_id: TaskId) -> Result<Receipt> {
        let (delivery, sandbox, folder) = (self.clone(), sandbox.clone(), folder.to_owned());
        stoppable(move |stop| folder::deliver(&delivery, sandbox.path(), &folder, task_id, stop)).await
    }

    /// The receipt of a delivery from this sandbox that is complete.
    ///
    /// # Errors
    /// When the sandbox cannot be read.
    pub async fn delivered(&self, sandbox: &Sandbox) -> Result<Option<Receipt>> {
        let (delivery, sandbox) = (self.clone(), sandbox.clone());
        blocking(move || folder::delivered(&delivery, sandbox.path())).await
    }
}

/// Runs file work where it may take long. When the caller goes away, the work stops at the next
/// file, and keeps the sandbox until then: nothing may be delivered for a job that is not ours any
/// more.
async fn stoppable<T: Send + 'static>(work: impl FnOnce(&AtomicBool) -> Result<T> + Send + 'static) -> Result<T> {
    struct StopOnDrop(Arc<AtomicBool>);
    impl Drop for StopOnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = StopOnDrop(Arc::default());
    let flag = stop.0.clone();
    blocking(move || work(&flag)).await
}

/// What a failure of the file system means here.
fn failure(doing: impl std::fmt::Display, error: std::io::Error) -> Failure {
    let mut failure = Failure::disk(doing, error);
    if failure.kind == FailureKind::DiskFailed {
        failure.kind = FailureKind::DeliveryFailed;
    }
    failure
}
