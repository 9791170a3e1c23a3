//! Callers: connections that stay open, each with one order under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::world::daemon::HOOK_TOKEN;

const CONNECTIONS: usize = 64;

/// Who asks one server.
pub struct Callers {
    port: u16,
    /// Every order has an id of its own.
    orders: Arc<AtomicUsize>,
}

/// What the callers were answered.
pub struct Taken {
    /// From when an order was due until its answer was read, in seconds, sorted; only of orders that
    /// were taken in.
    latencies: Vec<f64>,
    seconds: f64,
}

impl Taken {
    pub fn count(&self) -> usize {
        self.latencies.len()
    }

    pub fn per_second(&self) -> f64 {
        self.count() as f64 / self.seconds
    }

    /// What this share of the orders did not exceed.
    pub fn latency(&self, share: f64) -> f64 {
        let index = (self.latencies.len() as f64 * share).ceil() as usize;
        self.latencies[index.clamp(1, self.latencies.len()) - 1]
    }
}

impl Callers {
    pub fn of(port: u16) -> Callers {
        Callers { port, orders: Arc::new(AtomicUsize::new(1)) }
    }

    /// So many orders a second, whatever the answers take: an order that is sent late because the
    /// answer before was late counts from when it was due.
    pub async fn at_rate(&self, rate: f64, seconds: f64) -> Taken {
        let count = (rate * seconds) as usize;
        self.call(move |number, begin, _| {
            (number < count).then(|| begin + Duration::from_secs_f64(number as f64 / rate))
        })
        .await
    }

    /// Each caller sends its next order when the one before is answered.
    pub async fn at_most(&self, seconds: f64) -> Taken {
        self.call(move |_, begin, now| (now < begin + Duration::from_secs_f64(seconds)).then_some(now)).await
    }

    /// `due` says when the order of this number is due, if it is to be sent at all.
    async fn call(&self, due: impl Fn(usize, Instant, Instant) -> Option<Instant> + Clone + Send + 'static) -> Taken {
        let mut callers = JoinSet::new();
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(Connection::open(self.port).await);
        }
        let (begin, numbers) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
        for mut connection in connections {
            let (due, numbers, orders) = (due.clone(), numbers.clone(), self.orders.clone());
            callers.spawn(async move {
                let mut latencies = Vec::new();
                while let Some(due) = due(numbers.fetch_add(1, Relaxed), begin, Instant::now()) {
                    tokio::time::sleep_until(due.into()).await;
                    if connection.order(orders.fetch_add(1, Relaxed)).await == 202 {
                        latencies.push(due.elapsed().as_secs_f64());
                    }
                }
                latencies
            });
        }
        let mut latencies = callers.join_all().await.concat();
        let seconds = begin.elapsed().as_secs_f64();
        latencies.sort_by(f64::total_cmp);
        Taken { latencies, seconds }
    }
}

struct Connection(BufReader<TcpStream>);

impl Connection {
    async fn open(port: u16) -> Connection {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the server listens");
        stream.set_nodelay(true).expect("a socket");
        Connection(BufReader::new(stream))
    }

    /// The status of the answer.
    async fn order(&mut self, number: usize) -> u16 {
        let body = format!(
            r#"{{"orderId":{number},"tasks":[{{"taskId":{number},"email":"user{number}@example.com","courseUrl":"https://learn.example.com/course/{number}/"}}]}}"#
        );
        let request = format!(
            "POST /api/v1/orders HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {HOOK_TOKEN}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.get_mut().write_all(request.as_bytes()).await.expect("the connection stays open");
        self.answer().await
    }

    async fn answer(&mut self) -> u16 {
        let (mut status, mut length) = (None, 0);
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.0.read_line(&mut line).await.expect("an answer") > 0, "the connection was closed");
            let text = line.trim_end();
            if text.is_empty() {
                break;
            }
            if status.is_none() {
                status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
            } else if let Some((name, value)) = text.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.expect("a body");
        status.expect("a status")
    }
}
