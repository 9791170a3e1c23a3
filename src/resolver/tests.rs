//! The three resolvers against real servers and real programs.

use std::path::PathBuf;
use std::sync::Mutex;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use secrecy::SecretString;

use super::*;
use crate::config::{BearerSettings, ManifestLimits};

const MANIFEST: &str =
    r#"{"title":"C","sections":[{"title":"S","lectures":[{"title":"L","assets":[{"url":"http://h/a"}]}]}]}"#;

type Handler = fn(attempt: usize) -> Response;
type Answering = Arc<dyn Fn(usize) -> Response + Send + Sync>;

/// What a server was asked: request line and the headers in question.
type Seen = Arc<Mutex<Vec<String>>>;

async fn serve(handler: impl Fn(usize) -> Response + Send + Sync + 'static) -> (Url, Seen) {
    let seen = Seen::default();
    let answering: Answering = Arc::new(handler);
    let state = (seen.clone(), answering);
    let app = Router::new().fallback(answer).with_state(state);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, seen)
}

async fn answer(State((seen, handler)): State<(Seen, Answering)>, request: Request) -> Response {
    if request.uri().path() == "/login" {
        return Html("<form>").into_response();
    }
    let header = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("-").to_owned();
    let line = format!("{} {} {}", request.uri(), header("authorization"), header("cookie"));
    let attempt = {
        let mut seen = seen.lock().unwrap();
        seen.push(line);
        seen.len()
    };
    handler(attempt)
}

fn settings(kind: ResolverKind) -> ResolverSettings {
    ResolverSettings {
        kind,
        catalog_endpoint: None,
        catalog_token: None,
        cookies_file: None,
        command: Vec::new(),
        timeout: Duration::from_secs(20),
        max_memory_bytes: crate::child::MAX_MEMORY,
        limits: ManifestLimits::default(),
    }
}

/// Resolves a course for a job of its own.
async fn resolve(settings: &ResolverSettings, course_url: &Url) -> Result<Course> {
    let token = ("resolver.catalog_token", settings.catalog_token.as_ref());
    let login = Arc::new(Login::open(token, settings.cookies_file.as_deref()).unwrap());
    let cookies = login.cookies.for_job();
    Resolver::new(settings, &HttpSettings::loopback(), login).unwrap().resolve(course_url, &cookies).await
}

fn course_url() -> Url {
    Url::parse("https://learn.example.com/course/intro/?a=b&c=d").unwrap()
}

async fn ask_catalog(handler: Handler) -> (Result<Course>, usize) {
    let (endpoint, seen) = serve(handler).await;
    let mut settings = settings(ResolverKind::Catalog);
    settings.catalog_endpoint = Some(endpoint);
    let result = resolve(&settings, &course_url()).await;
    let count = seen.lock().unwrap().len();
    (result, count)
}

#[tokio::test]
async fn the_catalogue_is_asked_with_the_course_url_and_credentials() {
    let (endpoint, seen) = serve(|_| MANIFEST.into_response()).await;
    let folder = tempfile::tempdir().unwrap();
    let cookies = folder.path().join("cookies.txt");
    std::fs::write(&cookies, "127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\tabc\n").unwrap();
    let mut settings = settings(ResolverKind::Auto);
    settings.catalog_endpoint = Some(endpoint.join("/api/course?tenant=7").unwrap());
    settings.catalog_token = Some(BearerSettings { token: SecretString::from("T0KEN"), file: None });
    settings.cookies_file = Some(cookies);
    let course = resolve(&settings, &course_url()).await.unwrap();
    assert_eq!(course.title, "C");
    assert_eq!(
        *seen.lock().unwrap(),
        [
            "/api/course?tenant=7&url=https%3A%2F%2Flearn.example.com%2Fcourse%2Fintro%2F%3Fa%3Db%26c%3Dd Bearer T0KEN session=abc"
        ]
    );
}

#[tokio::test]
async fn each_answer_of_the_catalogue_has_its_kind() {
    let cases: [(Handler, FailureKind, usize); 11] = [
        (|_| StatusCode::NOT_FOUND.into_response(), FailureKind::CourseNotFound, 1),
        (|_| StatusCode::UNAUTHORIZED.into_response(), FailureKind::CatalogRefused, 1),
        (|_| StatusCode::FORBIDDEN.into_response(), FailureKind::CatalogRefused, 1),
        (|_| Redirect::to("/login").into_response(), FailureKind::CatalogRefused, 1),
        (|_| Html("<p>hello").into_response(), FailureKind::ManifestInvalid, 1),
        (|_| "{".into_response(), FailureKind::ManifestInvalid, 1),
        (|_| "{\"title\":\"C\"}".into_response(), FailureKind::ManifestInvalid, 1),
        (|_| "{\"title\":\"C\",\"sections\":[]}".into_response(), FailureKind::CourseEmpty, 1),
        (|_| StatusCode::BAD_REQUEST.into_response(), FailureKind::HttpRejected, 1),
        (|_| StatusCode::BAD_GATEWAY.into_response(), FailureKind::CatalogUnavailable, 3),
        (|_| vec![b' '; ManifestLimits::default().max_bytes + 1].into_response(), FailureKind::BodyTooLarge, 1),
    ];
    for (handler, kind, requests) in cases {
        let (result, count) = ask_catalog(handler).await;
        let failure = result.unwrap_err();
        assert_eq!((failure.kind, count), (kind, requests), "{failure}");
        assert!(
            failure.message.starts_with("resolving https://learn.example.com/course/intro/?…: the cat"),
            "{failure}"
        );
    }
}

#[tokio::test]
async fn a_catalogue_that_does_not_accept_our_login_is_told_from_one_that_refuses() {
    let cases: [(Handler, FailureKind); 4] = [
        (|_| StatusCode::UNAUTHORIZED.into_response(), FailureKind::CredentialsRejected),
        (|_| Redirect::to("/login").into_response(), FailureKind::CredentialsRejected),
        (|_| StatusCode::FORBIDDEN.into_response(), FailureKind::CatalogRefused),
        (|_| Html("<p>hello").into_response(), FailureKind::ManifestInvalid),
    ];
    for (handler, kind) in cases {
        let (endpoint, seen) = serve(handler).await;
        let mut settings = settings(ResolverKind::Catalog);
        settings.catalog_endpoint = Some(endpoint);
        settings.catalog_token = Some(BearerSettings { token: SecretString::from("T0KEN"), file: None });
        let failure = resolve(&settings, &course_url()).await.unwrap_err();
        assert_eq!((failure.kind, seen.lock().unwrap().len()), (kind, 1), "{failure}");
        let names_it = failure.message.contains("it does not accept the token of resolver.catalog_token");
        assert_eq!(names_it, kind == FailureKind::CredentialsRejected, "{failure}");
    }
}

#[tokio::test]
async fn a_refusal_where_our_token_was_not_shown_is_not_about_it() {
    let (elsewhere, seen) = serve(|_| StatusCode::UNAUTHORIZED.into_response()).await;
    let target = elsewhere.clone();
    let mut settings = settings(ResolverKind::Catalog);
    settings.catalog_endpoint = Some(serve(move |_| Redirect::to(target.as_str()).into_response()).await.0);
    settings.catalog_token = Some(BearerSettings { token: SecretString::from("T0KEN"), file: None });
    let failure = resolve(&settings, &course_url()).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::CatalogRefused, "{failure}");
    assert_eq!(*seen.lock().unwrap(), ["/ - -"]);
}

#[tokio::test]
async fn a_media_host_rejects_cookies_that_it_was_shown_and_that_have_run_out() {
    let (origin, _) = serve(|_| StatusCode::UNAUTHORIZED.into_response()).await;
    let mut elsewhere = origin.clone();
    elsewhere.set_host(Some("localhost")).unwrap();
    let (redirecting, _) = serve(move |_| Redirect::to(elsewhere.as_str()).into_response()).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut settings = settings(ResolverKind::Direct);
    settings.cookies_file = Some(file.path().to_owned());
    let (valid, expired) = (4_000_000_000_u64, 1_000_000_000);
    for (url, expires, kind, names_it) in [
        (&origin, expired, FailureKind::CredentialsRejected, true),
        (&origin, valid, FailureKind::LinkExpired, true),
        (&redirecting, expired, FailureKind::LinkExpired, false),
    ] {
        std::fs::write(&file, format!("127.0.0.1\tFALSE\t/\tFALSE\t{expires}\tsession\tabc\n")).unwrap();
        let failure = resolve(&settings, url).await.unwrap_err();
        assert_eq!(failure.kind, kind, "{failure}");
        assert_eq!(failure.message.contains(&file.path().display().to_string()), names_it, "{failure}");
    }
}

#[tokio::test]
async fn a_catalogue_that_recovers_is_asked_again() {
    let (result, count) = ask_catalog(|attempt| match attempt {
        1 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        _ => MANIFEST.into_response(),
    })
    .await;
    assert_eq!((result.unwrap().title.as_str(), count), ("C", 2));
}

#[tokio::test]
async fn a_silent_or_absent_catalogue_is_unavailable() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = settings(ResolverKind::Catalog);
    settings.catalog_endpoint = Some(Url::parse(&format!("http://{}/", silent.local_addr().unwrap())).unwrap());
    settings.timeout = Duration::from_millis(300);
    let failure = resolve(&settings, &course_url()).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::CatalogUnavailable);
    assert!(failure.message.ends_with("no answer within 0.3 s"), "{failure}");

    settings.catalog_endpoint = Some(Url::parse("http://127.0.0.1:1/").unwrap());
    settings.timeout = Duration::from_secs(20);
    let failure = resolve(&settings, &course_url()).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::CatalogUnavailable, "{failure}");
}

#[tokio::test]
async fn a_direct_url_is_known_by_its_path_or_its_content_type() {
    let nobody = Url::parse("http://127.0.0.1:1/intro-course/master.m3u8").unwrap();
    let course = resolve(&settings(ResolverKind::Auto), &nobody).await.unwrap();
    assert_eq!(course.title, "intro course");
    assert_eq!(course.sections[0].lectures[0].stream.as_ref().unwrap().url, nobody);

    let hls: Handler = |_| ([("content-type", "Audio/X-MpegURL; charset=utf-8")], "#EXTM3U").into_response();
    let (origin, _) = serve(hls).await;
    let course = resolve(&settings(ResolverKind::Auto), &origin.join("/play/42").unwrap()).await.unwrap();
    assert_eq!(course.title, "42");

    for (handler, kind) in [
        ((|_| Html("x").into_response()) as Handler, FailureKind::PlaylistInvalid),
        (|_| StatusCode::NOT_FOUND.into_response(), FailureKind::NotFound),
        (|_| StatusCode::FORBIDDEN.into_response(), FailureKind::LinkExpired),
    ] {
        let (origin, _) = serve(handler).await;
        let failure = resolve(&settings(ResolverKind::Direct), &origin).await.unwrap_err();
        assert_eq!(failure.kind, kind, "{failure}");
    }
}

async fn run(script: &str, timeout: Duration) -> Result<Course> {
    let mut settings = settings(ResolverKind::Auto);
    settings.command = vec!["sh".into(), "-c".into(), script.into()];
    settings.timeout = timeout;
    resolve(&settings, &course_url()).await
}

#[tokio::test]
async fn a_command_prints_either_document() {
    let limit = Duration::from_secs(20);
    let course = run(&format!("echo '{MANIFEST}'"), limit).await.unwrap();
    assert_eq!(course.title, "C");
    // The URL is the last argument: `sh -c SCRIPT URL` has it in $0.
    let info = r#"printf '{"title":"%s","ext":"mp4","extractor":"x","url":"http://h/v.mp4"}' "$0""#;
    assert_eq!(run(info, limit).await.unwrap().title, course_url().as_str());
}

#[tokio::test]
async fn a_command_that_fails_says_its_last_words() {
    let failure = run("echo progress >&2; echo \"ERROR: $0: no entry\" >&2; exit 7", Duration::from_secs(20)).await;
    let failure = failure.unwrap_err();
    assert_eq!(failure.kind, FailureKind::ResolverFailed);
    assert!(
        failure.message.ends_with("exit status: 7: ERROR: https://learn.example.com/course/intro/?… no entry"),
        "{failure}"
    );
    let late = run("exec sleep 100", Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(late.kind, FailureKind::ResolverFailed);
    assert!(late.message.contains("sh took longer than 0.3 s"), "{late}");
    let noise = run("echo '<html>'", Duration::from_secs(20)).await.unwrap_err();
    assert_eq!(noise.kind, FailureKind::ManifestInvalid);
    let mut missing = settings(ResolverKind::Command);
    missing.command = vec![PathBuf::from("/nonexistent/resolver").display().to_string()];
    let failure = resolve(&missing, &course_url()).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::ResolverFailed, "{failure}");
}
