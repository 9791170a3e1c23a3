//! One connection: read a request, decide, send, again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::fault::{End, Framing, Transmission, transmission};
use super::message::{Reply, Request};
use super::record::{Head, Ticket};
use super::{Gate, Shared};

/// Longest head that is read.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Bytes that are written at once when nothing else is asked for.
const PIECE_BYTES: usize = 16 * 1024;

/// Takes connections until it is dropped, which closes them all.
pub(super) async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    let number = shared.count_connection();
                    connections.spawn(serve(Arc::clone(&shared), number, stream));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(shared: Arc<Shared>, number: usize, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let (read, mut writer) = stream.into_split();
    let mut reader = BufReader::new(read);
    while let Ok(Some((head, body))) = read_request(&mut reader).await {
        let keep_alive = head.keep_alive;
        let ticket = shared.record(number, head, body);
        match respond(&shared, &ticket, &mut reader, &mut writer).await {
            Ok(End::KeepAlive) if keep_alive => {}
            _ => return,
        }
    }
}

/// The next request; `None` when the client has left.
async fn read_request(reader: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<(Head, Vec<u8>)>> {
    let mut text = String::new();
    loop {
        let before = text.len();
        if reader.read_line(&mut text).await? == 0 {
            return Ok(None);
        }
        if text.len() > MAX_HEAD_BYTES {
            return Err(io::Error::other("the head is too long"));
        }
        if text[before..].trim_end().is_empty() {
            break;
        }
    }
    let head = Head::parse(&text).ok_or_else(|| io::Error::other("not a request"))?;
    let mut body = vec![0; head.content_length];
    reader.read_exact(&mut body).await?;
    Ok(Some((head, body)))
}

async fn respond(
    shared: &Shared,
    ticket: &Ticket<'_>,
    reader: &mut BufReader<OwnedReadHalf>,
    writer: &mut OwnedWriteHalf,
) -> io::Result<End> {
    let request = ticket.request();
    let (fault, gates) = shared.decide(&request);
    for gate in gates.iter().filter(|gate| gate.after.is_none()) {
        unless_left(reader, gate.wait()).await?;
    }
    let reply = shared.reply(&request);
    let Some(sending) = transmission(reply, &request, fault) else { return Ok(End::Close) };
    if !sending.delay.is_zero() {
        unless_left(reader, tokio::time::sleep(sending.delay)).await?;
    }
    ticket.sent_head(sending.reply.status);
    writer.write_all(head(&sending).as_bytes()).await?;
    if request.method != "HEAD" {
        send_body(ticket, &sending, &gates, reader, writer).await?;
    }
    if sending.end == End::Silence {
        unless_left(reader, std::future::pending::<()>()).await?;
    }
    Ok(sending.end)
}

fn head(sending: &Transmission) -> String {
    let reply = &sending.reply;
    let reason = reqwest::StatusCode::from_u16(reply.status).ok().and_then(|status| status.canonical_reason());
    let mut head = format!("HTTP/1.1 {} {}\r\n", reply.status, reason.unwrap_or("Unknown"));
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match sending.framing {
        Framing::Length(length) => head.push_str(&format!("Content-Length: {length}\r\n\r\n")),
        Framing::Close => head.push_str("Connection: close\r\n\r\n"),
        Framing::Chunked => head.push_str("Transfer-Encoding: chunked\r\n\r\n"),
    }
    head
}

async fn send_body(
    ticket: &Ticket<'_>,
    sending: &Transmission,
    gates: &[Arc<Gate>],
    reader: &mut BufReader<OwnedReadHalf>,
    writer: &mut OwnedWriteHalf,
) -> io::Result<()> {
    let body = &sending.reply.body[..sending.send];
    let mut stops: Vec<(usize, &Gate)> = gates.iter().filter_map(|gate| Some((gate.after?, &**gate))).collect();
    stops.sort_by_key(|(after, _)| *after);
    let mut stops = stops.into_iter().peekable();
    let (piece, pause) = sending.pace.unwrap_or((PIECE_BYTES, Duration::ZERO));
    let mut sent = 0;
    loop {
        // A body that is shorter than the place of a hold is held at its end.
        while let Some((_, gate)) = stops.next_if(|(after, _)| *after <= sent || sent == body.len()) {
            unless_left(reader, gate.wait()).await?;
        }
        if sent == body.len() {
            break;
        }
        let stop = stops.peek().map_or(usize::MAX, |(after, _)| *after);
        let next = (sent + piece).min(stop).min(body.len());
        write_piece(writer, sending.framing, &body[sent..next]).await?;
        ticket.sent_body(next - sent);
        sent = next;
        if !pause.is_zero() {
            unless_left(reader, tokio::time::sleep(pause)).await?;
        }
    }
    if sending.framing == Framing::Chunked && sending.end == End::KeepAlive {
        writer.write_all(b"0\r\n\r\n").await?;
    }
    writer.flush().await
}

async fn write_piece(writer: &mut OwnedWriteHalf, framing: Framing, piece: &[u8]) -> io::Result<()> {
    if framing == Framing::Chunked {
        writer.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
        writer.write_all(piece).await?;
        return writer.write_all(b"\r\n").await;
    }
    writer.write_all(piece).await
}

/// Waits for `wait`, or fails when the client leaves before.
async fn unless_left(reader: &mut BufReader<OwnedReadHalf>, wait: impl Future<Output = ()>) -> io::Result<()> {
    tokio::pin!(wait);
    tokio::select! {
        () = &mut wait => return Ok(()),
        read = reader.fill_buf() => {
            if read?.is_empty() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
    }
    // The client has sent its next request already; it is read later.
    wait.await;
    Ok(())
}

impl Shared {
    /// What the path answers when nothing is wrong.
    fn reply(&self, request: &Request) -> Reply {
        let (handler, directories) = {
            let state = self.state();
            let ready = state.replies.get(&request.target).or_else(|| state.replies.get(&request.path));
            if let Some(reply) = ready {
                return reply.clone();
            }
            let handler = state.handlers.iter().find(|(pattern, _)| request.matches(pattern));
            (handler.map(|(_, handler)| Arc::clone(handler)), state.directories.clone())
        };
        if let Some(handler) = handler {
            return handler(request);
        }
        for (prefix, directory) in directories {
            let Some(relative) = request.path.strip_prefix(&prefix) else { continue };
            let relative = percent_encoding::percent_decode_str(relative.trim_start_matches('/')).decode_utf8_lossy();
            let outside = relative.split('/').any(|part| part == "..");
            if let Ok(body) = std::fs::read(directory.join(&*relative))
                && !outside
            {
                return Reply::of(&request.path, body);
            }
        }
        Reply::status(404).with_header("Content-Type", "text/plain").with_body("no such thing here\n")
    }
}
