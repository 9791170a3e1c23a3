//! The operator's catalogue: `GET <endpoint>?url=<course URL>` answers a manifest.

use std::sync::Arc;

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;
use url::Url;

use super::course::Course;
use super::{MAX_DOCUMENT_BYTES, manifest, with_retries};
use crate::failure::{Context, Failure, FailureKind, Result};
use crate::http::{read_body, request_failure, shown, status_failure};
use crate::logins::Login;

pub struct Catalog {
    pub client: Client,
    pub endpoint: Url,
    pub login: Arc<Login>,
}

impl Catalog {
    /// Asks for a course, again if it seems worth it; the caller bounds the time.
    ///
    /// # Errors
    /// [`FailureKind::CourseNotFound`], [`FailureKind::CatalogRefused`],
    /// [`FailureKind::CatalogUnavailable`], [`FailureKind::ManifestInvalid`],
    /// [`FailureKind::CourseEmpty`], or what else the request met.
    pub async fn resolve(&self, course_url: &Url) -> Result<Course> {
        let mut url = self.endpoint.clone();
        url.query_pairs_mut().append_pair("url", course_url.as_str());
        let body = with_retries(|| self.ask(&url)).await.at(|| "the catalogue")?;
        let document: Value = serde_json::from_slice(&body).map_err(|error| {
            let reason = format!("the catalogue: {}: the answer is not JSON: {error}", shown(&url));
            Failure::new(FailureKind::ManifestInvalid, reason)
        })?;
        manifest::course(&document).at(|| format!("the catalogue: {}", shown(&url)))
    }

    async fn ask(&self, url: &Url) -> Result<Vec<u8>> {
        let request =
            self.client.get(url.clone()).header(ACCEPT, "application/json").headers(self.login.headers_for(url));
        let response = request.send().await.map_err(|error| unavailable(request_failure(url, &error)))?;
        self.judge(url, &response)?;
        read_body(response, MAX_DOCUMENT_BYTES).await.map_err(unavailable)
    }

    fn judge(&self, url: &Url, response: &Response) -> Result<()> {
        let status = response.status();
        let mut failure = status_failure(url, status, response.headers());
        failure.kind = match status.as_u16() {
            404 | 410 => FailureKind::CourseNotFound,
            401 | 403 => FailureKind::CatalogRefused,
            429 | 500..=599 => FailureKind::CatalogUnavailable,
            _ => failure.kind,
        };
        if status != StatusCode::OK {
            return Err(failure);
        }
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        if !content_type.trim_start().to_ascii_lowercase().starts_with("text/html") {
            return Ok(());
        }
        // A catalogue that wants a new login sends a browser to its login page.
        if response.url() != url {
            let reason = format!("{}: redirected to the page {}", shown(url), shown(response.url()));
            return Err(Failure::new(FailureKind::CatalogRefused, reason));
        }
        let reason = format!("{}: answered an HTML page in place of a manifest", shown(url));
        Err(Failure::new(FailureKind::ManifestInvalid, reason))
    }
}

/// Trouble on the way is the catalogue's: the operator should look at its server, not at a media host.
fn unavailable(mut failure: Failure) -> Failure {
    if matches!(failure.kind, FailureKind::ConnectionFailed | FailureKind::TimedOut | FailureKind::BodyTruncated) {
        failure.kind = FailureKind::CatalogUnavailable;
    }
    failure
}
