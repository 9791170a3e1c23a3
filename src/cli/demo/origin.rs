//! Stand-ins for the systems around the daemon: media host, catalogue, enrollment service, backend.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{failed, sample};
use crate::failure::Result;
use crate::serve::serve;

/// Each segment takes this long, so that there is progress to see.
const SEGMENT_DELAY: Duration = Duration::from_millis(250);

/// A running origin; it stops when dropped.
pub struct Origin {
    port: u16,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

struct Shared {
    root: PathBuf,
    origin: String,
    finalize: Mutex<Option<FinalizeCall>>,
}

/// What the backend received.
#[derive(Debug, Clone)]
pub struct FinalizeCall {
    pub path: &'static str,
    pub timestamp: String,
    pub signature: String,
    pub body: String,
}

impl Origin {
    /// Serves the files below `root` and everything else that the daemon talks to.
    pub async fn start(root: PathBuf) -> Result<Origin> {
        let listener =
            TcpListener::bind("127.0.0.1:0").await.map_err(|error| failed(&format!("no free port: {error}")))?;
        let port = listener.local_addr().map_err(|error| failed(&format!("no free port: {error}")))?.port();
        let shared = Arc::new(Shared { root, origin: format!("http://127.0.0.1:{port}"), finalize: Mutex::default() });
        let router = Router::new()
            .route("/media/{name}/{file}", get(media))
            .route("/catalog", get(catalog))
            .route("/api/v1/enroll", post(enroll))
            .route(FINALIZE, post(finalize))
            .with_state(shared.clone());
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, router, stop.clone()));
        Ok(Origin { port, shared, _stop: stop.drop_guard() })
    }

    /// A URL of the origin.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The finalize call, if it has come.
    pub fn finalize_call(&self) -> Option<FinalizeCall> {
        self.shared.finalize.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

const FINALIZE: &str = "/api/v1/webhook/finalize";

async fn media(State(shared): State<Arc<Shared>>, Path((name, file)): Path<(String, String)>) -> Response {
    // The names come from our own manifest; one component each, so nothing leads out of the root.
    if name.starts_with('.') || file.starts_with('.') || file.contains('/') || name.contains('/') {
        return StatusCode::NOT_FOUND.into_response();
    }
    if file.ends_with(".ts") {
        tokio::time::sleep(SEGMENT_DELAY).await;
    }
    match tokio::fs::read(shared.root.join("media").join(name).join(&file)).await {
        Ok(bytes) => bytes.into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn catalog(State(shared): State<Arc<Shared>>) -> Response {
    axum::Json(sample::manifest(&shared.origin)).into_response()
}

async fn enroll() -> Response {
    let result = json!({"success": true, "status": "enrolled", "courseId": 12345, "title": sample::COURSE});
    axum::Json(json!({"success": true, "results": [result]})).into_response()
}

async fn finalize(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    *shared.finalize.lock().unwrap_or_else(PoisonError::into_inner) = Some(FinalizeCall {
        path: FINALIZE,
        timestamp: header("x-timestamp"),
        signature: header("x-signature"),
        body: String::from_utf8_lossy(&body).into_owned(),
    });
    StatusCode::OK
}
