//! The settings of the way from a course URL to a course.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::{BearerSettings, Source, seconds};

/// From a course URL to a course.
#[derive(Debug, Clone)]
pub struct ResolverSettings {
    pub kind: ResolverKind,
    pub catalog_endpoint: Option<Url>,
    pub catalog_token: Option<BearerSettings>,
    pub cookies_file: Option<PathBuf>,
    /// Program and arguments; the course URL is appended.
    pub command: Vec<String>,
    pub timeout: Duration,
    /// Memory of its own that the command gets.
    pub max_memory_bytes: u64,
    pub limits: ManifestLimits,
}

/// How much of a course is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ManifestLimits {
    /// Of a manifest or an info JSON.
    pub max_bytes: usize,
    pub max_lectures: usize,
    /// Captions and assets of one lecture.
    pub max_files: usize,
    /// Of a title, and of the name of an asset; what is longer is cut.
    pub max_title_characters: usize,
}

impl Default for ManifestLimits {
    fn default() -> Self {
        ManifestLimits { max_bytes: 16 << 20, max_lectures: 10_000, max_files: 1000, max_title_characters: 500 }
    }
}

/// How a course URL is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResolverKind {
    /// A playlist URL directly, else the catalogue if set, else the command if set.
    Auto,
    Direct,
    Catalog,
    Command,
}

/// Reads `resolver.*`.
pub(super) fn read(s: &mut Source) -> ResolverSettings {
    let kinds = [
        ("auto", ResolverKind::Auto),
        ("direct", ResolverKind::Direct),
        ("catalog", ResolverKind::Catalog),
        ("command", ResolverKind::Command),
    ];
    ResolverSettings {
        kind: s.choice("resolver.kind", "auto", &kinds, "How a course URL becomes a course: auto (a .m3u8 directly, else the catalogue if set, else the command if set, else directly), direct, catalog, command."),
        catalog_endpoint: s.optional_url("resolver.catalog_endpoint", None, "URL of the catalogue; asked with ?url=<course URL>."),
        catalog_token: s.bearer("resolver.catalog_token", "File with the bearer token for the catalogue; read again when it changes."),
        cookies_file: s.optional_path("resolver.cookies_file", "Netscape cookies.txt for the catalogue and the media hosts; read again when it changes."),
        command: s.command("resolver.command", "Program and arguments that print a manifest; the course URL is appended."),
        timeout: seconds(s.integer("resolver.timeout_seconds", 60, 1..=3600, "Limit for resolving one course.")),
        max_memory_bytes: s.memory("resolver.max_memory_bytes", "Memory that the command gets."),
        limits: read_limits(s),
    }
}

fn read_limits(s: &mut Source) -> ManifestLimits {
    let default = ManifestLimits::default();
    let mut read = |name: &str, default, most, help: &str| s.count(name, default, 1..=most, help);
    ManifestLimits {
        max_bytes: read("resolver.max_manifest_bytes", default.max_bytes, 1 << 30, "Largest manifest or info JSON."),
        max_lectures: read("resolver.max_lectures", default.max_lectures, 1_000_000, "Most lectures in a course."),
        max_files: read("resolver.max_files", default.max_files, 100_000, "Most captions and assets of one lecture."),
        max_title_characters: read(
            "resolver.max_title_characters",
            default.max_title_characters,
            10_000,
            "Longest title of a course, section, lecture or asset; the rest is cut off.",
        ),
    }
}
