//! The operator's catalogue: course URL in, course manifest out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::origin::{Origin, Reply, Request};

/// The path of the catalogue on its origin.
pub const CATALOG: &str = "/catalog";

/// A catalogue on an origin, which can also be told to misbehave there:
/// `origin.fault(CATALOG, …)`, `origin.hold(CATALOG)`.
pub struct Catalog {
    url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    token: Option<String>,
    /// What each course answers, time after time; the last answer stays.
    courses: HashMap<String, Vec<Value>>,
}

impl Catalog {
    /// Adds a catalogue to an origin.
    pub fn on(origin: &Origin) -> Catalog {
        let state = Arc::new(Mutex::new(State::default()));
        let answering = Arc::clone(&state);
        origin.answer(CATALOG, move |request| answer(&answering, request));
        Catalog { url: origin.url(CATALOG), state }
    }

    /// For `resolver.catalog_endpoint`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Answers 401 without `Authorization: Bearer <token>`.
    pub fn require_token(&self, token: &str) {
        self.state().token = Some(token.to_owned());
    }

    /// The course at this URL.
    pub fn course(&self, course_url: &str, manifest: &Manifest) {
        self.course_series(course_url, &[manifest]);
    }

    /// The course at this URL, another one each time it is asked for; the last one stays.
    pub fn course_series(&self, course_url: &str, manifests: &[&Manifest]) {
        let answers = manifests.iter().map(|manifest| manifest.json()).collect();
        self.state().courses.insert(course_url.to_owned(), answers);
    }

    /// Any JSON for the course at this URL, a manifest or not.
    pub fn course_json(&self, course_url: &str, answer: Value) {
        self.state().courses.insert(course_url.to_owned(), vec![answer]);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("catalogue")
    }
}

fn answer(state: &Mutex<State>, request: &Request) -> Reply {
    let mut state = state.lock().expect("catalogue");
    if let Some(token) = &state.token
        && request.header("Authorization") != Some(&format!("Bearer {token}"))
    {
        return Reply::json(&json!({"error": "who are you?"})).with_status(401);
    }
    let course = request.query("url").and_then(|url| state.courses.get_mut(&url));
    match course {
        None => Reply::json(&json!({"error": "no such course"})).with_status(404),
        Some(answers) if answers.len() > 1 => Reply::json(&answers.remove(0)),
        Some(answers) => Reply::json(&answers[0]),
    }
}

/// A course manifest, built up.
#[derive(Debug, Clone)]
pub struct Manifest {
    title: String,
    sections: Vec<(String, Vec<Lecture>)>,
}

impl Manifest {
    /// A course without sections.
    pub fn new(title: &str) -> Manifest {
        Manifest { title: title.to_owned(), sections: Vec::new() }
    }

    /// With one section more.
    pub fn section(mut self, title: &str, lectures: impl IntoIterator<Item = Lecture>) -> Manifest {
        self.sections.push((title.to_owned(), lectures.into_iter().collect()));
        self
    }

    /// A course of one section with one lecture.
    pub fn of_one(course: &str, lecture: &str, stream_url: &str) -> Manifest {
        Manifest::new(course).section("Start", [Lecture::new(lecture).stream(stream_url)])
    }

    /// As the catalogue gives it.
    pub fn json(&self) -> Value {
        let sections = self.sections.iter().map(|(title, lectures)| {
            let lectures: Vec<Value> = lectures.iter().map(Lecture::json).collect();
            json!({"title": title, "lectures": lectures})
        });
        json!({"title": self.title, "sections": sections.collect::<Vec<Value>>()})
    }
}

/// A lecture of a manifest, built up.
#[derive(Debug, Clone)]
pub struct Lecture {
    title: String,
    stream: Option<Value>,
    captions: Vec<Value>,
    assets: Vec<Value>,
}

impl Lecture {
    /// A lecture with nothing in it.
    pub fn new(title: &str) -> Lecture {
        Lecture { title: title.to_owned(), stream: None, captions: Vec::new(), assets: Vec::new() }
    }

    /// An HLS stream.
    pub fn stream(self, url: &str) -> Lecture {
        Lecture { stream: Some(json!({"url": url})), ..self }
    }

    /// An HLS stream whose requests must carry these headers.
    pub fn stream_with_headers(self, url: &str, headers: &[(&str, &str)]) -> Lecture {
        let headers: HashMap<&str, &str> = headers.iter().copied().collect();
        Lecture { stream: Some(json!({"url": url, "headers": headers})), ..self }
    }

    /// One plain file as the stream.
    pub fn file(self, url: &str) -> Lecture {
        Lecture { stream: Some(json!({"url": url, "type": "file"})), ..self }
    }

    /// A caption.
    pub fn caption(mut self, language: &str, url: &str) -> Lecture {
        self.captions.push(json!({"language": language, "url": url}));
        self
    }

    /// An asset.
    pub fn asset(mut self, name: &str, url: &str) -> Lecture {
        self.assets.push(json!({"name": name, "url": url}));
        self
    }

    fn json(&self) -> Value {
        let mut lecture = json!({"title": self.title});
        if let Some(stream) = &self.stream {
            lecture["stream"] = stream.clone();
        }
        if !self.captions.is_empty() {
            lecture["captions"] = json!(self.captions);
        }
        if !self.assets.is_empty() {
            lecture["assets"] = json!(self.assets);
        }
        lecture
    }
}
