//! `hauld check`: can everything that is configured be used?

use std::fmt;
use std::path::Path;
use std::time::Duration;

use reqwest::Client;
use serde_json::json;
use url::Url;

use super::answer::Answer;
use crate::config::{Config, Container, DeliverySettings, ResolverKind, StoreKind};
use crate::delivery::Delivery;
use crate::disk;
use crate::failure::{Failure, FailureKind, Result};
use crate::http::{self, shown};
use crate::redis_client::{self, Commands};
use crate::remux::Remux;
use crate::store::{self, Findings};

mod logins;
mod reload;

/// Limit of each look.
const LIMIT: Duration = Duration::from_secs(5);
/// Limit of the look at the task store, which has a limit of its own for each of its steps.
const STORE_LIMIT: Duration = Duration::from_secs(15);
/// Limit of the look at rclone's remote, which may have to log in first.
const REMOTE_LIMIT: Duration = Duration::from_secs(30);
/// Oldest Redis that has BLMOVE.
const OLDEST_REDIS: (u32, u32) = (6, 2);

/// What was found, one line for each thing.
#[derive(Debug, Default)]
pub struct Report {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    verdict: Verdict,
    what: &'static str,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    Odd,
    Bad,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Verdict::Good => "ok",
            Verdict::Odd => "warn",
            Verdict::Bad => "FAIL",
        }
    }
}

impl Report {
    /// Whether the daemon can do its job.
    pub fn is_usable(&self) -> bool {
        self.lines.iter().all(|line| line.verdict != Verdict::Bad)
    }

    /// What was found, as the answer of the command.
    pub fn answer(&self, json: bool) -> Answer {
        let mut answer = Answer::new(json);
        if !self.is_usable() {
            answer.is_wrong();
        }
        let found = |line: &Line| json!({ "verdict": line.verdict.name(), "what": line.what, "text": line.text });
        answer.add(
            self,
            || json!({ "usable": self.is_usable(), "found": self.lines.iter().map(found).collect::<Vec<_>>() }),
        );
        answer
    }

    fn add(&mut self, what: &'static str, verdict: Verdict, text: impl Into<String>) {
        self.lines.push(Line { verdict, what, text: text.into() });
    }

    fn add_result(&mut self, what: &'static str, result: Result<String>) {
        match result {
            Ok(text) => self.add(what, Verdict::Good, text),
            Err(failure) => self.add(what, Verdict::Bad, format!("{failure} [{}]", failure.kind)),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Line { verdict, what, text } in &self.lines {
            writeln!(f, "{:<4}  {what:<12} {text}", verdict.name())?;
        }
        let bad = self.lines.iter().filter(|line| line.verdict == Verdict::Bad).count();
        match bad {
            0 => write!(f, "usable"),
            count => write!(f, "NOT usable: {count} to mend"),
        }
    }
}

/// Looks at everything that the configuration names.
/// `file` is where it was read from.
pub async fn run(config: &Config, file: Option<&Path>) -> Report {
    let mut report = Report::default();
    check_redis(config, &mut report).await;
    // The same server once more would be said twice.
    if report.is_usable() || config.store.kind != StoreKind::Redis {
        check_store(config, &mut report).await;
    }
    check_ffmpeg(config, &mut report).await;
    let least = config.staging.min_free_bytes;
    report.add_result("staging", check_directory(&config.staging.directory, least).await);
    report.add_result("delivery", check_delivery(&config.delivery, least).await);
    check_secrets(config, &mut report);
    logins::check(config, &mut report);
    match http::client(&config.http) {
        Ok(client) => {
            check_services(config, &client, &mut report).await;
            reload::check(config, file, &client, &mut report).await;
        }
        Err(failure) => report.add_result("http", Err(failure)),
    }
    report
}

async fn check_redis(config: &Config, report: &mut Report) {
    let shown = config.redis.shown();
    let connection = match redis_client::commands(&config.redis) {
        Ok(connection) => connection,
        Err(failure) => return report.add_result("redis", Err(failure)),
    };
    match server_info(&connection).await {
        Err(failure) => report.add_result("redis", Err(failure.at(shown))),
        Ok(info) => {
            let version = info_field(&info, "redis_version").unwrap_or("unknown");
            match parse_version(version).filter(|version| *version < OLDEST_REDIS) {
                Some(_) => report.add(
                    "redis",
                    Verdict::Bad,
                    format!("{shown}: version {version}; 6.2 or newer is needed (BLMOVE)"),
                ),
                None => report.add("redis", Verdict::Good, format!("{shown}: version {version}")),
            }
            if info_field(&info, "maxmemory_policy").is_some_and(|policy| policy != "noeviction") {
                report.add("redis", Verdict::Odd, "maxmemory-policy is not noeviction: a full server throws jobs away");
            }
            if info_field(&info, "aof_enabled") == Some("0") {
                report.add(
                    "redis",
                    Verdict::Odd,
                    "appendonly is no: a restart of the server loses what was pushed since its last snapshot",
                );
            }
        }
    }
}

/// The place of the tasks, with everything that is done there.
async fn check_store(config: &Config, report: &mut Report) {
    let examined = async {
        let store = store::open(config)?;
        match tokio::time::timeout(STORE_LIMIT, store.examine()).await {
            Ok(findings) => findings,
            Err(_) => {
                let message = format!("no answer within {} s", STORE_LIMIT.as_secs());
                Err(Failure::new(FailureKind::TaskStoreUnavailable, message))
            }
        }
    };
    match examined.await {
        Ok(Findings { place, warnings }) => {
            report.add("task store", Verdict::Good, place);
            for warning in warnings {
                report.add("task store", Verdict::Odd, warning);
            }
        }
        Err(failure) => report.add_result("task store", Err(failure)),
    }
}

async fn server_info(connection: &Commands) -> Result<String> {
    let mut connection = connection.clone();
    let command = redis::cmd("INFO");
    let answer = tokio::time::timeout(LIMIT, command.query_async(&mut connection)).await;
    match answer {
        Ok(answer) => answer.map_err(|error| redis_client::failure("INFO", &error)),
        Err(_) => {
            let message = format!("no answer within {} s", LIMIT.as_secs());
            Err(Failure::new(FailureKind::QueueUnavailable, message))
        }
    }
}

fn info_field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

async fn check_ffmpeg(config: &Config, report: &mut Report) {
    match (Remux::detect(&config.remux).await, config.remux.container) {
        (Some(remux), _) => report.add("ffmpeg", Verdict::Good, remux.version()),
        (None, Container::Mp4) => report.add("ffmpeg", Verdict::Bad, "not found, but remux.container is mp4"),
        (None, Container::Ts) => {
            report.add("ffmpeg", Verdict::Good, "not found, and not needed: remux.container is ts")
        }
        (None, Container::Auto) => report.add("ffmpeg", Verdict::Odd, "not found: lectures are kept as .ts"),
    }
}

async fn check_delivery(settings: &DeliverySettings, least: u64) -> Result<String> {
    match Delivery::new(settings) {
        Delivery::Folder(_) => check_directory(&settings.directory, least).await,
        Delivery::Rclone(delivery) => match tokio::time::timeout(REMOTE_LIMIT, delivery.examine()).await {
            Ok(state) => state,
            Err(_) => {
                let message = format!("{}: no answer within {} s", settings.rclone.remote, REMOTE_LIMIT.as_secs());
                Err(Failure::new(FailureKind::DeliveryFailed, message))
            }
        },
    }
}

/// Creates, syncs, renames and removes a file, as a download does. A directory that is not there yet
/// is not made: whoever looks may be another user than the one that the daemon runs as.
async fn check_directory(directory: &Path, least: u64) -> Result<String> {
    let directory = directory.to_owned();
    disk::blocking(move || {
        let failed = |error| Failure::disk(format_args!("{} is not writable", directory.display()), error);
        let existing = directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
        let probe = existing.join(format!(".hauld-check-{}", std::process::id()));
        let renamed = probe.with_extension("renamed");
        // Never through a link that somebody has put there: this may be typed by root.
        let tried = std::fs::File::create_new(&probe)
            .and_then(|file| file.sync_all())
            .and_then(|()| std::fs::rename(&probe, &renamed));
        let _ = std::fs::remove_file(&probe);
        let _ = std::fs::remove_file(&renamed);
        tried.map_err(failed)?;
        let (free, least) = (disk::free_bytes(existing)? >> 20, least >> 20);
        if free < least {
            let message = format!("{}: {free} MiB free, and below {least} no jobs are taken", directory.display());
            return Err(Failure::new(FailureKind::DiskFull, message));
        }
        let state = if existing == directory { "is writable" } else { "can be made" };
        Ok(format!("{} {state}, {free} MiB free", directory.display()))
    })
    .await
}

/// Secrets were read when the configuration was loaded; what is missing and will be missed is said here.
fn check_secrets(config: &Config, report: &mut Report) {
    match (&config.report.api_base_url, &config.report.secret) {
        (Some(url), Some(_)) => {
            report.add("finalize", Verdict::Good, format!("{} is called, signed with the secret", shown(url)))
        }
        (Some(_), None) => {
            report.add("finalize", Verdict::Bad, "report.api_base_url is set, report.secret_file is not")
        }
        (None, _) => report.add(
            "finalize",
            Verdict::Odd,
            "report.api_base_url is not set: nobody is told that a course is delivered",
        ),
    }
    match (&config.hook.listen, &config.hook.token) {
        (Some(address), Some(_)) => {
            report.add("hook", Verdict::Good, format!("will listen on {address}, with a token"))
        }
        (Some(_), None) => report.add("hook", Verdict::Bad, "hook.listen is set, hook.token_file is not"),
        (None, _) => report.add("hook", Verdict::Good, "off"),
    }
}

async fn check_services(config: &Config, client: &Client, report: &mut Report) {
    let resolver = &config.resolver;
    if let Some(endpoint) = &resolver.catalog_endpoint {
        report.add_result("catalogue", answers(client, endpoint).await);
    }
    if let Some(program) = resolver.command.first() {
        let found = find_program(Path::new(program));
        match found {
            true => report.add("resolver", Verdict::Good, format!("{program} is there")),
            false => report.add("resolver", Verdict::Bad, format!("{program} is not an executable file of this host")),
        }
    }
    if resolver.catalog_endpoint.is_none() && resolver.command.is_empty() && resolver.kind == ResolverKind::Auto {
        report.add("resolver", Verdict::Odd, "neither catalogue nor command: only playlist URLs can be downloaded");
    }
    if let Some(endpoint) = &config.enrollment.endpoint {
        report.add_result("enrollment", answers(client, endpoint).await);
    }
    if let Some(url) = &config.report.api_base_url {
        report.add_result("backend", answers(client, url).await);
    }
}

/// Whether somebody speaks HTTP there; any status will do, since nothing is asked for.
async fn answers(client: &Client, url: &Url) -> Result<String> {
    let request = client.head(url.clone()).timeout(LIMIT);
    let response = request.send().await.map_err(|error| http::request_failure(url, &error))?;
    Ok(format!("{} answers ({})", shown(url), response.status().as_u16()))
}

/// Whether a program can be run: a path, or a name to be found in `PATH`.
fn find_program(program: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let executable =
        |path: &Path| path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0);
    if program.components().count() > 1 {
        return executable(program);
    }
    std::env::var_os("PATH")
        .is_some_and(|paths| std::env::split_paths(&paths).any(|path| executable(&path.join(program))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_line_makes_it_unusable() {
        let mut report = Report::default();
        report.add("redis", Verdict::Good, "there");
        report.add("ffmpeg", Verdict::Odd, "not there");
        assert!(report.is_usable());
        assert!(report.to_string().ends_with("usable"));
        report.add("staging", Verdict::Bad, "read-only");
        assert!(!report.is_usable());
        assert!(report.to_string().contains("FAIL  staging      read-only\nNOT usable: 1 to mend"), "{report}");
    }

    #[tokio::test]
    async fn a_look_at_a_directory_does_not_make_it() {
        let place = tempfile::tempdir().unwrap();
        let missing = place.path().join("a/b");
        assert!(check_directory(&missing, 1).await.unwrap().contains("can be made"));
        assert!(check_directory(place.path(), 1).await.unwrap().contains("is writable"));
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "nothing is left behind");
        assert!(check_directory(Path::new("/proc/nowhere/staging"), 0).await.is_err());
        let failure = check_directory(place.path(), u64::MAX).await.unwrap_err();
        assert!(failure.message.contains("MiB free, and below"), "{failure}");
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert_eq!(parse_version("7.0.15"), Some((7, 0)));
        assert!(parse_version("6.0.16").unwrap() < OLDEST_REDIS);
        assert!(parse_version("10.1").unwrap() > OLDEST_REDIS);
        assert_eq!(info_field("# Server\r\nredis_version:7.0.15\r\nx:1\r\n", "redis_version"), Some("7.0.15"));
    }

    #[test]
    fn programs_are_found_as_the_shell_would() {
        assert!(find_program(Path::new("sh")));
        assert!(find_program(Path::new("/bin/sh")));
        assert!(!find_program(Path::new("no-such-program-of-anybody")));
        assert!(!find_program(Path::new("/etc/passwd")));
    }
}
