//! The least that the job can cost: N connections, each with a thread that receives a segment into
//! memory, decrypts it there and writes it once, in order. No retries, no checks, no progress, no
//! resume: a yardstick, not a downloader.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Condvar, Mutex};

use hauld::hls::Decryptor;
use url::Url;

/// A kept connection.
pub struct Connection {
    stream: TcpStream,
    host: String,
}

impl Connection {
    pub fn open(url: &Url) -> Connection {
        let host = format!("{}:{}", url.host_str().expect("a host"), url.port_or_known_default().expect("a port"));
        let stream = TcpStream::connect(&host).expect("the origin takes connections");
        stream.set_nodelay(true).expect("a socket option");
        Connection { stream, host }
    }

    /// Gets `path` into the beginning of `body`, which only ever grows; returns the length.
    pub fn get(&mut self, path: &str, body: &mut Vec<u8>) -> usize {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
        self.stream.write_all(request.as_bytes()).expect("sending");
        let mut head = [0; 8192];
        let mut have = 0;
        let end = loop {
            let count = self.stream.read(&mut head[have..]).expect("receiving");
            assert!(count > 0, "{path}: the connection ended");
            have += count;
            if let Some(end) = head[..have].windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let text = String::from_utf8_lossy(&head[..end]).to_ascii_lowercase();
        assert!(text.starts_with("http/1.1 200"), "{path}: {text}");
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:")).expect("a length");
        let length: usize = length.trim().parse().expect("a length");
        if body.len() < length {
            body.resize(length, 0);
        }
        body[..have - end].copy_from_slice(&head[end..have]);
        self.stream.read_exact(&mut body[have - end..length]).expect("receiving");
        length
    }
}

/// Downloads a playlist of the [`material`](super::material) kind; returns the file.
pub fn run(url: &str, output: &str, connections: usize) -> File {
    let url = Url::parse(url).expect("a URL");
    let path = |name: &str| url.join(name).expect("a URL").path().to_owned();
    let mut first = Connection::open(&url);
    let mut body = Vec::new();
    let length = first.get(url.path(), &mut body);
    let playlist = String::from_utf8_lossy(&body[..length]).into_owned();
    let segments: Vec<String> = playlist.lines().filter(|line| !line.starts_with('#')).map(path).collect();
    let length = first.get(&path("key"), &mut body);
    let key: [u8; 16] = body[..length].try_into().expect("a key of 16 bytes");
    drop(body);

    let next = AtomicUsize::new(0);
    let turn = (Mutex::new(0), Condvar::new());
    let file = File::create(output).expect("the output");
    let work = |mut connection: Connection| {
        let (mut body, mut clear) = (Vec::new(), Vec::new());
        loop {
            let index = next.fetch_add(1, Relaxed);
            let Some(path) = segments.get(index) else { break };
            let length = connection.get(path, &mut body);
            let iv = (index as u128).to_be_bytes();
            clear.resize(length, 0);
            Decryptor::new(&key, &iv).decrypt(&body[..length], &mut clear);
            let padding = usize::from(*clear.last().expect("a block"));
            clear.truncate(length - padding);
            let mine = turn.1.wait_while(turn.0.lock().expect("a lock"), |turn| *turn != index).expect("a lock");
            // Nobody else wants it before the turn is over.
            drop(mine);
            (&file).write_all(&clear).expect("writing");
            *turn.0.lock().expect("a lock") += 1;
            turn.1.notify_all();
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..connections {
            scope.spawn(|| work(Connection::open(&url)));
        }
        work(first);
    });
    file
}
