//! Links that have expired: the course is resolved once more, for all of its lectures.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;
use url::Url;

use crate::failure::{Context, Failure, FailureKind, Result};
use crate::hls::{Renewal, StreamRequest};
use crate::http::{CookieJar, RequestHeaders};
use crate::resolver::{Course, Resolver, Stream};

/// The links of a course as they were last seen.
pub struct Links {
    pub resolver: Arc<Resolver>,
    pub course_url: Url,
    /// The job's own.
    pub cookies: Arc<CookieJar>,
    pub latest: Mutex<Course>,
}

/// One lecture among them.
pub struct LectureLink {
    pub links: Arc<Links>,
    /// Index of its section.
    pub section: usize,
    /// Index in its section.
    pub lecture: usize,
    /// The title: what stands at the same place under another title is another lecture.
    pub title: String,
}

impl LectureLink {
    fn stream<'a>(&self, course: &'a Course) -> Option<&'a Stream> {
        let lecture = course.sections.get(self.section)?.lectures.get(self.lecture)?;
        lecture.stream.as_ref().filter(|_| lecture.title == self.title)
    }
}

#[async_trait]
impl Renewal for LectureLink {
    async fn renew(&self, expired: &StreamRequest) -> Result<StreamRequest> {
        let links = &self.links;
        // Whoever comes second finds what the first has asked for.
        let mut latest = links.latest.lock().await;
        if self.stream(&latest).is_none_or(|stream| stream.url == expired.url) {
            *latest = links.resolver.resolve(&links.course_url, &links.cookies).await.at(|| "asking for new links")?;
        }
        let gone = |reason: &str| Failure::new(FailureKind::LinkExpired, reason);
        let stream =
            self.stream(&latest).ok_or_else(|| gone("the course has changed: the lecture is not where it was"))?;
        if stream.url == expired.url {
            return Err(gone("the course has no new link for it"));
        }
        let headers = RequestHeaders::new(&stream.url, &stream.headers, links.cookies.clone())?;
        Ok(StreamRequest { url: stream.url.clone(), headers, ..expired.clone() })
    }
}
