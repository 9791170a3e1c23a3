//! `delivery.json` in the sandbox: what is being delivered under which name.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::failure;
use crate::disk::no_links;
use crate::failure::Result;

/// Name of the file.
const NAME: &str = "delivery.json";

/// A delivery that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Name of the course's folder at the destination.
    pub folder_name: String,
}

/// A delivery into a directory. Written before the move, so that what it says is true of any state
/// that a crash can leave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderPlan {
    /// Name at the destination.
    pub folder_name: String,
    /// Name in the sandbox.
    pub source: String,
    /// The very directory that gets the name: a rename keeps its number, and no other has it.
    pub identity: Identity,
}

/// A delivery by rclone. Written when the name at the destination is ours, and again when all that is
/// there has been checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RclonePlan {
    /// Where to: another destination is another delivery.
    pub remote: String,
    /// Name at the destination.
    pub folder_name: String,
    /// Name in the sandbox.
    pub source: String,
    /// Whether everything is there, and the source may go.
    pub checked: bool,
}

/// Which directory it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub fn of(metadata: &Metadata) -> Identity {
        Identity { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// Reads the plan of this kind; `None` when there is none, or when a crash came before it was whole.
pub fn load<Plan: DeserializeOwned>(sandbox: &Path) -> Result<Option<Plan>> {
    match fs::read(sandbox.join(NAME)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failure(format_args!("reading {}", sandbox.join(NAME).display()), error)),
    }
}

/// Writes a plan, whole and on disk.
pub fn store(plan: &impl Serialize, sandbox: &Path) -> Result<()> {
    let write = || -> io::Result<()> {
        let temporary = sandbox.join("delivery.json.part");
        let mut file = no_links::create(&temporary)?;
        file.write_all(&serde_json::to_vec(plan)?)?;
        file.sync_all()?;
        no_links::rename(&temporary, &sandbox.join(NAME))?;
        File::open(sandbox)?.sync_all()
    };
    write().map_err(|error| failure(format_args!("writing {}", sandbox.join(NAME).display()), error))
}
