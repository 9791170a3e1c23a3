//! The backend's two services: enrollment, and the finalize webhook.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::origin::{Origin, Reply, Request};

/// The path of the enrollment service.
pub const ENROLL: &str = "/api/v1/enroll";
/// The path of the finalize webhook.
pub const FINALIZE: &str = "/api/v1/webhook/finalize";

/// The path of the webhook that is told of failures.
pub const FAILED: &str = "/api/v1/webhook/failed";

/// A backend on an origin of its own: it enrolls everybody and accepts every finalize call, unless
/// told otherwise. For a status 500 or silence use its origin:
/// `backend.origin.fault(FINALIZE, Fault::Status(500).times(2))`, `backend.origin.hold(ENROLL)`.
pub struct Backend {
    pub origin: Origin,
    refused: Arc<Mutex<HashMap<String, Value>>>,
}

impl Backend {
    /// Starts it on a free port.
    pub fn start() -> Backend {
        let origin = Origin::start();
        let refused: Arc<Mutex<HashMap<String, Value>>> = Arc::default();
        let answers = Arc::clone(&refused);
        origin.answer(ENROLL, move |request| enroll(&answers.lock().expect("answers"), request));
        origin.answer(FINALIZE, |_| Reply::json(&json!({"success": true})));
        origin.answer(FAILED, |_| Reply::json(&json!({"success": true})));
        Backend { origin, refused }
    }

    /// For `report.api_base_url`.
    pub fn base_url(&self) -> String {
        self.origin.url("")
    }

    /// For `enrollment.endpoint`.
    pub fn enroll_url(&self) -> String {
        self.origin.url(ENROLL)
    }

    /// Courses with this URL are refused from now on.
    pub fn refuse(&self, course_url: &str, message: &str) {
        self.result_for(course_url, json!({"success": false, "status": "failed", "message": message}));
    }

    /// Courses with this URL get this result, whatever it means.
    pub fn result_for(&self, course_url: &str, result: Value) {
        self.refused.lock().expect("answers").insert(course_url.to_owned(), result);
    }

    /// The enrollments that were asked for, in order.
    pub fn enroll_calls(&self) -> Vec<Request> {
        self.origin.requests_for(ENROLL)
    }

    /// The finalize calls, in order.
    pub fn finalize_calls(&self) -> Vec<Request> {
        self.origin.requests_for(FINALIZE)
    }

    /// Waits until so many finalize calls have come.
    ///
    /// # Panics
    /// After 20 s.
    pub async fn wait_for_finalize(&self, count: usize) -> Vec<Request> {
        self.origin.wait_for_request(FINALIZE, count).await
    }
}

fn enroll(special: &HashMap<String, Value>, request: &Request) -> Reply {
    let body: Option<Value> = serde_json::from_slice(&request.body).ok();
    let urls = body.as_ref().and_then(|body| body["urls"].as_array());
    let Some(urls) = urls else { return Reply::json(&json!({"success": false})).with_status(400) };
    let results: Vec<Value> = urls
        .iter()
        .map(|url| {
            let enrolled = json!({"success": true, "status": "enrolled", "courseId": 12345, "title": "Course Name"});
            url.as_str().and_then(|url| special.get(url)).cloned().unwrap_or(enrolled)
        })
        .collect();
    Reply::json(&json!({"success": true, "results": results}))
}

/// Whether a finalize call is signed as the contract says, by computing it once more.
///
/// # Panics
/// With what is wrong.
pub fn check_finalize_signature(call: &Request, secret: &str) {
    let body = call.json();
    let timestamp = body["timestamp"].as_str().expect("timestamp is a text");
    assert_eq!(call.header("X-Timestamp"), Some(timestamp), "X-Timestamp");
    let task_id = &body["task_id"];
    let folder_name = body["folder_name"].as_str().expect("folder_name is a text");
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length");
    mac.update(format!("{task_id}{folder_name}{timestamp}").as_bytes());
    let expected = hex::encode(mac.finalize().into_bytes());
    assert_eq!(call.header("X-Signature"), Some(expected.as_str()), "X-Signature");
}
