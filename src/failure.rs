//! The closed list of failure kinds, and the only place that decides "retry or not".
//!
//! A kind's name is the same in the log, the metrics, the task table and the dead list. Rooms say
//! *what* happened by choosing a kind; what follows from it is read here and nowhere else.

use std::fmt;
use std::time::Duration;

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
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $request:ident, $job:ident;)+) => {
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

            /// One sentence for the operator: what it means and what to do.
            pub fn meaning(self) -> &'static str {
                match self { $(FailureKind::$variant => concat!($($doc),+).trim_ascii(),)+ }
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
    /// The queue element is not a job: see the verbatim element on the dead list and mend its producer.
    MalformedJob = "malformed_job", once, GiveUp;
    /// The RQ job asks for what only a worker of RQ can give (callbacks, webhooks, repeats, rate limits): enqueue it without, or leave it to one.
    ForeignJob = "foreign_job", once, GiveUp;
    /// Somebody cancelled the task, or stopped its job with RQ's stop-job command: requeue it when it is wanted after all.
    JobStopped = "job_stopped", once, GiveUp;
    /// Another element of the same task is running, waits for its next attempt, or was done just now: nothing to do, or push it again with `--force`.
    DuplicateJob = "duplicate_job", once, GiveUp;
    /// The task's status is `failed`: enroll the customer again, then requeue.
    EnrollmentFailed = "enrollment_failed", once, GiveUp;
    /// The task was still not enrolled when the gate closed: look at the enrollment service, then requeue.
    EnrollmentTimeout = "enrollment_timeout", once, GiveUp;
    /// The task store has no such task: the producer pushed an element without a row.
    TaskNotFound = "task_not_found", once, GiveUp;
    /// The task has a status the gate does not know: look at who wrote it.
    UnexpectedStatus = "unexpected_status", once, GiveUp;
    /// The task store did not answer: look at its server; the job is tried again until it does, which costs no attempt.
    TaskStoreUnavailable = "task_store_unavailable", once, Retry;
    /// The enrollment service refused: read its message.
    EnrollmentRefused = "enrollment_refused", once, GiveUp;
    /// The enrollment service did not answer, or answered nonsense: look at the service, then enroll again.
    EnrollmentUnavailable = "enrollment_unavailable", once, Retry;
    /// Redis did not answer or refused a command: look at the server.
    QueueUnavailable = "queue_unavailable", once, Retry;
    /// The catalogue did not answer: look at its server; the job is tried again.
    CatalogUnavailable = "catalog_unavailable", again, Retry;
    /// Our cookies or our token were not accepted (401, or a redirect to a login page): replace the file that the message names, which is read by itself; jobs wait for it, which costs no attempt.
    CredentialsRejected = "credentials_rejected", once, Retry;
    /// The catalogue refused us (403, or it wants a login and none is set): look at what the account may see, then requeue.
    CatalogRefused = "catalog_refused", once, GiveUp;
    /// The catalogue does not know the course: check the course URL.
    CourseNotFound = "course_not_found", once, GiveUp;
    /// What the catalogue or the resolver command answered is not a course manifest.
    ManifestInvalid = "manifest_invalid", once, Retry;
    /// The course has no lecture with anything to download.
    CourseEmpty = "course_empty", once, GiveUp;
    /// The resolver command failed or took too long: run it by hand with the course URL.
    ResolverFailed = "resolver_failed", once, Retry;
    /// A URL is not http or https, or cannot be parsed.
    UrlInvalid = "url_invalid", once, GiveUp;
    /// What came in place of a playlist is not one, or breaks a rule that cannot be guessed around.
    PlaylistInvalid = "playlist_invalid", twice, Retry;
    /// A playlist is over a limit of bytes, lines or segments.
    PlaylistTooLarge = "playlist_too_large", once, GiveUp;
    /// The playlist is a live stream: only finished streams are downloaded.
    LiveUnsupported = "live_unsupported", once, GiveUp;
    /// The playlist of an event was followed for `live.max_seconds` and has not ended: the job goes on with it later.
    EventNotEnded = "event_not_ended", once, Retry;
    /// The stream is protected by a DRM system: the daemon never works around protection.
    DrmProtected = "drm_protected", once, GiveUp;
    /// The stream uses an encryption method that is not supported.
    EncryptionUnsupported = "encryption_unsupported", once, GiveUp;
    /// The server answered 404.
    NotFound = "not_found", twice, Retry;
    /// The server answered 401, 403 or 410: the link has expired or we are not entitled to it.
    LinkExpired = "link_expired", once, Retry;
    /// The server answered 429: too many requests.
    RateLimited = "rate_limited", again, Retry;
    /// The server answered 5xx.
    ServerError = "server_error", again, Retry;
    /// The server answered another status than the one asked for.
    HttpRejected = "http_rejected", once, Retry;
    /// A redirect was refused: too many, to another scheme, or from https to http.
    RedirectRefused = "redirect_refused", once, GiveUp;
    /// Name lookup, connecting or sending failed, or the peer cut the connection.
    ConnectionFailed = "connection_failed", again, Retry;
    /// The TLS handshake or the certificate check failed.
    TlsFailed = "tls_failed", once, Retry;
    /// The server took too long to answer or stopped sending.
    TimedOut = "timed_out", again, Retry;
    /// The body ended before its declared length.
    BodyTruncated = "body_truncated", again, Retry;
    /// The body is over its limit or longer than declared.
    BodyTooLarge = "body_too_large", once, GiveUp;
    /// What came in place of a segment is not media: empty, an error page, or another container.
    SegmentInvalid = "segment_invalid", twice, Retry;
    /// The playlist declares a segment absent (EXT-X-GAP): the lecture would have a hole.
    SegmentMissing = "segment_missing", once, Retry;
    /// Packets of a transport stream are missing inside a segment: the lecture would have a hole.
    PacketsMissing = "packets_missing", twice, Retry;
    /// Codec, picture size or sound format change on the way: one .mp4 cannot hold it.
    CodecChanged = "codec_changed", once, GiveUp;
    /// A segment does not decrypt: not a multiple of 16 bytes, or wrong padding.
    DecryptionFailed = "decryption_failed", twice, Retry;
    /// The key is not 16 bytes.
    KeyInvalid = "key_invalid", twice, Retry;
    /// No space left on the disk or at the destination, or over quota: make room; the job is tried again.
    DiskFull = "disk_full", once, Retry;
    /// Reading or writing the disk failed.
    DiskFailed = "disk_failed", once, Retry;
    /// ffmpeg failed, or its result is not what went in.
    RemuxFailed = "remux_failed", once, Retry;
    /// The course folder could not be delivered.
    DeliveryFailed = "delivery_failed", once, Retry;
    /// The destination refuses courses (credentials, permission, an unknown remote): mend rclone's configuration or `delivery`, then requeue.
    DeliveryRefused = "delivery_refused", once, GiveUp;
    /// The backend did not accept the finalize call for `report.give_up_after_seconds`: the course is delivered; mend the backend or the secret, then requeue.
    FinalizeFailed = "finalize_failed", once, Retry;
    /// The attempt took longer than `worker.job_timeout_seconds`.
    JobTimeout = "job_timeout", once, Retry;
    /// The instance that held the job died, too often: the element may be what kills it.
    WorkerCrashed = "worker_crashed", once, GiveUp;
    /// A defect of this program (a panic): please report it.
    Internal = "internal", once, Retry;
    /// The instance is stopping; the job goes back to the queue.
    Interrupted = "interrupted", once, HandBack;
    /// The instance lost its lease; another one has the job.
    LeaseLost = "lease_lost", once, Abandon;
}

impl FailureKind {
    /// The kind of this name.
    pub fn named(name: &str) -> Option<FailureKind> {
        FailureKind::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// Whether a job that fails so has passed the enrollment gate for certain.
    pub fn comes_after_the_gate(self) -> bool {
        use FailureKind::*;
        let anywhere =
            matches!(self, JobTimeout | WorkerCrashed | Internal | Interrupted | LeaseLost | DiskFull | DiskFailed);
        // The list is in the order in which a job can meet them.
        self >= CatalogUnavailable && !anywhere
    }

    /// Whether a failed attempt counts as one of those that a job has. A job that found the task store
    /// away has not even begun, and a login that has run out is nothing that a job can help: every job
    /// meets it until an operator renews it. Both wait however long that lasts. So a media host's 401 is
    /// only called a rejected login when our cookies for it have run out: one file that our account may
    /// not have ends its job like any other failure.
    pub fn costs_an_attempt(self) -> bool {
        !matches!(self, FailureKind::TaskStoreUnavailable | FailureKind::CredentialsRejected)
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
}

/// What every room returns.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// A failure of `kind`, told by `message`.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Failure { kind, message: message.into(), retry_after: None }
    }

    /// Puts the place in front of the message.
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// Puts behind the message why nothing could be done about it.
    pub fn because(mut self, reason: &Failure) -> Self {
        self.message = format!("{}; {reason}", self.message);
        self
    }

    /// A failure of the disk: tells a full disk from any other trouble.
    pub fn disk(doing: impl fmt::Display, error: std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => FailureKind::DiskFull,
            _ => FailureKind::DiskFailed,
        };
        Failure::new(kind, format!("{doing}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_meanings_are_sentences() {
        let mut names: Vec<_> = FailureKind::ALL.iter().map(|kind| kind.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FailureKind::ALL.len());
        for kind in FailureKind::ALL {
            assert!(kind.meaning().ends_with('.'), "{kind}: {}", kind.meaning());
        }
    }

    #[test]
    fn a_full_disk_is_told_from_a_broken_one() {
        let full = Failure::disk("writing x", std::io::Error::from_raw_os_error(28));
        assert_eq!(full.kind, FailureKind::DiskFull);
        let broken = Failure::disk("writing x", std::io::Error::from_raw_os_error(5));
        assert_eq!(broken.kind, FailureKind::DiskFailed);
    }

    #[test]
    fn only_what_follows_the_gate_proves_that_it_was_passed() {
        use FailureKind::*;
        for kind in [EnrollmentFailed, TaskStoreUnavailable, JobStopped, QueueUnavailable, JobTimeout, WorkerCrashed] {
            assert!(!kind.comes_after_the_gate(), "{kind}");
        }
        for kind in [CatalogUnavailable, DrmProtected, ServerError, DeliveryFailed, FinalizeFailed] {
            assert!(kind.comes_after_the_gate(), "{kind}");
        }
    }

    #[test]
    fn the_gate_is_final_and_a_stop_costs_nothing() {
        assert_eq!(FailureKind::EnrollmentTimeout.job_policy(), JobPolicy::GiveUp);
        assert_eq!(FailureKind::Interrupted.job_policy(), JobPolicy::HandBack);
        assert_eq!(FailureKind::LeaseLost.job_policy(), JobPolicy::Abandon);
    }
}
