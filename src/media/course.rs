//! A whole course to one folder: every lecture with its captions and assets, in order.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::file::{FileFetch, FileLimits};
use super::lecture::{StreamDownload, Target};
use super::links::{LectureLink, Links};
use super::names::{self, LecturePaths};
use crate::config::FileSettings;
use crate::disk::{beside, blocking, no_links};
use crate::failure::{Context, Failure, Result};
use crate::hls::{JobAllowance, Renewal, StreamRequest, language_tag};
use crate::http::{CookieJar, MediaClient, RequestHeaders};
use crate::metrics::Metrics;
use crate::progress::Progress;
use crate::resolver::{Course, Lecture, Resolver, Stream, StreamKind};
use crate::traces;

/// A downloaded course.
#[derive(Debug)]
pub struct CourseFolder {
    /// The folder in the sandbox.
    pub name: String,
    /// Every file of the course, with the sandbox in front. There may be others in the folder: of an
    /// earlier attempt, when the course has changed since.
    pub files: HashSet<PathBuf>,
}

/// A course that is wanted.
pub struct CourseRequest<'a> {
    pub course: &'a Course,
    /// What it was resolved from.
    pub url: &'a Url,
    /// The job's own.
    pub cookies: &'a Arc<CookieJar>,
    /// Told of each lecture that is there.
    pub finished: &'a (dyn Fn(FinishedLecture<'_>) + Send + Sync),
}

/// A lecture with all that belongs to it.
pub struct FinishedLecture<'a> {
    /// From 1, over all sections.
    pub number: u64,
    /// Of the whole course.
    pub lectures: u64,
    pub title: &'a str,
    pub took: Duration,
}

/// Downloads courses.
pub struct CourseDownload {
    pub streams: StreamDownload,
    /// For captions, assets and streams that are plain files.
    pub client: MediaClient,
    pub files: FileSettings,
    /// Who is asked for new links.
    pub resolver: Arc<Resolver>,
    pub metrics: Arc<Metrics>,
}

/// One run over a course.
struct Run<'a> {
    download: &'a CourseDownload,
    links: Arc<Links>,
    allowance: Arc<JobAllowance>,
    progress: &'a Arc<Progress>,
    cancel: &'a CancellationToken,
}

impl CourseDownload {
    /// Downloads a course into `<sandbox>/<course folder>`. What is there from an earlier attempt is not
    /// fetched again.
    ///
    /// # Errors
    /// The first failure, with the lecture in front of it. What is finished stays.
    pub async fn run(
        &self,
        request: &CourseRequest<'_>,
        sandbox: &Path,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Result<CourseFolder> {
        let CourseRequest { course, url, cookies, finished } = request;
        let plan = names::plan(course);
        let links = Arc::new(Links {
            resolver: self.resolver.clone(),
            course_url: (*url).clone(),
            cookies: Arc::clone(cookies),
            latest: Mutex::new((*course).clone()),
        });
        let run = Run { download: self, links, allowance: self.streams.engine.job_allowance(), progress, cancel };
        let mut files = HashSet::new();
        progress.set_course(&course.title, plan.len() as u64);
        progress.set_items(plan.iter().map(|paths| item_count(lecture(course, paths))).sum());
        for (number, paths) in (1..).zip(&plan) {
            let lecture = lecture(course, paths);
            let started = Instant::now();
            progress.start_lecture();
            let span = traces::span!("lecture", title = lecture.title);
            // Boxed: without optimisation every function on the way to it has it on the stack.
            let downloaded = traces::within(span, Box::pin(run.lecture(lecture, paths, sandbox))).await;
            files.extend(downloaded.at(|| format!("lecture {:?}", lecture.title))?);
            let took = started.elapsed();
            self.metrics.lecture_seconds.observe(took.as_secs_f64());
            tracing::info!(
                lecture = %paths.stem.display(),
                elapsed_seconds = took.as_secs_f64(),
                "DOWNLOAD lecture finished"
            );
            finished(FinishedLecture { number, lectures: plan.len() as u64, title: &lecture.title, took });
        }
        Ok(CourseFolder { name: names::course_folder(&course.title), files })
    }
}

impl Run<'_> {
    /// Downloads everything of a lecture and returns its files.
    async fn lecture(&self, lecture: &Lecture, paths: &LecturePaths, sandbox: &Path) -> Result<Vec<PathBuf>> {
        let directory = sandbox.join(&paths.directory);
        blocking(move || {
            let created = no_links::create_directories(&directory);
            created.map_err(|error| Failure::disk(format_args!("creating {}", directory.display()), error))
        })
        .await?;
        let mut files: Vec<PathBuf> =
            paths.captions.iter().chain(&paths.assets).map(|path| sandbox.join(path)).collect();
        if let Some(stream) = &lecture.stream {
            self.progress.start_item(&file_name(&paths.media("mp4")));
            let link = LectureLink {
                links: self.links.clone(),
                section: paths.section,
                lecture: paths.lecture,
                title: lecture.title.clone(),
            };
            let captions = lecture.captions.iter().map(|caption| language_tag(&caption.language)).collect();
            files.extend(self.stream(stream, captions, link, &sandbox.join(&paths.stem)).await?);
            self.progress.finish_item();
        }
        for (caption, path) in lecture.captions.iter().zip(&paths.captions) {
            let what = || format!("the {} captions", caption.language);
            self.file(&caption.url, &sandbox.join(path), FileLimits::of_caption(&self.download.files))
                .await
                .at(what)?;
        }
        for (asset, path) in lecture.assets.iter().zip(&paths.assets) {
            let what = || format!("the asset {:?}", asset.name);
            self.file(&asset.url, &sandbox.join(path), FileLimits::of_asset(&self.download.files)).await.at(what)?;
        }
        Ok(files)
    }

    /// Downloads a stream with its subtitles, but for those in the languages of `captions`.
    async fn stream(
        &self,
        stream: &Stream,
        captions: Vec<String>,
        link: LectureLink,
        stem: &Path,
    ) -> Result<Vec<PathBuf>> {
        let headers = RequestHeaders::new(&stream.url, &stream.headers, self.links.cookies.clone())?;
        match stream.kind {
            StreamKind::Hls => {
                let allowance = self.allowance.clone();
                let renewal = Some(Arc::new(link) as Arc<dyn Renewal>);
                let request = StreamRequest { url: stream.url.clone(), headers, allowance, renewal, captions };
                let target = Target::Stem(stem.to_owned());
                let finished = self.download.streams.run(&request, &target, self.progress, self.cancel).await?;
                Ok(std::iter::once(finished.path).chain(finished.audio).chain(finished.subtitles).collect())
            }
            StreamKind::File => {
                let path = beside(stem, &format!(".{}", extension(&stream.url)));
                self.fetch(&stream.url, &headers, &path, FileLimits::of_lecture(&self.download.files)).await?;
                Ok(vec![path])
            }
        }
    }

    /// A caption or an asset: one item of the progress.
    async fn file(&self, url: &Url, path: &Path, limits: FileLimits) -> Result<()> {
        self.progress.start_item(&file_name(path));
        let headers = RequestHeaders::new(url, &[], self.links.cookies.clone())?;
        self.fetch(url, &headers, path, limits).await?;
        self.progress.finish_item();
        Ok(())
    }

    async fn fetch(&self, url: &Url, headers: &RequestHeaders, path: &Path, limits: FileLimits) -> Result<()> {
        let fetch = FileFetch {
            client: &self.download.client,
            headers,
            limits,
            allowance: &self.allowance,
            progress: self.progress,
            metrics: &self.download.metrics,
            cancel: self.cancel,
        };
        fetch.fetch(url, path).await?;
        Ok(())
    }
}

fn lecture<'a>(course: &'a Course, paths: &LecturePaths) -> &'a Lecture {
    &course.sections[paths.section].lectures[paths.lecture]
}

/// The extension of a file's URL where it is one, not just what stands behind a dot.
fn extension(url: &Url) -> String {
    let found = Path::new(url.path()).extension().and_then(|text| text.to_str()).unwrap_or_default();
    let is_one = (2..=4).contains(&found.len()) && found.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_one { found.to_ascii_lowercase() } else { "mp4".into() }
}

/// Files that a lecture comes to.
fn item_count(lecture: &Lecture) -> u64 {
    (usize::from(lecture.stream.is_some()) + lecture.captions.len() + lecture.assets.len()) as u64
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_is_short_and_plain() {
        for (url, expected) in [
            ("https://h/a/Film.MP4?sig=x.y", "mp4"),
            ("https://h/a/film.webm", "webm"),
            ("https://h/a.b/film", "mp4"),
            ("https://h/a/film.mp4;jsessionid=1", "mp4"),
            ("https://h/a/Part%201.%20The%20whole%20long%20story", "mp4"),
        ] {
            assert_eq!(extension(&Url::parse(url).unwrap()), expected, "{url}");
        }
        let long = Url::parse(&format!("https://h/a.{}", "x".repeat(300))).unwrap();
        assert_eq!(extension(&long), "mp4");
    }
}
