//! `hauld queue`: the account of the queue, and mending it. `hauld pause` and `hauld resume`.

use std::fmt::Write;

use clap::{Args, Subcommand};
use serde_json::json;

use super::answer::Answer;
use crate::config::Config;
use crate::failure::Result;
use crate::metrics::Metrics;
use crate::queue::{Account, Queue, QueueView};
use crate::redis_client;

/// Arguments of `hauld queue`.
#[derive(Debug, Args)]
pub struct QueueArguments {
    #[command(subcommand)]
    pub command: QueueCommand,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// Prints the account and what does not add up; changes nothing. Exit code 1 when something is found
    Verify,
    /// Mends what can be mended, then prints the account
    Repair,
}

/// Arguments of `hauld pause`.
#[derive(Debug, Args)]
pub struct PauseArguments {
    /// Only this instance (`<host>-<worker.instance>`, as `instances` in Redis names it), also after a restart
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,
    /// Why; shown to whoever asks
    #[arg(long, default_value = "by an operator")]
    pub reason: String,
}

/// Arguments of `hauld resume`.
#[derive(Debug, Args)]
pub struct ResumeArguments {
    /// Only this instance
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,
}

/// Does it; wrong when something is (left) that does not add up.
///
/// # Errors
/// `queue_unavailable`.
pub async fn run(arguments: &QueueArguments, config: &Config, json: bool) -> Result<Answer> {
    let view = QueueView::new(redis_client::commands(&config.redis)?, &config.queue.list);
    let account = match arguments.command {
        QueueCommand::Verify => view.account().await?,
        QueueCommand::Repair => repair(&view, config).await?,
    };
    let mut answer = Answer::new(json);
    if !account.findings.is_empty() {
        answer.is_wrong();
    }
    // Strings and numbers cannot fail to be JSON.
    answer.add(in_words(&account, &config.queue.list), || serde_json::to_value(&account).unwrap_or_default());
    Ok(answer)
}

async fn repair(view: &QueueView, config: &Config) -> Result<Account> {
    let account = view.account().await?;
    let mendable: Vec<_> = account.findings.iter().filter(|finding| finding.kind.is_mendable()).collect();
    if mendable.is_empty() {
        return Ok(account);
    }
    // An instance of its own for the time of the repair, which sweeps and takes nothing.
    let outcomes = config.staging.directory.join(".outcomes");
    let queue = Queue::connect(&config.redis, &config.queue, "repair", outcomes, Metrics::new()).await?;
    for finding in mendable {
        queue.repair(finding).await?;
    }
    queue.close().await;
    view.account().await
}

fn in_words(account: &Account, list: &str) -> String {
    let depths = &account.depths;
    let mut text = String::new();
    let _ = writeln!(text, "{list}: {} instances", account.instances);
    for (place, count) in [
        ("waiting", depths.waiting),
        ("running", depths.running),
        ("delayed", depths.delayed),
        ("untold", depths.untold),
        ("dead", depths.dead),
        ("done", depths.done),
    ] {
        let _ = writeln!(text, "  {place:<8} {count:>10}");
    }
    let counts: Vec<_> = account.counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    let _ =
        writeln!(text, "since the beginning: {}", if counts.is_empty() { "nothing".into() } else { counts.join(", ") });
    for finding in &account.findings {
        let kind = serde_json::to_value(finding.kind).unwrap_or_default();
        let mend = if finding.kind.is_mendable() { "`hauld queue repair` mends it" } else { "look at it yourself" };
        let _ = writeln!(
            text,
            "{}: {} {}: {} ({mend})",
            kind.as_str().unwrap_or_default(),
            finding.key,
            finding.member,
            finding.text
        );
    }
    let _ = match account.findings.len() {
        0 => write!(text, "everything adds up"),
        findings => write!(text, "{findings} findings"),
    };
    text
}

/// `hauld pause`.
///
/// # Errors
/// `queue_unavailable`.
pub async fn pause(arguments: &PauseArguments, config: &Config, json: bool) -> Result<Answer> {
    let view = QueueView::new(redis_client::commands(&config.redis)?, &config.queue.list);
    view.pause(arguments.instance.as_deref(), &arguments.reason).await?;
    let whom = arguments.instance.as_deref().unwrap_or("every instance");
    let mut answer = Answer::new(json);
    answer.add(
        format_args!("{whom} starts nothing more; what runs goes on. `hauld resume` ends it"),
        || json!({ "paused": true, "instance": arguments.instance, "reason": arguments.reason }),
    );
    Ok(answer)
}

/// `hauld resume`.
///
/// # Errors
/// `queue_unavailable`.
pub async fn resume(arguments: &ResumeArguments, config: &Config, json: bool) -> Result<Answer> {
    let view = QueueView::new(redis_client::commands(&config.redis)?, &config.queue.list);
    let was_paused = view.resume(arguments.instance.as_deref()).await?;
    let left = view.pauses().await?;
    let mut answer = Answer::new(json);
    answer.add(if was_paused { "resumed" } else { "was not paused" }, || {
        let still_paused: Vec<_> = left.iter().map(|pause| &pause.instance).collect();
        json!({ "was_paused": was_paused, "instance": arguments.instance, "still_paused": still_paused })
    });
    for pause in left {
        answer.add_words(format_args!("still paused: {} {}", pause.instance, pause.note));
    }
    Ok(answer)
}
