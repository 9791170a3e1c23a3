//! The HTTP server loop of hook and admin. Not `axum::serve`: that one sets no timer, so that a
//! client which never ends its header holds a connection for ever.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

/// Where a request came from; every request has it among its extensions.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Connections at once, unless a server has its own limit; more wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 256;
/// Limit for the header of a request, and for silence between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long requests may go on after the stop.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// Largest request line and header together.
const MAX_HEADER_BYTES: usize = 32 * 1024;
/// Pause after a failed accept: it fails for want of descriptors, and at once again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Answers connections until `stop`, then lets running requests end, for 5 s at most. HTTP/1.1 only.
///
/// # Errors
/// When the listener cannot say its own address, which no working listener does.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> io::Result<()> {
    serve_with(Arc::new(Semaphore::new(MAX_CONNECTIONS)), listener, router, stop).await
}

/// As [`serve`], with one connection for each permit.
///
/// # Errors
/// As [`serve`].
pub async fn serve_with(
    slots: Arc<Semaphore>,
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut builder = http1::Builder::new();
    let mut failing = false;
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_HEADER_BYTES);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &slots) => accepted,
            // Ended connections are forgotten as they end, not at the next accept.
            Some(_) = connections.join_next() => continue,
        };
        let (stream, peer, slot) = match accepted {
            Ok(accepted) => {
                failing = false;
                accepted
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%address, %error, "connections cannot be accepted: they wait, and it is tried again");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let router = router.clone();
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            router.clone().call(request.map(Body::new))
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            let _slot = slot;
            if let Err(error) = connection.await {
                tracing::debug!(%address, %error, "a connection ended early");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(STOP_DEADLINE, graceful.shutdown()).await.is_err() {
        tracing::warn!(%address, connections = connections.len(), "requests were cut off at the stop");
    }
    connections.shutdown().await;
    Ok(())
}

/// First the slot, then the connection: what is not accepted waits in the backlog. Cancel safe.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(tokio::net::TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, peer, slot))
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::Notify;
    use tokio::time::Instant;

    use super::*;

    async fn start(
        router: Router,
    ) -> (std::net::SocketAddr, CancellationToken, tokio::task::JoinHandle<io::Result<()>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        (address, stop.clone(), tokio::spawn(serve(listener, router, stop)))
    }

    async fn ask(address: std::net::SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
        stream
    }

    async fn rest(mut stream: TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn a_header_that_never_ends_is_cut_off() {
        let (address, _stop, _server) = start(Router::new()).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: h\r\n").await.unwrap();
        let begin = Instant::now();
        let text = tokio::time::timeout(HEADER_TIMEOUT * 3, rest(stream)).await.unwrap();
        assert!(begin.elapsed() >= HEADER_TIMEOUT - Duration::from_millis(500), "{:?}", begin.elapsed());
        assert!(!text.contains("200 OK"), "{text}");
    }

    #[tokio::test]
    async fn a_stop_lets_the_running_request_end_and_takes_no_new_one() {
        let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let router = {
            let (entered, go) = (entered.clone(), go.clone());
            Router::new().route(
                "/",
                get(async move || {
                    entered.notify_one();
                    go.notified().await;
                    "done"
                }),
            )
        };
        let (address, stop, server) = start(router).await;
        let running = ask(address).await;
        entered.notified().await;
        stop.cancel();
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        go.notify_one();
        assert!(rest(running).await.ends_with("done"));
        server.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_request_that_does_not_end_is_cut_off_at_the_deadline() {
        let entered = Arc::new(Notify::new());
        let router = {
            let entered = entered.clone();
            Router::new().route(
                "/",
                get(async move || {
                    entered.notify_one();
                    std::future::pending::<&str>().await
                }),
            )
        };
        let (address, stop, server) = start(router).await;
        let running = ask(address).await;
        entered.notified().await;
        let begin = Instant::now();
        stop.cancel();
        server.await.unwrap().unwrap();
        assert!(begin.elapsed() >= STOP_DEADLINE && begin.elapsed() < STOP_DEADLINE * 3);
        assert_eq!(rest(running).await, "");
    }

    #[tokio::test]
    async fn connections_over_the_limit_wait_for_one_to_end() {
        let (address, _stop, _server) = start(Router::new().route("/", get(async || "done"))).await;
        let mut idle = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            let mut stream = ask(address).await;
            // An answered request proves that the connection holds a slot.
            let mut answer = vec![0; 4];
            stream.read_exact(&mut answer).await.unwrap();
            idle.push(stream);
        }
        let mut late = ask(address).await;
        let mut byte = [0];
        let waits = tokio::time::timeout(Duration::from_millis(300), late.read(&mut byte)).await;
        assert!(waits.is_err(), "answered although every slot is taken");
        drop(idle.pop());
        assert_eq!(late.read(&mut byte).await.unwrap(), 1);
    }
}
