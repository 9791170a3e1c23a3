//! Playlists that are nearly right: seeds of which lines, words and numbers are changed.

use fastrand::Rng;

/// Lines that lead deep into the parser.
const LINES: &[&str] = &[
    "#EXTM3U",
    "#EXTINF:6.006,title, with comma",
    "#EXTINF:0",
    "#EXTINF:",
    "seg.ts",
    "../x/{$v}.ts?sig=a,b#f",
    "https://o.example:8443/s.ts?x=1",
    "//o.example/s.ts",
    "/s.ts",
    "file:///etc/passwd",
    "#EXT-X-BYTERANGE:100",
    "#EXT-X-BYTERANGE:16@32",
    "#EXT-X-KEY:METHOD=NONE",
    "#EXT-X-KEY:METHOD=AES-128,URI=\"k\"",
    "#EXT-X-KEY:METHOD=AES-128,URI=\"https://k.example/1\",IV=0x0123456789abcdef",
    "#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"skd://x\",KEYFORMAT=\"com.apple.streamingkeydelivery\",KEYFORMATVERSIONS=\"1\"",
    "#EXT-X-MAP:URI=\"init.mp4\"",
    "#EXT-X-MAP:URI=\"init.mp4\",BYTERANGE=\"720@0\"",
    "#EXT-X-DISCONTINUITY",
    "#EXT-X-DISCONTINUITY-SEQUENCE:3",
    "#EXT-X-MEDIA-SEQUENCE:18446744073709551000",
    "#EXT-X-GAP",
    "#EXT-X-BITRATE:800",
    "#EXT-X-ENDLIST",
    "#EXT-X-I-FRAMES-ONLY",
    "#EXT-X-TARGETDURATION:6",
    "#EXT-X-PLAYLIST-TYPE:VOD",
    "#EXT-X-DEFINE:NAME=\"v\",VALUE=\"{$w}x\"",
    "#EXT-X-DEFINE:NAME=\"w\",VALUE=\"\u{e4}/y\"",
    "#EXT-X-DEFINE:QUERYPARAM=\"sig\"",
    "#EXT-X-DEFINE:IMPORT=\"parent\"",
    "#EXT-X-STREAM-INF:BANDWIDTH=800000,RESOLUTION=1280x720,CODECS=\"avc1.64001f,mp4a.40.2\",AUDIO=\"a\",PATHWAY-ID=\"p\"",
    "#EXT-X-STREAM-INF:BANDWIDTH=800000,AVERAGE-BANDWIDTH=7,FRAME-RATE=29.97,SCORE=1,X-OTHER=\"y\"",
    "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"en\",LANGUAGE=\"en\",DEFAULT=YES,AUTOSELECT=YES,URI=\"en.m3u8\"",
    "#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"s\",NAME=\"de\",FORCED=NO,URI=\"{$parent}\"",
    "#EXT-X-SESSION-KEY:METHOD=AES-128,URI=\"data:;base64,AAAA\"",
    "#EXT-X-CONTENT-STEERING:SERVER-URI=\"/steer\",PATHWAY-ID=\"p\"",
    "#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=\"i\"",
    "#EXT-X-SKIP:SKIPPED-SEGMENTS=3",
    "#EXT-X-PART:DURATION=0.3,URI=\"p\"",
    "# a comment",
    "",
];

/// Pieces of lines.
const WORDS: &[&str] = &[
    ",",
    "=",
    "\"",
    "@",
    ":",
    "\"\"",
    "{$v}",
    "{$",
    "}",
    "0x",
    "0X",
    "-",
    "+",
    ".",
    " ",
    "\t",
    "\r",
    "\n",
    "\u{feff}",
    "\0",
    "\u{1b}",
    "\u{e4}",
    "%2e",
    "..",
    "/",
    "\\",
    "?",
    "#",
    "http://",
    "NONE",
    "YES",
    "AES-128",
    "identity",
    "URI",
    "BYTERANGE",
    "IV=",
    "KEYFORMAT=",
    "METHOD=",
];

/// Pieces of JSON, names, headers and pickles.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "null",
    "true",
    "{}",
    "[]",
    "\\u0000",
    "\\ud800",
    "\\u202e",
    "\u{202e}",
    "\u{200d}",
    "../",
    "/",
    "..",
    "CON",
    "NUL.",
    "com1",
    "~",
    "-",
    " ",
    ".",
    "\u{301}",
    "\u{fb01}",
    "\u{130}",
    ";",
    "=",
    "bytes ",
    "*/",
    "://",
    "[::1]",
    "@",
    "%00",
    "%2f",
    "\t",
    "\r\n",
    "TRUE",
    "Domain=",
    "Max-Age=",
    "Expires=",
    "(",
    ")",
    "t",
    "h\u{0}",
    "K\u{1}",
    "N",
    "\u{7f}",
    "title",
    "url",
    "entries",
    "sections",
    "lectures",
    "assets",
    "name",
    "taskId",
    "courseUrl",
    "email",
];

/// Numbers in binary formats.
const FIELDS: &[&[u8]] = &[
    &[0],
    &[1],
    &[0x7f],
    &[0x80],
    &[0xff],
    &[0x47],
    &[0, 0],
    &[0, 1],
    &[0xff, 0xff],
    &[0, 0, 0, 0],
    &[0, 0, 0, 1],
    &[0, 0, 0, 8],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0x80, 0, 0, 0],
    &[0xff, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
];

const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "15",
    "16",
    "1.5",
    "1e300",
    "nan",
    "inf",
    "4294967296",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
    "00000000000000000000000000000001",
];

/// The next text: a seed with some changes.
pub fn mutated(seeds: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut text = rng.choice(seeds).cloned().unwrap_or_default();
    for _ in 0..rng.usize(0..12) {
        change(&mut text, seeds, rng);
    }
    text.truncate(16 * 1024);
    text
}

fn change(text: &mut Vec<u8>, seeds: &[Vec<u8>], rng: &mut Rng) {
    let (start, end) = a_line(text, rng);
    let inside = rng.usize(start..=end);
    let word = |list: &[&str], rng: &mut Rng| rng.choice(list).map_or(Vec::new(), |word| word.as_bytes().to_vec());
    match rng.u8(0..12) {
        0..3 => {
            let mut line = word(LINES, rng);
            line.push(b'\n');
            text.splice(start..start, line);
        }
        3 => drop(text.splice(start..end, word(LINES, rng))),
        4 => drop(text.drain(start..(end + 1).min(text.len()))),
        5 => {
            let line = text[start..(end + 1).min(text.len())].repeat(rng.usize(1..4));
            let (place, _) = a_line(text, rng);
            text.splice(place..place, line);
        }
        6 => drop(text.splice(inside..inside, word(WORDS, rng))),
        7 => drop(text.splice(inside..rng.usize(inside..=end), word(WORDS, rng))),
        8 | 9 => {
            // A number, if there is one behind the place.
            let digits = |byte: &u8| byte.is_ascii_digit();
            if let Some(first) = text[inside..end].iter().position(digits).map(|first| inside + first) {
                let length = text[first..end].iter().take_while(|byte| digits(byte)).count();
                text.splice(first..first + length, word(NUMBERS, rng));
            }
        }
        10 => {
            let other = rng.choice(seeds).cloned().unwrap_or_default();
            let (from, _) = a_line(&other, rng);
            text.splice(start.., other[from..].iter().copied());
        }
        _ => {
            if let Some(byte) = text.get_mut(inside) {
                *byte ^= 1 << rng.u8(0..8);
            }
        }
    }
}

/// The next bytes for any other reader: a seed of which pieces are changed, doubled and mixed with others.
pub fn mixed(seeds: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = rng.choice(seeds).cloned().unwrap_or_default();
    for _ in 0..rng.usize(0..8) {
        let from = rng.usize(0..=bytes.len());
        let to = rng.usize(from..=bytes.len().min(from + 16));
        match rng.u8(0..10) {
            0 => drop(bytes.drain(from..to)),
            1 => {
                let piece = bytes[from..to].repeat(rng.usize(1..9));
                bytes.splice(from..from, piece);
            }
            2 => {
                let other = rng.choice(seeds).map_or(&[][..], Vec::as_slice);
                let start = rng.usize(0..=other.len());
                let end = rng.usize(start..=other.len().min(start + 64));
                bytes.splice(from..to, other[start..end].iter().copied());
            }
            3 => drop(bytes.splice(from..to, rng.choice(PIECES).map(|piece| piece.bytes()).into_iter().flatten())),
            4 => drop(bytes.splice(from..to, rng.choice(NUMBERS).map(|piece| piece.bytes()).into_iter().flatten())),
            5 => drop(bytes.splice(from..to, rng.choice(WORDS).map(|piece| piece.bytes()).into_iter().flatten())),
            6 => bytes.insert(from, rng.u8(..)),
            // Binary formats have their fields at fixed places.
            7 | 8 => {
                let number = rng.choice(FIELDS).copied().unwrap_or_default();
                bytes.iter_mut().skip(from).zip(number).for_each(|(byte, new)| *byte = *new);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(from) {
                    *byte ^= 1 << rng.u8(0..8);
                }
            }
        }
    }
    bytes.truncate(16 * 1024);
    bytes
}

/// Where a line begins and ends, without its end.
fn a_line(text: &[u8], rng: &mut Rng) -> (usize, usize) {
    let place = rng.usize(0..=text.len());
    let start = text[..place].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let end = text[start..].iter().position(|byte| *byte == b'\n').map_or(text.len(), |length| start + length);
    (start, end)
}
