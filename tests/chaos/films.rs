//! Films in every shape, those that nobody can download among them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;

use crate::support::media;
use crate::support::publish::Offsets;
use crate::support::{Origin, Publish, Reply};

/// Of each film so many segments are published.
const SEGMENTS: usize = 3;

/// How a film is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Shape {
    Clear,
    Encrypted,
    RotatingKeys,
    /// Encrypted byte ranges of one file.
    Ranges,
    Fragments,
    EncryptedFragments,
}

impl Shape {
    pub const ALL: [Shape; 6] = [
        Shape::Clear,
        Shape::Encrypted,
        Shape::RotatingKeys,
        Shape::Ranges,
        Shape::Fragments,
        Shape::EncryptedFragments,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Shape::Clear => "clear",
            Shape::Encrypted => "encrypted",
            Shape::RotatingKeys => "rotating-keys",
            Shape::Ranges => "ranges",
            Shape::Fragments => "fragments",
            Shape::EncryptedFragments => "encrypted-fragments",
        }
    }

    fn publish(self) -> Publish {
        let (ts, fragments) = (|| Publish::of(&media::ts().first(SEGMENTS)), || media::fmp4().first(SEGMENTS));
        match self {
            Shape::Clear => ts(),
            Shape::Encrypted => ts().encrypted(),
            Shape::RotatingKeys => ts().encrypted_by_sequence().media_sequence(7).rotating_keys(1),
            Shape::Ranges => ts().encrypted().in_one_file(Offsets::Implicit),
            Shape::Fragments => Publish::of(&fragments()),
            Shape::EncryptedFragments => Publish::of(&fragments()).encrypted().encrypted_init(),
        }
    }
}

/// Why a film cannot be downloaded, ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Doom {
    Protected,
    Live,
    /// One of its segments is not there.
    Gone,
    BadKey,
    /// One of its segments ends in the middle of a block of the cipher.
    Garbled,
}

impl Doom {
    pub const ALL: [Doom; 5] = [Doom::Protected, Doom::Live, Doom::Gone, Doom::BadKey, Doom::Garbled];

    pub fn name(self) -> &'static str {
        match self {
            Doom::Protected => "protected",
            Doom::Live => "live",
            Doom::Gone => "gone",
            Doom::BadKey => "bad-key",
            Doom::Garbled => "garbled",
        }
    }

    /// The failure kind under which its job ends, and the attempts.
    pub fn death(self) -> (&'static str, u32) {
        match self {
            Doom::Protected => ("drm_protected", 1),
            Doom::Live => ("live_unsupported", 1),
            Doom::Gone => ("not_found", 3),
            Doom::BadKey => ("key_invalid", 3),
            Doom::Garbled => ("decryption_failed", 3),
        }
    }

    /// What is wrong with one of its files, which is `whole` where all is well.
    fn spoil(self, name: &str, whole: Reply) -> Reply {
        let text = || String::from_utf8_lossy(&whole.body).into_owned();
        match self {
            Doom::Protected if name == "index.m3u8" => {
                let drm = "METHOD=SAMPLE-AES,KEYFORMAT=\"com.apple.streamingkeydelivery\",KEYFORMATVERSIONS=\"1\",URI=\"skd://x\"";
                let drm = text()
                    .lines()
                    .map(|line| match line.starts_with("#EXT-X-KEY:") {
                        true => format!("#EXT-X-KEY:{drm}\n"),
                        false => format!("{line}\n"),
                    })
                    .collect::<String>();
                whole.with_body(drm)
            }
            Doom::Live if name == "index.m3u8" => {
                let live = text().replace("#EXT-X-ENDLIST\n", "").replace("#EXT-X-PLAYLIST-TYPE:VOD\n", "");
                whole.with_body(live)
            }
            Doom::Gone if name == "seg0001.ts" => Reply::status(404),
            Doom::BadKey if name == "key0.key" => whole.with_body("15 bytes, a key"),
            Doom::Garbled if name == "seg0001.ts" => {
                let part = whole.body.slice(..whole.body.len() - 7);
                whole.with_body(part)
            }
            _ => whole,
        }
    }
}

/// All films, and what a download of each must give.
pub struct Films {
    library: Origin,
    truths: BTreeMap<Shape, Vec<u8>>,
    /// Files in another container that a decoder has found to be the same.
    known: Mutex<HashSet<(Shape, Vec<u8>)>>,
}

impl Films {
    pub fn publish() -> Films {
        let library = Origin::start();
        let truths = Shape::ALL.map(|shape| (shape, shape.publish().at(&library, &format!("/{}", shape.name())).truth));
        Films { library, truths: truths.into(), known: Mutex::default() }
    }

    /// What stands at a path `/<shape or doom>/<file>`.
    pub fn reply(&self, path: &str) -> Reply {
        let at = |path: &str| self.library.served(path).unwrap_or_else(|| Reply::status(404));
        let (film, name) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
        match Doom::ALL.into_iter().find(|doom| doom.name() == film) {
            Some(doom) => doom.spoil(name, at(&format!("/{}/{name}", Shape::Encrypted.name()))),
            None => at(path),
        }
    }

    /// Whether a delivered file is this film: to the byte, or, put into another container, to every decoded
    /// picture and sample.
    pub fn is_exact(&self, shape: Shape, content: &[u8]) -> bool {
        let truth = &self.truths[&shape];
        if content == truth {
            return true;
        }
        let mut known = self.known.lock().expect("known");
        let delivered = (shape, content.to_vec());
        if known.contains(&delivered) {
            return true;
        }
        let same = content.len() > truth.len() / 2 && media::hashes_of(content) == media::hashes_of(truth);
        if same {
            known.insert(delivered);
        }
        same
    }
}
