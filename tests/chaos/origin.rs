//! Catalogue, media host and backend. The paths of the first and the last name the process that asks, `/catalog/g7`
//! and `/backend/g7/…`; those of the media host the task, `/files/12/1`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use crate::element;
use crate::films::Films;
use crate::support::origin::{Fault, Origin, Reply, Request};
use crate::troubles::Troubles;

/// Makes it answer; the media host is reached at the URL `media`.
pub fn furnish(origin: &Origin, media: String, films: Arc<Films>, troubles: Arc<Troubles>) {
    let counts: Mutex<HashMap<u64, usize>> = Mutex::default();
    origin.answer("/catalog/*", move |request| {
        let course = request.query("url").and_then(|url| element::read_course_url(&url));
        let Some((kind, task)) = course else { return Reply::status(404) };
        let mut counts = counts.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let count = counts.entry(task).or_default();
        *count += 1;
        match kind.answer(task, *count, &media) {
            Ok(answer) => Reply::json(&answer),
            Err(status) => Reply::status(status),
        }
    });
    let file = |request: &Request| Reply::ok("application/octet-stream", element::content(&request.path));
    origin.answer("/files/*", file);
    origin.answer("/late/*", file);
    origin.fault("/late/*", Fault::Delay(Duration::from_millis(200)));
    // `/films/<task>/<film>/<file>`
    origin.answer("/films/*", move |request| match request.path.splitn(4, '/').nth(3) {
        Some(path) => films.reply(&format!("/{path}")),
        None => Reply::status(404),
    });
    origin.answer("/backend/*", |_| Reply::json(&json!({"success": true})));
    origin.fault("/backend/*", Fault::Delay(Duration::from_millis(15)));
    origin.misbehave(move |request| troubles.of(request));
}
