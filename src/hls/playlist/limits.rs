//! How much of a playlist is read before it is refused. What an operator may have to change is in
//! [`Limits`]; the rest is far above what any stream needs.

/// How much playlist is read before it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Size of the text, in bytes. Variables may add as much again.
    pub max_bytes: usize,
    /// Number of segments. No playlist has more initialization sections either.
    pub max_segments: usize,
    /// Length of one line, in bytes.
    pub max_line_bytes: usize,
    /// Number of variants (EXT-X-STREAM-INF), and that of renditions (EXT-X-MEDIA).
    pub max_variants: usize,
    /// Number of keys, in all sets together: a few for each segment of the longest playlists.
    pub max_keys: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_bytes: 16 * 1024 * 1024,
            max_segments: 500_000,
            max_line_bytes: 64 * 1024,
            max_variants: 10_000,
            max_keys: 500_000,
        }
    }
}

/// Longest URI, variables put in. Servers and proxies stop at or below it.
pub(super) const MAX_URI_BYTES: usize = 8 * 1024;
/// Longest value that can be made of other values.
pub(super) const MAX_VALUE_BYTES: usize = 8 * 1024;
/// EXT-X-DEFINE of one playlist.
pub(super) const MAX_VARIABLES: usize = 1_000;
/// After so many, odd lines are only counted: a hostile playlist has one on every line.
pub(super) const MAX_DIAGNOSTICS: usize = 100;
/// Keys in force at once: each change of key copies them all.
pub(super) const MAX_KEY_FORMATS: usize = 32;
/// Attributes of one EXT-X-STREAM-INF that are only compared.
pub(super) const MAX_OTHER_ATTRIBUTES: usize = 32;
/// EXT-X-SESSION-KEY of one playlist.
pub(super) const MAX_SESSION_KEYS: usize = 1_000;
