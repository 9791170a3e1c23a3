//! Every metric, in one table. Names follow Prometheus: base units, `_total` for counters, few
//! labels, never a task id. What the operating system knows of the process is read in `process`.

mod count;
mod process;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use self::count::{Count, Counted};
use crate::failure::{Failure, FailureKind};

/// Label of a counter of failures.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    /// [`FailureKind::name`], or of an oddity.
    pub kind: &'static str,
}

/// Label of a counter of outcomes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    /// A word of a closed list.
    pub outcome: &'static str,
}

/// Label of a gauge of queue lengths.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StateLabel {
    /// `waiting`, `running`, `delayed`, `untold` or `dead`.
    pub state: &'static str,
}

/// Label of when a login expires.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CredentialLabel {
    /// `enrollment_cookies`, `enrollment_token`, `resolver_cookies`, `catalog_token` or `store_token`.
    pub credential: &'static str,
}

/// Label of the hook's counter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RouteLabel {
    /// The route's pattern, not the path.
    pub route: &'static str,
    /// The status code.
    pub code: u16,
}

macro_rules! metrics {
    ($($prefix:literal {
        $($(#[doc = $doc:literal])+ $field:ident: $kind:ty = $name:literal, $make:expr;)+
    })+) => {
        /// All metrics of the process. Cheap to clone the `Arc` around it.
        pub struct Metrics {
            $($($(#[doc = $doc])+ pub $field: $kind,)+)+
            registry: Registry,
        }

        impl Metrics {
            fn build() -> Metrics {
                let mut registry = Registry::default();
                $(
                    let group = registry.sub_registry_with_prefix($prefix);
                    $(
                        let $field: $kind = $make;
                        let help = concat!($($doc),+).trim_ascii().trim_end_matches('.');
                        group.register($name, help, $field.clone());
                    )+
                )+
                Metrics { $($($field,)+)+ registry }
            }

            /// Name (as scraped, without `_total` of counters) and help of each metric, for the documentation.
            pub fn table() -> Vec<(&'static str, &'static str)> {
                vec![$($((concat!($prefix, "_", $name), concat!($($doc),+).trim_ascii()),)+)+]
            }
        }
    };
}

/// Seconds from a tenth to a day: whole jobs and the waits before them.
fn job_buckets() -> Histogram {
    Histogram::new([0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 14_400.0, 86_400.0])
}

/// Seconds from a few milliseconds to half a minute: single requests.
fn request_buckets() -> Histogram {
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0])
}

/// Seconds from 50 ms to half a minute, each twice the one before: single segments.
fn segment_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.05, 2.0, 10))
}

/// Seconds from a quarter of a millisecond to a second: a server in the same house, or one in trouble.
fn round_trip_buckets() -> Histogram {
    Histogram::new([0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0])
}

metrics! {
"hauld" {
    /// Jobs that ended, by outcome: done, retry, untold (delivered, backend or task store still to be told), dead, returned (handed back), abandoned (lease lost).
    jobs: Family<OutcomeLabel, Counter> = "jobs", Family::default();
    /// Failed attempts at a job, by failure kind.
    job_failures: Family<KindLabel, Counter> = "job_failures", Family::default();
    /// Jobs that run now.
    jobs_running: Gauge = "jobs_running", Gauge::default();
    /// Elements by state (waiting, running, delayed, untold (delivered, backend or task store still to be told), dead), over all instances.
    queue_elements: Family<StateLabel, Gauge> = "queue_elements", Family::default();
    /// Instances with a lease, over all hosts.
    leases: Gauge = "leases", Gauge::default();
    /// Age of the waiting element that is taken next: since it was enqueued, if it says when, else since this instance first saw it there; 0 when nothing waits.
    oldest_waiting: Gauge<f64, AtomicU64> = "oldest_waiting_age_seconds", Gauge::default();
    /// Time from when an element was enqueued to the start of its first attempt, of elements that say when.
    pickup_seconds: Histogram = "pickup_latency_seconds", job_buckets();
    /// Time that an attempt at a job took.
    job_seconds: Histogram = "job_duration_seconds", job_buckets();
    /// Time that a job waited at the enrollment gate.
    enrollment_wait_seconds: Histogram = "enrollment_wait_seconds", Histogram::new([0.01, 0.1, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 15.0]);
    /// Time that a lecture took, from its first request to its final name.
    lecture_seconds: Histogram = "lecture_duration_seconds", job_buckets();
    /// Downloads that another job of the same course had made already (`staging.share_downloads`).
    shared_downloads: Counter = "shared_downloads", Counter::default();
    /// Segments written.
    segments: Counter = "segments", Counter::default();
    /// Failed requests for segments, by failure kind; most are tried again.
    segment_failures: Family<KindLabel, Counter> = "segment_failures", Family::default();
    /// Requests for segments that were made again after a failure.
    segment_retries: Counter = "segment_retries", Counter::default();
    /// Segments that were asked for a second time while the first request was still under way, as they were late.
    segment_hedges: Counter = "segment_hedges", Counter::default();
    /// Segments that were taken, or left out, although something is wrong with them, by kind: leading_bytes (in front of the stream, left out), packets_missing (`hls.allow_gaps`), segment_missing (declared absent, `hls.allow_gaps`).
    odd_segments: Family<KindLabel, Counter> = "odd_segments", Family::default();
    /// Times that a media host said it has too much to do (429, 503) and got half as many requests at once.
    host_slowdowns: Counter = "host_slowdowns", Counter::default();
    /// Times that a media host was taken for down, and from then on asked one request at a time.
    host_outages: Counter = "host_outages", Counter::default();
    /// Time that a segment took, from its request to its last byte; waits for memory and for the rate limit are in it.
    segment_seconds: Histogram = "segment_duration_seconds", segment_buckets();
    /// Time from the request for a segment or a file to the head of its answer.
    first_byte_seconds: Histogram = "time_to_first_byte_seconds", request_buckets();
    /// Connections to media hosts and the catalogue that are open, in use or kept for the next request.
    media_connections: Gauge = "media_connections", Gauge::default();
    /// Bytes received from media hosts.
    received_bytes: Counter = "received_bytes", Counter::default();
    /// Bytes written to staging.
    written_bytes: Counter = "written_bytes", Counter::default();
    /// Bytes of segments that wait in memory.
    buffer_used_bytes: Gauge = "buffer_used_bytes", Gauge::default();
    /// Limit of the bytes of segments that wait in memory.
    buffer_limit_bytes: Gauge = "buffer_limit_bytes", Gauge::default();
    /// Time that delivering a course took.
    delivery_seconds: Histogram = "delivery_duration_seconds", job_buckets();
    /// Time that a finalize call took.
    finalize_seconds: Histogram = "finalize_duration_seconds", request_buckets();
    /// 1 while the queue is paused for this instance.
    paused: Gauge = "paused", Gauge::default();
    /// Elements taken back from dead instances.
    reaped: Counter = "reaped_elements", Counter::default();
    /// Entries of the dead list that were thrown away because they were over its limits.
    dead_purged: Counter = "dead_purged_elements", Counter::default();
    /// Elements that were not jobs and went to the dead list.
    malformed: Counter = "malformed_elements", Counter::default();
    /// Enrollments asked for by the hook, by outcome (enrolled, failed, credentials_rejected).
    enrollments: Family<OutcomeLabel, Counter> = "enrollments", Family::default();
    /// Orders that came to the hook, by outcome: accepted, repeated, conflict, journalled (kept on disk), refused (kept nowhere).
    orders: Family<OutcomeLabel, Counter> = "orders", Family::default();
    /// Orders that are not at their end, over all instances.
    orders_open: Gauge = "orders_open", Gauge::default();
    /// Orders on the disk of this host, waiting for Redis.
    orders_on_disk: Gauge = "orders_on_disk", Gauge::default();
    /// Requests to the hook, by route and status code.
    hook_requests: Family<RouteLabel, Counter> = "hook_requests", Family::default();
    /// Time that a request to the hook took.
    hook_seconds: Histogram = "hook_request_duration_seconds", request_buckets();
    /// Unix time at which a login expires (enrollment_cookies, enrollment_token, resolver_cookies, catalog_token, store_token), where it says so: the first of the cookies that the service is shown, or a JSON Web Token.
    credential_expiry: Family<CredentialLabel, Gauge> = "credential_expiry_timestamp_seconds", Family::default();
    /// 1 when the last command to Redis succeeded.
    redis_up: Gauge = "redis_up", Gauge::default();
    /// Connections to Redis that are open.
    redis_connections: Gauge = "redis_connections", Gauge::default();
    /// Time from a small command to the answer of Redis, asked once in each sweep.
    redis_round_trip_seconds: Histogram = "redis_round_trip_seconds", round_trip_buckets();
    /// Free bytes on the disk of the staging directory.
    staging_free_bytes: Gauge<f64, AtomicU64> = "staging_free_bytes", Gauge::default();
    /// Tasks of the asynchronous runtime that have not ended.
    runtime_tasks: Gauge = "runtime_tasks", Gauge::default();
    /// Whether something keeps this instance from taking jobs: a disk without room, a remote that refuses.
    hindered: Gauge = "hindered", Gauge::default();
    /// Unix time of the last job that was done.
    last_success: Gauge = "last_success_timestamp_seconds", Gauge::default();
}

"process" {
    /// CPU time of the process, user and system.
    process_cpu_seconds: Counter<f64, AtomicU64> = "cpu_seconds", Counter::default();
    /// Resident memory of the process.
    process_resident_bytes: Gauge = "resident_memory_bytes", Gauge::default();
    /// Threads of the process.
    process_threads: Gauge = "threads", Gauge::default();
    /// Open file descriptors of the process.
    process_open_fds: Gauge = "open_fds", Gauge::default();
    /// Most file descriptors that the process may have open.
    process_max_fds: Gauge = "max_fds", Gauge::default();
    /// Unix time at which the process started.
    process_start: Gauge<f64, AtomicU64> = "start_time_seconds", Gauge::default();
}
}

/// Every word that labels `hauld_jobs_total`.
const OUTCOMES: [&str; 6] = ["done", "retry", "untold", "dead", "returned", "abandoned"];

/// Every word that labels `hauld_odd_segments_total`.
const ODDITIES: [&str; 3] = ["leading_bytes", "packets_missing", "segment_missing"];

impl Metrics {
    /// A new set, every label value there from the start, so that a rate can be computed over the
    /// first failure.
    pub fn new() -> Arc<Metrics> {
        let mut metrics = Metrics::build();
        for outcome in OUTCOMES {
            metrics.jobs.get_or_create_owned(&OutcomeLabel { outcome });
        }
        for kind in FailureKind::ALL {
            metrics.job_failures.get_or_create_owned(&KindLabel { kind: kind.name() });
            metrics.segment_failures.get_or_create_owned(&KindLabel { kind: kind.name() });
        }
        for kind in ODDITIES {
            metrics.odd_segments.get_or_create_owned(&KindLabel { kind });
        }
        for state in ["waiting", "running", "delayed", "untold", "dead"] {
            metrics.queue_elements.get_or_create_owned(&StateLabel { state });
        }
        for outcome in ["enrolled", "failed", FailureKind::CredentialsRejected.name()] {
            metrics.enrollments.get_or_create_owned(&OutcomeLabel { outcome });
        }
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        let own = metrics.registry.sub_registry_with_prefix("hauld");
        own.register("build", "Version of this program", build);
        metrics.process_start.set(jiff::Timestamp::now().as_duration().as_secs_f64());
        Arc::new(metrics)
    }

    /// Counts a failed attempt at a job.
    pub fn job_failed(&self, failure: &Failure) {
        self.job_failures.get_or_create(&KindLabel { kind: failure.kind.name() }).inc();
    }

    /// Counts a failed request for a segment.
    pub fn segment_failed(&self, failure: &Failure) {
        self.segment_failures.get_or_create(&KindLabel { kind: failure.kind.name() }).inc();
    }

    /// Counts segments that are taken, or left out, with one of [`ODDITIES`].
    pub fn odd_segments(&self, kind: &'static str, count: u64) {
        self.odd_segments.get_or_create(&KindLabel { kind }).inc_by(count);
    }

    /// Sets what nobody counts: it is only known when somebody asks.
    fn look(&self) {
        process::look(self);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.runtime_tasks.set(runtime.metrics().num_alive_tasks() as i64);
        }
        self.media_connections.set(crate::http::OPEN_CONNECTIONS.count());
        self.redis_connections.set(crate::redis_client::OPEN_CONNECTIONS.count());
    }

    /// The text of `/metrics` in the older format of Prometheus (0.0.4), which every scraper understands:
    /// there a counter is called as its sample is, and a fact is a gauge.
    pub fn encode_plain(&self) -> String {
        let openmetrics = self.encode();
        let mut plain = String::new();
        // It comes before the type, which the name depends on.
        let mut help = "";
        for line in openmetrics.lines() {
            match line.splitn(4, ' ').collect::<Vec<_>>()[..] {
                ["#", "HELP", _, text] => help = text,
                ["#", "TYPE", name, kind] => {
                    let (suffix, kind) = match kind {
                        "counter" => ("_total", kind),
                        "info" => ("_info", "gauge"),
                        _ => ("", kind),
                    };
                    plain += &format!("# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n");
                }
                ["#", ..] => {}
                _ => plain.extend([line, "\n"]),
            }
        }
        plain
    }

    /// The text of `/metrics`: OpenMetrics 1.0.
    pub fn encode(&self) -> String {
        self.look();
        let mut text = String::new();
        // Writing to a String cannot fail, and nothing else in the encoder does.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_of_the_table_is_exported() {
        let metrics = Metrics::new();
        metrics.orders.get_or_create(&OutcomeLabel { outcome: "accepted" }).inc();
        metrics.credential_expiry.get_or_create(&CredentialLabel { credential: "catalog_token" }).set(1);
        metrics.hook_requests.get_or_create(&RouteLabel { route: "/api/v1/orders", code: 200 }).inc();
        let text = metrics.encode();
        for (name, _) in Metrics::table() {
            assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
        }
        assert!(text.contains("hauld_jobs_total{outcome=\"done\"} 0"), "{text}");
        assert!(text.contains("hauld_build_info{version="), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
