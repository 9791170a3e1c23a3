//! What is asked for: the queue element and what becomes of it.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use url::Url;

use crate::failure::{Failure, FailureKind, Result};
use crate::traces::TraceContext;

/// The backend's number for one task: 1 to 2^63 - 1, as a column of a database may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(u64);

impl TaskId {
    /// `None` for 0, which is no task, and for what no column holds.
    pub fn new(id: u64) -> Option<Self> {
        (1..=i64::MAX as u64).contains(&id).then_some(TaskId(id))
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }

    /// Reads a positive integer, or a string of digits.
    pub fn from_json(value: &Value) -> Option<Self> {
        let number = match value {
            Value::Number(number) => number.as_u64()?,
            Value::String(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok()?
            }
            _ => return None,
        };
        TaskId::new(number)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One element of the queue list, byte for byte as its producer wrote it: unknown fields survive a
/// way back to the list because it is never rewritten.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Element(pub Vec<u8>);

impl Element {
    /// What the element is called in keys, commands and the finalize call: the first 32 hex digits of
    /// its SHA-256. The same for every attempt, since the bytes are.
    pub fn id(&self) -> String {
        hex::encode(&Sha256::digest(&self.0)[..16])
    }

    /// When it was enqueued, if its producer wrote that into it.
    pub fn enqueued_at(&self) -> Option<Timestamp> {
        let value: Value = serde_json::from_slice(&self.0).ok()?;
        value.get("timestamp")?.as_str()?.parse().ok()
    }
}

impl fmt::Debug for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// What an element asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSpec {
    /// The task whose status gates the job.
    pub task_id: TaskId,
    /// The customer.
    pub email: String,
    /// The course to deliver; http or https.
    pub course_url: Url,
    /// Whether the job runs even when another one of the task is under way or was done just now:
    /// `"force":true`, written by an operator's command.
    pub force: bool,
    /// In whose trace it was asked for: `traceparent` and `tracestate` of the element.
    pub trace: Option<TraceContext>,
}

impl JobSpec {
    /// Reads an element.
    ///
    /// # Errors
    /// [`FailureKind::MalformedJob`] with the field that is missing or wrong.
    pub fn parse(element: &Element) -> Result<JobSpec> {
        let malformed = |what: String| Failure::new(FailureKind::MalformedJob, what);
        let value: Value = serde_json::from_slice(&element.0)
            .map_err(|error| malformed(format!("the element is not JSON: {error}")))?;
        let fields = value.as_object().ok_or_else(|| malformed("the element is not a JSON object".into()))?;
        let task_id = fields.get("taskId").ok_or_else(|| malformed("taskId is missing".into()))?;
        let task_id = TaskId::from_json(task_id)
            .ok_or_else(|| malformed(format!("taskId is not a positive integer: {}", brief(task_id))))?;
        let text = |name: &str| match fields.get(name) {
            None => Err(malformed(format!("{name} is missing (task {task_id})"))),
            Some(Value::String(text)) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
            Some(other) => Err(malformed(format!("{name} is not a text: {} (task {task_id})", brief(other)))),
        };
        let email = text("email")?;
        let course_url = text("courseUrl")?;
        let course_url = crate::http::parse_url(&course_url)
            .map_err(|failure| malformed(format!("courseUrl: {} (task {task_id})", failure.message)))?;
        let force = fields.get("force") == Some(&Value::Bool(true));
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        let trace = text("traceparent").and_then(|parent| TraceContext::new(parent, text("tracestate")));
        Ok(JobSpec { task_id, email, course_url, force, trace })
    }

    /// The task id of an element that may be malformed otherwise, for the log and the dead list.
    pub fn task_id_of(element: &Element) -> Option<TaskId> {
        let value: Value = serde_json::from_slice(&element.0).ok()?;
        TaskId::from_json(value.get("taskId")?)
    }

    /// Writes the element as the Node backend does, field for field.
    pub fn to_element(&self, now: jiff::Timestamp) -> Element {
        let mut element = serde_json::json!({
            "taskId": self.task_id,
            "email": self.email,
            "courseUrl": self.course_url.as_str(),
            "timestamp": format!("{now:.3}"),
            "jobId": format!("task-{}", self.task_id),
        });
        if self.force {
            element["force"] = Value::Bool(true);
        }
        if let Some(trace) = &self.trace {
            element["traceparent"] = trace.traceparent().into();
            if let Some(state) = trace.tracestate() {
                element["tracestate"] = state.into();
            }
        }
        Element(element.to_string().into_bytes())
    }
}

/// A JSON value, short enough for an error. JSON leaves some control characters as they are.
fn brief(value: &Value) -> String {
    let text = value.to_string().replace(char::is_control, "");
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// What one attempt came to. The queue settles by it.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Delivered and reported.
    Done,
    /// Failed; another attempt follows after the delay.
    Retry(Failure),
    /// Delivered under the name `folder`, but not everybody knows: the backend has not accepted the
    /// finalize call, which is being made since then, or (`None`) the task store did not take the end.
    /// They are told again after the delay, by whoever comes first.
    Untold { folder: String, since: Option<Timestamp>, after: Duration, failure: Failure },
    /// Failed for good: to the dead list.
    Dead(Failure),
    /// Not counted: back to the take end of the list.
    HandBack,
    /// Another instance has it: write nothing.
    Abandoned,
}

impl Outcome {
    /// The stable name for log and metric.
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Retry(_) => "retry",
            Outcome::Untold { .. } => "untold",
            Outcome::Dead(_) => "dead",
            Outcome::HandBack => "returned",
            Outcome::Abandoned => "abandoned",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<JobSpec> {
        JobSpec::parse(&Element(text.as_bytes().to_vec()))
    }

    #[test]
    fn reads_the_element_of_the_node_backend() {
        let spec = parse(
            r#"{"taskId":43,"email":"user@example.com","courseUrl":"https://learn.example.com/course/intro/",
               "timestamp":"2026-01-13T02:00:00.000Z","jobId":"task-43"}"#,
        )
        .unwrap();
        assert_eq!(spec.task_id.get(), 43);
        assert_eq!(spec.email, "user@example.com");
        assert_eq!(spec.course_url.as_str(), "https://learn.example.com/course/intro/");
    }

    #[test]
    fn knows_when_it_was_enqueued_if_its_producer_says_so() {
        let at = |text: &str| Element(text.as_bytes().to_vec()).enqueued_at();
        let written = at(r#"{"timestamp":"2026-01-13T02:00:00.000Z"}"#).unwrap();
        assert_eq!(written.as_second(), 1_768_269_600);
        for without in [r#"{"timestamp":"yesterday"}"#, r#"{"timestamp":7}"#, "{}", "[]", "", "an-rq-id"] {
            assert_eq!(at(without), None, "{without}");
        }
    }

    #[test]
    fn accepts_digits_and_unknown_fields() {
        let spec = parse(r#"{"taskId":"7","email":"a@b","courseUrl":"http://h/c","x":{"y":[1]}}"#).unwrap();
        assert_eq!(spec.task_id.get(), 7);
    }

    #[test]
    fn what_is_wrong_is_said_without_control_characters() {
        let failure = parse("{\"taskId\":\"9\u{7f}2\u{9b}31m\"}").unwrap_err();
        assert_eq!(failure.message, "taskId is not a positive integer: \"9231m\"");
    }

    #[test]
    fn names_the_field_that_is_wrong() {
        for (text, says) in [
            ("", "not JSON"),
            ("{", "not JSON"),
            ("[]", "not a JSON object"),
            (r#"{"email":"a","courseUrl":"http://h/"}"#, "taskId is missing"),
            (r#"{"taskId":0,"email":"a","courseUrl":"http://h/"}"#, "positive integer"),
            (r#"{"taskId":-1,"email":"a","courseUrl":"http://h/"}"#, "positive integer"),
            (r#"{"taskId":9223372036854775808,"email":"a","courseUrl":"http://h/"}"#, "positive integer"),
            (r#"{"taskId":1.5,"email":"a","courseUrl":"http://h/"}"#, "positive integer"),
            (r#"{"taskId":"4x","email":"a","courseUrl":"http://h/"}"#, "positive integer"),
            (r#"{"taskId":1,"courseUrl":"http://h/"}"#, "email is missing"),
            (r#"{"taskId":1,"email":7,"courseUrl":"http://h/"}"#, "email is not a text"),
            (r#"{"taskId":1,"email":"a"}"#, "courseUrl is missing"),
            (r#"{"taskId":1,"email":"a","courseUrl":"ftp://h/"}"#, "courseUrl"),
            (r#"{"taskId":1,"email":"a","courseUrl":"nonsense"}"#, "courseUrl"),
        ] {
            let failure = parse(text).unwrap_err();
            assert_eq!(failure.kind, FailureKind::MalformedJob);
            assert!(failure.message.contains(says), "{text}: {}", failure.message);
        }
    }

    #[test]
    fn writes_what_it_reads() {
        let spec = parse(r#"{"taskId":7,"email":"a@b","courseUrl":"http://h/c"}"#).unwrap();
        let element = spec.to_element("2026-01-13T02:00:00Z".parse().unwrap());
        assert_eq!(
            String::from_utf8_lossy(&element.0),
            r#"{"taskId":7,"email":"a@b","courseUrl":"http://h/c","timestamp":"2026-01-13T02:00:00.000Z","jobId":"task-7"}"#
        );
        assert_eq!(JobSpec::parse(&element).unwrap(), spec);
    }
}
