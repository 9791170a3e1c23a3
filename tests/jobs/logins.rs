//! Cookies and tokens: replaced while the daemon runs, renewed by servers, not accepted any more.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::backend::ENROLL;
use crate::support::catalog::CATALOG;
use crate::support::daemon::{Builder, HOOK_TOKEN};
use crate::support::origin::Request;
use crate::support::{Daemon, Origin, Reply, http_client, wait};
use crate::world::{World, complaints, course_of, course_url, lecture_path, small};

const KIND: &str = "credentials_rejected";
const REJECTED: &str = "hauld_job_failures_total{kind=\"credentials_rejected\"}";

/// A `cookies.txt` for every server of a test.
struct CookieFile {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl CookieFile {
    /// With this session.
    fn of(session: &str) -> CookieFile {
        let folder = tempfile::tempdir().unwrap();
        let file = CookieFile { path: folder.path().join("cookies.txt"), _folder: folder };
        file.write(session, 4_000_000_000);
        file
    }

    /// Puts a new file in the place of the old one.
    fn write(&self, session: &str, expires: i64) {
        let new = self.path.with_extension("new");
        std::fs::write(&new, format!("#HttpOnly_127.0.0.1\tFALSE\t/\tFALSE\t{expires}\tsession\t{session}\n")).unwrap();
        std::fs::rename(new, &self.path).unwrap();
    }

    /// Puts a new file in its place and waits until the daemon, which looks at it when somebody asks for
    /// metrics too, has read it.
    async fn replace(&self, daemon: &Daemon, session: &str, expires: i64) {
        let before = reads(daemon, &self.path);
        self.write(session, expires);
        wait::until("the new cookies are read", Duration::from_secs(20), || {
            daemon.metrics();
            (reads(daemon, &self.path) > before).then_some(())
        })
        .await;
    }

    fn shown(&self) -> String {
        self.path.display().to_string()
    }
}

/// How often the daemon has said that it has read a file again.
fn reads(daemon: &Daemon, file: &Path) -> usize {
    daemon.log_text().matches(&format!("in {} was read again", file.display())).count()
}

fn daemon(world: &World, cookies: &CookieFile) -> Builder {
    let builder = world.daemon().set("queue.retry_delay_seconds", 1).set("queue.max_retry_delay_seconds", 1);
    builder.set("enrollment.cookies_file", cookies.shown()).set("resolver.cookies_file", cookies.shown())
}

/// Answers `reply` to this session, and `refusal` to any other.
fn guard(origin: &Origin, path: &str, session: &'static str, reply: Reply, refusal: Reply) {
    let accepted = format!("session={session}");
    origin.remove(path);
    origin.answer(path, move |request| match request.header("Cookie") {
        Some(cookie) if cookie.contains(&accepted) => reply.clone(),
        _ => refusal.clone(),
    });
}

fn to_login_page() -> Reply {
    Reply::status(302).with_header("Location", "/users/sign_in?next=SECRET")
}

fn sessions(requests: &[Request]) -> Vec<Option<&str>> {
    requests.iter().map(|request| request.header("Cookie")).collect()
}

/// Waits for a complaint about the login of a task, which names the file, and checks that the job waits.
async fn rejected(world: &World, daemon: &Daemon, task_id: u64, cookies: &CookieFile, says: &[&str]) {
    let complaint = wait::until("the login is not accepted", Duration::from_secs(20), || {
        complaints(daemon, task_id).into_iter().find(|line| line["kind"] == KIND)
    })
    .await;
    let text = complaint.to_string();
    for part in says.iter().copied().chain([cookies.shown().as_str(), "a new file is read by itself"]) {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    assert!(daemon.metric(REJECTED).is_some_and(|count| count >= 1.0));
    assert_eq!(world.redis.task_field(task_id, "status"), "enrolled");
    assert!(world.dead().is_empty(), "the job waits, however often it is tried");
}

#[tokio::test]
async fn a_catalogue_that_rejects_the_cookies_gets_the_new_ones() {
    let (world, cookies) = (World::new(), CookieFile::of("stale-1"));
    let daemon = daemon(&world, &cookies).set("queue.max_attempts", 1).start().await;
    for (task_id, refusal) in [(3001, Reply::status(401)), (3002, to_login_page())] {
        world.origin.put_reply("/users/sign_in", Reply::ok("text/html", "<form>"));
        let published = world.publish(task_id, &small());
        let playlist = world.origin.url(&published[0].replace("seg0000.ts", "index.m3u8"));
        let session = if task_id == 3001 { "good-3001" } else { "good-3002" };
        let manifest = Reply::json(&course_of(task_id, &playlist).json());
        guard(&world.origin, CATALOG, session, manifest, refusal);
        world.push(task_id);
        let says = [world.origin.url(CATALOG), "the catalogue".into()];
        rejected(&world, &daemon, task_id, &cookies, &says.each_ref().map(String::as_str)).await;
        cookies.write(session, 4_000_000_000);
        world.redis.wait_for_task(task_id, "completed").await;
        assert!(std::fs::read(lecture_path(&daemon, task_id)).unwrap() == small().truth());
    }
    for secret in ["stale-1", "good-3001", "SECRET"] {
        assert!(!daemon.log_text().contains(secret), "{secret} in the log");
    }
}

#[tokio::test]
async fn an_order_says_that_the_login_was_rejected_and_can_be_retried() {
    let (world, cookies) = (World::new(), CookieFile::of("stale"));
    let daemon = daemon(&world, &cookies).hook().start().await;
    world.publish(3011, &small());
    let enrolled = json!({"success": true, "results": [{"success": true, "status": "enrolled"}]});
    guard(&world.backend.origin, ENROLL, "good", Reply::json(&enrolled), to_login_page());
    let order = json!({"orderId": 51, "tasks": [{"taskId": 3011, "email": "a@b", "courseUrl": course_url(3011)}]});
    let post = async |path: &str| {
        let request = http_client().post(daemon.hook_url(path)).bearer_auth(HOOK_TOKEN).json(&order);
        request.send().await.unwrap().json::<Value>().await.unwrap()
    };
    let answer = post("/api/v1/orders?wait=20").await;
    let task = &answer["tasks"][0];
    assert_eq!((&task["status"], &task["kind"]), (&json!("enrollment_failed"), &json!(KIND)), "{answer}");
    let message = task["message"].as_str().unwrap();
    for part in [world.backend.enroll_url(), "/users/sign_in?…".into(), cookies.shown()] {
        assert!(message.contains(&part), "no {part} in {message}");
    }
    daemon.wait_for_log(&["enrollment failed", KIND, "\"task_id\":3011,"]).await;
    assert_eq!(daemon.metric("hauld_enrollments_total{outcome=\"credentials_rejected\"}"), Some(1.0));
    assert_eq!(world.backend.enroll_calls().len(), 1, "the same login is not shown again and again");

    cookies.replace(&daemon, "good", 4_000_000_000).await;
    post("/api/v1/orders/51/retry").await;
    world.redis.wait_for_task(3011, "completed").await;
    assert_eq!(daemon.metric("hauld_enrollments_total{outcome=\"enrolled\"}"), Some(1.0));
}

#[tokio::test]
async fn media_that_rejects_the_cookies_goes_on_with_the_new_ones() {
    let (world, cookies) = (World::new(), CookieFile::of("stale"));
    cookies.write("stale", 1_000_000_000);
    let settings = daemon(&world, &cookies).set("hls.segment_attempts", 1).set("queue.max_attempts", 2);
    let daemon = settings.start().await;
    let paths = world.publish(3021, &small());
    let segment = &paths[1];
    let body = http_client().get(world.origin.url(segment)).send().await.unwrap().bytes().await.unwrap();
    guard(&world.origin, segment, "good", Reply::of(segment, body), Reply::status(401));
    world.push(3021);
    rejected(&world, &daemon, 3021, &cookies, &[&world.origin.url(segment), "401", "segment 1"]).await;
    cookies.write("good", 4_000_000_000);
    world.redis.wait_for_task(3021, "completed").await;
    assert!(std::fs::read(lecture_path(&daemon, 3021)).unwrap() == small().truth());

    // A playlist behind a login page, with cookies that have expired: they are not even sent.
    let paths = world.publish(3022, &small());
    let playlist = paths[0].replace("seg0000.ts", "index.m3u8");
    let body = http_client().get(world.origin.url(&playlist)).send().await.unwrap().bytes().await.unwrap();
    world.origin.put_reply("/users/sign_in", Reply::ok("text/html", "<form>"));
    guard(&world.origin, &playlist, "fresh", Reply::of(&playlist, body), to_login_page());
    cookies.replace(&daemon, "fresh", 1_000_000_000).await;
    world.push(3022);
    let says = ["\\\"session\\\" expired at 2001-09-09T01:46:40Z", &world.origin.url(&playlist), "/users/sign_in?…"];
    rejected(&world, &daemon, 3022, &cookies, &says).await;
    cookies.write("fresh", 4_000_000_000);
    world.redis.wait_for_task(3022, "completed").await;

    // Cookies that have not run out are not to blame for one file that the account may not have.
    let paths = world.publish(3023, &small());
    world.origin.put_reply(&paths[1], Reply::status(401));
    world.push(3023);
    let dead = world.dead_of(3023).await;
    assert_eq!((&dead["kind"], &dead["attempts"]), (&json!("link_expired"), &json!(2)), "{dead}");
    assert!(dead.to_string().contains(&format!("look at the cookies in {}", cookies.shown())), "{dead}");
}

#[tokio::test]
async fn what_a_catalogue_sets_stays_with_the_job() {
    let (world, cookies) = (World::new(), CookieFile::of("one"));
    let _daemon = daemon(&world, &cookies).start().await;
    for task_id in [3051, 3052] {
        let playlist = world.publish(task_id, &small())[0].replace("seg0000.ts", "index.m3u8");
        let manifest = course_of(task_id, &world.origin.url(&playlist)).json();
        let reply = Reply::json(&manifest).with_header("Set-Cookie", format!("policy=of-{task_id}; Path=/"));
        world.origin.answer(CATALOG, move |_| reply.clone());
        world.push(task_id);
        world.redis.wait_for_task(task_id, "completed").await;
        let media = world.origin.requests_for(&format!("/{task_id}/*"));
        let expected = format!("policy=of-{task_id}; session=one");
        assert!(!media.is_empty() && sessions(&media).iter().all(|sent| *sent == Some(expected.as_str())), "{task_id}");
    }
    assert_eq!(sessions(&world.origin.requests_for(CATALOG)), [Some("session=one"); 2]);
}

#[tokio::test]
async fn what_servers_renew_and_delete_counts_for_the_next_call() {
    let (world, cookies) = (World::new(), CookieFile::of("one"));
    let daemon = daemon(&world, &cookies).start().await;
    let resolve = async |task_id: u64, set_cookie: &str| {
        let playlist = world.publish(task_id, &small())[0].replace("seg0000.ts", "index.m3u8");
        let manifest = course_of(task_id, &world.origin.url(&playlist)).json();
        let reply = Reply::json(&manifest).with_header("Set-Cookie", set_cookie);
        world.origin.answer(CATALOG, move |_| reply.clone());
        world.push(task_id);
        world.redis.wait_for_task(task_id, "completed").await;
    };
    resolve(3031, "session=two; Path=/; HttpOnly").await;
    // Of another domain, or for one: not for us to keep.
    resolve(3032, "session=evil; Path=/; Domain=example.com").await;
    resolve(3033, "session=; Path=/; Max-Age=0").await;
    resolve(3034, "other=1; Path=/nowhere").await;
    let seen = world.origin.requests_for(CATALOG);
    assert_eq!(sessions(&seen), [Some("session=one"), Some("session=two"), Some("session=two"), None]);
    assert!(sessions(&world.origin.requests_for("/3032/*")).iter().all(|session| *session == Some("session=two")));
    // A newer file wins over what servers have said.
    cookies.replace(&daemon, "three", 4_000_000_000).await;
    resolve(3035, "other=1; Path=/nowhere").await;
    assert_eq!(world.origin.requests_for(CATALOG).last().unwrap().header("Cookie"), Some("session=three"));
    assert!(std::fs::read_to_string(&cookies.path).unwrap().contains("three"));
    for secret in ["session=", "three"] {
        assert!(!daemon.log_text().contains(secret), "{secret} in the log");
    }
}

#[tokio::test]
async fn a_token_is_replaced_and_its_expiry_is_seen() {
    let (world, cookies) = (World::new(), CookieFile::of("one"));
    let file = cookies.path.with_file_name("token");
    let write = |token: &str| {
        std::fs::write(&file, format!("{token}\n")).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    };
    // {"exp":4000000000}
    let (old, new) = ("old-token", "e30.eyJleHAiOjQwMDAwMDAwMDB9.c2ln");
    write(old);
    world.catalog.require_token(new);
    let builder = daemon(&world, &cookies).set("resolver.catalog_token_file", file.to_str().unwrap());
    let daemon = builder.start().await;
    let expiry = |of: &str| daemon.metric(&format!("hauld_credential_expiry_timestamp_seconds{{credential=\"{of}\"}}"));
    assert_eq!((expiry("catalog_token"), expiry("resolver_cookies")), (None, Some(4e9)));
    world.publish(3041, &small());
    world.push(3041);
    rejected(&world, &daemon, 3041, &cookies, &["the token in ", "401"]).await;
    write(new);
    world.redis.wait_for_task(3041, "completed").await;
    assert_eq!(expiry("catalog_token"), Some(4e9));

    // What cannot be used leaves the old one, and is said once; SIGHUP has it looked at.
    cookies.replace(&daemon, "two", 1_000_000_000).await;
    assert_eq!((expiry("resolver_cookies"), expiry("enrollment_cookies")), (Some(1e9), Some(1e9)));
    std::fs::write(&cookies.path, "<html>log in").unwrap();
    daemon.sighup();
    daemon.wait_for_log(&["stays as it was", "holds no cookie", &cookies.shown()]).await;
    cookies.write("three", 0);
    let before = reads(&daemon, &file);
    daemon.sighup();
    wait::until("the token is read again", Duration::from_secs(20), || (reads(&daemon, &file) > before).then_some(()))
        .await;
    wait::until("session cookies do not say when they expire", Duration::from_secs(20), || {
        (expiry("resolver_cookies"), expiry("catalog_token")).eq(&(None, Some(4e9))).then_some(())
    })
    .await;
    for secret in [old, new] {
        assert!(!daemon.log_text().contains(secret), "{secret} in the log");
    }
}
