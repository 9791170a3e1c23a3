//! `hauld tasks`: what happened to tasks in the last 30 days, as any instance wrote it to Redis.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use serde_json::Value;

use super::answer::Answer;
use crate::config::Config;
use crate::failure::{Failure, FailureKind, Result};
use crate::job::TaskId;
use crate::queue::story::{Line, State};
use crate::queue::{QueueView, StoryFilter, TaskLine, last_step};
use crate::redis_client;

/// Arguments of `hauld tasks`.
#[derive(Debug, Args)]
pub struct TasksArguments {
    #[command(subcommand)]
    pub command: TasksCommand,
}

/// What is asked.
#[derive(Debug, Subcommand)]
pub enum TasksCommand {
    /// The last step of each task, the newest first
    List {
        /// Only tasks that are running, waiting, delayed, untold, done or dead; may be repeated
        #[arg(long = "state", value_name = "STATE", value_parser = state())]
        states: Vec<State>,
        /// Only tasks whose last step is this failure; may be repeated
        #[arg(long = "kind", value_name = "KIND", value_parser = super::dead::kind())]
        kinds: Vec<FailureKind>,
        /// Tasks shown at most
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Every step of one task, the first one first
    Show {
        /// Number of the task
        #[arg(value_name = "TASK", value_parser = clap::value_parser!(u64).range(1..))]
        task: u64,
    },
}

/// Knows the names, so that a shell can complete them.
fn state() -> impl TypedValueParser<Value = State> {
    let names = PossibleValuesParser::new(State::ALL.iter().map(|state| state.name()));
    names.try_map(|name| State::named(&name).ok_or("is no state"))
}

/// Says what is known.
///
/// # Errors
/// `task_not_found` when nothing is known of the task; `queue_unavailable`.
pub async fn run(arguments: &TasksArguments, config: &Config, json: bool) -> Result<Answer> {
    let view = QueueView::new(redis_client::commands(&config.redis)?, &config.queue.list);
    let mut answer = Answer::new(json);
    match &arguments.command {
        TasksCommand::List { states, kinds, limit } => {
            let filter = StoryFilter { states: states.clone(), kinds: kinds.clone() };
            let tasks = view.recent_tasks(&filter, *limit).await?;
            for task in &tasks {
                answer.add(summary(task), || object(task));
            }
            if tasks.is_empty() {
                answer.add_words("no task is known");
            }
        }
        TasksCommand::Show { task } => {
            let unknown = || {
                Failure::new(
                    FailureKind::TaskNotFound,
                    format!("task {task}: Redis knows no step of it in the last 30 days"),
                )
            };
            let task_id = TaskId::new(*task).ok_or_else(unknown)?;
            let lines = view.story(task_id).await?;
            tell(&mut answer, task_id, &lines, last_step(&lines).ok_or_else(unknown)?);
        }
    }
    Ok(answer)
}

fn summary(TaskLine { task_id, line }: &TaskLine) -> String {
    let (at, state, attempt) = (when(line), line.step.state().name(), line.attempt);
    format!("{task_id:>10}  {state:<7}  {at}  attempt {attempt}  {}", line.step)
}

/// A line with what follows from it.
fn object(line: &TaskLine) -> Value {
    // Strings, numbers and timestamps cannot fail to be JSON.
    let mut object = serde_json::to_value(line).unwrap_or_default();
    object["state"] = line.line.step.state().name().into();
    if let Some(kind) = kind_of(&line.line) {
        object["meaning"] = kind.meaning().into();
        object["remedy"] = kind.remedy().into();
    }
    object
}

/// The whole story, and how the task is now.
fn tell(answer: &mut Answer, task_id: TaskId, lines: &[Line], last: &Line) {
    let mut attempt = None;
    for line in lines {
        let this = Some((line.attempt, &line.instance));
        if attempt != this {
            answer.add_words(format_args!("task {task_id}, attempt {}, on {}", line.attempt, line.instance));
            attempt = this;
        }
        answer
            .add(format_args!("  {}  {}", when(line), line.step), || object(&TaskLine { task_id, line: line.clone() }));
    }
    answer.add_words(format_args!("now: {}", last.step.state().name()));
    if let Some(kind) = kind_of(last) {
        answer.add_words(format_args!("{kind}: {} {}", kind.meaning(), kind.remedy()));
    }
}

fn kind_of(line: &Line) -> Option<FailureKind> {
    line.step.failure().and_then(|(kind, _)| FailureKind::named(kind))
}

/// To the second, in UTC.
fn when(line: &Line) -> String {
    line.at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}
