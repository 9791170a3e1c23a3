//! The origin: a child process with a thread for each connection, which says everything from memory
//! or makes it as it goes. The path says what is served and how:
//! `/120x13297,rtt=40/index.m3u8`.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use super::floor::Connection;
use super::material::{KEY, Material};
use url::Url;

/// Streams up to this size are made once and kept.
const KEPT_BYTES: u64 = 400 << 20;
/// Bytes that are sent at once when the rate is limited.
const PACED_BYTES: usize = 64 << 10;
/// What a connection may send before the first acknowledgment (RFC 6928: ten segments).
const INITIAL_WINDOW: usize = 10 * 1448;
/// A window that no longer limits anything.
const LARGEST_WINDOW: usize = 4 << 20;

/// How a stream is served.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner {
    /// Of the pretended link. A new connection waits for its handshake, every answer for the way
    /// there and back, and a connection begins slowly, as TCP does.
    pub round_trip_milliseconds: u64,
    /// How long the first segment keeps everybody waiting.
    pub stall_milliseconds: u64,
    /// Of all connections together; 0 is no limit.
    pub megabytes_per_second: u64,
}

/// A running origin; killed when dropped.
pub struct Origin {
    process: Child,
    base: Url,
}

impl Origin {
    pub fn start() -> Origin {
        let mut process = super::role("origin").stdout(Stdio::piped()).spawn().expect("this program can be started");
        let mut port = String::new();
        BufReader::new(process.stdout.take().expect("a pipe")).read_line(&mut port).expect("the origin's port");
        let base = Url::parse(&format!("http://127.0.0.1:{}/", port.trim())).expect("a URL");
        Origin { process, base }
    }

    /// The playlist of a stream. It is ready: nothing is left to be made when it is asked for.
    pub fn publish(&self, material: Material, manner: Manner) -> Url {
        let Manner { round_trip_milliseconds, stall_milliseconds, megabytes_per_second } = manner;
        let path = format!(
            "{material},rtt={round_trip_milliseconds},stall={stall_milliseconds},rate={megabytes_per_second}/index.m3u8"
        );
        let url = self.base.join(&path).expect("a URL");
        Connection::open(&url).get(url.path(), &mut Vec::new());
        self.counts();
        url
    }

    /// Requests and connections since the last call.
    pub fn counts(&self) -> (u64, u64) {
        let mut body = Vec::new();
        let length = Connection::open(&self.base).get("/counts", &mut body);
        let text = String::from_utf8_lossy(&body[..length]).into_owned();
        let (requests, connections) = text.split_once(' ').expect("two numbers");
        (requests.parse().expect("a number"), connections.parse().expect("a number"))
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

static REQUESTS: AtomicU64 = AtomicU64::new(0);
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

/// The role of the child process. Never returns.
pub fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    println!("{}", listener.local_addr().expect("an address").port());
    for stream in listener.incoming().flatten() {
        // A client that goes away in the middle is no matter.
        std::thread::spawn(move || answer_all(stream));
    }
}

fn answer_all(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut peer = Peer { reader: BufReader::new(stream), window: INITIAL_WINDOW, asked: false };
    let mut line = String::new();
    loop {
        line.clear();
        if peer.reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        while line.trim_ascii() != "" {
            line.clear();
            peer.reader.read_line(&mut line)?;
        }
        if path == "/counts" {
            let text = format!("{} {}", REQUESTS.swap(0, Relaxed), CONNECTIONS.swap(0, Relaxed));
            peer.head("200 OK", text.len())?;
            peer.send(text.as_bytes(), Manner::default())?;
            continue;
        }
        REQUESTS.fetch_add(1, Relaxed);
        let is_new = !std::mem::replace(&mut peer.asked, true);
        CONNECTIONS.fetch_add(is_new.into(), Relaxed);
        peer.answer(&path, is_new)?;
    }
}

struct Peer {
    reader: BufReader<TcpStream>,
    window: usize,
    asked: bool,
}

impl Peer {
    fn answer(&mut self, path: &str, is_new: bool) -> io::Result<()> {
        let Some((material, manner, name)) = parse(path) else { return self.head("404 Not Found", 0) };
        let round_trip = Duration::from_millis(manner.round_trip_milliseconds);
        std::thread::sleep(if is_new { 2 * round_trip } else { round_trip });
        match name {
            "index.m3u8" => {
                kept(material);
                let playlist = material.playlist();
                self.head("200 OK", playlist.len())?;
                self.send(playlist.as_bytes(), manner)
            }
            "key" => {
                self.head("200 OK", KEY.len())?;
                self.send(&KEY, manner)
            }
            _ => {
                let index = name.strip_prefix("seg").and_then(|name| name.strip_suffix(".ts")?.parse::<usize>().ok());
                let Some(index) = index.filter(|index| *index < material.segments) else {
                    return self.head("404 Not Found", 0);
                };
                if index == 0 {
                    std::thread::sleep(Duration::from_millis(manner.stall_milliseconds));
                }
                self.head("200 OK", material.sent_segment_bytes())?;
                if let Some(segments) = kept(material) {
                    return self.send(&segments[index], manner);
                }
                let mut pieces = material.segment(index);
                while let Some(piece) = pieces.next() {
                    self.send(piece, manner)?;
                }
                Ok(())
            }
        }
    }

    fn head(&mut self, status: &str, length: usize) -> io::Result<()> {
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: video/mp2t\r\nContent-Length: {length}\r\n\r\n");
        self.reader.get_mut().write_all(head.as_bytes())
    }

    fn send(&mut self, mut bytes: &[u8], manner: Manner) -> io::Result<()> {
        while !bytes.is_empty() {
            let limit = match manner {
                Manner { megabytes_per_second: 1.., .. } => PACED_BYTES,
                Manner { round_trip_milliseconds: 1.., .. } if self.window < LARGEST_WINDOW => self.window,
                _ => bytes.len(),
            };
            let (now, later) = bytes.split_at(limit.min(bytes.len()));
            if manner.megabytes_per_second > 0 {
                pace(now.len(), manner.megabytes_per_second);
            }
            self.reader.get_mut().write_all(now)?;
            bytes = later;
            if manner.round_trip_milliseconds > 0 && !bytes.is_empty() && self.window < LARGEST_WINDOW {
                std::thread::sleep(Duration::from_millis(manner.round_trip_milliseconds));
                self.window *= 2;
            }
        }
        Ok(())
    }
}

fn parse(path: &str) -> Option<(Material, Manner, &str)> {
    let (stream, name) = path.strip_prefix('/')?.split_once('/')?;
    let mut words = stream.split(',');
    let material = Material::parse(words.next()?)?;
    let mut manner = Manner::default();
    for word in words {
        let (name, value) = word.split_once('=')?;
        let value = value.parse().ok()?;
        match name {
            "rtt" => manner.round_trip_milliseconds = value,
            "stall" => manner.stall_milliseconds = value,
            "rate" => manner.megabytes_per_second = value,
            _ => return None,
        }
    }
    Some((material, manner, name))
}

type Segments = Arc<Vec<Vec<u8>>>;

/// The segments of a stream that is not too large to be kept.
fn kept(material: Material) -> Option<Segments> {
    static KEPT: LazyLock<Mutex<HashMap<Material, Segments>>> = LazyLock::new(Mutex::default);
    if material.bytes() > KEPT_BYTES {
        return None;
    }
    let mut kept = KEPT.lock().expect("nobody panics with this lock");
    let segments = kept.entry(material).or_insert_with(|| {
        let whole = |index| {
            let mut bytes = Vec::with_capacity(material.sent_segment_bytes());
            let mut pieces = material.segment(index);
            while let Some(piece) = pieces.next() {
                bytes.extend_from_slice(piece);
            }
            bytes
        };
        Arc::new((0..material.segments).map(whole).collect())
    });
    Some(segments.clone())
}

/// Waits until these bytes may be sent. Whoever comes first is served first, all connections alike.
fn pace(bytes: usize, megabytes_per_second: u64) {
    static NEXT: Mutex<Option<Instant>> = Mutex::new(None);
    let due = {
        let mut next = NEXT.lock().expect("nobody panics with this lock");
        let due = next.unwrap_or_else(Instant::now).max(Instant::now());
        *next = Some(due + Duration::from_secs_f64(bytes as f64 / megabytes_per_second as f64 / 1e6));
        due
    };
    std::thread::sleep(due.saturating_duration_since(Instant::now()));
}
