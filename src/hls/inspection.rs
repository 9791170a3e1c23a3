//! What every unit goes through on its way to the file, whatever its container is.

use super::fragment::Fragment;
use super::sniff::MediaKind;
use super::transport::{Facts, Inspector};
use crate::failure::Result;

/// The inspection of one unit, fed with its clear bytes from the first to the last.
pub enum Inspection {
    Transport(Box<Inspector>),
    Fragment(Fragment),
    /// Nothing is looked for in there.
    Unknown,
}

impl Inspection {
    /// Begins a unit; `is_map` for an initialization section.
    pub fn new(kind: MediaKind, is_map: bool) -> Inspection {
        match kind {
            MediaKind::TransportStream => Inspection::Transport(Box::default()),
            MediaKind::FragmentedMp4 => Inspection::Fragment(Fragment::new(is_map)),
            MediaKind::PackedAudio | MediaKind::WebVtt => Inspection::Unknown,
        }
    }

    /// Looks at the next bytes, however they are cut.
    ///
    /// # Errors
    /// `segment_invalid` when they are not what they should be, `drm_protected`.
    pub fn inspect(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Inspection::Transport(inspector) => inspector.inspect(bytes),
            Inspection::Fragment(fragment) => fragment.inspect(bytes),
            Inspection::Unknown => Ok(()),
        }
    }

    /// Ends the unit. Missing packets are no failure here: the caller knows whether they may be.
    ///
    /// # Errors
    /// `segment_invalid` when the unit is not whole.
    pub fn finish(self) -> Result<Facts> {
        match self {
            Inspection::Transport(inspector) => inspector.finish(),
            Inspection::Fragment(fragment) => fragment.finish().map(|()| Facts::default()),
            Inspection::Unknown => Ok(Facts::default()),
        }
    }
}
