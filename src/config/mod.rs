//! Configuration: one struct for each room, defaults written once, every error in one run.
//!
//! [`Config::load`] is the whole list of settings; the README's table and the sample file are
//! compared with it by tests.

mod credentials;
mod delivery;
mod environment_file;
mod hls;
mod hook;
mod http;
mod queue;
mod reloaded;
mod report;
mod resolver;
mod settings;
mod source;
mod sources;
mod store;
mod values;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::http::AllowedHost;
use crate::redis_client;
use secrecy::{ExposeSecret, SecretString};

pub use http::{HeadLimits, HttpSettings, MinimumRate, NetworkSettings, ProxySettings};
pub use resolver::{ManifestLimits, ResolverKind, ResolverSettings};
pub use settings::*;
pub use source::{ConfigError, SettingDoc, Source, environment_name, read_secret_file};
pub use sources::Sources;
pub use values::{Change, Values};

impl Config {
    /// Reads the file (if any), the environment and the flags (`section.name` to text).
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(
        file: Option<&Path>,
        environment: BTreeMap<String, String>,
        flags: BTreeMap<String, String>,
    ) -> Result<Config, Vec<ConfigError>> {
        Config::load_with_values(file, environment, flags).map(|(config, _)| config)
    }

    /// As [`Config::load`], with what each setting says.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_with_values(
        file: Option<&Path>,
        environment: BTreeMap<String, String>,
        flags: BTreeMap<String, String>,
    ) -> Result<(Config, Values), Vec<ConfigError>> {
        let (config, source) = Config::read(file, environment, flags)?;
        if source.errors.is_empty() { Ok((config, source.values)) } else { Err(source.errors) }
    }

    /// Every setting with its default and help, for the documentation.
    pub fn settings() -> Vec<SettingDoc> {
        Config::read(None, BTreeMap::new(), BTreeMap::new()).map(|(_, source)| source.docs).unwrap_or_default()
    }

    fn read(
        file: Option<&Path>,
        environment: BTreeMap<String, String>,
        flags: BTreeMap<String, String>,
    ) -> Result<(Config, Source), Vec<ConfigError>> {
        let file_name = file.map(|path| path.display().to_string()).unwrap_or_default();
        let file_error = |reason: String| {
            vec![ConfigError { name: "configuration file".into(), value: None, reason, origin: file_name.clone() }]
        };
        let mut table = match file {
            None => toml::Table::new(),
            Some(path) => {
                let text =
                    std::fs::read_to_string(path).map_err(|error| file_error(format!("cannot be read: {error}")))?;
                text.parse().map_err(|error: toml::de::Error| file_error(not_toml(&text, &error)))?
            }
        };
        let redis_from_field = redis_url_from_field(&environment);
        let rclone_environment = delivery::rclone_environment(&environment);
        let beside = file.map(|path| path.with_file_name("credentials"));
        let handed_over = environment.get("CREDENTIALS_DIRECTORY").map(Path::new);
        let errors = credentials::name_in(&mut table, beside.as_deref(), handed_over, |variable| {
            environment.contains_key(variable)
        });
        let mut source = Source::new(flags, environment, table, file_name);
        source.errors.extend(errors);
        let s = &mut source;
        let mut config = Config {
            redis: read_redis(s, redis_from_field),
            queue: queue::read(s),
            worker: WorkerSettings {
                jobs: s.reloadable().count("worker.jobs", 4, 1..=256, "Jobs at once."),
                instance: s
                    .optional_text(
                        "worker.instance",
                        Some("INSTANCE_ID"),
                        "0",
                        "Name of this instance on its host (0, 1, 2 …).",
                    )
                    .unwrap_or_else(|| "0".into()),
                drain: seconds(s.reloadable().integer(
                    "worker.drain_seconds",
                    30,
                    0..=86_400,
                    "After SIGTERM: how long running jobs may go on before they are handed back.",
                )),
                job_timeout: seconds(s.reloadable().integer_or(
                    "worker.job_timeout_seconds",
                    Some("PYTHON_DOWNLOAD_TIMEOUT"),
                    1800,
                    10..=604_800,
                    "Limit of one attempt at a job.",
                )),
            },
            gate: GateSettings {
                wait: seconds(s.reloadable().integer(
                    "gate.wait_seconds",
                    15,
                    1..=3600,
                    "How long a task may take to become enrolled.",
                )),
                poll: seconds(s.reloadable().integer(
                    "gate.poll_seconds",
                    2,
                    1..=60,
                    "How often the gate looks at the task's status.",
                )),
            },
            store: store::read(s),
            enrollment: EnrollmentSettings {
                endpoint: s.optional_url(
                    "enrollment.endpoint",
                    None,
                    "URL of the enrollment service (POST); the hook needs it.",
                ),
                token: s.bearer("enrollment.token", "File with the bearer token for the enrollment service; read again when it changes."),
                cookies_file: s
                    .optional_path("enrollment.cookies_file", "Netscape cookies.txt sent to the enrollment service; read again when it changes."),
                timeout: seconds(s.reloadable().integer(
                    "enrollment.timeout_seconds",
                    15,
                    1..=120,
                    "Limit for enrolling in one course.",
                )),
                concurrency: s.reloadable().count("enrollment.concurrency", 4, 1..=64, "Courses enrolled at once."),
            },
            resolver: resolver::read(s),
            http: http::read(s),
            hls: hls::read(s),
            live: LiveSettings {
                max: seconds(s.reloadable().integer(
                    "live.max_seconds",
                    900,
                    1..=604_800,
                    "How long the playlist of an event that has not ended is followed.",
                )),
            },
            files: read_files(s),
            remux: RemuxSettings {
                container: s.choice(
                    "remux.container",
                    "auto",
                    &[("auto", Container::Auto), ("mp4", Container::Mp4), ("ts", Container::Ts)],
                    "Container of a finished lecture: auto (mp4 if ffmpeg is there), mp4, ts.",
                ),
                ffmpeg: s.path("remux.ffmpeg", "ffmpeg", "The ffmpeg program."),
                ffprobe: s.path("remux.ffprobe", "ffprobe", "The ffprobe program."),
                timeout: seconds(s.integer(
                    "remux.timeout_seconds",
                    900,
                    10..=86_400,
                    "Limit for remuxing one lecture.",
                )),
                max_memory_bytes: s.memory("remux.max_memory_bytes", "Memory that ffmpeg gets."),
            },
            staging: StagingSettings {
                directory: s.path(
                    "staging.directory",
                    "/var/lib/hauld/staging",
                    "Where downloads grow: one Task_<id> directory for each task.",
                ),
                share_downloads: s.boolean(
                    "staging.share_downloads",
                    false,
                    "Whether jobs of one course at one time, of all instances with this directory, download it once.",
                ),
                min_free_bytes: s.integer(
                    "staging.min_free_bytes",
                    1 << 30,
                    0..=1 << 50,
                    "While a disk of staging or of delivery has less free, no jobs are taken.",
                ),
            },
            delivery: delivery::read(s, rclone_environment),
            report: report::read(s),
            hook: hook::read(s),
            admin: AdminSettings {
                listen: s.optional_address(
                    "admin.listen",
                    "127.0.0.1:9300",
                    "Address of the operator page, /livez, /readyz and /metrics, or off; if not set, worker.instance 1 to 99 is added to the port.",
                ),
                token: s.bearer(
                    "admin.token",
                    "File with the token that the operator page asks for before it acts; without one it only shows. Read again when it changes.",
                ),
                hosts: s.list(
                    "admin.hosts",
                    "Names under which the operator page may be opened, beside localhost and IP addresses.",
                ),
            },
            log: LogSettings {
                level: s.reloadable().text("log.level", "info", "Log filter: error, warn, info, debug, trace, or per module."),
                format: s.choice(
                    "log.format",
                    "auto",
                    &[("auto", LogFormat::Auto), ("human", LogFormat::Human), ("json", LogFormat::Json)],
                    "Log format: auto (human on a terminal, else json), human, json.",
                ),
            },
            traces: TraceSettings {
                endpoint: s.optional_url(
                    "traces.endpoint",
                    Some("OTEL_EXPORTER_OTLP_ENDPOINT"),
                    "Base URL of an OpenTelemetry collector (OTLP over HTTP, http://127.0.0.1:4318); for a hauld that is built with the feature otlp.",
                ),
            },
        };
        config.spread_admin_ports(&source);
        config.allow_what_was_typed();
        source.refuse_unknown();
        config.cross_check(&mut source);
        Ok((config, source))
    }

    /// Instances of one host that differ in nothing but their number have an admin port each.
    fn spread_admin_ports(&mut self, source: &Source) {
        let number = self.worker.instance.parse::<u16>().ok().filter(|number| *number < 100);
        if let (Some(address), Some(number), false) = (&mut self.admin.listen, number, source.is_given("admin.listen"))
        {
            address.set_port(address.port() + number);
        }
    }

    /// The hosts that courses come from by configuration may be anywhere. Nobody else asks the backend
    /// and the enrollment service: courses have no business there.
    fn allow_what_was_typed(&mut self) {
        let network = &mut self.http.network;
        if let Some(catalog) = &self.resolver.catalog_endpoint {
            network.allow_typed(catalog);
        }
        network.typed.extend(self.hook.allowed_course_hosts.iter().filter_map(|host| AllowedHost::parse(host).ok()));
    }

    /// Settings that only make sense together.
    fn cross_check(&self, source: &mut Source) {
        if self.hook.listen.is_some_and(|address| !address.ip().is_loopback()) && !self.hook.authenticates() {
            source.error(
                "hook.listen",
                "is not a loopback address: set hook.token_file, hook.token_files or hook.signing_secret_files too, or everybody gets in",
            );
        }
        if self.hook.listen.is_some() && self.enrollment.endpoint.is_none() {
            source.error("enrollment.endpoint", "is needed when hook.listen is set: the hook enrolls through it");
        }
        if self.report.api_base_url.is_some() && self.report.secret.is_none() {
            source.error(
                "report.secret_file",
                "is needed when report.api_base_url is set: the finalize call is signed with it",
            );
        }
        if self.resolver.kind == ResolverKind::Catalog && self.resolver.catalog_endpoint.is_none() {
            source.error("resolver.catalog_endpoint", "is needed when resolver.kind is catalog");
        }
        if self.resolver.kind == ResolverKind::Command && self.resolver.command.is_empty() {
            source.error("resolver.command", "is needed when resolver.kind is command");
        }
        if self.traces.endpoint.is_some() && !cfg!(feature = "otlp") {
            source.error("traces.endpoint", "is of no use: this hauld was built without --features otlp");
        }
        self.store.cross_check(source);
        self.delivery.cross_check(source);
        if self.queue.rq.is_worker() {
            let queue = self.queue.list.strip_prefix("rq:queue:").unwrap_or_default();
            if queue.is_empty() || queue.contains(':') {
                source.error("rq.compat", "is worker, so queue.list must be rq:queue:<name of a queue of RQ>");
            }
            if self.redis.is_cluster() {
                source.error("rq.compat", "cannot be worker with a Redis Cluster: RQ's keys are in many slots");
            }
        }
        if self.queue.sweep * 2 > self.queue.lease {
            source.error(
                "queue.sweep_seconds",
                "must be at most half of queue.lease_seconds, or a lease runs out between two renewals",
            );
        }
    }
}

/// The line and what is wrong with it, without what stands there: that may be a password.
fn not_toml(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    format!("is not TOML: line {}: {}", before.matches('\n').count() + 1, error.message().replace('\n', ", "))
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

fn read_redis(s: &mut Source, from_field: Option<String>) -> RedisSettings {
    let default = "redis://127.0.0.1:6379/0";
    let url = s.optional_text("redis.url", None, default, "Redis or Valkey: redis://, rediss:// (TLS), redis+unix://, redis+sentinel:// or redis+cluster://, with user and password in it if needed (REDIS_HOST, REDIS_PORT, REDIS_PASSWORD and REDIS_DB are understood too).");
    let url = url.or(from_field).unwrap_or_else(|| default.into());
    // Wherever it came from.
    s.values.set_text(&url);
    let settings = RedisSettings {
        ca_file: s.optional_path(
            "redis.ca_file",
            "Certificates (PEM) of who signs the server's; those of this host if not set.",
        ),
        certificate_file: s
            .optional_path("redis.certificate_file", "Our own certificate (PEM), for a server that wants one."),
        key_file: s.optional_path("redis.key_file", "The key (PEM) of our own certificate."),
        ..RedisSettings::new(url)
    };
    if let Err((setting, reason)) = redis_client::check(&settings) {
        s.error(setting, reason);
    }
    settings
}

/// The four variables the old worker reads, as a URL. `None` when none of them is set.
fn redis_url_from_field(environment: &BTreeMap<String, String>) -> Option<String> {
    let get = |name: &str| environment.get(name).map(String::as_str).filter(|text| !text.is_empty());
    let names = ["REDIS_HOST", "REDIS_PORT", "REDIS_PASSWORD", "REDIS_DB"];
    names.iter().find_map(|name| get(name))?;
    let credentials = get("REDIS_PASSWORD").map(|password| {
        let password = percent_encoding::utf8_percent_encode(password, percent_encoding::NON_ALPHANUMERIC);
        format!(":{password}@")
    });
    Some(format!(
        "redis://{}{}:{}/{}",
        credentials.unwrap_or_default(),
        get("REDIS_HOST").unwrap_or("127.0.0.1"),
        get("REDIS_PORT").unwrap_or("6379"),
        get("REDIS_DB").unwrap_or("0"),
    ))
}

fn read_files(s: &mut Source) -> FileSettings {
    let mut read = |name: &str, default: u64, help: &str| s.integer(name, default, 1..=(1 << 50), help);
    FileSettings {
        max_caption_bytes: read("files.max_caption_bytes", 64 << 20, "Largest file of captions."),
        max_asset_bytes: read("files.max_asset_bytes", 16 << 30, "Largest asset."),
        max_lecture_bytes: read("files.max_lecture_bytes", 64 << 30, "Largest lecture that is a plain file."),
    }
}

impl RedisSettings {
    /// The server at this URL.
    pub fn new(url: String) -> RedisSettings {
        RedisSettings { url: SecretString::from(url), ca_file: None, certificate_file: None, key_file: None }
    }

    /// Whether the URL asks for a Cluster.
    fn is_cluster(&self) -> bool {
        self.url.expose_secret().split_once("://").is_some_and(|(scheme, _)| scheme.ends_with("+cluster"))
    }

    /// The server without user and password, for logs.
    pub fn shown(&self) -> String {
        redis_client::shown(self.url.expose_secret()).unwrap_or_else(|| "redis (URL not valid)".into())
    }
}

#[cfg(test)]
mod tests;
