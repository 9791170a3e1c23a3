//! Free ports, also for programs that cannot be handed a bound socket.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the range from which Linux takes the local ports of outgoing connections (32768 and up):
/// no connection of anybody can sit on such a port while a server of ours is down, nor connect to
/// itself there.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

/// A listener on such a port of 127.0.0.1.
pub fn listener() -> TcpListener {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        // Test binaries that run side by side start at different places.
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + std::process::id().wrapping_mul(97).wrapping_add(step) % COUNT;
        let port = u16::try_from(port).expect("FIRST + COUNT is below 65536");
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return listener;
        }
    }
    panic!("no free port of 127.0.0.1 from {FIRST} to {}", FIRST + COUNT);
}

/// A port of 127.0.0.1 on which nobody listened a moment ago, never the same twice in one process.
/// Another process may still take it: who starts a server there must look whether it came up.
pub fn free() -> u16 {
    listener().local_addr().expect("the address of a listener").port()
}

/// A base URL where nothing listens: connecting is refused.
pub fn closed_url() -> String {
    format!("http://127.0.0.1:{}", free())
}
