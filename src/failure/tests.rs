use super::*;

#[test]
fn names_are_unique_and_texts_are_sentences() {
    let mut names: Vec<_> = FailureKind::ALL.iter().map(|kind| kind.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), FailureKind::ALL.len());
    for kind in FailureKind::ALL {
        for text in [kind.meaning(), kind.remedy()] {
            assert!(text.ends_with('.'), "{kind}: {text}");
        }
    }
}

#[test]
fn a_message_is_one_line_that_no_terminal_obeys() {
    let failure = Failure::new(FailureKind::CatalogUnavailable, "no\u{1b}[2J\nheader\u{7f}").at("a\rb");
    assert_eq!(failure.message, "a b: no\u{fffd}[2J header\u{fffd}");
    let failure = Failure::new(FailureKind::CatalogUnavailable, "\u{e4}".repeat(1 << 20)).because(&failure);
    assert_eq!(failure.message.len(), LONGEST_MESSAGE);
}

#[test]
fn a_full_disk_is_told_from_a_broken_one_and_from_a_host_that_is_out_of_something() {
    let kind = |errno: Errno| Failure::disk("writing x", errno.into()).kind;
    for errno in [Errno::NOSPC, Errno::DQUOT] {
        assert_eq!(kind(errno), FailureKind::DiskFull);
    }
    for errno in [Errno::IO, Errno::ROFS] {
        assert_eq!(kind(errno), FailureKind::DiskFailed);
    }
    for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM] {
        assert_eq!(kind(errno), FailureKind::HostExhausted);
    }
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
