//! The dead list: elements that are given up, verbatim, with the reason.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::look::course_url;
use super::record::{Event, Record};
use crate::failure::Failure;
use crate::job::{Element, TaskId};

/// One entry of the dead list. Exactly one of `element` and `element_base64` is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadEnvelope {
    /// The element as its producer wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub element: Option<String>,
    /// The same in base64, when it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub element_base64: Option<String>,
    /// The task, when the element names one.
    pub task_id: Option<TaskId>,
    /// [`FailureKind::name`](crate::failure::FailureKind::name).
    pub kind: String,
    /// What happened, for the operator.
    pub message: String,
    /// Attempts that were made.
    pub attempts: u32,
    /// What happened to the element before, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Event>,
    /// When it was given up.
    pub failed_at: Timestamp,
    /// The instance that gave it up.
    pub instance: String,
}

impl DeadEnvelope {
    pub(super) fn new(element: &Element, failure: &Failure, record: &Record, instance: &str) -> DeadEnvelope {
        let text = std::str::from_utf8(&element.0).ok();
        DeadEnvelope {
            element: text.map(str::to_owned),
            element_base64: text.is_none().then(|| STANDARD.encode(&element.0)),
            task_id: crate::job::JobSpec::task_id_of(element),
            kind: failure.kind.name().to_owned(),
            message: failure.message.clone(),
            attempts: record.attempts,
            history: record.history.clone(),
            failed_at: Timestamp::now(),
            instance: instance.to_owned(),
        }
    }

    pub(super) fn to_json(&self) -> String {
        // cannot fail: strings and numbers only, no map with other keys
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads an entry. One that is not ours (pushed by hand) is shown as it is.
    pub(super) fn from_entry(entry: &[u8]) -> DeadEnvelope {
        serde_json::from_slice(entry).unwrap_or_else(|error| {
            let failure = Failure::new(
                crate::failure::FailureKind::MalformedJob,
                format!("this entry of the dead list is not an envelope: {error}"),
            );
            DeadEnvelope::new(&Element(entry.to_vec()), &failure, &Record::default(), "")
        })
    }

    /// The course it asks for, without credentials and query; `None` when it asks for none.
    pub fn course_url(&self) -> Option<String> {
        self.element().as_ref().and_then(course_url)
    }

    /// The element, byte for byte. `None` when the envelope's base64 was damaged.
    pub fn element(&self) -> Option<Element> {
        match (&self.element, &self.element_base64) {
            (Some(text), _) => Some(Element(text.clone().into_bytes())),
            (None, Some(base64)) => STANDARD.decode(base64).ok().map(Element),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureKind;

    #[test]
    fn an_element_survives_the_envelope_byte_for_byte() {
        let failure = Failure::new(FailureKind::MalformedJob, "no \"json\"");
        let mut record = Record::default();
        record.failed("h-0-1-aa", &failure);
        for bytes in [&b"{ \"taskId\" : 7,\t\"x\":\"\\u00e9\xc3\xa9\" }\r\n"[..], b"\xff\x00\xfe", b"", b"\0"] {
            let element = Element(bytes.to_vec());
            let envelope = DeadEnvelope::new(&element, &failure, &record, "h-0-1-aa");
            let read = DeadEnvelope::from_entry(envelope.to_json().as_bytes());
            assert_eq!(read, envelope);
            assert_eq!(read.element(), Some(element));
        }
        let envelope = DeadEnvelope::new(&Element(b"{\"taskId\":7}".to_vec()), &failure, &record, "i");
        assert_eq!(envelope.task_id, TaskId::new(7));
    }

    #[test]
    fn an_entry_that_is_no_envelope_is_shown_as_it_is() {
        let read = DeadEnvelope::from_entry(b"by hand");
        assert_eq!((read.element.as_deref(), read.kind.as_str()), (Some("by hand"), "malformed_job"));
    }
}
