//! The course URL is a playlist: a course of one lecture.

use std::sync::Arc;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use url::Url;

use super::course::{Course, Lecture, Section, Stream, StreamKind};
use super::{json, with_retries};
use crate::failure::{Failure, FailureKind, Result};
use crate::http::{CookieJar, MediaClient, RequestHeaders, shown};

/// The content types of playlists (RFC 8216 §4, and two that are older).
const CONTENT_TYPES: [&str; 4] =
    ["application/vnd.apple.mpegurl", "application/x-mpegurl", "audio/mpegurl", "audio/x-mpegurl"];
/// File names that say nothing about what is in the stream.
const GENERIC: [&str; 12] = [
    "master",
    "index",
    "playlist",
    "manifest",
    "main",
    "chunklist",
    "prog_index",
    "stream",
    "video",
    "media",
    "hls",
    "output",
];

pub struct Direct {
    pub client: MediaClient,
}

/// Whether a URL is a playlist by its path alone.
pub fn is_playlist_path(url: &Url) -> bool {
    url.path().to_ascii_lowercase().ends_with(".m3u8")
}

impl Direct {
    /// A course of one lecture. A URL that does not end in `.m3u8` is asked for its content type.
    ///
    /// # Errors
    /// [`FailureKind::PlaylistInvalid`] when it is not a playlist, or what the request met.
    pub async fn resolve(&self, course_url: &Url, cookies: &Arc<CookieJar>) -> Result<Course> {
        if !is_playlist_path(course_url) {
            with_retries(|| self.check_content_type(course_url, cookies)).await?;
        }
        let title = title(course_url);
        let stream = Stream { url: course_url.clone(), kind: StreamKind::Hls, headers: Vec::new() };
        let lecture = Lecture { title: title.clone(), stream: Some(stream), captions: vec![], assets: vec![] };
        Ok(Course { title: title.clone(), sections: vec![Section { title, lectures: vec![lecture] }] })
    }

    /// Reads only the head of the answer: dropping the response closes the connection.
    async fn check_content_type(&self, url: &Url, cookies: &Arc<CookieJar>) -> Result<()> {
        let headers = RequestHeaders::new(url, &[], cookies.clone())?;
        let accept = HeaderValue::try_from(CONTENT_TYPES.join(", ") + ", */*;q=0.1");
        // cannot fail: each is a constant
        let accept: HeaderMap = accept.into_iter().map(|accept| (ACCEPT, accept)).collect();
        let response = self.client.get(url, &headers, &accept).await?;
        if !response.status.is_success() {
            return Err(response.refusal(&headers));
        }
        let content_type = response.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("none");
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if CONTENT_TYPES.contains(&essence.as_str()) {
            return Ok(());
        }
        let shown_type: String = essence.chars().take(80).collect();
        let reason = format!("{}: not an HLS playlist (content type {shown_type:?})", shown(url));
        Err(Failure::new(FailureKind::PlaylistInvalid, reason))
    }
}

/// A title that a person can read: the file's name, or its folder's when the file's says nothing.
fn title(url: &Url) -> String {
    let parts: Vec<&str> = url.path_segments().into_iter().flatten().filter(|part| !part.is_empty()).collect();
    let readable = |part: &str| {
        let text = percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned();
        let is_playlist = text.to_ascii_lowercase().ends_with(".m3u8");
        let text = if is_playlist { &text[..text.len() - ".m3u8".len()] } else { &text };
        if GENERIC.contains(&text.to_ascii_lowercase().as_str()) {
            return None;
        }
        let words: Vec<&str> = text.split(|c: char| c == '-' || c == '_' || c.is_whitespace()).collect();
        let title = json::title(&words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "));
        (!title.is_empty()).then_some(title)
    };
    let title = parts.iter().rev().take(2).find_map(|part| readable(part));
    title.or_else(|| url.host_str().map(str::to_owned)).unwrap_or_else(|| "Course".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_readable() {
        for (url, expected) in [
            ("https://h.example/intro-to_rust.m3u8?t=1", "intro to rust"),
            ("https://h.example/courses/Intro%20to%20Rust/master.m3u8", "Intro to Rust"),
            ("https://h.example/loops/INDEX.M3U8", "loops"),
            ("https://h.example/master.m3u8", "h.example"),
            ("https://h.example/play/42/", "42"),
            ("https://h.example/", "h.example"),
            ("https://h.example/%FF%2F..m3u8", "\u{fffd}/."),
        ] {
            assert_eq!(title(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
