//! `hauld enqueue`: pushes one job, as the backend does.

use clap::Args;
use serde_json::json;

use super::answer::Answer;
use crate::config::Config;
use crate::failure::{Failure, FailureKind, Result};
use crate::job::{JobSpec, TaskId};
use crate::queue::Producer;
use crate::redis_client;

/// Arguments of `hauld enqueue`.
#[derive(Debug, Args)]
pub struct EnqueueArguments {
    /// The task's number; its status gates the job
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub task_id: u64,
    /// The customer
    #[arg(long)]
    pub email: String,
    /// The course to deliver
    #[arg(long, value_name = "URL")]
    pub course_url: String,
    /// Runs it even when another job of the task is under way or was done just now
    #[arg(long)]
    pub force: bool,
}

/// Pushes the job; says how long the queue is then.
///
/// # Errors
/// `url_invalid`, `queue_unavailable`.
pub async fn run(arguments: &EnqueueArguments, config: &Config, json: bool) -> Result<Answer> {
    let task_id = TaskId::new(arguments.task_id);
    let task_id = task_id.ok_or_else(|| Failure::new(FailureKind::MalformedJob, "the task id is 0"))?;
    let course_url = crate::http::parse_url(&arguments.course_url)?;
    let spec = JobSpec { task_id, email: arguments.email.clone(), course_url, force: arguments.force, trace: None };
    let producer = Producer::new(redis_client::commands(&config.redis)?, config.queue.list.clone());
    let waiting = producer.push(&spec.to_element(jiff::Timestamp::now())).await?;
    let (mut answer, list) = (Answer::new(json), &config.queue.list);
    answer.add(
        format_args!("pushed; {waiting} waiting in {list}"),
        || json!({ "task_id": task_id, "list": list, "waiting": waiting }),
    );
    Ok(answer)
}
