//! The closed list of failure kinds, and the only place that decides "retry or not".
//!
//! A kind's name is the same in the log, the metrics, the task table and the dead list. Rooms say
//! *what* happened by choosing a kind; what follows from it is read here and nowhere else.

use std::fmt;
use std::time::Duration;

use rustix::io::Errno;

#[cfg(test)]
mod tests;

/// What the job as a whole does after a failure of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobPolicy {
    /// Another attempt later, as long as attempts are left.
    Retry,
    /// Final: the task is marked `failed` and the element goes to the dead list.
    GiveUp,
    /// Nobody's fault: the element goes back to the take end and the attempt is not counted.
    HandBack,
    /// The element belongs to another instance now: write nothing.
    Abandon,
}

macro_rules! failure_kinds {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $request:ident, $job:ident, $remedy:literal;)+) => {
        /// Why a piece of work failed. [`FailureKind::name`] is stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum FailureKind {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl FailureKind {
            /// Every kind, in the order in which a job can meet them.
            pub const ALL: &'static [FailureKind] = &[$(FailureKind::$variant,)+];

            /// The stable name: log field, metric label, `error_log` and dead-list reason.
            pub fn name(self) -> &'static str {
                match self { $(FailureKind::$variant => $name,)+ }
            }

            /// What happened, in words for the operator.
            pub fn meaning(self) -> &'static str {
                match self { $(FailureKind::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }

            /// What the operator does about it.
            pub fn remedy(self) -> &'static str {
                match self { $(FailureKind::$variant => $remedy,)+ }
            }

            /// How often the same request is made, at most `configured` times: what passes by itself
            /// gets all of them, what seldom does gets a second one.
            pub fn request_attempts(self, configured: u32) -> u32 {
                match self { $(FailureKind::$variant => configured.min(failure_kinds!(@request $request)),)+ }
            }

            /// What the job as a whole does next.
            pub fn job_policy(self) -> JobPolicy {
                match self { $(FailureKind::$variant => JobPolicy::$job,)+ }
            }
        }
    };
    (@request again) => { u32::MAX };
    (@request twice) => { 2 };
    (@request once) => { 1 };
}

failure_kinds! {
    /// The queue element is not a job.
    MalformedJob = "malformed_job", once, GiveUp, "`hauld dead show` has it byte for byte: mend its producer, then push it again.";
    /// The RQ job asks for what only a worker of RQ can give: callbacks, webhooks, repeats, rate limits.
    ForeignJob = "foreign_job", once, GiveUp, "Enqueue it without them, or leave it to a worker of RQ.";
    /// Somebody cancelled the task, or stopped its job with RQ's stop-job command.
    JobStopped = "job_stopped", once, GiveUp, "Nothing; `hauld requeue` when it is wanted after all.";
    /// Another element of the same task is running, waits for its next attempt, or was done just now.
    DuplicateJob = "duplicate_job", once, GiveUp, "Nothing; if it is to run all the same, `hauld dead retry --force`.";
    /// The task's status is `failed`: the customer is not enrolled.
    EnrollmentFailed = "enrollment_failed", once, GiveUp, "Enroll the customer again, then `hauld requeue`.";
    /// The task was still not enrolled when the gate closed after `gate.wait_seconds`.
    EnrollmentTimeout = "enrollment_timeout", once, GiveUp, "Look at the enrollment service and at who writes `enrolled`, then `hauld requeue`.";
    /// The task store has no such task.
    TaskNotFound = "task_not_found", once, GiveUp, "Find out why the producer pushed an element without a row, and whether `store` is the right table.";
    /// The task has a status that the gate does not know, or is completed already.
    UnexpectedStatus = "unexpected_status", once, GiveUp, "Look at who wrote it; `hauld requeue --force` runs it all the same.";
    /// The task store did not answer or refused us.
    TaskStoreUnavailable = "task_store_unavailable", once, Retry, "Look at its server, then at `hauld check`; jobs wait until it is back, which costs no attempt.";
    /// The enrollment service refused the customer.
    EnrollmentRefused = "enrollment_refused", once, GiveUp, "Its answer is in the message: mend what it names, then order again.";
    /// The enrollment service did not answer, or answered nonsense.
    EnrollmentUnavailable = "enrollment_unavailable", once, Retry, "Look at the service, then enroll again.";
    /// Redis did not answer, or refused a command.
    QueueUnavailable = "queue_unavailable", once, Retry, "Look at the server and at `redis.url`; the daemon goes on by itself when it is back.";
    /// The catalogue did not answer, or answered 5xx or 429.
    CatalogUnavailable = "catalog_unavailable", again, Retry, "Look at its server; jobs are tried again with growing pauses.";
    /// Our cookies or our token were not accepted: 401, or a redirect to a login page.
    CredentialsRejected = "credentials_rejected", once, Retry, "Replace the file that the message names; it is read by itself, and jobs wait for it, which costs no attempt.";
    /// The catalogue refused us: 403, or it wants a login and none is set.
    CatalogRefused = "catalog_refused", once, GiveUp, "Look at what the account may see, and at `resolver`, then `hauld dead retry --kind catalog_refused`.";
    /// The catalogue does not know the course.
    CourseNotFound = "course_not_found", once, GiveUp, "Open the course URL; mend it at its source and order again.";
    /// What the catalogue or the resolver command answered is not a course manifest.
    ManifestInvalid = "manifest_invalid", once, Retry, "The message says where: show it to whoever runs the catalogue or wrote the command.";
    /// The course has no lecture with anything to download.
    CourseEmpty = "course_empty", once, GiveUp, "Look at the course in the catalogue; when it has lectures, `hauld requeue`.";
    /// The resolver command failed or took longer than `resolver.timeout_seconds`.
    ResolverFailed = "resolver_failed", once, Retry, "Run it by hand with the course URL, as the user of the daemon.";
    /// A URL is not http or https, or cannot be parsed.
    UrlInvalid = "url_invalid", once, GiveUp, "The message says which: mend the manifest or the order that it came from.";
    /// What came in place of a playlist is not one, or breaks a rule that cannot be guessed around.
    PlaylistInvalid = "playlist_invalid", twice, Retry, "`hauld inspect URL` shows the line; often it is a login or error page, else tell whoever packages the stream.";
    /// A playlist is over a limit of bytes, lines or segments.
    PlaylistTooLarge = "playlist_too_large", once, GiveUp, "If the stream is really that long raise `hls.max_playlist_bytes` or `hls.max_segments`, then `hauld dead retry`.";
    /// The playlist is a live stream: only finished streams are downloaded.
    LiveUnsupported = "live_unsupported", once, GiveUp, "Order again when the recording is finished.";
    /// The playlist of an event was followed for `live.max_seconds` and has not ended.
    EventNotEnded = "event_not_ended", once, Retry, "Nothing: the job goes on with it later, from where it was.";
    /// The stream is protected by a DRM system.
    DrmProtected = "drm_protected", once, GiveUp, "Nothing: the daemon never works around protection. Ask the owner for a clear or AES-128 rendition.";
    /// The stream uses an encryption method that is not supported.
    EncryptionUnsupported = "encryption_unsupported", once, GiveUp, "Ask the owner for AES-128 or a clear rendition; `hauld inspect URL` shows the method.";
    /// The server answered 404.
    NotFound = "not_found", twice, Retry, "Open the URL of the message; when it is gone for good the lecture must be mended at its source.";
    /// The server answered 401, 403 or 410, also to fresh links: they have expired, or we are not entitled to it.
    LinkExpired = "link_expired", once, Retry, "Look whether the account may see the lecture, and at the clocks; then `hauld dead retry`.";
    /// The server answered 429: too many requests.
    RateLimited = "rate_limited", again, Retry, "Lower `hls.concurrency`, `hls.max_connections_per_host` or `worker.jobs`; jobs are tried again with growing pauses.";
    /// The server answered 5xx.
    ServerError = "server_error", again, Retry, "Look at the host; jobs are tried again with growing pauses.";
    /// The server answered another status than the one asked for.
    HttpRejected = "http_rejected", once, Retry, "Ask the URL of the message with `curl -v`; often a proxy or a filter answers in its place.";
    /// A redirect was refused: too many, to another scheme, or from https to http.
    RedirectRefused = "redirect_refused", once, GiveUp, "Follow it with `curl -vL`; the catalogue should give the last address.";
    /// A host is not on the public internet: loopback, private, link-local, or nobody's.
    AddressRefused = "address_refused", once, GiveUp, "If the host is one of yours, name it in `network.allow`, then `hauld dead retry --kind address_refused`; else ask who made the course what it does there.";
    /// Name lookup, connecting or sending failed, or the peer cut the connection.
    ConnectionFailed = "connection_failed", again, Retry, "Look at name service, routes and firewalls of this host, then at the server.";
    /// The TLS handshake or the certificate check failed.
    TlsFailed = "tls_failed", once, Retry, "Look at the certificate with `openssl s_client`, at the clock and at `ca-certificates` of this host.";
    /// The server took too long to answer or stopped sending.
    TimedOut = "timed_out", again, Retry, "Look at the network and the host; `http.connect_timeout_seconds` and `http.idle_timeout_seconds` are the limits.";
    /// The body ended before its declared length.
    BodyTruncated = "body_truncated", again, Retry, "Passes by itself; when it does not, a proxy or the origin cuts long answers.";
    /// The body is over its limit or longer than declared.
    BodyTooLarge = "body_too_large", once, GiveUp, "Ask the URL of the message with `curl -I`: raise the setting that the message names when the file is right, else tell whoever runs the host.";
    /// More came for one attempt at a job than `hls.max_job_bytes`.
    JobTooLarge = "job_too_large", once, GiveUp, "If courses are really that large raise `hls.max_job_bytes`, then `hauld dead retry --kind job_too_large`.";
    /// What came in place of a segment is not media: empty, an error page, or another container.
    SegmentInvalid = "segment_invalid", twice, Retry, "Open the URL of the message: often a login page, or a file that the packager lost.";
    /// The playlist declares a segment absent (EXT-X-GAP): the lecture would have a hole.
    SegmentMissing = "segment_missing", once, Retry, "Ask the owner to mend the recording, or accept holes with `hls.allow_gaps`.";
    /// Packets of a transport stream are missing inside a segment: the lecture would have a hole.
    PacketsMissing = "packets_missing", twice, Retry, "Ask the owner to mend the recording, or accept holes with `hls.allow_gaps`.";
    /// Codec, picture size or sound format change on the way: one .mp4 cannot hold it.
    CodecChanged = "codec_changed", once, GiveUp, "Keep such lectures as they come with `remux.container = \"ts\"`, or ask for another rendition (`hls.quality`).";
    /// A segment does not decrypt: not a multiple of 16 bytes, or wrong padding.
    DecryptionFailed = "decryption_failed", twice, Retry, "Often the wrong key came; `hauld inspect URL` shows keys and IVs: tell whoever packages the stream.";
    /// The key is not 16 bytes.
    KeyInvalid = "key_invalid", twice, Retry, "Often a login or error page came in its place: look at the cookies for the host of the key.";
    /// No space left on the disk or at the destination, or over quota.
    DiskFull = "disk_full", once, Retry, "Make room; jobs wait for it, which costs no attempt, and go on where they were.";
    /// Reading or writing the disk failed.
    DiskFailed = "disk_failed", once, Retry, "Look at `dmesg`, mounts and permissions of the path in the message; `hauld check` tries them.";
    /// This host has no descriptor, memory or process left for us.
    HostExhausted = "host_exhausted", again, Retry, "Raise the limits of the unit (`LimitNOFILE=`, `MemoryMax=`, `TasksMax=`) or lower `worker.jobs` and `hls.concurrency`; jobs wait for it, which costs no attempt.";
    /// ffmpeg failed, or its result is not what went in.
    RemuxFailed = "remux_failed", once, Retry, "The message has ffmpeg's last lines; `remux.container = \"ts\"` keeps lectures as they come.";
    /// The course folder could not be delivered.
    DeliveryFailed = "delivery_failed", once, Retry, "Look at the destination that the message names; the download is kept and the job is tried again.";
    /// The destination refuses courses: credentials, permission, an unknown remote.
    DeliveryRefused = "delivery_refused", once, GiveUp, "Mend rclone's configuration or `delivery`, then `hauld dead retry --kind delivery_refused`.";
    /// The backend did not accept the finalize call for `report.give_up_after_seconds`; the course is delivered.
    FinalizeFailed = "finalize_failed", once, Retry, "Mend the backend, `report.api_base_url` or the secret, then `hauld dead retry --kind finalize_failed`: only the call is made again.";
    /// The attempt took longer than `worker.job_timeout_seconds`.
    JobTimeout = "job_timeout", once, Retry, "What it has is kept: the next attempt goes on there. Raise the limit for long courses, or look why the host is slow.";
    /// The instance that held the job died, too often: the element may be what kills it.
    WorkerCrashed = "worker_crashed", once, GiveUp, "Look into the journal for what killed it (memory?), report it, then `hauld dead retry`.";
    /// A defect of this program (a panic).
    Internal = "internal", once, Retry, "Please report it, with the log lines of the task.";
    /// The instance is stopping.
    Interrupted = "interrupted", once, HandBack, "Nothing: the job goes back to the queue and costs no attempt.";
    /// The instance lost its lease, and another one has the job.
    LeaseLost = "lease_lost", once, Abandon, "Nothing, unless it happens often: then look at Redis, the network and the load of this host.";
}

impl FailureKind {
    /// The kind of this name.
    pub fn named(name: &str) -> Option<FailureKind> {
        FailureKind::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// Whether a job that fails so has passed the enrollment gate for certain.
    pub fn comes_after_the_gate(self) -> bool {
        use FailureKind::*;
        let anywhere = matches!(
            self,
            JobTimeout | WorkerCrashed | Internal | Interrupted | LeaseLost | DiskFull | DiskFailed | HostExhausted
        );
        // The list is in the order in which a job can meet them.
        self >= CatalogUnavailable && !anywhere
    }

    /// Whether a failed attempt counts as one of those that a job has. A job that found the task store
    /// away has not even begun, and a login that has run out, a full disk or a host without descriptors
    /// is nothing that a job can help: every job meets it until an operator does something. All of them
    /// wait however long that lasts. So a media host's 401 is
    /// only called a rejected login when our cookies for it have run out: one file that our account may
    /// not have ends its job like any other failure.
    pub fn costs_an_attempt(self) -> bool {
        use FailureKind::*;
        !matches!(self, TaskStoreUnavailable | CredentialsRejected | DiskFull | HostExhausted)
    }

    /// Whether another link to the same thing may do: this one has expired, or it wants to see a login
    /// that a new one may not need.
    pub fn may_pass_with_new_links(self) -> bool {
        matches!(self, FailureKind::LinkExpired | FailureKind::CredentialsRejected)
    }

    /// Whether the pause before another attempt at the job grows with every attempt: somebody is
    /// overloaded or down, and coming back soon makes it worse.
    pub fn backs_off(self) -> bool {
        use FailureKind::*;
        matches!(
            self,
            TaskStoreUnavailable
                | CatalogUnavailable
                | CredentialsRejected
                | QueueUnavailable
                | EventNotEnded
                | RateLimited
                | ServerError
                | DiskFull
                | HostExhausted
                | DeliveryFailed
                | FinalizeFailed
        )
    }

    /// Whether the same piece of a stream may be had elsewhere: at a fresh address, or as a copy on
    /// another host.
    pub fn is_of_the_origin(self) -> bool {
        use FailureKind::*;
        matches!(
            self,
            PlaylistInvalid
                | NotFound
                | LinkExpired
                | CredentialsRejected
                | RateLimited
                | ServerError
                | HttpRejected
                | RedirectRefused
                | AddressRefused
                | ConnectionFailed
                | TlsFailed
                | TimedOut
                | BodyTruncated
                | BodyTooLarge
                | SegmentInvalid
                | PacketsMissing
                | DecryptionFailed
                | KeyInvalid
        )
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One failure: its kind and a sentence for the operator. Never holds a secret: URLs are put in
/// through [`crate::http::shown`].
#[derive(Debug, Clone)]
pub struct Failure {
    /// What happened, from the closed list.
    pub kind: FailureKind,
    /// What failed, with its place ("lecture 3 "Loops": segment 14: …").
    pub message: String,
    /// How long the server asked us to stay away (`Retry-After`), if it did.
    pub retry_after: Option<Duration>,
    /// Whether the server said that it has too much to do (429, 503).
    pub is_overload: bool,
}

/// What every room returns.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Bytes of a message: a URL may have 8 KiB.
const LONGEST_MESSAGE: usize = 12 * 1024;

impl Failure {
    /// A failure of `kind`, told by `message`.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Failure { kind, message: one_line(message.into()), retry_after: None, is_overload: false }
    }

    /// Puts the place in front of the message.
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = one_line(format!("{place}: {}", self.message));
        self
    }

    /// Puts behind the message why nothing could be done about it.
    pub fn because(mut self, reason: &Failure) -> Self {
        self.message = one_line(format!("{}; {reason}", self.message));
        self
    }

    /// A failure of the disk: tells a full disk, and a host that is out of something, from any other
    /// trouble.
    pub fn disk(doing: impl fmt::Display, error: std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => FailureKind::DiskFull,
            _ if is_exhaustion(&error) => FailureKind::HostExhausted,
            _ => FailureKind::DiskFailed,
        };
        Failure::new(kind, format!("{doing}: {error}"))
    }
}

/// Messages quote what strangers wrote, and terminals obey control characters. Cut where nobody reads on.
fn one_line(mut message: String) -> String {
    let plain = |character: char| match character {
        '\n' | '\r' | '\t' => ' ',
        character if character.is_control() => char::REPLACEMENT_CHARACTER,
        character => character,
    };
    if message.contains(char::is_control) {
        message = message.chars().map(plain).collect();
    }
    message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
    message
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Whether the host is out of descriptors or memory: that says nothing about what was asked for.
pub fn is_exhaustion(error: &std::io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS))
}

/// Adds the place to the failure of a result.
pub trait Context<T> {
    /// Puts the place, computed only on failure, in front of the message.
    fn at<D: fmt::Display>(self, place: impl FnOnce() -> D) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn at<D: fmt::Display>(self, place: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|failure| failure.at(place()))
    }
}
