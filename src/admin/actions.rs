//! What can be done on the page: pause, resume, and the dead list. The commands do the same.

use std::sync::Arc;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::page::Refusal;
use crate::dead::{self, Retried};
use crate::failure::{Context, FailureKind, Result};
use crate::queue::{DeadFilter, QueueView};
use crate::store::TaskStore;

/// Characters of a reason.
const LONGEST_REASON: usize = 200;

/// Who acts.
pub(super) struct Actions {
    pub view: QueueView,
    pub store: Arc<dyn TaskStore>,
}

/// Whom a pause is for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PauseRequest {
    /// Everybody when there is none.
    instance: Option<String>,
    #[serde(default)]
    reason: String,
}

/// Whose pause is to end.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResumeRequest {
    /// That of everybody when there is none.
    instance: Option<String>,
}

/// Which entries of the dead list: those of the ids, those of the kind, or all.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadRequest {
    #[serde(default)]
    ids: Vec<String>,
    kind: Option<String>,
    #[serde(default)]
    all: bool,
}

/// What has been done.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Done {
    /// In words.
    pub said: String,
    /// What the operator should know of single entries.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

impl Done {
    fn said(said: impl Into<String>) -> Done {
        Done { said: said.into(), remarks: Vec::new() }
    }
}

impl DeadRequest {
    fn filter(&self) -> Result<DeadFilter, Refusal> {
        let wrong = |detail: &str| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
        let kind = self.kind.as_deref().map(|name| FailureKind::named(name).ok_or_else(|| wrong("No such kind.")));
        let kinds = kind.transpose()?.into_iter().collect::<Vec<_>>();
        if self.ids.iter().any(String::is_empty) || (self.ids.is_empty() && kinds.is_empty() && !self.all) {
            return Err(wrong("Which entries? Name ids or a kind, or ask for all."));
        }
        Ok(DeadFilter { ids: self.ids.clone(), kinds, ..DeadFilter::default() })
    }
}

impl Actions {
    pub(super) async fn pause(&self, request: PauseRequest) -> Result<Done, Refusal> {
        let reason: String = request.reason.trim().chars().take(LONGEST_REASON).collect();
        let reason = if reason.is_empty() { "by an operator" } else { &reason };
        let instance = request.instance.as_deref();
        self.view.pause(instance, reason).await?;
        Ok(Done::said(format!("{} starts nothing more; what runs goes on.", whom(instance))))
    }

    pub(super) async fn resume(&self, request: ResumeRequest) -> Result<Done, Refusal> {
        let instance = request.instance.as_deref();
        let was_paused = self.view.resume(instance).await?;
        let still = self.view.pauses().await?.len();
        let whom = whom(instance);
        Ok(Done::said(match (was_paused, still) {
            (false, _) => format!("{whom} was not paused."),
            (true, 0) => format!("{whom} starts jobs again."),
            (true, 1) => format!("{whom} may start jobs again, but for one more pause."),
            (true, still) => format!("{whom} may start jobs again, but for {still} more pauses."),
        }))
    }

    /// The oldest first, as they came.
    pub(super) async fn retry(&self, request: DeadRequest) -> Result<Done, Refusal> {
        let entries = self.view.dead_entries(&request.filter()?, usize::MAX).await?;
        let (mut revived, mut remarks) = (0, Vec::new());
        for entry in entries.iter().rev() {
            let retried = dead::retry(&self.view, &*self.store, entry, false).await;
            match retried.at(|| format!("after {revived} of {} were put back", entries.len()))? {
                Retried::Back(remark) => {
                    revived += 1;
                    if let (Some(remark), Some(task)) = (remark, entry.envelope.task_id) {
                        remarks.push(format!("Task {task}: {remark}."));
                    }
                }
                Retried::Gone => {}
                Retried::Refused(reason) => remarks.push(reason),
            }
        }
        Ok(Done { said: format!("{revived} of {} back in the queue.", entries.len()), remarks })
    }

    pub(super) async fn purge(&self, request: DeadRequest) -> Result<Done, Refusal> {
        let entries = self.view.dead_entries(&request.filter()?, usize::MAX).await?;
        let mut purged = 0;
        for entry in &entries {
            purged += usize::from(self.view.purge(entry).await?);
        }
        Ok(Done::said(format!("{purged} of {} thrown away.", entries.len())))
    }
}

fn whom(instance: Option<&str>) -> String {
    instance.map_or_else(|| "Every instance".to_owned(), str::to_owned)
}
