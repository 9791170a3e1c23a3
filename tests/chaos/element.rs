//! What is pushed, and what must become of it.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::films::{Doom, Shape};
use crate::support::{Lecture, Manifest};

/// The only lecture of each course: its path without an extension.
pub const LECTURE: &str = "01 Start/001 Only";
/// The captions of a film, in its files.
const CAPTIONS: &str = "en.vtt";

/// What kind of job an element is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Two small files.
    Quick,
    /// A file that comes late.
    Slow,
    /// A stream, with captions and a file beside it.
    Film(Shape),
    /// A stream that cannot be downloaded.
    Doomed(Doom),
    /// As quick, but the first answer of the catalogue is no manifest: the second attempt succeeds.
    Flaky,
    /// The catalogue never answers a manifest: given up after all attempts.
    Broken,
    /// The catalogue does not know the course: given up at once.
    Missing,
    /// No job at all.
    Rubbish,
}

impl Kind {
    /// The kind of this name.
    fn named(name: &str) -> Option<Kind> {
        use Kind::*;
        let plain = [Quick, Slow, Flaky, Broken, Missing, Rubbish].into_iter();
        let films = Shape::ALL.into_iter().map(Film).chain(Doom::ALL.into_iter().map(Doomed));
        plain.chain(films).find(|kind| kind.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Quick => "quick",
            Kind::Slow => "slow",
            Kind::Film(shape) => shape.name(),
            Kind::Doomed(doom) => doom.name(),
            Kind::Flaky => "flaky",
            Kind::Broken => "broken",
            Kind::Missing => "missing",
            Kind::Rubbish => "rubbish",
        }
    }

    /// The failure kind under which it ends on the dead list, and the attempts; `None` when it is
    /// to be delivered.
    pub fn death(self) -> Option<(&'static str, u32)> {
        match self {
            Kind::Quick | Kind::Slow | Kind::Film(_) | Kind::Flaky => None,
            Kind::Doomed(doom) => Some(doom.death()),
            Kind::Broken => Some(("manifest_invalid", 3)),
            Kind::Missing => Some(("course_not_found", 1)),
            Kind::Rubbish => Some(("malformed_job", 0)),
        }
    }

    /// What the catalogue answers to request number `count` (from 1) for a course; `Err` is a status. The media
    /// host is at the URL `media`.
    pub fn answer(self, task: u64, count: usize, media: &str) -> Result<Value, u16> {
        let stream = |film: &str| Lecture::new("Only").stream(&format!("{media}/films/{task}/{film}/index.m3u8"));
        let course = |lecture: Lecture| {
            let files = self.files(task).into_iter();
            let lecture = files.fold(lecture, |lecture, (name, path)| match name {
                CAPTIONS => lecture.caption("en", &format!("{media}{path}")),
                _ => lecture.asset(name, &format!("{media}{path}")),
            });
            Ok(Manifest::new(&folder(task)).section("Start", [lecture]).json())
        };
        match self {
            Kind::Missing | Kind::Rubbish => Err(404),
            Kind::Broken => Ok(json!({"title": task})),
            Kind::Flaky if count == 1 => Ok(json!({"title": task})),
            Kind::Film(shape) => course(stream(shape.name())),
            Kind::Doomed(doom) => course(stream(doom.name())),
            Kind::Quick | Kind::Flaky | Kind::Slow => course(Lecture::new("Only")),
        }
    }

    /// Name and path of each file of the course.
    fn files(self, task: u64) -> Vec<(&'static str, String)> {
        match self {
            Kind::Quick | Kind::Flaky => {
                vec![("one.bin", format!("/files/{task}/1")), ("two.bin", format!("/files/{task}/2"))]
            }
            Kind::Slow => vec![("late.bin", format!("/late/{task}"))],
            Kind::Film(_) => {
                vec![("notes.bin", format!("/files/{task}/notes")), (CAPTIONS, format!("/files/{task}/vtt"))]
            }
            _ => Vec::new(),
        }
    }

    /// What is delivered beside the stream: relative path and content of each file.
    pub fn delivered(self, task: u64) -> Vec<(String, Bytes)> {
        let file = |(name, path): (&str, String)| match name {
            CAPTIONS => (format!("{LECTURE}.{name}"), content(&path)),
            _ => (format!("{LECTURE} - {name}"), content(&path)),
        };
        self.files(task).into_iter().map(file).collect()
    }

    /// The stream of the course.
    pub fn film(self) -> Option<Shape> {
        match self {
            Kind::Film(shape) => Some(shape),
            _ => None,
        }
    }
}

/// The folder of a course.
pub fn folder(task: u64) -> String {
    format!("Course {task}")
}

/// What stands at a path of the origin.
pub fn content(path: &str) -> Bytes {
    let length = 500 + path.len() * 37 % 3000;
    path.bytes().cycle().take(length).collect()
}

/// `https://learn.example.com/course/<kind>/<task>/`
pub fn course_url(kind: Kind, task: u64) -> String {
    format!("https://learn.example.com/course/{}/{task}/", kind.name())
}

/// The reverse.
pub fn read_course_url(url: &str) -> Option<(Kind, u64)> {
    let mut parts = url.trim_end_matches('/').rsplit('/');
    let task = parts.next()?.parse().ok()?;
    let name = parts.next()?;
    Some((Kind::named(name)?, task))
}

/// One element that was sent to Redis; whether Redis has accepted it is known at the end.
#[derive(Debug, Clone)]
pub struct Pushed {
    pub number: u64,
    pub kind: Kind,
    /// Rubbish has none.
    pub task: Option<u64>,
    pub bytes: Vec<u8>,
}

/// An element as the Node backend writes it. A producer that orders twice writes another job id, or not.
pub fn job(task: u64, kind: Kind, job_id: &str) -> Vec<u8> {
    let element = json!({
        "taskId": task,
        "email": "user@example.com",
        "courseUrl": course_url(kind, task),
        "timestamp": "2026-01-13T02:00:00.000Z",
        "jobId": job_id,
    });
    element.to_string().into_bytes()
}

/// Bytes that are no job, each time others.
pub fn rubbish(number: u64) -> Vec<u8> {
    match number % 5 {
        0 => format!("word-{number}").into_bytes(),
        1 => format!("{{\"taskId\":\"x{number}\"}}").into_bytes(),
        2 => [b"\xff\xfe", number.to_string().as_bytes()].concat(),
        3 => format!("[{number}]").into_bytes(),
        _ => format!("{{\"taskId\":0,\"n\":{number}").into_bytes(),
    }
}
