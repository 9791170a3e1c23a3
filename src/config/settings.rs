//! What can be set: one struct for each room; those of `http` and `resolver` stand beside what reads them. Defaults
//! and limits stand in `read`.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::{HttpSettings, ResolverSettings};
use crate::hls::playlist::Limits;

/// Everything that can be set.
#[derive(Debug, Clone)]
pub struct Config {
    pub redis: RedisSettings,
    pub queue: QueueSettings,
    pub worker: WorkerSettings,
    pub gate: GateSettings,
    pub store: StoreSettings,
    pub enrollment: EnrollmentSettings,
    pub resolver: ResolverSettings,
    pub http: HttpSettings,
    pub hls: HlsSettings,
    pub live: LiveSettings,
    pub files: FileSettings,
    pub remux: RemuxSettings,
    pub staging: StagingSettings,
    pub delivery: DeliverySettings,
    pub report: ReportSettings,
    pub hook: HookSettings,
    pub admin: AdminSettings,
    pub log: LogSettings,
    pub traces: TraceSettings,
}

/// The Redis server.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// Every form that [`redis_client`](crate::redis_client) knows, with the password in it.
    pub url: SecretString,
    /// Who signs the server's certificate; the certificates of this host when it is not set.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate, for a server that wants one, and its key.
    pub certificate_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

/// The queue protocol.
#[derive(Debug, Clone)]
pub struct QueueSettings {
    /// The producers' list.
    pub list: String,
    /// How long one blocking take waits on the server.
    pub block: Duration,
    /// How long an instance may be silent before the others take back what it held.
    pub lease: Duration,
    /// How often each instance looks for dead ones and for retries that are due.
    pub sweep: Duration,
    /// Attempts before an element goes to the dead list.
    pub max_attempts: u32,
    /// Pause before the second attempt, and before every other one where it does not grow.
    pub retry_delay: Duration,
    /// What the pause grows to at most.
    pub max_retry_delay: Duration,
    /// Deaths of an instance while it ran this element before the element goes to the dead list.
    pub max_crashes: u32,
    /// How long such a death counts.
    pub crash_window: Duration,
    /// How long after `done` a second element of the same task is set aside; 0 means never.
    pub dedupe: Duration,
    /// Entries of the dead list; the oldest go first.
    pub max_dead: usize,
    /// Age of an entry of the dead list.
    pub max_dead_age: Duration,
    /// What becomes of jobs of RQ in the list.
    pub rq: RqCompat,
}

/// What becomes of jobs of RQ, the Python queue, whose ids are in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RqCompat {
    /// They are left to RQ's own workers.
    Off,
    /// They are run, and RQ's books are kept.
    Worker,
}

impl RqCompat {
    pub fn is_worker(self) -> bool {
        self == RqCompat::Worker
    }
}

/// The pool.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// Jobs at once.
    pub jobs: usize,
    /// The operator's name for this instance (0, 1, 2 …).
    pub instance: String,
    /// How long running jobs may go on after SIGTERM.
    pub drain: Duration,
    /// Limit of one attempt.
    pub job_timeout: Duration,
}

/// The enrollment gate.
#[derive(Debug, Clone)]
pub struct GateSettings {
    /// How long the gate waits in all.
    pub wait: Duration,
    /// How often it looks.
    pub poll: Duration,
}

/// The task store.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    pub kind: StoreKind,
    pub mysql: MysqlSettings,
    pub http: HttpStoreSettings,
}

/// Where the status of a task lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// Hash `hauld:task:<id>`.
    Redis,
    /// The backend's table.
    Mysql,
    /// The backend's endpoint.
    Http,
}

/// The backend's table in MySQL or MariaDB.
#[derive(Debug, Clone)]
pub struct MysqlSettings {
    /// A host, or the path of a socket; empty when it is not set.
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Option<SecretString>,
    pub database: String,
    /// Name of the table; may stand between backquotes as it is.
    pub table: String,
    pub tls: bool,
    /// Who signs the server's certificate; the certificates of this host when it is not set.
    pub ca_file: Option<PathBuf>,
    /// Connections at once.
    pub connections: usize,
    /// Limit of one look or one write.
    pub timeout: Duration,
}

/// The endpoint of a backend that gives its tasks out.
#[derive(Debug, Clone)]
pub struct HttpStoreSettings {
    /// What stands in front of `/<task id>`.
    pub endpoint: Option<Url>,
    pub token: Option<BearerSettings>,
    /// Requests at once.
    pub concurrency: usize,
    /// Limit of one request.
    pub timeout: Duration,
}

/// A token that a service wants to see.
#[derive(Debug, Clone)]
pub struct BearerSettings {
    /// As it was when the configuration was read.
    pub token: SecretString,
    /// Where it is read again; nothing when it stands in the environment.
    pub file: Option<PathBuf>,
}

/// The enrollment service, asked by the hook.
#[derive(Debug, Clone)]
pub struct EnrollmentSettings {
    /// The whole URL to POST to.
    pub endpoint: Option<Url>,
    pub token: Option<BearerSettings>,
    pub cookies_file: Option<PathBuf>,
    /// Limit for each course.
    pub timeout: Duration,
    /// Courses enrolled at once.
    pub concurrency: usize,
}

/// The HLS engine.
#[derive(Debug, Clone)]
pub struct HlsSettings {
    /// Preferred height in lines.
    pub quality: u32,
    /// Segment requests at once for one lecture.
    pub concurrency: usize,
    /// Segment requests at once for the whole process.
    pub max_requests: usize,
    /// Bytes of segments waiting in memory, for all jobs together.
    pub buffer_bytes: usize,
    /// Attempts for each segment.
    pub segment_attempts: u32,
    /// Requests in all that may be made again for one lecture.
    pub max_lecture_retries: u32,
    /// Requests in all that may be made again for one job.
    pub max_job_retries: u32,
    /// Requests at once for one host; 0 means no limit.
    pub max_connections_per_host: usize,
    /// For all jobs together; 0 means no limit.
    pub max_bytes_per_second: u64,
    /// For each job; 0 means no limit.
    pub max_job_bytes_per_second: u64,
    /// Whether a lecture may lack what its playlist declares absent.
    pub allow_gaps: bool,
    /// Whether bytes in front of a transport stream may be left out when they are no picture.
    pub allow_leading_bytes: bool,
    pub playlist_limits: Limits,
    pub max_segment_bytes: u64,
    /// How many times more a segment may have than BANDWIDTH allows; 0 means that this does not count.
    pub bandwidth_tolerance: u64,
    /// Of all that is received for one attempt at a job.
    pub max_job_bytes: u64,
}

/// Files that are downloaded as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSettings {
    pub max_caption_bytes: u64,
    pub max_asset_bytes: u64,
    /// Of a lecture that is one file.
    pub max_lecture_bytes: u64,
}

/// Playlists that still grow.
#[derive(Debug, Clone)]
pub struct LiveSettings {
    /// How long one is followed.
    pub max: Duration,
}

/// .ts to .mp4.
#[derive(Debug, Clone)]
pub struct RemuxSettings {
    pub container: Container,
    pub ffmpeg: PathBuf,
    pub ffprobe: PathBuf,
    pub timeout: Duration,
    /// Of each run of one of them, as addresses.
    pub max_memory_bytes: u64,
}

/// What a finished lecture is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// `.mp4` if ffmpeg is there, else `.ts`.
    Auto,
    Mp4,
    Ts,
}

/// Where downloads grow.
#[derive(Debug, Clone)]
pub struct StagingSettings {
    pub directory: PathBuf,
    /// Whether several jobs of one course at one time download it once.
    pub share_downloads: bool,
    /// Of the disks of staging and delivery: while one has less, no jobs are taken.
    pub min_free_bytes: u64,
}

/// Where finished courses go.
#[derive(Debug, Clone)]
pub struct DeliverySettings {
    pub kind: DeliveryKind,
    /// Of the kind [`DeliveryKind::Folder`].
    pub directory: PathBuf,
    pub rclone: RcloneSettings,
}

/// How finished courses get to their destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryKind {
    /// Into a directory of this host.
    Folder,
    /// To a remote of rclone.
    Rclone,
}

/// Delivery by rclone.
#[derive(Debug, Clone)]
pub struct RcloneSettings {
    /// `<remote>:<path>`, a remote of rclone's own configuration; empty when it is not set.
    pub remote: String,
    /// rclone's configuration; where rclone looks for it by itself when it is not set.
    pub config: Option<PathBuf>,
    pub program: PathBuf,
    /// Memory of its own that rclone gets.
    pub max_memory_bytes: u64,
    /// Standstill after which rclone has failed.
    pub stall: Duration,
    /// The variables of our environment that rclone gets.
    pub environment: Vec<(String, SecretString)>,
}

/// The backend.
#[derive(Debug, Clone)]
pub struct ReportSettings {
    /// `<base>/api/v1/webhook/finalize` is called.
    pub api_base_url: Option<Url>,
    pub secret: Option<SecretString>,
    /// Whether `secret_key` stands in the body.
    pub secret_in_body: bool,
    /// Of the Standard Webhooks headers; `secret` when it is not set.
    pub webhook_secret: Option<SecretString>,
    pub timeout: Duration,
    /// Pause before a call that was not accepted is made again, at first.
    pub retry_delay: Duration,
    /// How long it is made again.
    pub give_up_after: Duration,
    /// Whether `<base>/api/v1/webhook/failed` is called for tasks that failed for good.
    pub on_failure: bool,
}

/// The embedded HTTP hook.
#[derive(Debug, Clone)]
pub struct HookSettings {
    pub listen: Option<SocketAddr>,
    /// One token; more are in files that are read again on SIGHUP.
    pub token: Option<SecretString>,
    pub token_files: Vec<PathBuf>,
    pub signing_secret_files: Vec<PathBuf>,
    /// Hosts that courses may be on: `example.com`, `*.example.com`; any when there is none.
    pub allowed_course_hosts: Vec<String>,
    pub max_tasks: usize,
    /// For each caller.
    pub max_requests_per_second: NonZeroU32,
    pub max_connections: usize,
    /// How long an order that has ended is remembered.
    pub keep_orders: Duration,
}

impl HookSettings {
    /// Whether callers must prove who they are.
    pub fn authenticates(&self) -> bool {
        self.token.is_some() || !self.token_files.is_empty() || !self.signing_secret_files.is_empty()
    }
}

/// Health, metrics and the operator page.
#[derive(Debug, Clone)]
pub struct AdminSettings {
    pub listen: Option<SocketAddr>,
    /// Of those who may act on the page; nobody may when it is not set.
    pub token: Option<BearerSettings>,
    /// Names under which the page may be opened, beside `localhost` and IP addresses.
    pub hosts: Vec<String>,
}

/// Logs.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// A filter as `tracing` reads it: `info`, `hauld=debug`.
    pub level: String,
    pub format: LogFormat,
}

/// Traces.
#[derive(Debug, Clone)]
pub struct TraceSettings {
    /// The base URL of an OpenTelemetry collector.
    pub endpoint: Option<Url>,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    Auto,
    Human,
    Json,
}
