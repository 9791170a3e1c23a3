//! The steps of one delivery to a remote of rclone.
//!
//! 1. The name: `<folder>` where nothing has it, else `<folder> (Task <id>)`. A remote knows no "make
//!    it unless it is there", so a small file `.hauld-task-<id>` is put under the name first: the name
//!    is ours when nothing else is beside it then. `delivery.json` keeps it.
//! 2. `rclone copy --checksum`: what is there already, and whole, is passed over.
//! 3. `rclone check`: every file is there, by its hash, or by its size where the remote has no hash.
//! 4. The small file goes, `delivery.json` says that all is checked, the source goes.
//!
//! A crash before the end of 4 leaves the source whole and the name ours: the next call goes on. What a
//! killed copy has cut short is found by 2, and were it not, by 3. Nothing but the small file is ever
//! removed at the remote.

mod command;
mod log;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use self::command::{Answer, Rclone};
use super::receipt::{self, RclonePlan};
use super::{Receipt, check_name, check_source, own_name, remove_source, tree};
use crate::config::RcloneSettings;
use crate::disk::blocking;
use crate::failure::{Context, Failure, FailureKind, Result};
use crate::job::TaskId;
use crate::progress::Progress;
use crate::sandbox::Sandbox;

/// Exit status of rclone where there is no such directory.
const NO_DIRECTORY: i32 = 3;
/// Exit status where nothing had to be copied and `RCLONE_ERROR_ON_NO_TRANSFER` is set.
const NOTHING_COPIED: i32 = 9;
/// Files that a failed check names.
const NAMED: usize = 3;

/// Moves finished courses to a remote of rclone. Clones take names in turn.
#[derive(Debug, Clone)]
pub struct RcloneDelivery {
    rclone: Arc<Rclone>,
    remote: String,
    /// Two tasks of one course that looked at the same moment would both go without its name.
    naming: Arc<Mutex<()>>,
}

/// What is made of the standard error of a run that ended with status 1.
pub(crate) fn failure_said(log: &[u8], target: &str) -> Failure {
    let mut said = log::Said::default();
    log.split(|byte| *byte == b'\n').for_each(|line| drop(said.hear(line)));
    Failure::new(said.kind(Some(1), target), said.shown())
}

impl RcloneDelivery {
    /// Delivers to `settings.remote`.
    pub fn new(settings: &RcloneSettings) -> RcloneDelivery {
        RcloneDelivery {
            rclone: Arc::new(Rclone::new(settings)),
            remote: settings.remote.clone(),
            naming: Arc::default(),
        }
    }

    /// Whether rclone is there and knows the remote, in a sentence. Writes nothing.
    ///
    /// # Errors
    /// `delivery_refused` when no course could be delivered as it is configured, `delivery_failed` when
    /// the remote does not answer.
    pub async fn examine(&self) -> Result<String> {
        let cancel = CancellationToken::new();
        let version = self.rclone.version(&cancel).await?;
        let answer = self.rclone.run(["lsf", "--max-depth", "1", &self.remote], &cancel, |_| {}).await?;
        let state = match answer.code {
            Some(0) => "can be listed",
            Some(NO_DIRECTORY) => "is not there yet: the first delivery makes it",
            _ => return Err(answer.failure("").at(&self.remote)),
        };
        Ok(format!("{version}, {} {state}", self.remote))
    }

    pub(super) fn delivered(&self, sandbox: &Path) -> Result<Option<Receipt>> {
        let plan = self.plan(sandbox)?.filter(|plan| plan.checked);
        Ok(plan.map(|plan| Receipt { folder_name: plan.folder_name }))
    }

    pub(super) async fn deliver(
        &self,
        sandbox: &Sandbox,
        folder: &str,
        task_id: TaskId,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<Receipt> {
        check_name(folder)?;
        let source = std::path::absolute(sandbox.path().join(folder))
            .map_err(|error| super::failure(format_args!("looking for {folder}"), error))?;
        let claim = Claim { name: format!(".hauld-task-{task_id}"), folder, sandbox: sandbox.path(), cancel };
        let plan = match self.plan(sandbox.path())?.filter(|plan| plan.source == folder) {
            Some(plan) => plan,
            None => {
                check_source(&source)?;
                let folder_name = self.choose_name(&claim, own_name(folder, task_id)).await?;
                let (remote, source) = (self.remote.clone(), folder.to_owned());
                let plan = RclonePlan { remote, folder_name, source, checked: false };
                note(sandbox, &plan).await?;
                plan
            }
        };
        let plan = match plan.checked {
            true => plan,
            false => {
                let target = self.path_of(&plan.folder_name);
                check_source(&source)?;
                self.copy(&source, &target, progress, cancel).await.at(|| &target)?;
                self.check(&source, &target, cancel).await.at(|| &target)?;
                if plan.folder_name == folder {
                    self.give_up_claim(&claim).await.at(|| &target)?;
                }
                let plan = RclonePlan { checked: true, ..plan };
                note(sandbox, &plan).await?;
                plan
            }
        };
        let (sandbox, source) = (sandbox.clone(), plan.source);
        blocking(move || remove_source(sandbox.path(), &source)).await?;
        Ok(Receipt { folder_name: plan.folder_name })
    }

    /// The plan of a delivery to this remote.
    fn plan(&self, sandbox: &Path) -> Result<Option<RclonePlan>> {
        Ok(receipt::load::<RclonePlan>(sandbox)?.filter(|plan| plan.remote == self.remote))
    }

    /// A path below the remote. A name has no slash, and whatever else is in it stands behind the
    /// colon of the remote, where nothing but a slash has a meaning.
    fn path_of(&self, name: &str) -> String {
        let slash = if self.remote.ends_with([':', '/']) { "" } else { "/" };
        format!("{}{slash}{name}", self.remote)
    }

    async fn choose_name(&self, claim: &Claim<'_>, own: String) -> Result<String> {
        let _one_at_a_time = self.naming.lock().await;
        let target = self.path_of(claim.folder);
        let mut found = self.list(&target, claim.cancel).await.at(|| &target)?;
        if !found.is_empty() && !found.contains(&claim.name) {
            return Ok(own);
        }
        if found.is_empty() {
            self.put_claim(claim).await.at(|| &target)?;
            found = self.list(&target, claim.cancel).await.at(|| &target)?;
        }
        if found == [claim.name.as_str()] {
            return Ok(claim.folder.to_owned());
        }
        // Somebody came at the same moment, or the remote does not show what was just put there; or an
        // earlier call died before it gave the name up, and who owns it has even finished since. All
        // leave the name alone rather than that courses are mixed.
        self.give_up_claim(claim).await.at(|| &target)?;
        Ok(own)
    }

    /// The names in a directory of the remote; none where there is no such directory.
    async fn list(&self, target: &str, cancel: &CancellationToken) -> Result<Vec<String>> {
        let answer = self.rclone.run(["lsf", "--max-depth", "1", target], cancel, |_| {}).await?;
        match answer.code {
            Some(0) => Ok(answer.stdout.lines().map(str::to_owned).collect()),
            Some(NO_DIRECTORY) => Ok(Vec::new()),
            _ => Err(answer.failure(target)),
        }
    }

    async fn put_claim(&self, claim: &Claim<'_>) -> Result<()> {
        let file = std::path::absolute(claim.sandbox.join(".claim"))
            .and_then(|file| std::fs::write(&file, "hauld is putting a course here.\n").map(|()| file))
            .map_err(|error| super::failure("writing .claim", error))?;
        let target = self.path_of_claim(claim);
        let answer = self.rclone.run(["copyto".as_ref(), file.as_os_str(), target.as_ref()], claim.cancel, |_| {});
        answer.await?.expect(&[0, NOTHING_COPIED], &target).map(drop)
    }

    async fn give_up_claim(&self, claim: &Claim<'_>) -> Result<()> {
        let target = self.path_of_claim(claim);
        let answer = self.rclone.run(["deletefile", &target], claim.cancel, |_| {}).await?;
        // An earlier call may have come so far.
        if answer.says("is a directory or doesn't exist") || answer.says("object not found") {
            return Ok(());
        }
        answer.expect(&[0], &target).map(drop)
    }

    fn path_of_claim(&self, claim: &Claim<'_>) -> String {
        format!("{}/{}", self.path_of(claim.folder), claim.name)
    }

    async fn copy(&self, source: &Path, target: &str, progress: &Progress, cancel: &CancellationToken) -> Result<()> {
        let arguments = ["copy".as_ref(), source.as_os_str(), target.as_ref(), "--checksum".as_ref()];
        let tell = |stats: &log::Stats| progress.uploaded(stats.bytes, stats.total_bytes, stats.current_file());
        let answer = self.rclone.run(arguments, cancel, tell).await?;
        answer.expect(&[0, NOTHING_COPIED], target).map(drop)
    }

    /// Whether every file of the source is at the target. rclone's filters, which an environment can
    /// set, do not count: the files are counted here.
    async fn check(&self, source: &Path, target: &str, cancel: &CancellationToken) -> Result<()> {
        let files = {
            let source = source.to_owned();
            super::stoppable(move |stop: &AtomicBool| tree::count_files(&source, stop)).await?
        };
        let options = ["--one-way", "--combined", "-"].map(AsRef::as_ref);
        let arguments = ["check".as_ref(), source.as_os_str(), target.as_ref()].into_iter().chain(options);
        let answer = self.rclone.run(arguments, cancel, |_| {}).await?;
        judge_check(answer, files, target)
    }
}

/// One task's wish for a name.
struct Claim<'a> {
    /// Of the file that stands for it.
    name: String,
    folder: &'a str,
    sandbox: &'a Path,
    cancel: &'a CancellationToken,
}

/// Each line is a sign and a path: `=` for the same, `*` for another, `+` for missing there, `!` for
/// an error.
fn judge_check(answer: Answer, files: u64, target: &str) -> Result<()> {
    let (same, odd): (Vec<&str>, Vec<&str>) = answer.stdout.lines().partition(|line| line.starts_with("= "));
    let different: Vec<&str> = odd.into_iter().filter(|line| !line.starts_with("! ")).collect();
    let count = same.len() as u64;
    if answer.code == Some(0) && count == files {
        return Ok(());
    }
    if different.is_empty() && answer.code != Some(0) {
        return Err(answer.failure(target));
    }
    let names = different.iter().take(NAMED).filter_map(|line| line.get(2..)).collect::<Vec<_>>().join(", ");
    let message = format!("{count} of {files} files are there as they should be; not so: {names}");
    Err(Failure::new(FailureKind::DeliveryFailed, message.trim_end_matches("; not so: ")))
}

async fn note(sandbox: &Sandbox, plan: &RclonePlan) -> Result<()> {
    let (sandbox, plan) = (sandbox.clone(), plan.clone());
    blocking(move || receipt::store(&plan, sandbox.path())).await
}

#[cfg(test)]
mod tests;
