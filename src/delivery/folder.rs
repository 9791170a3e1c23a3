//! The steps of one delivery into a directory.
//!
//! 1. The tree is synced; across file systems it is copied to a hidden name at the destination.
//! 2. `delivery.json` says which directory gets which name.
//! 3. The directory gets its name by one rename that replaces nothing.
//! 4. The source, if it was copied, is renamed to a hidden name and removed.
//!
//! A crash before 3 leaves the source whole: the next call begins again. After 3, the directory at
//! the destination is the one that `delivery.json` names: the next call only finishes 4.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::receipt::{self, FolderPlan, Identity};
use super::{Receipt, check_name, check_source, failure, look, own_name, refused, remove_source, tree};
use crate::disk::no_links;
use crate::failure::{Failure, FailureKind, Result};
use crate::job::TaskId;

/// Moves finished courses into a directory.
#[derive(Debug, Clone)]
pub struct FolderDelivery {
    pub(super) directory: PathBuf,
    /// Copies even where a rename would do, so that tests need no second file system.
    pub(super) always_copy: bool,
}

impl FolderDelivery {
    /// Delivers into `directory`, which is made when it is missing.
    pub fn new(directory: impl Into<PathBuf>) -> FolderDelivery {
        FolderDelivery { directory: directory.into(), always_copy: false }
    }
}

pub fn deliver(
    delivery: &FolderDelivery,
    sandbox: &Path,
    folder: &str,
    task_id: TaskId,
    stop: &AtomicBool,
) -> Result<Receipt> {
    let names = Names::new(folder, task_id)?;
    let made = fs::create_dir_all(&delivery.directory).and_then(|()| no_links::real(&delivery.directory));
    let destination = &made.map_err(|error| failure(format_args!("making {}", delivery.directory.display()), error))?;
    let copied = destination.join(&names.partial);
    tree::remove(&copied)?;
    if let Some(receipt) = delivered(delivery, sandbox)? {
        finish(sandbox, folder, destination, &names)?;
        return Ok(receipt);
    }
    let source = sandbox.join(folder);
    check_source(&source)?;
    tree::sync(&source, stop)?;

    let named = if !delivery.always_copy && on_one_file_system(&source, destination, &names)? {
        give_name(&source, sandbox, destination, folder, &names, stop)
    } else {
        tree::copy(&source, &copied, stop).and_then(|()| give_name(&copied, sandbox, destination, folder, &names, stop))
    };
    if named.is_err() {
        // A disk that is full should not stay full of this; the failure to tell is the first one.
        let _ = tree::remove(&copied);
    }
    let folder_name = named?;
    finish(sandbox, folder, destination, &names)?;
    Ok(Receipt { folder_name })
}

/// Whether the directory that `delivery.json` names has its name. Where the file system has
/// changed its numbers since (a remount), the name is believed when the source is gone.
pub fn delivered(delivery: &FolderDelivery, sandbox: &Path) -> Result<Option<Receipt>> {
    let Some(plan) = receipt::load::<FolderPlan>(sandbox)? else { return Ok(None) };
    let Some(found) = look(&delivery.directory.join(&plan.folder_name))?.filter(Metadata::is_dir) else {
        return Ok(None);
    };
    let source_is_gone = look(&sandbox.join(&plan.source))?.is_none();
    let complete = Identity::of(&found) == plan.identity || source_is_gone;
    Ok(complete.then_some(Receipt { folder_name: plan.folder_name }))
}

/// The names that a delivery uses at the destination.
struct Names {
    /// `<folder> (Task <id>)`: only ever used by this task.
    own: String,
    partial: String,
    replaced: String,
    probe: String,
}

impl Names {
    fn new(folder: &str, task_id: TaskId) -> Result<Names> {
        check_name(folder)?;
        Ok(Names {
            own: own_name(folder, task_id),
            partial: format!(".{folder}.hauld-{task_id}.partial"),
            replaced: format!(".{folder}.hauld-{task_id}.replaced"),
            probe: format!(".{folder}.hauld-{task_id}.probe"),
        })
    }
}

/// Gives the directory the course's name if it is free, else the task's own. What has the task's
/// own name is an earlier delivery of the same task, and is replaced.
fn give_name(
    moving: &Path,
    sandbox: &Path,
    destination: &Path,
    folder: &str,
    names: &Names,
    stop: &AtomicBool,
) -> Result<String> {
    let found = look(moving)?.ok_or_else(|| refused(format!("{} has vanished", moving.display())))?;
    for name in [folder, &names.own] {
        let target = destination.join(name);
        let taken = look(&target)?.is_some();
        if taken && name == folder {
            continue;
        }
        if stop.load(Ordering::Relaxed) {
            return Err(Failure::new(FailureKind::Interrupted, "the delivery was interrupted"));
        }
        let plan = FolderPlan { folder_name: name.into(), source: folder.into(), identity: Identity::of(&found) };
        receipt::store(&plan, sandbox)?;
        let aside = destination.join(&names.replaced);
        if taken {
            tree::remove(&aside)?;
            no_links::rename(&target, &aside).map_err(|error| failure(renaming(&target), error))?;
        }
        use io::ErrorKind::{AlreadyExists, DirectoryNotEmpty};
        match no_links::rename_to_free_name(moving, &target) {
            Ok(()) => {}
            // Another task took the name after the look: the other name is ours alone.
            Err(error) if matches!(error.kind(), AlreadyExists | DirectoryNotEmpty) && name == folder => continue,
            Err(error) => {
                if taken {
                    let _ = no_links::rename(&aside, &target);
                }
                return Err(failure(renaming(moving), error));
            }
        }
        tree::sync_one(destination)?;
        tree::sync_one(sandbox)?;
        return Ok(name.to_owned());
    }
    Err(refused(format!("{} is taken", destination.join(&names.own).display())))
}

fn renaming(path: &Path) -> impl std::fmt::Display {
    format!("renaming {}", path.display())
}

/// The device number does not tell: bind mounts of one file system share it, and a rename between
/// them fails all the same. So an empty directory is renamed.
fn on_one_file_system(source: &Path, destination: &Path, names: &Names) -> Result<bool> {
    let here = source.parent().unwrap_or(source).join(".hauld-probe");
    let there = destination.join(&names.probe);
    let doing = || format!("trying a rename from {} to {}", here.display(), there.display());
    match no_links::create_directory(&here) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failure(doing(), error)),
        _ => {}
    }
    let renamed = no_links::rename(&here, &there);
    // It is empty and hidden: that it cannot be removed changes nothing.
    let _ = no_links::remove_empty_directory(if renamed.is_ok() { &there } else { &here });
    match renamed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => Ok(false),
        Err(error) => Err(failure(doing(), error)),
    }
}

/// Takes away what is not needed any more: the source after it was copied, and what was replaced.
fn finish(sandbox: &Path, folder: &str, destination: &Path, names: &Names) -> Result<()> {
    remove_source(sandbox, folder)?;
    // As there: a hidden rest changes nothing.
    let _ = tree::remove(&destination.join(&names.replaced));
    Ok(())
}
