//! `hauld requeue`, `hauld cancel`: one task or several, by their numbers.

use clap::Args;
use serde_json::json;

use super::answer::Answer;
use crate::config::Config;
use crate::failure::Result;
use crate::job::TaskId;
use crate::redis_client;
use crate::store;
use crate::tasks::Tasks;

/// Arguments of `hauld requeue`.
#[derive(Debug, Args)]
pub struct RequeueArguments {
    /// Numbers of the tasks
    #[arg(value_name = "TASK", required = true, value_parser = clap::value_parser!(u64).range(1..))]
    pub tasks: Vec<u64>,
    /// Also what is under way, completed, or not enrolled: the gate still decides who gets the course
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `hauld cancel`.
#[derive(Debug, Args)]
pub struct CancelArguments {
    /// Numbers of the tasks
    #[arg(value_name = "TASK", required = true, value_parser = clap::value_parser!(u64).range(1..))]
    pub tasks: Vec<u64>,
}

/// Puts tasks into the queue once more; wrong when one was not.
///
/// # Errors
/// When store or queue cannot be used at all; what is wrong with one task stands in the text.
pub async fn requeue(arguments: &RequeueArguments, config: &Config, json: bool) -> Result<Answer> {
    let tasks = open(config)?;
    each(&arguments.tasks, json, async |task_id| tasks.requeue(task_id, arguments.force).await).await
}

/// Stops tasks; wrong when one was not.
///
/// # Errors
/// As [`requeue`].
pub async fn cancel(arguments: &CancelArguments, config: &Config, json: bool) -> Result<Answer> {
    let tasks = open(config)?;
    each(&arguments.tasks, json, async |task_id| tasks.cancel(task_id).await).await
}

fn open(config: &Config) -> Result<Tasks> {
    Ok(Tasks::new(store::open(config)?, redis_client::commands(&config.redis)?, &config.queue.list))
}

async fn each(task_ids: &[u64], json: bool, act: impl AsyncFn(TaskId) -> Result<String>) -> Result<Answer> {
    let mut answer = Answer::new(json);
    for task_id in task_ids.iter().filter_map(|id| TaskId::new(*id)) {
        match act(task_id).await {
            Ok(said) => answer.add(&said, || json!({ "task_id": task_id, "done": true, "message": said })),
            Err(failure) => {
                answer.is_wrong();
                let kind = failure.kind.name();
                answer.add(
                    format_args!("NOT done: {failure} [{kind}]"),
                    || json!({ "task_id": task_id, "done": false, "kind": kind, "message": failure.message }),
                );
            }
        }
    }
    Ok(answer)
}
