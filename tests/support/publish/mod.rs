//! Puts streams on an origin in every shape that the engine must understand. The encryption here
//! is a second one, independent of the crate's own code but for the cipher itself.

mod multivariant;

use aes::Aes128;
use bytes::Bytes;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};

use super::media::{self, Container, Stream};
use super::origin::{Origin, Reply};

pub use multivariant::{
    Master, SeparateAudio, SubtitleRendition, publish_master, publish_separate_audio, publish_subtitles,
};

/// What is on the origin now, and what a download of it must give.
#[derive(Debug, Clone)]
pub struct Published {
    /// The playlist's URL, as it is given to the daemon.
    pub url: String,
    /// The path of the playlist itself, after a redirect if there is one.
    pub playlist_path: String,
    /// The text of the playlist.
    pub playlist: String,
    /// The bytes in the clear: init section and segments, one after the other.
    pub truth: Vec<u8>,
    /// The path of each segment; the same path for all when they are ranges of one file.
    pub segment_paths: Vec<String>,
    /// Each segment as it goes over the wire.
    pub wire_segments: Vec<Bytes>,
    pub key_paths: Vec<String>,
    pub init_path: Option<String>,
}

/// How a stream is published. Begins as plain segments in the clear.
#[derive(Debug, Clone)]
pub struct Publish {
    stream: Stream,
    encryption: Option<InitialisationVector>,
    media_sequence: u64,
    rotate_every: Option<usize>,
    clear_from: Option<usize>,
    encrypted_init: bool,
    one_file: Option<Offsets>,
    elsewhere: bool,
    redirected: bool,
    query: Option<String>,
}

/// Where the IV of a segment comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InitialisationVector {
    Attribute,
    Sequence,
}

/// How EXT-X-BYTERANGE says where a range begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offsets {
    Explicit,
    /// Only the first range of the file says it; the others follow one another.
    Implicit,
}

impl Publish {
    /// Segments in the clear, each in a file beside the playlist.
    pub fn of(stream: &Stream) -> Publish {
        Publish {
            stream: stream.clone(),
            encryption: None,
            media_sequence: 0,
            rotate_every: None,
            clear_from: None,
            encrypted_init: false,
            one_file: None,
            elsewhere: false,
            redirected: false,
            query: None,
        }
    }

    /// AES-128 with an IV attribute.
    pub fn encrypted(self) -> Publish {
        Publish { encryption: Some(InitialisationVector::Attribute), ..self }
    }

    /// AES-128 without an IV attribute: the IV is the media sequence number.
    pub fn encrypted_by_sequence(self) -> Publish {
        Publish { encryption: Some(InitialisationVector::Sequence), ..self }
    }

    /// The first segment has this media sequence number.
    pub fn media_sequence(self, first: u64) -> Publish {
        Publish { media_sequence: first, ..self }
    }

    /// A new key every `count` segments.
    pub fn rotating_keys(self, count: usize) -> Publish {
        Publish { rotate_every: Some(count), ..self }
    }

    /// METHOD=NONE from the segment with this index on.
    pub fn clear_from(self, index: usize) -> Publish {
        Publish { clear_from: Some(index), ..self }
    }

    /// EXT-X-KEY stands before EXT-X-MAP: the init section is encrypted, too.
    pub fn encrypted_init(self) -> Publish {
        Publish { encrypted_init: true, ..self }
    }

    /// Everything, the init section included, is a byte range of one file.
    pub fn in_one_file(self, offsets: Offsets) -> Publish {
        Publish { one_file: Some(offsets), ..self }
    }

    /// Playlist, segments and keys in different directories: URIs begin with `../../`.
    pub fn in_other_directories(self) -> Publish {
        Publish { elsewhere: true, ..self }
    }

    /// The URL given out redirects to the playlist in another directory, to which its URIs are relative.
    pub fn redirected(self) -> Publish {
        Publish { redirected: true, ..self }
    }

    /// Every URI carries this query (`sig=abc`).
    pub fn signed(self, query: &str) -> Publish {
        Publish { query: Some(query.to_owned()), ..self }
    }

    /// Puts it below `base` (`/course/1`).
    pub fn at(&self, origin: &Origin, base: &str) -> Published {
        Publication::new(self, origin, base).publish()
    }
}

/// Every shape of a single media playlist, made of real streams, with a name for messages.
pub fn every_shape() -> Vec<(&'static str, Publish)> {
    let ts = || Publish::of(media::ts());
    let fmp4 = || Publish::of(media::fmp4());
    let joined = media::ts().first(4).then(media::other_ts());
    vec![
        ("clear", ts()),
        ("AES-128 with IV attribute", ts().encrypted()),
        ("AES-128 with IV from media sequence 7", ts().encrypted_by_sequence().media_sequence(7)),
        ("key rotation with IV attributes", ts().encrypted().rotating_keys(3)),
        ("key rotation with IV from media sequence", ts().encrypted_by_sequence().media_sequence(7).rotating_keys(2)),
        ("METHOD=NONE half way", ts().encrypted().clear_from(4)),
        ("byte ranges in one file", ts().in_one_file(Offsets::Explicit)),
        ("byte ranges with implicit offsets", ts().in_one_file(Offsets::Implicit)),
        ("encrypted byte ranges with implicit offsets", ts().encrypted().in_one_file(Offsets::Implicit)),
        ("discontinuity", Publish::of(&joined)),
        ("encrypted discontinuity", Publish::of(&joined).encrypted().rotating_keys(4)),
        ("relative URIs", ts().encrypted().in_other_directories()),
        ("redirect", ts().encrypted().redirected()),
        ("signed URIs", ts().encrypted().signed("sig=a%2Bb&expires=1")),
        ("EXT-X-MAP", fmp4()),
        ("EXT-X-MAP with a byte range", fmp4().in_one_file(Offsets::Implicit)),
        ("EXT-X-MAP in the clear, segments encrypted", fmp4().encrypted()),
        ("EXT-X-MAP and segments encrypted", fmp4().encrypted().encrypted_init()),
    ]
}

/// One key in force.
#[derive(Clone)]
struct Key {
    bytes: [u8; 16],
    path: String,
    iv: Option<[u8; 16]>,
}

/// One publication while it is written.
struct Publication<'a> {
    how: &'a Publish,
    origin: &'a Origin,
    base: String,
    playlist_directory: String,
    media_directory: String,
    key_directory: String,
    text: String,
    file: Vec<u8>,
    key: Option<Key>,
    result: Published,
}

impl<'a> Publication<'a> {
    fn new(how: &'a Publish, origin: &'a Origin, base: &str) -> Publication<'a> {
        let directory = if how.redirected { format!("{base}/moved") } else { base.to_owned() };
        let (playlist_directory, media_directory, key_directory) = match how.elsewhere {
            true => (format!("{directory}/lists/v1"), format!("{directory}/media"), format!("{directory}/keys")),
            false => (directory.clone(), directory.clone(), directory),
        };
        let playlist_path = format!("{playlist_directory}/index.m3u8");
        Publication {
            how,
            origin,
            base: base.to_owned(),
            text: String::new(),
            file: Vec::new(),
            key: None,
            result: Published {
                url: origin.url(&playlist_path),
                playlist_path,
                playlist: String::new(),
                truth: how.stream.truth(),
                segment_paths: Vec::new(),
                wire_segments: Vec::new(),
                key_paths: Vec::new(),
                init_path: None,
            },
            playlist_directory,
            media_directory,
            key_directory,
        }
    }

    fn publish(mut self) -> Published {
        let target = self.how.stream.durations.iter().fold(1.0, |longest: f64, seconds| longest.max(*seconds)).ceil();
        self.line("#EXTM3U");
        self.line("#EXT-X-VERSION:7");
        self.line(&format!("#EXT-X-TARGETDURATION:{target:.0}"));
        if self.how.media_sequence != 0 {
            self.line(&format!("#EXT-X-MEDIA-SEQUENCE:{}", self.how.media_sequence));
        }
        self.line("#EXT-X-PLAYLIST-TYPE:VOD");
        self.init();
        for index in 0..self.how.stream.segments.len() {
            self.segment(index);
        }
        self.line("#EXT-X-ENDLIST");
        if self.how.one_file.is_some() {
            self.origin.put(&self.one_file_path(), std::mem::take(&mut self.file));
        }
        self.result.playlist = self.text;
        self.origin.put(&self.result.playlist_path, self.result.playlist.clone());
        if self.how.redirected {
            let start = format!("{}/start.m3u8", self.base);
            self.origin.put_reply(&start, Reply::status(302).with_header("Location", &self.result.playlist_path));
            self.result.url = self.origin.url(&start);
        }
        self.result
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn init(&mut self) {
        let Some(init) = self.how.stream.init.clone() else { return };
        let mut wire = init;
        if self.how.encrypted_init && self.how.encryption.is_some() {
            let key = self.change_key(0);
            wire = encrypt(&wire, &key, self.how.media_sequence);
        }
        if self.how.one_file.is_some() {
            let path = self.one_file_path();
            let uri = self.uri(&path);
            self.line(&format!("#EXT-X-MAP:URI=\"{uri}\",BYTERANGE=\"{}@{}\"", wire.len(), self.file.len()));
            self.file.extend(&wire);
            self.result.init_path = Some(path);
        } else {
            let path = format!("{}/init.mp4", self.media_directory);
            let uri = self.uri(&path);
            self.line(&format!("#EXT-X-MAP:URI=\"{uri}\""));
            self.origin.put(&path, wire);
            self.result.init_path = Some(path);
        }
    }

    fn segment(&mut self, index: usize) {
        let sequence = self.how.media_sequence + index as u64;
        if self.how.stream.discontinuities.contains(&index) {
            self.line("#EXT-X-DISCONTINUITY");
        }
        let mut wire = self.how.stream.segments[index].clone();
        if let Some(key) = self.key_for(index) {
            wire = encrypt(&wire, &key, sequence);
        }
        let duration = self.how.stream.durations[index];
        self.line(&format!("#EXTINF:{duration:.6},"));
        let path = match self.how.one_file {
            Some(offsets) => {
                let offset = match offsets {
                    Offsets::Implicit if index > 0 => String::new(),
                    _ => format!("@{}", self.file.len()),
                };
                self.line(&format!("#EXT-X-BYTERANGE:{}{offset}", wire.len()));
                self.file.extend(&wire);
                self.one_file_path()
            }
            None => {
                let path = format!("{}/seg{index:04}.{}", self.media_directory, self.extension());
                self.origin.put(&path, wire.clone());
                path
            }
        };
        let uri = self.uri(&path);
        self.line(&uri);
        self.result.segment_paths.push(path);
        self.result.wire_segments.push(wire);
    }

    /// The key of a segment, announced if it is a new one.
    fn key_for(&mut self, index: usize) -> Option<Key> {
        self.how.encryption?;
        if self.how.clear_from.is_some_and(|clear| index >= clear) {
            if self.key.take().is_some() {
                self.line("#EXT-X-KEY:METHOD=NONE");
            }
            return None;
        }
        let number = index / self.how.rotate_every.unwrap_or(usize::MAX);
        let new = self.how.rotate_every.is_some_and(|every| index.is_multiple_of(every)) && index > 0;
        match &self.key {
            Some(key) if !new => Some(key.clone()),
            _ => Some(self.change_key(number)),
        }
    }

    fn change_key(&mut self, number: usize) -> Key {
        let path = format!("{}/key{number}.key", self.key_directory);
        let uri = self.uri(&path);
        let with_iv = self.how.encryption == Some(InitialisationVector::Attribute);
        let key = Key {
            bytes: std::array::from_fn(|place| (number * 29 + place * 7 + 3) as u8),
            path,
            iv: with_iv.then(|| std::array::from_fn(|place| (number * 13 + place * 5 + 0xa0) as u8)),
        };
        let iv = key.iv.map(|iv| format!(",IV=0x{}", hex::encode_upper(iv))).unwrap_or_default();
        self.line(&format!("#EXT-X-KEY:METHOD=AES-128,URI=\"{uri}\"{iv}"));
        self.origin.put(&key.path, key.bytes.to_vec());
        self.result.key_paths.push(key.path.clone());
        self.key = Some(key.clone());
        key
    }

    fn extension(&self) -> &'static str {
        match self.how.stream.container {
            Container::Ts => "ts",
            Container::Fmp4 => "m4s",
        }
    }

    fn one_file_path(&self) -> String {
        let extension = if self.how.stream.container == Container::Ts { "ts" } else { "mp4" };
        format!("{}/all.{extension}", self.media_directory)
    }

    /// A path as it stands in the playlist: relative to it, with the query.
    fn uri(&self, path: &str) -> String {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let relative = match self.how.elsewhere {
            true => format!("../../{}/{name}", directory.rsplit('/').next().unwrap_or_default()),
            false => name.to_owned(),
        };
        match &self.how.query {
            Some(query) => format!("{relative}?{query}"),
            None => relative,
        }
    }
}

/// AES-128-CBC with PKCS#7 padding (RFC 8216 §4.3.2.4 and §5.2).
fn encrypt(clear: &[u8], key: &Key, sequence: u64) -> Bytes {
    let iv = key.iv.unwrap_or(u128::from(sequence).to_be_bytes());
    encrypt_aes128(clear, &key.bytes, &iv)
}

/// AES-128-CBC with PKCS#7 padding.
pub fn encrypt_aes128(clear: &[u8], key: &[u8; 16], iv: &[u8; 16]) -> Bytes {
    let mut buffer = clear.to_vec();
    buffer.resize(clear.len() + 16, 0);
    let encryptor = cbc::Encryptor::<Aes128>::new(&(*key).into(), &(*iv).into());
    let length = encryptor.encrypt_padded::<Pkcs7>(&mut buffer, clear.len()).expect("room for the padding").len();
    buffer.truncate(length);
    buffer.into()
}
