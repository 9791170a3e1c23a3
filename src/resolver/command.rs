//! A program of the operator's that prints what a course consists of.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::course::Course;
use super::{info_json, manifest};
use crate::child::{self, Program};
use crate::config::{ManifestLimits, ResolverSettings};
use crate::failure::{Context, Failure, FailureKind, Result};
use crate::http::shown;

pub struct CommandResolver {
    program: PathBuf,
    arguments: Vec<OsString>,
    timeout: Duration,
    max_memory: u64,
    limits: ManifestLimits,
}

impl CommandResolver {
    /// `None` without a program.
    pub fn new(settings: &ResolverSettings) -> Option<CommandResolver> {
        let (program, arguments) = settings.command.split_first()?;
        Some(CommandResolver {
            program: program.into(),
            arguments: arguments.iter().map(OsString::from).collect(),
            timeout: settings.timeout,
            max_memory: settings.max_memory_bytes,
            limits: settings.limits,
        })
    }

    /// Runs the program with the course URL as its last argument and reads a manifest or the info
    /// JSON of yt-dlp from its output.
    ///
    /// # Errors
    /// [`FailureKind::ResolverFailed`] with the program's last words when it fails or takes too
    /// long, else as the document says.
    pub async fn resolve(&self, course_url: &Url) -> Result<Course> {
        let failed = |reason: String| Failure::new(FailureKind::ResolverFailed, reason);
        // A URL that has passed `check_url` begins with http: and cannot be taken for an option.
        let arguments: Vec<OsString> = self.arguments.iter().cloned().chain([course_url.as_str().into()]).collect();
        // Dropping the future kills the program; nothing else cancels it.
        let cancel = CancellationToken::new();
        let run = Program {
            path: &self.program,
            arguments: &arguments,
            environment: &[],
            limit: self.timeout,
            max_output: self.limits.max_bytes,
            max_memory: self.max_memory,
        };
        let output = child::run_watched(run, &cancel, |_| {})
            .await
            .map_err(|error| Failure::new(error.kind(FailureKind::ResolverFailed), error.to_string()))?;
        let program = self.program.display();
        if !output.status.success() {
            let words = without_queries(&output.last_words());
            return Err(failed(format!("{program} ended with {}: {words}", output.status)));
        }
        let document: Value = serde_json::from_slice(&output.stdout).map_err(|error| {
            Failure::new(FailureKind::ManifestInvalid, format!("{program} printed something that is not JSON: {error}"))
        })?;
        let course = match is_info_json(&document) {
            true => info_json::course(&document, &self.limits),
            false => manifest::course(&document, &self.limits),
        };
        course.at(|| format!("the output of {program}"))
    }
}

/// Only info JSON has one of these at its top, and only a manifest has `sections`.
fn is_info_json(document: &Value) -> bool {
    let has = |name| document.get(name).is_some();
    !has("sections") && ["_type", "entries", "formats", "extractor", "manifest_url"].into_iter().any(has)
}

/// Takes credentials out of the URLs in a program's last words.
fn without_queries(text: &str) -> String {
    let word = |word: &str| {
        let start = word.find("http://").or_else(|| word.find("https://"))?;
        let url = Url::parse(word[start..].trim_end_matches(['\'', '"', ')', ',', ';', ':'])).ok()?;
        Some(format!("{}{}", &word[..start], shown(&url)))
    };
    let words: Vec<String> = text.split(' ').map(|text| word(text).unwrap_or_else(|| text.to_owned())).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_hold_no_credentials() {
        assert_eq!(
            without_queries("ERROR: (url='https://u:p@h.example/c?token=SECRET') failed: 403"),
            "ERROR: (url='https://h.example/c?… failed: 403"
        );
    }
}
