//! The operator's catalogue: `GET <endpoint>?url=<course URL>` answers a manifest.

use std::sync::Arc;

use reqwest::StatusCode;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use serde_json::Value;
use url::Url;

use super::course::Course;
use super::{manifest, with_retries};
use crate::config::ManifestLimits;
use crate::failure::{Context, Failure, FailureKind, Result};
use crate::http::{Bearer, CookieJar, MediaClient, MediaResponse, RequestHeaders, is_html, rejected, shown};
use crate::logins::Login;

pub struct Catalog {
    pub client: MediaClient,
    pub endpoint: Url,
    pub login: Arc<Login>,
    pub limits: ManifestLimits,
}

impl Catalog {
    /// Asks for a course, again if it seems worth it; the caller bounds the time.
    ///
    /// # Errors
    /// [`FailureKind::CourseNotFound`], [`FailureKind::CatalogRefused`],
    /// [`FailureKind::CatalogUnavailable`], [`FailureKind::ManifestInvalid`],
    /// [`FailureKind::CourseEmpty`], or what else the request met.
    pub async fn resolve(&self, course_url: &Url, cookies: &Arc<CookieJar>) -> Result<Course> {
        let mut url = self.endpoint.clone();
        url.query_pairs_mut().append_pair("url", course_url.as_str());
        let body = with_retries(|| self.ask(&url, cookies)).await.at(|| "the catalogue")?;
        let document: Value = serde_json::from_slice(&body).map_err(|error| {
            let reason = format!("the catalogue: {}: the answer is not JSON: {error}", shown(&url));
            Failure::new(FailureKind::ManifestInvalid, reason)
        })?;
        manifest::course(&document, &self.limits).at(|| format!("the catalogue: {}", shown(&url)))
    }

    async fn ask(&self, url: &Url, cookies: &Arc<CookieJar>) -> Result<Vec<u8>> {
        let headers = RequestHeaders::new(url, &[], cookies.clone())?;
        let headers = headers.with_authorization(self.login.token.as_ref().map(Bearer::header));
        let accept: HeaderMap = [(ACCEPT, HeaderValue::from_static("application/json"))].into_iter().collect();
        let response = self.client.get(url, &headers, &accept).await.map_err(unavailable)?;
        self.judge(url, &response, &headers)?;
        response.read_body(self.limits.max_bytes).await.map_err(unavailable)
    }

    fn judge(&self, url: &Url, response: &MediaResponse, headers: &RequestHeaders) -> Result<()> {
        let status = response.status;
        // The token goes to the origin of the endpoint alone, wherever that redirects.
        let shown_at_the_end = match response.url.origin() == url.origin() {
            true => self.login.shown_to(&response.url),
            false => headers.login_for(&response.url).map(|cookies| cookies.to_string()),
        };
        if let (StatusCode::UNAUTHORIZED, Some(login)) = (status, shown_at_the_end) {
            return Err(rejected(url, format_args!("the server answered {status}"), login));
        }
        let mut failure = response.refusal(headers);
        failure.kind = match status.as_u16() {
            404 | 410 => FailureKind::CourseNotFound,
            401 | 403 => FailureKind::CatalogRefused,
            429 | 500..=599 => FailureKind::CatalogUnavailable,
            _ => failure.kind,
        };
        if status != StatusCode::OK {
            return Err(failure);
        }
        if !is_html(&response.headers) {
            return Ok(());
        }
        // A catalogue answers no pages: one that wants a new login sends a browser to its login page.
        if response.was_redirected() {
            let answer = format!("redirected to the page {}", shown(&response.url));
            return Err(match self.login.shown_to(url) {
                Some(login) => rejected(url, answer, login),
                None => Failure::new(FailureKind::CatalogRefused, format!("{}: {answer}", shown(url))),
            });
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
