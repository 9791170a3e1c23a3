//! The exit statuses, by sysexits: one table, which README and manual page print.

use std::io::ErrorKind;
use std::process::ExitCode;

use crate::failure::FailureKind;

macro_rules! exits {
    ($($(#[doc = $doc:literal])+ $variant:ident = $status:literal;)+) => {
        /// How a command ends. The number is stable: scripts and units decide by it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Exit {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Exit {
            /// Every one, by its number.
            pub const ALL: &'static [Exit] = &[$(Exit::$variant,)+];

            /// What the process ends with.
            pub fn status(self) -> u8 {
                match self { $(Exit::$variant => $status,)+ }
            }

            /// What it means, for the operator.
            pub fn meaning(self) -> &'static str {
                match self { $(Exit::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

exits! {
    /// Done, and all is well.
    Success = 0;
    /// The command did its work and found something that is not well: it says what.
    Found = 1;
    /// The command line was not understood.
    Usage = 2;
    /// What was given cannot be used: a job, a URL, a playlist, a stream.
    Data = 65;
    /// What was asked for is not there.
    Missing = 66;
    /// A server or a program that is needed did not do its part.
    Unavailable = 69;
    /// A defect of hauld: please report it.
    Internal = 70;
    /// The output cannot be created.
    CannotCreate = 73;
    /// Reading or writing failed, or the disk is full.
    Disk = 74;
    /// It may work later: try again.
    Temporary = 75;
    /// Somebody refused, or a permission is missing.
    Refused = 77;
    /// The configuration cannot be used: the units do not restart into it.
    Configuration = 78;
    /// Stopped by SIGINT.
    Interrupted = 130;
    /// Stopped by SIGTERM; the daemon drains and ends with 0.
    Terminated = 143;
}

impl Exit {
    /// For a file that the user has named and that cannot be read.
    pub fn of_input(error: &std::io::Error) -> Exit {
        match error.kind() {
            ErrorKind::NotFound => Exit::Missing,
            ErrorKind::PermissionDenied => Exit::Refused,
            _ => Exit::Disk,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.status())
    }
}

impl From<FailureKind> for Exit {
    /// How a command ends that failed so.
    fn from(kind: FailureKind) -> Exit {
        use FailureKind::*;
        match kind {
            MalformedJob
            | ForeignJob
            | UnexpectedStatus
            | ManifestInvalid
            | CourseEmpty
            | UrlInvalid
            | PlaylistInvalid
            | PlaylistTooLarge
            | LiveUnsupported
            | DrmProtected
            | EncryptionUnsupported
            | BodyTooLarge
            | JobTooLarge
            | SegmentInvalid
            | SegmentMissing
            | PacketsMissing
            | CodecChanged
            | DecryptionFailed
            | KeyInvalid => Exit::Data,
            TaskNotFound | CourseNotFound | NotFound => Exit::Missing,
            TaskStoreUnavailable
            | EnrollmentUnavailable
            | QueueUnavailable
            | CatalogUnavailable
            | ResolverFailed
            | ServerError
            | HttpRejected
            | ConnectionFailed
            | TlsFailed
            | RemuxFailed
            | DeliveryFailed
            | FinalizeFailed => Exit::Unavailable,
            WorkerCrashed | Internal => Exit::Internal,
            DiskFull | DiskFailed => Exit::Disk,
            DuplicateJob | EnrollmentTimeout | EventNotEnded | RateLimited | TimedOut | BodyTruncated
            | HostExhausted | JobTimeout | LeaseLost => Exit::Temporary,
            JobStopped | EnrollmentFailed | EnrollmentRefused | CredentialsRejected | CatalogRefused | LinkExpired
            | RedirectRefused | AddressRefused | DeliveryRefused => Exit::Refused,
            Interrupted => Exit::Interrupted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_a_failure_is_never_a_success() {
        let statuses: Vec<u8> = Exit::ALL.iter().map(|exit| exit.status()).collect();
        assert!(statuses.is_sorted() && statuses.windows(2).all(|pair| pair[0] != pair[1]), "{statuses:?}");
        for kind in FailureKind::ALL {
            assert!(Exit::from(*kind).status() >= 65, "{kind}");
        }
    }
}
