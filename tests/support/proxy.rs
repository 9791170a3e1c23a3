//! A TCP proxy between a program and a server, which cuts, freezes, delays, and swallows answers.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

use super::port;

/// Forwards every connection to one port of 127.0.0.1. It runs on a thread of its own; dropping it
/// closes every connection.
pub struct Proxy {
    port: u16,
    line: watch::Sender<Line>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What happens to all connections.
#[derive(Debug, Clone, Copy)]
struct Line {
    conduct: Conduct,
    /// Grows with every cut: a connection that began before is closed.
    cuts: u64,
    /// Grows with every silence: on a connection that began before nothing moves any more.
    silences: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conduct {
    Flow,
    /// What comes is handed on so much later, in either direction.
    Late(Duration),
    /// Connections stay open and nothing moves, as behind a cable that was pulled.
    Frozen,
    /// Requests arrive, answers do not.
    Deaf,
}

impl Proxy {
    /// Starts a proxy to this port.
    pub fn to(target: u16) -> Proxy {
        let listener = port::listener();
        listener.set_nonblocking(true).expect("a listener that does not block");
        let port = listener.local_addr().expect("its address").port();
        let line = watch::Sender::new(Line { conduct: Conduct::Flow, cuts: 0, silences: 0 });
        let (stop, stopped) = oneshot::channel();
        let seen = line.subscribe();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("the listener");
                tokio::select! {
                    () = accept(listener, target, seen) => {}
                    _ = stopped => {}
                }
            });
        });
        Proxy { port, line, stop: Some(stop), thread: Some(thread) }
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Closes every connection; new ones are welcome.
    pub fn cut(&self) {
        self.line.send_modify(|line| line.cuts += 1);
    }

    /// On the connections that are open nothing moves any more, as if the other end had lost its
    /// power; new ones are welcome.
    pub fn fall_silent(&self) {
        self.line.send_modify(|line| line.silences += 1);
    }

    /// From now on nothing moves, in either direction, and connecting only seems to work.
    pub fn freeze(&self) {
        self.line.send_modify(|line| line.conduct = Conduct::Frozen);
    }

    /// From now on every piece is handed on so much later, in either direction.
    pub fn delay(&self, by: Duration) {
        self.line.send_modify(|line| line.conduct = Conduct::Late(by));
    }

    /// From now on requests reach the server and its answers are thrown away. The connections that
    /// have missed one are of no use afterwards: cut them before going on.
    pub fn swallow_answers(&self) {
        self.line.send_modify(|line| line.conduct = Conduct::Deaf);
    }

    /// All is well again; what was frozen arrives now.
    pub fn resume(&self) {
        self.line.send_modify(|line| line.conduct = Conduct::Flow);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, target: u16, line: watch::Receiver<Line>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let line = line.clone();
        tokio::spawn(async move {
            let born = *line.borrow();
            let Ok(server) = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, target))).await else { return };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            tokio::select! {
                () = pump(from_client, to_server, line.clone(), born, false) => {}
                () = pump(from_server, to_client, line, born, true) => {}
            }
        });
    }
}

/// One direction, until one end closes it or it is cut.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut line: watch::Receiver<Line>,
    born: Line,
    is_answer: bool,
) {
    let mut cut = line.clone();
    let pumping = async move {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
            let Ok(state) = line
                .wait_for(|line| line.conduct != Conduct::Frozen && line.silences == born.silences)
                .await
                .map(|line| *line)
            else {
                return;
            };
            match state.conduct {
                Conduct::Deaf if is_answer => continue,
                Conduct::Late(by) => tokio::time::sleep(by).await,
                _ => {}
            }
            if to.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = pumping => {}
        _ = cut.wait_for(|line| line.cuts != born.cuts) => {}
    }
}
