//! `hauld dead`: the dead list, from the command line.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use jiff::{Span, SpanRelativeTo};
use serde_json::json;

use super::answer::Answer;
use crate::config::Config;
use crate::dead::{self, Retried};
use crate::failure::{FailureKind, JobPolicy, Result};
use crate::job::TaskId;
use crate::queue::{DeadEntry, DeadFilter, QueueView};
use crate::redis_client;
use crate::store;

/// Arguments of `hauld dead`.
#[derive(Debug, Args)]
pub struct DeadArguments {
    #[command(subcommand)]
    pub command: DeadCommand,
}

/// What to do with the dead list.
#[derive(Debug, Subcommand)]
pub enum DeadCommand {
    /// One line for each entry, the newest first
    List {
        #[command(flatten)]
        which: Which,
        /// Entries shown at most
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Everything about entries, as JSON: the element as it was pushed, the reason, every attempt
    Show {
        #[command(flatten)]
        which: Which,
    },
    /// Back to the end of the queue, with all attempts before them
    Retry {
        #[command(flatten)]
        which: Which,
        /// Every entry
        #[arg(long, required_unless_present_any = ["ids", "kinds", "tasks", "older_than"])]
        all: bool,
        /// Runs them even when another job of the task is under way or was done just now
        #[arg(long)]
        force: bool,
    },
    /// Throws entries away
    Purge {
        #[command(flatten)]
        which: Which,
        /// Every entry
        #[arg(long, required_unless_present_any = ["ids", "kinds", "tasks", "older_than"])]
        all: bool,
    },
}

/// Which entries.
#[derive(Debug, Args)]
pub struct Which {
    /// Ids, as `hauld dead list` shows them; a beginning will do
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// Only of this failure kind; may be repeated
    #[arg(long = "kind", value_name = "KIND", value_parser = kind(), hide_possible_values = true)]
    pub kinds: Vec<FailureKind>,
    /// Only of this task; may be repeated
    #[arg(long = "task", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub tasks: Vec<u64>,
    /// Only what is dead for at least so long: 90m, 12h, 3d
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub older_than: Option<Duration>,
}

impl Which {
    fn filter(&self) -> DeadFilter {
        DeadFilter {
            ids: self.ids.iter().map(|id| id.to_ascii_lowercase()).collect(),
            kinds: self.kinds.clone(),
            task_ids: self.tasks.iter().filter_map(|id| TaskId::new(*id)).collect(),
            older_than: self.older_than,
        }
    }
}

/// Knows the names, so that a shell can complete them.
pub(super) fn kind() -> impl TypedValueParser<Value = FailureKind> {
    let names = PossibleValuesParser::new(FailureKind::ALL.iter().map(|kind| kind.name()));
    names.try_map(|name| FailureKind::named(&name).ok_or("is no failure kind"))
}

fn age(text: &str) -> Result<Duration, String> {
    let span: Span = text.parse().map_err(|_| "is not an age such as 90m, 12h or 3d")?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|error| error.to_string())?;
    Duration::try_from(duration).map_err(|_| "is negative".to_owned())
}

/// Does it; wrong when an id was not found.
///
/// # Errors
/// `queue_unavailable`, `task_store_unavailable`.
pub async fn run(arguments: &DeadArguments, config: &Config, json: bool) -> Result<Answer> {
    let commands = redis_client::commands(&config.redis)?;
    let view = QueueView::new(commands, &config.queue.list);
    let (DeadCommand::List { which, .. }
    | DeadCommand::Show { which }
    | DeadCommand::Retry { which, .. }
    | DeadCommand::Purge { which, .. }) = &arguments.command;
    let limit = if let DeadCommand::List { limit, .. } = arguments.command { limit } else { usize::MAX };
    let filter = which.filter();
    let entries = view.dead_entries(&filter, limit).await?;
    let missing = |id: &&String| !entries.iter().any(|entry| entry.id.starts_with(id.as_str()));
    let missing: Vec<&String> = filter.ids.iter().filter(missing).collect();
    let mut answer = Answer::new(json);
    match &arguments.command {
        DeadCommand::List { .. } => {
            for entry in &entries {
                answer.add(line(entry), || object(entry));
            }
            if entries.is_empty() {
                answer.add_words("the dead list is empty");
            }
        }
        DeadCommand::Show { .. } => {
            for entry in &entries {
                let object = object(entry);
                answer.add(format_args!("{object:#}"), || object.clone());
            }
        }
        DeadCommand::Retry { force, .. } => {
            let store = store::open(config)?;
            let mut revived = 0;
            // The oldest first, as they came.
            for entry in entries.iter().rev() {
                match dead::retry(&view, &*store, entry, *force).await? {
                    Retried::Back(remark) => {
                        revived += 1;
                        let mut words = line(entry);
                        if let Some(remark) = remark {
                            words += &format!("  ({remark})");
                        }
                        answer.add(words, || acted_upon(entry, "retried", remark));
                    }
                    Retried::Gone => {}
                    Retried::Refused(reason) => {
                        answer.is_wrong();
                        answer.add(&reason, || acted_upon(entry, "refused", Some(&reason)));
                    }
                }
            }
            answer.add_words(format_args!("{revived} back in {}", config.queue.list));
        }
        DeadCommand::Purge { .. } => {
            let mut purged = 0;
            for entry in &entries {
                if view.purge(entry).await? {
                    purged += 1;
                    answer.add_object(|| acted_upon(entry, "purged", None));
                }
            }
            answer.add_words(format_args!("{purged} thrown away"));
        }
    }
    for id in &missing {
        answer.is_wrong();
        answer.add(format_args!("no entry {id}"), || json!({ "id": id, "done": "not_found" }));
    }
    Ok(answer)
}

/// What became of an entry.
fn acted_upon(entry: &DeadEntry, done: &str, remark: Option<&str>) -> serde_json::Value {
    json!({ "id": entry.id, "task_id": entry.envelope.task_id, "done": done, "remark": remark })
}

fn line(entry: &DeadEntry) -> String {
    let envelope = &entry.envelope;
    let task = envelope.task_id.map_or_else(|| "-".to_owned(), |id| id.to_string());
    format!("{}  {:.0}  task {task}  {}  {}", entry.id, envelope.failed_at, envelope.kind, envelope.message)
}

fn object(entry: &DeadEntry) -> serde_json::Value {
    let mut object = json!({ "id": entry.id });
    if let (Some(object), Ok(serde_json::Value::Object(envelope))) =
        (object.as_object_mut(), serde_json::to_value(&entry.envelope))
    {
        object.extend(envelope);
    }
    if let Some(kind) = FailureKind::named(&entry.envelope.kind) {
        object["meaning"] = kind.meaning().into();
        object["remedy"] = kind.remedy().into();
        object["would_retry_by_itself"] = (kind.job_policy() == JobPolicy::Retry).into();
    }
    object
}
