//! What `tests/fuzz` needs and nobody else: each reader of what strangers write, as a function of
//! bytes that panics when a rule is broken.
//!
//! * `texts`: documents, headers, jobs; `hls::fuzzing`: what the engine reads

mod texts;

use std::cell::Cell;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::disk::beside;
use crate::failure::{Failure, Result};
use crate::hls::fuzzing as media;

/// One reader.
pub struct Target {
    pub name: &'static str,
    /// Says whether the bytes are what the reader is for.
    pub check: fn(&[u8]) -> bool,
}

/// All of them but the playlist parser, which has rules of its own.
pub const TARGETS: &[Target] = &[
    Target { name: "manifest", check: texts::manifest },
    Target { name: "info_json", check: texts::info_json },
    Target { name: "queue_element", check: texts::queue_element },
    Target { name: "rq_job", check: texts::rq_job },
    Target { name: "cookies_file", check: texts::cookies_file },
    Target { name: "set_cookie", check: texts::set_cookie },
    Target { name: "headers", check: texts::headers },
    Target { name: "byte_range", check: media::byte_range },
    Target { name: "hook_request", check: texts::hook_request },
    Target { name: "hook_signature", check: texts::hook_signature },
    Target { name: "journal", check: texts::journal },
    Target { name: "url", check: texts::url },
    Target { name: "service_answer", check: texts::service_answer },
    Target { name: "rclone_log", check: texts::rclone_log },
    Target { name: "gzip", check: texts::gzip },
    Target { name: "unit", check: media::unit },
    Target { name: "decryption", check: media::decryption },
    Target { name: "transport_stream", check: media::transport_stream },
    Target { name: "fragmented_mp4", check: media::fragmented_mp4 },
    Target { name: "id3_tag", check: media::id3_tag },
    Target { name: "timeline", check: media::timeline },
    Target { name: "webvtt", check: media::webvtt },
];

/// What is said to people is one short line.
pub(crate) fn is_presentable(failure: &Failure) {
    assert!(!failure.message.chars().any(char::is_control), "{:?}", failure.message);
    assert!(failure.message.len() < 16 * 1024, "{} bytes", failure.message.len());
}

/// What was read, if it was; what is said otherwise is fit for people.
pub(crate) fn presentable<T>(result: Result<T>) -> Option<T> {
    if let Err(failure) = &result {
        is_presentable(failure);
    }
    result.ok()
}

/// How bytes are cut when they are read for the second time.
pub(crate) fn odd_pieces(bytes: &[u8]) -> usize {
    1 + bytes.len() % 211
}

/// The same result, or a failure of the same kind.
pub(crate) fn check_same<T: PartialEq + std::fmt::Debug>(whole: &Result<T>, cut: &Result<T>) {
    match (whole, cut) {
        (Ok(whole), Ok(cut)) => assert!(whole == cut, "{whole:?}\n{cut:?}"),
        (Err(whole), Err(cut)) => {
            is_presentable(whole);
            assert_eq!(whole.kind, cut.kind, "{whole}\n{cut}");
        }
        _ => panic!("{whole:?}\n{cut:?}"),
    }
}

/// A file for a reader of files; of each thread the same one again. It is gone when this is dropped, and
/// so is what may have been written beside it.
pub(crate) struct Spool {
    pub path: PathBuf,
}

impl Spool {
    pub fn with(bytes: &[u8]) -> Spool {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static THREAD: Cell<usize> = Cell::new(THREADS.fetch_add(1, Ordering::Relaxed));
        }
        let name = format!("hauld-fuzz-{}-{}", std::process::id(), THREAD.get());
        // Memory, where there is such a folder.
        let shared = PathBuf::from("/dev/shm");
        let folder = if shared.is_dir() { shared } else { std::env::temp_dir() };
        let path = folder.join(name);
        std::fs::write(&path, bytes).expect("a file in the temporary folder");
        Spool { path }
    }

    pub fn open(&self) -> File {
        File::open(&self.path).expect("the file that was just written")
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_file(beside(&self.path, ".joined"));
    }
}
