//! Keys: fetched once for each URI and used again, however many segments ask at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::{Client, StatusCode};
use tokio::sync::OnceCell;
use url::Url;

use crate::failure::{Context, Failure, FailureKind, Result};
use crate::http::{self, RequestHeaders, shown};

/// Length of an AES-128 key in bytes.
const KEY_BYTES: usize = 16;
/// Most that is read of an answer, to say how long it really was.
const ANSWER_LIMIT: usize = 64 * 1024;

/// The keys of one stream. `Debug` is left out on purpose.
#[derive(Default)]
pub struct KeyRing(Mutex<HashMap<Url, Arc<OnceCell<[u8; KEY_BYTES]>>>>);

impl KeyRing {
    /// The key at `url`, asked for once.
    ///
    /// # Errors
    /// `key_invalid` unless it is exactly 16 bytes, or what the request failed with.
    pub async fn get(&self, client: &Client, headers: &RequestHeaders, url: &Url) -> Result<[u8; KEY_BYTES]> {
        let cell = {
            let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            keys.entry(url.clone()).or_default().clone()
        };
        cell.get_or_try_init(|| fetch(client, headers, url)).await.copied().at(|| "the key")
    }
}

async fn fetch(client: &Client, headers: &RequestHeaders, url: &Url) -> Result<[u8; KEY_BYTES]> {
    let response = client.get(url.clone()).headers(headers.for_url(url)).send().await;
    let response = response.map_err(|error| http::request_failure(url, &error))?;
    if response.status() != StatusCode::OK {
        return Err(http::status_failure(url, response.status(), response.headers()));
    }
    let body = http::read_body(response, ANSWER_LIMIT).await?;
    body.as_slice().try_into().map_err(|_| {
        let message = format!("{}: the answer has {} bytes, a key has 16", shown(url), body.len());
        Failure::new(FailureKind::KeyInvalid, message)
    })
}
