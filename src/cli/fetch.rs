//! `hauld fetch`: the engine alone, without Redis.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::header::{HeaderName, HeaderValue};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::ContainerArgument;
use super::answer::{Answer, Failed, json_line, say};
use super::exit::Exit;
use crate::config::{Config, Container, ResolverKind};
use crate::disk;
use crate::failure::{Failure, FailureKind, Result};
use crate::hls::{Engine, StreamRequest};
use crate::http::{MediaClient, RequestHeaders, headers_for, shown};
use crate::logins::Logins;
use crate::media::{CourseDownload, CourseRequest, FinishedStream, StreamDownload, Target};
use crate::metrics::Metrics;
use crate::progress::{Progress, Snapshot};
use crate::remux::Remux;
use crate::resolver::Resolver;

/// How often progress is shown.
const TICK: Duration = Duration::from_millis(200);

/// Arguments of `hauld fetch`.
#[derive(Debug, Args)]
pub struct FetchArguments {
    /// A playlist, or a course that the configured resolver knows
    #[arg(value_parser = crate::http::parse_url)]
    pub url: Url,
    /// The file to write; for a course, the directory to put its folder into
    #[arg(short, long, value_name = "PATH")]
    pub output: PathBuf,
    /// Preferred height in lines: the best not above it, else the lowest there is
    #[arg(long, value_name = "LINES")]
    pub quality: Option<u32>,
    /// Segment requests at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: Option<u16>,
    /// Header for every request of a stream, "Name: value"; may be repeated. Authorization and Cookie
    /// only go to the origin of URL
    #[arg(long, value_name = "HEADER", value_parser = header)]
    pub header: Vec<(String, String)>,
    /// Netscape cookies.txt
    #[arg(long, value_name = "FILE")]
    pub cookies: Option<PathBuf>,
    /// Container of the result
    #[arg(long, value_enum, default_value = "auto")]
    pub container: ContainerArgument,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("is not \"Name: value\"")?;
    let (name, value) = (name.trim(), value.trim());
    HeaderName::try_from(name).map_err(|_| "what stands before the colon is not a header name")?;
    HeaderValue::try_from(value).map_err(|_| "what stands behind the colon is not a header value")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Downloads to disk; answers with the path of what is finished, or shows the way there as JSON.
///
/// # Errors
/// The one failure that ended it; nothing is left under a final name that is not whole.
pub async fn run(arguments: &FetchArguments, mut config: Config, json: bool) -> Result<Answer, Failed> {
    let url = &arguments.url;
    config.http.network.allow_typed(url);
    config.hls.quality = arguments.quality.unwrap_or(config.hls.quality);
    config.hls.concurrency = arguments.concurrency.map_or(config.hls.concurrency, usize::from);
    config.hls.max_requests = config.hls.max_requests.max(config.hls.concurrency);
    if let Some(path) = &arguments.cookies {
        config.resolver.cookies_file = Some(path.clone());
    }
    let login = Logins::open(&config)?.resolver;
    let cookies = login.cookies.for_job();
    let metrics = Metrics::new();
    let engine = Arc::new(Engine::new(&config, metrics.clone())?);
    let container = container(arguments.container, &arguments.output);
    let remux = if container == Container::Ts { None } else { Remux::detect(&config.remux).await };
    let streams = StreamDownload { engine, remux, container };
    let progress = Arc::new(Progress::default());
    let cancel = CancellationToken::new();
    let work = async {
        if is_playlist(url, &config) {
            let headers = RequestHeaders::new(url, &arguments.header, cookies)?;
            let made = make_place(&arguments.output).await;
            let output = made.map_err(|failure| Failed { failure, exit: Exit::CannotCreate })?;
            let target = Target::File(output);
            if let Some(finished) = target.existing().filter(|_| !json) {
                say(format_args!("hauld: {} is already there: nothing is fetched", finished.path.display()));
            }
            progress.set_items(1);
            progress.start_item(&arguments.output.to_string_lossy());
            let allowance = streams.engine.job_allowance();
            let request = StreamRequest { url: url.clone(), headers, allowance, renewal: None, captions: Vec::new() };
            let finished = streams.run(&request, &target, &progress, &cancel).await?;
            progress.finish_item();
            return Ok::<Fetched, Failed>((finished.path.clone(), Some(finished)));
        }
        let resolver = Arc::new(Resolver::new(&config.resolver, &config.http, login)?);
        let mut course = resolver.resolve(url, &cookies).await?;
        for lecture in course.sections.iter_mut().flat_map(|section| &mut section.lectures) {
            if let Some(stream) = &mut lecture.stream {
                stream.headers.extend(headers_for(&arguments.header, url, &stream.url).cloned());
            }
        }
        let client = MediaClient::new(&config.http)?;
        let courses = CourseDownload { streams, client, files: config.files, resolver, metrics };
        let request = CourseRequest { course: &course, url, cookies: &cookies, finished: &|_| {} };
        let directory = make_directory(&arguments.output).await?;
        let folder = courses.run(&request, &directory, &progress, &cancel).await?;
        Ok((arguments.output.join(folder.name), None))
    };
    let result = tokio::select! {
        result = work => result,
        never = show(&progress, json) => match never {},
        exit = stop_signal() => {
            Err(Failed { failure: Failure::new(FailureKind::Interrupted, "interrupted; run it again to go on"), exit })
        }
    };
    if json {
        print_event(&last_event(url, &result, &progress));
    }
    let (path, _) = result?;
    let mut answer = Answer::new(json);
    answer.add_words(path.display());
    Ok(answer)
}

/// The path of what is finished, and more about it when it is one stream.
type Fetched = (PathBuf, Option<FinishedStream>);

/// Ends with SIGINT or SIGTERM, and says how the command ends then.
async fn stop_signal() -> Exit {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => Exit::Interrupted,
        _ = terminate.recv() => Exit::Terminated,
    }
}

/// One line on standard output. A reader that has gone away (`| head`) does not end the download.
fn print_event(event: &serde_json::Value) {
    let _ = writeln!(std::io::stdout(), "{}", json_line(event));
}

/// A playlist goes to one file. Anything else is a course, if a resolver can tell what it is.
fn is_playlist(url: &Url, config: &Config) -> bool {
    let has_resolver = config.resolver.catalog_endpoint.is_some() || !config.resolver.command.is_empty();
    url.path().to_ascii_lowercase().ends_with(".m3u8") || !has_resolver || config.resolver.kind == ResolverKind::Direct
}

/// `auto` goes by the extension that the user has written.
fn container(argument: ContainerArgument, output: &Path) -> Container {
    let extension = output.extension().and_then(|text| text.to_str()).unwrap_or_default();
    match (argument, extension.to_ascii_lowercase().as_str()) {
        (ContainerArgument::Auto, "ts") => Container::Ts,
        (ContainerArgument::Auto, "mp4" | "m4v" | "m4a") => Container::Mp4,
        (argument, _) => argument.into(),
    }
}

/// Makes sure that a file can have this name, and says where it is.
async fn make_place(path: &Path) -> Result<PathBuf> {
    if path.is_dir() {
        let message = format!("{} is a directory, not a file to write", path.display());
        return Err(Failure::new(FailureKind::DiskFailed, message));
    }
    let parent = make_directory(path.parent().unwrap_or(Path::new(""))).await?;
    Ok(parent.join(path.file_name().unwrap_or_default()))
}

/// Makes a directory, and says where it is: on the way to it there may be symbolic links, in it not.
async fn make_directory(directory: &Path) -> Result<PathBuf> {
    let made = async {
        if !directory.as_os_str().is_empty() {
            tokio::fs::create_dir_all(directory).await?;
        }
        disk::no_links::real(directory)
    };
    made.await.map_err(|error| Failure::disk(format_args!("creating {}", directory.display()), error))
}

/// Shows progress until it is dropped.
async fn show(progress: &Progress, json: bool) -> std::convert::Infallible {
    let bar = (!json && std::io::stderr().is_terminal()).then(|| {
        let bar = ProgressBar::new(1000);
        // cannot fail: the template is constant and a test renders it.
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}") {
            bar.set_style(style);
        }
        bar
    });
    let mut before = (tokio::time::Instant::now(), 0u64);
    let mut speed = 0.0;
    let mut shown = None;
    let mut ticks = tokio::time::interval(TICK);
    loop {
        let now = ticks.tick().await;
        let snapshot = progress.snapshot();
        let seconds = (now - before.0).as_secs_f64();
        if seconds >= 1.0 {
            speed = snapshot.bytes_downloaded.saturating_sub(before.1) as f64 / seconds;
            before = (now, snapshot.bytes_downloaded);
        }
        if let Some(bar) = &bar {
            bar.set_position((snapshot.percent * 10.0) as u64);
            let mebibytes = snapshot.bytes_downloaded as f64 / f64::from(1 << 20);
            let rate = speed / f64::from(1 << 20);
            bar.set_message(format!("{mebibytes:.1} MiB  {rate:.1} MiB/s  {}", snapshot.current_file));
        } else if json && shown.as_ref() != Some(&snapshot) {
            print_event(&progress_event(&snapshot));
            shown = Some(snapshot);
        }
    }
}

fn progress_event(snapshot: &Snapshot) -> serde_json::Value {
    json!({
        "event": "progress",
        "percent": snapshot.percent,
        "current_file": snapshot.current_file,
        "bytes_downloaded": snapshot.bytes_downloaded,
    })
}

fn last_event(url: &Url, result: &Result<Fetched, Failed>, progress: &Progress) -> serde_json::Value {
    match result {
        Ok((path, stream)) => {
            // A stream alone has no number.
            let remarks = progress.take_remarks().1.into_iter().map(|(number, remark)| match number {
                0 => remark,
                _ => format!("lecture {number}: {remark}"),
            });
            let mut event = json!({
                "event": "done",
                "url": shown(url),
                "path": path.to_string_lossy(),
                "bytes_downloaded": progress.snapshot().bytes_downloaded,
                "remarks": remarks.collect::<Vec<_>>(),
            });
            if let Some(stream) = stream {
                let paths = stream.subtitles.iter().map(|path| path.to_string_lossy());
                event["subtitles"] = paths.collect();
                event["skipped_subtitles"] = json!(stream.skipped_subtitles);
            }
            event
        }
        Err(Failed { failure, .. }) => json!({
            "event": "failed",
            "url": shown(url),
            "kind": failure.kind.name(),
            "message": failure.message,
        }),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    #[tokio::test]
    async fn a_directory_is_not_taken_for_a_finished_download() {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().to_str().unwrap();
        let cli = Cli::parse_from(["hauld", "fetch", "http://127.0.0.1:9/x.m3u8", "-o", output]);
        let Command::Fetch(arguments) = cli.command else { panic!("another command") };
        let config = Config::load(None, Default::default(), Default::default()).unwrap();
        let failed = run(&arguments, config, false).await.unwrap_err();
        assert!(failed.failure.message.contains("is a directory"), "{failed:?}");
        assert_eq!(failed.exit, Exit::CannotCreate);
    }
}
