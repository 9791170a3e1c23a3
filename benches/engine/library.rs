//! One engine with several downloads at once, in a process of its own.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hauld::config::Config;
use hauld::hls::{Engine, StreamRequest};
use hauld::http::RequestHeaders;
use hauld::metrics::Metrics;
use hauld::progress::Progress;
use tokio::task::JoinSet;
use url::Url;

use super::child::{self, Usage};

/// What the process is asked to do.
pub struct Order<'a> {
    pub url: &'a Url,
    pub jobs: usize,
    /// When to stop and look; 0 is at the end.
    pub seconds: u64,
    pub directory: &'a Path,
    /// `section.name=value`.
    pub settings: &'a [&'a str],
}

/// Runs the process; returns the bytes of each download.
pub fn measure(order: &Order) -> (Vec<u64>, Usage) {
    let result = order.directory.join("bytes");
    let mut command = super::role("library");
    command.arg(order.url.as_str()).args([order.jobs.to_string(), order.seconds.to_string()]).arg(order.directory);
    let usage = child::measure(command.args(order.settings).stdout(Stdio::null()));
    let text = std::fs::read_to_string(result).expect("the process has left its figures");
    (text.split_whitespace().map(|word| word.parse().expect("a number")).collect(), usage)
}

/// The role of the child process.
pub fn run(arguments: &[&str]) {
    let [url, jobs, seconds, directory, settings @ ..] = arguments else { panic!("{arguments:?}") };
    let settings = settings.iter().filter_map(|setting| setting.split_once('='));
    let flags = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut config = Config::load(None, Default::default(), flags).unwrap_or_else(|errors| panic!("{errors:?}"));
    config.http.network.allow_typed(&Url::parse(url).expect("a URL"));
    let seconds = seconds.parse().expect("a number");
    let directory = Path::new(directory);
    let work = download(&config, url, jobs.parse().expect("a number"), Duration::from_secs(seconds), directory);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let bytes = runtime.block_on(work);
    let text: Vec<String> = bytes.iter().map(ToString::to_string).collect();
    std::fs::write(directory.join("bytes"), text.join(" ")).expect("the figures");
}

async fn download(config: &Config, url: &str, jobs: usize, limit: Duration, directory: &Path) -> Vec<u64> {
    let engine = Engine::new(config, Metrics::new()).expect("an engine");
    let engine = Arc::new(engine);
    let url = Url::parse(url).expect("a URL");
    let headers = RequestHeaders::new(&url, &[], Arc::default()).expect("no headers");
    let progress: Vec<Arc<Progress>> = (0..jobs).map(|_| Arc::default()).collect();
    let begin = Instant::now();
    let mut downloads = JoinSet::new();
    for (job, progress) in progress.iter().cloned().enumerate() {
        let (engine, stem) = (engine.clone(), directory.join(format!("job{job}")));
        let allowance = engine.job_allowance();
        let request = StreamRequest {
            url: url.clone(),
            headers: headers.clone(),
            allowance,
            renewal: None,
            captions: Vec::new(),
        };
        downloads.spawn(async move { engine.download(&request, &stem, &stem, false, &progress).await });
    }
    let end = async {
        while let Some(ended) = downloads.join_next().await {
            let ended = ended.expect("no panic").map(drop);
            ended.unwrap_or_else(|failure| panic!("{failure}"));
        }
    };
    if limit.is_zero() {
        end.await;
    } else if tokio::time::timeout(limit, end).await.is_ok() {
        panic!("the streams ended after {:?}: they are too short", begin.elapsed());
    }
    progress.iter().map(|progress| progress.snapshot().bytes_downloaded).collect()
}
