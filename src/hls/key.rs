//! Keys: fetched once for each URI and used again, however many segments ask at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::StatusCode;
use tokio::sync::{OnceCell, Semaphore};
use url::Url;

use super::hosts::Hosts;
use crate::failure::{Context, Failure, FailureKind, Result};
use crate::http::{MediaClient, RequestHeaders, shown};

/// Length of an AES-128 key in bytes.
const KEY_BYTES: usize = 16;
/// Most that is read of an answer, to say how long it really was.
const ANSWER_LIMIT: usize = 64 * 1024;
/// Keys that are asked for at once: key servers are not made for more.
const IN_FLIGHT: usize = 4;
/// Keys that are remembered: with a key for each segment the old ones are of no use any more.
const REMEMBERED: usize = 1024;

type Cell = Arc<OnceCell<[u8; KEY_BYTES]>>;

/// The keys of one track. `Debug` is left out on purpose.
pub struct KeyRing {
    keys: Mutex<HashMap<Url, Cell>>,
    in_flight: Semaphore,
}

impl Default for KeyRing {
    fn default() -> Self {
        KeyRing { keys: Mutex::default(), in_flight: Semaphore::new(IN_FLIGHT) }
    }
}

impl KeyRing {
    /// The key at `url`, asked for once.
    ///
    /// # Errors
    /// `key_invalid` unless it is exactly 16 bytes, or what the request failed with.
    pub async fn get(
        &self,
        client: &MediaClient,
        hosts: &Hosts,
        headers: &RequestHeaders,
        url: &Url,
    ) -> Result<[u8; KEY_BYTES]> {
        let fetch = || async {
            // Never closed.
            let _permit = self.in_flight.acquire().await;
            hosts.of(url).ask(fetch(client, headers, url)).await
        };
        self.cell(url).get_or_try_init(fetch).await.copied().at(|| "the key")
    }

    fn cell(&self, url: &Url) -> Cell {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= REMEMBERED && !keys.contains_key(url) {
            // Those that somebody waits for stay.
            keys.retain(|_, cell| Arc::strong_count(cell) > 1);
        }
        keys.entry(url.clone()).or_default().clone()
    }
}

async fn fetch(client: &MediaClient, headers: &RequestHeaders, url: &Url) -> Result<[u8; KEY_BYTES]> {
    let response = client.for_keys().get(url, headers, &Default::default()).await?;
    if response.status != StatusCode::OK {
        let mut failure = response.refusal(headers);
        if failure.kind == FailureKind::LinkExpired {
            failure.message += " (not entitled to it, or its link has expired)";
        }
        return Err(failure);
    }
    let body = response.read_body(ANSWER_LIMIT).await?;
    body.as_slice().try_into().map_err(|_| {
        let message = format!("{}: the answer has {} bytes, a key has 16", shown(url), body.len());
        Failure::new(FailureKind::KeyInvalid, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_45_keys_are_remembered_up_to_a_bound() {
        let ring = KeyRing::default();
        let url = |number: usize| Url::parse(&format!("https://h.example/{number}.key")).unwrap();
        let first = ring.cell(&url(0));
        for number in 0..3 * REMEMBERED {
            ring.cell(&url(number));
        }
        assert!(ring.keys.lock().unwrap().len() <= REMEMBERED);
        assert!(Arc::ptr_eq(&first, &ring.cell(&url(0))), "one that is waited for is not asked for twice");
    }
}
