//! Course URL in, [`Course`] out.
//!
//! * `direct`: the URL is a playlist itself
//! * `catalog`: the operator's catalogue is asked over HTTP
//! * `command`: a program of the operator's is run
//!
//! and the two documents that catalogue and command answer with: `manifest` (ours) and
//! `info_json` (what `yt-dlp -J` prints), both read through `json`.

mod catalog;
mod command;
mod course;
mod direct;
pub(crate) mod info_json;
mod json;
pub(crate) mod manifest;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::config::{HttpSettings, ResolverKind, ResolverSettings};
use crate::failure::{Context, Failure, FailureKind, Result};
use crate::http::{self, CookieJar, MediaClient, shown};
use crate::logins::Login;

pub use course::{Asset, Caption, Course, Lecture, Section, Stream, StreamKind};

use catalog::Catalog;
use command::CommandResolver;
use direct::Direct;

/// Attempts at one request, within the resolver's time limit.
const REQUEST_ATTEMPTS: u32 = 3;

/// Finds out what a course consists of, in the way that is configured.
pub struct Resolver {
    kind: ResolverKind,
    direct: Direct,
    catalog: Option<Catalog>,
    command: Option<CommandResolver>,
    timeout: Duration,
    max_title_characters: usize,
}

impl Resolver {
    /// Builds the resolver, which shows `login` to the catalogue. Asks nobody yet.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(settings: &ResolverSettings, http: &HttpSettings, login: Arc<Login>) -> Result<Resolver> {
        let client = MediaClient::new(http)?;
        let catalog = settings.catalog_endpoint.clone();
        let catalog =
            catalog.map(|endpoint| Catalog { client: client.clone(), endpoint, login, limits: settings.limits });
        Ok(Resolver {
            kind: settings.kind,
            direct: Direct { client },
            catalog,
            command: CommandResolver::new(settings),
            timeout: settings.timeout,
            max_title_characters: settings.limits.max_title_characters,
        })
    }

    /// Resolves a course for the job that has these cookies. May be asked again for the same course:
    /// signed URLs expire.
    ///
    /// # Errors
    /// The failure names the course URL; its kind says whether another attempt can help. Dropping
    /// the future stops the request or kills the command.
    pub async fn resolve(&self, course_url: &Url, cookies: &Arc<CookieJar>) -> Result<Course> {
        http::check_url(course_url)?;
        let kind = match self.kind {
            ResolverKind::Auto if direct::is_playlist_path(course_url) => ResolverKind::Direct,
            ResolverKind::Auto if self.catalog.is_some() => ResolverKind::Catalog,
            ResolverKind::Auto if self.command.is_some() => ResolverKind::Command,
            ResolverKind::Auto => ResolverKind::Direct,
            configured => configured,
        };
        let missing = |setting: &str| Failure::new(FailureKind::Internal, format!("{setting} is not configured"));
        let course = match kind {
            ResolverKind::Catalog => {
                let catalog = self.catalog.as_ref().ok_or_else(|| missing("resolver.catalog_endpoint"))?;
                self.within(FailureKind::CatalogUnavailable, catalog.resolve(course_url, cookies)).await
            }
            ResolverKind::Command => {
                let command = self.command.as_ref().ok_or_else(|| missing("resolver.command"))?;
                command.resolve(course_url).await
            }
            ResolverKind::Auto | ResolverKind::Direct => {
                self.within(FailureKind::TimedOut, self.direct.resolve(course_url, cookies)).await
            }
        };
        let mut course = course.at(|| format!("resolving {}", shown(course_url)))?;
        course.cut_titles(self.max_title_characters);
        Ok(course)
    }

    async fn within(&self, kind: FailureKind, work: impl Future<Output = Result<Course>>) -> Result<Course> {
        let late = |_| Failure::new(kind, format!("no answer within {} s", self.timeout.as_secs_f64()));
        tokio::time::timeout(self.timeout, work).await.map_err(late)?
    }
}

/// Runs a request again while its failure says that this may help.
async fn with_retries<T, F: Future<Output = Result<T>>>(request: impl Fn() -> F) -> Result<T> {
    let mut attempt = 1;
    loop {
        match request().await {
            Err(failure) if attempt < failure.kind.request_attempts(REQUEST_ATTEMPTS) => {
                tokio::time::sleep(http::pause(attempt, failure.retry_after)).await;
                attempt += 1;
            }
            done => return done,
        }
    }
}
