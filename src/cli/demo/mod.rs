//! `hauld demo`: the whole main job on a sample course, with real parts that it starts and stops
//! itself: a private Redis, a loopback origin, and this very program as the daemon.

mod check;
mod origin;
mod sample;
mod world;

use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::failure::{Failure, FailureKind, Result};
use origin::Origin;
use world::World;

/// The task and the order of the demo: those of the documentation.
const TASK_ID: u64 = 43;
const ORDER_ID: u64 = 41;
/// How long the job may take, most of it spent by a busy machine.
const JOB_LIMIT: Duration = Duration::from_secs(120);

/// Plays the main job from the order to the delivered folder and checks everything that came.
///
/// # Errors
/// The first thing that is not as it should be.
pub async fn run() -> Result<()> {
    let directory = temporary_directory()?;
    let result = play(directory.path()).await;
    if result.is_err() {
        println!(
            "\nwhat the daemon logged:\n{}",
            std::fs::read_to_string(directory.path().join("hauld.log")).unwrap_or_default()
        );
    }
    result
}

async fn play(directory: &Path) -> Result<()> {
    step("making a sample course with ffmpeg: 3 lectures, AES-128 encrypted HLS, captions, an asset");
    let sample = sample::make(&directory.join("origin")).await?;

    let origin = Origin::start(directory.join("origin")).await?;
    step(&format!("origin, catalogue, enrollment service and backend: {}", origin.url("")));

    let world = World::start(directory, &origin).await?;
    step(&format!(
        "private Redis on port {}; the daemon is ready, its hook listens on {}",
        world.redis_port, world.hook
    ));

    let mut messages = world.messages().await?;
    let order = json!({"orderId": ORDER_ID, "tasks": [{"taskId": TASK_ID, "email": "user@example.com", "courseUrl": origin.url("/course/intro/")}]});
    step(&format!("POST http://{}/api/v1/orders?wait=60\n    {order}", world.hook));
    let answer = world.order(&order).await?;
    println!("  < {answer}");
    expect(answer["queued"] == 1, "the order was not queued")?;

    step("progress, as anyone can see it with redis-cli PSUBSCRIBE 'task:*'");
    follow(&mut messages).await?;

    step("delivered");
    let delivered = world.delivered.clone();
    println!("{}", tree(&delivered, 2));
    let checked = check::delivered(&delivered, &sample).await?;
    step("compared with the truth (decoded pictures and sound of each lecture, bytes of each file)");
    print!("{checked}");

    let call = origin.finalize_call().ok_or_else(|| failed("the backend has received no finalize call"))?;
    step("the backend received");
    println!(
        "  POST {}\n  X-Timestamp: {}\n  X-Signature: {}\n  {}",
        call.path, call.timestamp, call.signature, call.body
    );
    check::finalize(&call, TASK_ID)?;
    println!("  the signature is right");

    let status = world.task_status(TASK_ID).await?;
    expect(status == "completed", &format!("the task is {status}"))?;
    step(&format!("task {TASK_ID} is {status}; asking the daemon to stop (SIGTERM)"));
    world.stop().await?;
    println!("\nDone. Everything was as it should be.");
    Ok(())
}

/// Shows the task's messages until it has ended.
async fn follow(messages: &mut redis::aio::PubSub) -> Result<()> {
    let bar = std::io::stdout().is_terminal().then(|| {
        let bar = ProgressBar::new(100);
        // cannot fail: the template is constant.
        if let Ok(style) = ProgressStyle::with_template("  {bar:40} {percent:>3} %  {msg}") {
            bar.set_style(style);
        }
        bar
    });
    let deadline = Instant::now() + JOB_LIMIT;
    let mut stream = messages.on_message();
    let mut shown = String::new();
    while let Ok(Some(message)) = tokio::time::timeout_at(deadline.into(), stream.next()).await {
        let Ok(event) = serde_json::from_slice::<Value>(message.get_payload_bytes()) else { continue };
        if let Some(status) = event["newStatus"].as_str() {
            let line = format!(
                "  {} -> {status}: {}",
                event["previousStatus"].as_str().unwrap_or("?"),
                event["message"].as_str().unwrap_or("")
            );
            match &bar {
                Some(bar) => bar.println(line),
                None => println!("{line}"),
            }
            match status {
                "completed" => return Ok(()),
                "failed" => return Err(failed("the task failed")),
                _ => continue,
            }
        }
        let percent = event["percent"].as_f64().unwrap_or(0.0);
        let file = event["currentFile"].as_str().unwrap_or("");
        match &bar {
            Some(bar) => {
                bar.set_position(percent as u64);
                bar.set_message(format!("{file}  {} KiB/s", event["speed"].as_f64().unwrap_or(0.0) as u64 / 1024));
            }
            // Not a terminal: a line for each file and each quarter of the way is enough.
            None => {
                let line = format!("  {:>3.0} %  {file}", (percent / 25.0).floor() * 25.0);
                if line != shown {
                    println!("{line}");
                    shown = line;
                }
            }
        }
    }
    Err(failed("the job did not end in time"))
}

fn step(text: &str) {
    println!("\n* {text}");
}

fn failed(message: &str) -> Failure {
    Failure::new(FailureKind::Internal, message)
}

fn expect(fact: bool, otherwise: &str) -> Result<()> {
    if fact { Ok(()) } else { Err(failed(otherwise)) }
}

/// The files below a directory, indented.
fn tree(directory: &Path, indent: usize) -> String {
    let mut entries: Vec<_> = std::fs::read_dir(directory).into_iter().flatten().flatten().collect();
    entries.sort_by_key(|entry| entry.file_name());
    let mut lines = Vec::new();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            lines.push(format!("{:indent$}{name}/", ""));
            lines.push(tree(&entry.path(), indent + 4));
        } else {
            let size = entry.metadata().map(|data| data.len()).unwrap_or(0);
            lines.push(format!("{:indent$}{name}  ({size} bytes)", ""));
        }
    }
    lines.join("\n")
}

/// A directory that goes when the demo ends.
struct TemporaryDirectory(std::path::PathBuf);

fn temporary_directory() -> Result<TemporaryDirectory> {
    let path = std::env::temp_dir().join(format!("hauld-demo-{}", std::process::id()));
    std::fs::create_dir_all(&path)
        .map_err(|error| Failure::disk(format_args!("creating {}", path.display()), error))?;
    Ok(TemporaryDirectory(path))
}

impl TemporaryDirectory {
    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
