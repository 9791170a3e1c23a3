//! The course folder to its destination: whole and checked under its name.
//!
//! * `folder`: into a directory: the steps of one delivery and what a crash between any two of them leaves
//! * `rclone`: to a remote of rclone, the same
//! * `greet`: the look at the destination when a daemon starts
//! * `receipt`: what is noted in the sandbox meanwhile
//! * `tree`: measuring, syncing and copying a directory tree

mod folder;
mod greet;
mod rclone;
mod receipt;
#[cfg(test)]
mod tests;
mod tree;

pub(crate) use rclone::failure_said;
pub(crate) use tree::copy as copy_tree;

use std::fs::Metadata;
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

use crate::config::{DeliveryKind, DeliverySettings};
use crate::disk::{blocking, no_links};
use crate::failure::{Failure, FailureKind, Result};
use crate::job::TaskId;
use crate::progress::Progress;
use crate::sandbox::Sandbox;

pub use folder::FolderDelivery;
pub use greet::greet;
pub use rclone::RcloneDelivery;
pub use receipt::Receipt;

/// Takes finished courses to where they are to be.
#[derive(Debug, Clone)]
pub enum Delivery {
    Folder(FolderDelivery),
    Rclone(RcloneDelivery),
}

impl Delivery {
    /// The one that is configured.
    pub fn new(settings: &DeliverySettings) -> Delivery {
        match settings.kind {
            DeliveryKind::Folder => Delivery::Folder(FolderDelivery::new(settings.directory.clone())),
            DeliveryKind::Rclone => Delivery::Rclone(RcloneDelivery::new(&settings.rclone)),
        }
    }

    /// Whether a delivery takes as long as a download: it is half of the way then.
    pub fn uploads(&self) -> bool {
        matches!(self, Delivery::Rclone(_))
    }

    /// Moves the course folder `folder` out of `sandbox` (`<staging>/Task_<id>`). Its name at the
    /// destination is `folder`, or `<folder> (Task <id>)` where that is taken already; nothing of
    /// another task is ever replaced.
    ///
    /// When this returns, all of it is there and has been checked. A call after a crash finishes what
    /// was begun, and returns the same receipt. `progress` hears of bytes that go over a network;
    /// `cancel` stops such a delivery, while one within this host is short and stops only when the
    /// future is dropped.
    ///
    /// # Errors
    /// [`FailureKind::DiskFull`], [`FailureKind::DeliveryFailed`], [`FailureKind::DeliveryRefused`],
    /// [`FailureKind::Interrupted`]; the folder is still in the sandbox then.
    pub async fn deliver(
        &self,
        sandbox: &Sandbox,
        folder: &str,
        task_id: TaskId,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<Receipt> {
        match self {
            Delivery::Folder(delivery) => {
                let (delivery, sandbox, folder) = (delivery.clone(), sandbox.clone(), folder.to_owned());
                stoppable(move |stop| folder::deliver(&delivery, sandbox.path(), &folder, task_id, stop)).await
            }
            Delivery::Rclone(delivery) => delivery.deliver(sandbox, folder, task_id, progress, cancel).await,
        }
    }

    /// The receipt of a delivery from this sandbox that is complete.
    ///
    /// # Errors
    /// When the sandbox cannot be read.
    pub async fn delivered(&self, sandbox: &Sandbox) -> Result<Option<Receipt>> {
        let (delivery, sandbox) = (self.clone(), sandbox.clone());
        blocking(move || match &delivery {
            Delivery::Folder(delivery) => folder::delivered(delivery, sandbox.path()),
            Delivery::Rclone(delivery) => delivery.delivered(sandbox.path()),
        })
        .await
    }
}

/// Runs file work where it may take long. When the caller goes away, the work stops at the next
/// file, and keeps the sandbox until then: nothing may be delivered for a job that is not ours any
/// more.
pub(crate) async fn stoppable<T: Send + 'static>(
    work: impl FnOnce(&AtomicBool) -> Result<T> + Send + 'static,
) -> Result<T> {
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

/// Refuses what is not the name of one folder.
fn check_name(folder: &str) -> Result<()> {
    let mut components = Path::new(folder).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(name)), None) if name == folder => Ok(()),
        _ => Err(refused(format!("{folder:?} is not the name of a folder"))),
    }
}

/// The name that only this task uses.
fn own_name(folder: &str, task_id: TaskId) -> String {
    format!("{folder} (Task {task_id})")
}

/// Refuses what is not a directory: it is not a course of ours.
fn check_source(source: &Path) -> Result<()> {
    match look(source)? {
        Some(found) if found.is_dir() => Ok(()),
        Some(_) => Err(refused(format!("{} is not a directory", source.display()))),
        None => Err(refused(format!("{} is missing", source.display()))),
    }
}

/// Takes the source of a delivery that is complete away. It loses its name first, so that no half of
/// it can ever be taken for the course.
fn remove_source(sandbox: &Path, folder: &str) -> Result<()> {
    let source = sandbox.join(folder);
    let removed = sandbox.join(".delivered");
    if look(&source)?.is_some() {
        tree::remove(&removed)?;
        no_links::rename(&source, &removed)
            .map_err(|error| failure(format_args!("renaming {}", source.display()), error))?;
    }
    // The course is delivered: that a hidden rest cannot be removed is no reason to say otherwise.
    let _ = tree::remove(&removed);
    Ok(())
}

/// What is there, links not followed.
fn look(path: &Path) -> Result<Option<Metadata>> {
    match std::fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failure(format_args!("looking at {}", path.display()), error)),
    }
}

/// What a failure of the file system means here.
fn failure(doing: impl std::fmt::Display, error: io::Error) -> Failure {
    let mut failure = Failure::disk(doing, error);
    if failure.kind == FailureKind::DiskFailed {
        failure.kind = FailureKind::DeliveryFailed;
    }
    failure
}

fn refused(reason: String) -> Failure {
    Failure::new(FailureKind::DeliveryFailed, reason)
}
