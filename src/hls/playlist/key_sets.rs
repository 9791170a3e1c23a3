//! Which keys are in force together. Most playlists have one set, some a new one for each segment:
//! all keys stand in one list.

use std::fmt;
use std::ops::Index;

use crate::failure::{Failure, FailureKind, Result};

use super::Key;
use super::key::IDENTITY;
use super::limits::MAX_KEY_FORMATS;

/// The sets of keys that segments and maps point to. The first is empty: not encrypted.
#[derive(Clone)]
pub struct KeySets {
    keys: Vec<Key>,
    /// Where each set ends in `keys`, which is where the next one begins.
    ends: Vec<u32>,
}

impl KeySets {
    /// Number of sets, at least 1.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Never: the set without keys is always there.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The set at `index`.
    pub fn get(&self, index: usize) -> Option<&[Key]> {
        let end = *self.ends.get(index)? as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        Some(&self.keys[start..end])
    }

    /// All sets, in the order in which they come into force.
    pub fn iter(&self) -> impl Iterator<Item = &[Key]> {
        (0..self.len()).map(|index| &self[index])
    }

    fn push(&mut self, set: &[Key], max_keys: usize) -> Result<()> {
        if self.keys.len() + set.len() > max_keys {
            return Err(Failure::new(FailureKind::PlaylistTooLarge, format!("more than {max_keys} keys")));
        }
        self.keys.extend_from_slice(set);
        self.ends.push(self.keys.len() as u32);
        Ok(())
    }
}

impl Default for KeySets {
    fn default() -> Self {
        KeySets { keys: Vec::new(), ends: vec![0] }
    }
}

impl Index<usize> for KeySets {
    type Output = [Key];

    fn index(&self, index: usize) -> &[Key] {
        self.get(index).unwrap_or_else(|| panic!("key set {index} of {}", self.len()))
    }
}

impl fmt::Debug for KeySets {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The keys in force while a playlist is read, and all sets that were used.
#[derive(Default)]
pub(super) struct KeysInForce {
    keys: Vec<Key>,
    /// `keys` have changed since the last set.
    changed: bool,
    sets: KeySets,
}

impl KeysInForce {
    /// Puts a key in force in place of the one of its format; `None` takes all away.
    ///
    /// # Errors
    /// The failure without its line, when there are too many formats.
    pub(super) fn apply(&mut self, key: Option<Key>) -> Result<()> {
        let Some(key) = key else {
            self.keys.clear();
            self.changed = true;
            return Ok(());
        };
        match self.keys.iter().position(|known| known.key_format == key.key_format) {
            Some(place) => self.keys[place] = key,
            None if self.keys.len() < MAX_KEY_FORMATS => self.keys.push(key),
            None => {
                let what = format!("more than {MAX_KEY_FORMATS} key formats at once");
                return Err(Failure::new(FailureKind::PlaylistTooLarge, what));
            }
        }
        self.changed = true;
        Ok(())
    }

    /// The set that is in force now, as an index into [`KeysInForce::into_sets`].
    ///
    /// # Errors
    /// The failure without its line, when there are more than `max_keys`.
    pub(super) fn current(&mut self, max_keys: usize) -> Result<u32> {
        if self.keys.is_empty() {
            return Ok(0);
        }
        let last = self.sets.len() - 1;
        if !self.changed || self.sets[last] == *self.keys {
            self.changed = false;
            return Ok(last as u32);
        }
        self.sets.push(&self.keys, max_keys)?;
        self.changed = false;
        Ok(last as u32 + 1)
    }

    /// Whether what is in force now takes its IV from the media sequence number.
    pub(super) fn has_implicit_iv(&self) -> bool {
        self.keys.iter().any(is_implicit)
    }

    /// Whether some segment or map takes its IV from the media sequence number.
    pub(super) fn any_implicit_iv(&self) -> bool {
        self.sets.keys.iter().any(is_implicit)
    }

    pub(super) fn into_sets(mut self) -> KeySets {
        self.sets.keys.shrink_to_fit();
        self.sets.ends.shrink_to_fit();
        self.sets
    }
}

fn is_implicit(key: &Key) -> bool {
    key.iv.is_none() && *key.key_format == *IDENTITY
}
