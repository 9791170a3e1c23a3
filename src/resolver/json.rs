//! A JSON value that knows its path, so that every error can say where it is.

use reqwest::header::{HeaderName, HeaderValue};
use serde_json::Value;
use url::Url;

use crate::failure::{Failure, FailureKind, Result};

/// One value of a document and the way to it (`sections[0].lectures[2].title`).
#[derive(Clone)]
pub struct Node<'a> {
    pub value: &'a Value,
    path: String,
}

impl<'a> Node<'a> {
    /// The whole document.
    pub fn root(value: &'a Value) -> Self {
        Node { value, path: String::new() }
    }

    /// `manifest_invalid` with the path in front.
    pub fn error(&self, reason: impl std::fmt::Display) -> Failure {
        let text = if self.path.is_empty() { reason.to_string() } else { format!("{}: {reason}", self.path) };
        Failure::new(FailureKind::ManifestInvalid, text)
    }

    /// A member; `None` when it is missing or null.
    pub fn get(&self, name: &str) -> Option<Node<'a>> {
        let value = self.value.get(name).filter(|value| !value.is_null())?;
        Some(self.member(name, value))
    }

    /// A member that must be there.
    pub fn need(&self, name: &str) -> Result<Node<'a>> {
        self.get(name).ok_or_else(|| self.member(name, &Value::Null).error("is missing"))
    }

    fn member(&self, name: &str, value: &'a Value) -> Node<'a> {
        let dot = if self.path.is_empty() { "" } else { "." };
        Node { value, path: format!("{}{dot}{name}", self.path) }
    }

    /// Refuses anything but an object.
    pub fn object(&self) -> Result<()> {
        self.members().map(drop)
    }

    /// Name and value of each member of an object.
    pub fn members(&self) -> Result<impl Iterator<Item = (&'a str, Node<'a>)> + use<'a>> {
        let fields = self.value.as_object().ok_or_else(|| self.error("not an object"))?;
        let parent = self.clone();
        Ok(fields.iter().map(move |(name, value)| (name.as_str(), parent.member(name, value))))
    }

    /// Refuses anything but an array.
    pub fn array(&self) -> Result<impl Iterator<Item = Node<'a>> + use<'a>> {
        let items = self.value.as_array().ok_or_else(|| self.error("not an array"))?;
        let path = self.path.clone();
        Ok(items.iter().enumerate().map(move |(index, value)| Node { value, path: format!("{path}[{index}]") }))
    }

    /// The members of an array that may be missing.
    pub fn optional_array(&self, name: &str) -> Result<impl Iterator<Item = Node<'a>> + use<'a>> {
        let items = self.get(name).map(|node| node.array()).transpose()?;
        Ok(items.into_iter().flatten())
    }

    /// Refuses anything but a string.
    pub fn text(&self) -> Result<&'a str> {
        self.value.as_str().ok_or_else(|| self.error("not a text"))
    }

    /// A text that may be missing.
    pub fn optional_text(&self, name: &str) -> Result<Option<&'a str>> {
        self.get(name).map(|node| node.text()).transpose()
    }

    /// An http or https URL.
    pub fn url(&self) -> Result<Url> {
        crate::http::parse_url(self.text()?).map_err(|failure| self.error(failure.message))
    }

    /// Headers for a stream. Values may be secrets: errors name the header only.
    pub fn headers(&self) -> Result<Vec<(String, String)>> {
        let mut headers = Vec::new();
        for (name, value) in self.members()? {
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| value.error("not a header name"))?;
            let text = value.text()?;
            HeaderValue::from_str(text).map_err(|_| value.error("not a header value"))?;
            headers.push((name.to_owned(), text.to_owned()));
        }
        Ok(headers)
    }
}

/// A title as it is kept.
pub fn title(text: &str) -> String {
    text.trim().to_owned()
}

/// The last part of a URL's path, decoded; `None` when there is none.
pub fn file_name(url: &Url) -> Option<String> {
    let last = url.path_segments()?.rfind(|segment| !segment.is_empty())?;
    Some(percent_encoding::percent_decode_str(last).decode_utf8_lossy().into_owned())
}
