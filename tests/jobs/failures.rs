//! Everything that the world around a job can do wrong: each has its kind, and the same word stands
//! in the log, the metric, the error log of the task and the dead list.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use crate::support::backend::FINALIZE;
use crate::support::daemon::tree;
use crate::support::{Daemon, Fault, Lecture, Manifest, Publish, Reply, media, port};
use crate::world::{World, assert_lines_name_the_task, complaints, course_of, course_url, folder, small};

/// Attempts at a job and at a segment here: enough to see that a kind is tried again, or not.
const ATTEMPTS: u64 = 2;

/// What is expected of one task.
struct Case {
    task_id: u64,
    kind: &'static str,
    attempts: u64,
    /// Stands in the message.
    says: &'static str,
}

/// Numbers the cases and collects what is expected of them.
struct Cases<'a> {
    world: &'a World,
    list: Vec<Case>,
}

impl Cases<'_> {
    fn expect(&mut self, kind: &'static str, attempts: u64, says: &'static str) -> u64 {
        let task_id = 2001 + self.list.len() as u64;
        self.list.push(Case { task_id, kind, attempts, says });
        task_id
    }

    /// A course whose only stream is this playlist.
    fn playlist(&mut self, kind: &'static str, attempts: u64, says: &'static str, reply: Reply) {
        let task_id = self.expect(kind, attempts, says);
        let path = format!("/{task_id}/index.m3u8");
        self.world.origin.put_reply(&path, reply);
        self.world.catalog.course(&course_url(task_id), &course_of(task_id, &self.world.origin.url(&path)));
    }

    /// A good course, one segment of which goes wrong for ever.
    fn segment(&mut self, kind: &'static str, says: &'static str, fault: Fault) {
        let task_id = self.expect(kind, ATTEMPTS, says);
        let paths = self.world.publish(task_id, &small());
        self.world.origin.fault(&paths[1], fault);
    }

    /// What the catalogue answers for this course.
    fn manifest(&mut self, kind: &'static str, attempts: u64, says: &'static str, answer: serde_json::Value) {
        let task_id = self.expect(kind, attempts, says);
        self.world.catalog.course_json(&course_url(task_id), answer);
    }

    /// Another answer of the catalogue altogether.
    fn catalog(&mut self, kind: &'static str, attempts: u64, says: &'static str, fault: Fault) {
        let task_id = self.expect(kind, attempts, says);
        self.world.publish(task_id, &small());
        let query: String = url::form_urlencoded::byte_serialize(course_url(task_id).as_bytes()).collect();
        self.world.origin.fault(&format!("/catalog?url={query}"), fault);
    }
}

fn text(playlist: &str) -> Reply {
    Reply::ok("application/vnd.apple.mpegurl", playlist.to_owned())
}

fn cases(world: &World) -> Vec<Case> {
    let mut cases = Cases { world, list: Vec::new() };
    cases.catalog("catalog_unavailable", ATTEMPTS, "503", Fault::Status(503));
    cases.catalog("catalog_unavailable", ATTEMPTS, "the catalogue", Fault::DropBeforeHead);
    cases.catalog("catalog_refused", 1, "401", Fault::Status(401));
    cases.catalog("course_not_found", 1, "404", Fault::Status(404));
    cases.catalog("manifest_invalid", ATTEMPTS, "HTML", Fault::Html);
    cases.catalog("manifest_invalid", ATTEMPTS, "not JSON", Fault::Body("{\"title\":".into()));
    cases.manifest("manifest_invalid", ATTEMPTS, "sections", json!({"title": "No course"}));
    cases.manifest(
        "manifest_invalid",
        ATTEMPTS,
        "sections[0].lectures[0].stream.url",
        json!({"title": "C", "sections": [{"title": "S", "lectures": [{"title": "L", "stream": {"url": "file:///etc/passwd"}}]}]}),
    );
    cases.manifest("course_empty", 1, "no lecture", json!({"title": "Empty", "sections": []}));

    cases.playlist(
        "playlist_invalid",
        ATTEMPTS,
        "#EXTM3U",
        Reply::ok("text/html", "<!DOCTYPE html><title>Sorry</title>"),
    );
    cases.playlist("not_found", ATTEMPTS, "404", Reply::status(404));
    cases.playlist("link_expired", ATTEMPTS, "403", Reply::status(403));
    cases.playlist("server_error", ATTEMPTS, "502", Reply::status(502));
    let media = "#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nseg.ts\n";
    cases.playlist("live_unsupported", 1, "", text(&format!("#EXTM3U\n{media}")));
    let key = "#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"skd://key\",KEYFORMAT=\"com.apple.streamingkeydelivery\"";
    cases.playlist("drm_protected", 1, "", text(&format!("#EXTM3U\n{key}\n{media}#EXT-X-ENDLIST\n")));
    let gap = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n#EXT-X-GAP\nseg.ts\n#EXT-X-ENDLIST\n";
    cases.playlist("segment_missing", ATTEMPTS, "", text(gap));
    cases.playlist("redirect_refused", 1, "", Reply::status(302).with_header("Location", "ftp://h/x"));
    let metadata = Reply::status(302).with_header("Location", "http://169.254.169.254/latest/meta-data/");
    cases.playlist("address_refused", 1, "169.254.169.254, a link-local address", metadata);

    cases.segment("segment_invalid", "HTML", Fault::Html);
    cases.segment("segment_invalid", "empty", Fault::Empty);
    cases.segment("body_truncated", "end of file", Fault::CutAt(1000));
    cases.segment("decryption_failed", "16", Fault::Body(Bytes::from(vec![7; 1001])));
    cases.segment("decryption_failed", "padding", Fault::Body(Bytes::from(vec![7; 1600])));
    cases.segment("not_found", "seg0001.ts", Fault::Status(404));
    cases.segment("server_error", "500", Fault::Status(500));
    cases.segment("timed_out", "stopped answering", Fault::StallAfter(100));

    let task_id = cases.expect("key_invalid", ATTEMPTS, "15 bytes");
    let published = Publish::of(&small()).encrypted().at(&world.origin, &format!("/{task_id}"));
    world.origin.fault(&published.key_paths[0], Fault::Body(Bytes::from(vec![1; 15])));
    world.catalog.course(&course_url(task_id), &course_of(task_id, &published.url));

    let task_id = cases.expect("http_rejected", ATTEMPTS, "the asset \"slides.pdf\"");
    world.origin.put_reply("/slides.pdf", Reply::ok("text/html", "<!DOCTYPE html>please log in"));
    let lecture = Lecture::new("Only").asset("slides.pdf", &world.origin.url("/slides.pdf"));
    world.catalog.course(&course_url(task_id), &Manifest::new(&folder(task_id)).section("Start", [lecture]));
    cases.list
}

/// The same word everywhere, one complaint for each attempt, nothing under a final name.
async fn assert_failed(world: &World, daemon: &Daemon, case: &Case) {
    let Case { task_id, kind, attempts, says } = case;
    let envelope = world.dead_of(*task_id).await;
    world.redis.wait_for_task(*task_id, "failed").await;
    let error_log = world.error_log(*task_id);
    let what = format!("task {task_id}, {kind}: {envelope:#}\n{error_log:#}");
    assert_eq!((&envelope["kind"], &error_log["kind"]), (&json!(kind), &json!(kind)), "{what}");
    assert_eq!((&envelope["attempts"], &error_log["attempts"]), (&json!(attempts), &json!(attempts)), "{what}");
    assert_eq!(error_log["message"], envelope["message"], "{what}");
    assert!(error_log["message"].as_str().unwrap().contains(says), "{says:?} in {what}");
    let host = world.origin.url("/");
    let is_media = !["catalog", "course", "manifest", "job"].iter().any(|start| kind.starts_with(start));
    assert!(!is_media || error_log["message"].as_str().unwrap().contains(&host), "no URL in {what}");
    assert!(!error_log["message"].as_str().unwrap().contains("resolving the course: resolving"), "{what}");
    let complaints = complaints(daemon, *task_id);
    assert_eq!(complaints.len() as u64, *attempts, "{what}\n{complaints:#?}");
    for (number, line) in (1..).zip(&complaints) {
        assert_eq!((&line["kind"], &line["attempt"]), (&json!(kind), &json!(number)), "{what}");
        let escaped = error_log["message"].to_string().trim_matches('"').to_owned();
        assert!(number < *attempts || line.to_string().contains(&escaped), "{line}");
    }
    assert_eq!(complaints.last().unwrap()["level"], "ERROR");
    for left in tree(&daemon.task_directory(*task_id)) {
        assert!(
            [".part", ".journal", ".meta", ".course"].iter().any(|suffix| left.ends_with(suffix)),
            "{what}\n{left}"
        );
    }
}

#[tokio::test]
async fn each_trouble_has_one_name_and_it_is_told_everywhere() {
    let world = World::new();
    let cases = cases(&world);
    let settings = world.daemon().set("queue.max_attempts", ATTEMPTS as i64).set("hls.segment_attempts", 1);
    let daemon = settings.set("worker.jobs", 16).set("http.idle_timeout_seconds", 2).start().await;
    for case in &cases {
        world.push(case.task_id);
    }
    for case in &cases {
        assert_failed(&world, &daemon, case).await;
    }
    for case in &cases {
        let of_kind = cases.iter().filter(|other| other.kind == case.kind);
        let expected: u64 = of_kind.map(|other| other.attempts).sum();
        let sample = format!("hauld_job_failures_total{{kind=\"{}\"}}", case.kind);
        assert_eq!(daemon.metric(&sample), Some(expected as f64), "{sample}");
    }
    assert!(tree(daemon.delivered()).is_empty());
    assert_eq!(world.dead().len(), cases.len());
    assert!(world.backend.finalize_calls().is_empty());
    assert_lines_name_the_task(&daemon);

    // Nothing of it has hurt the daemon.
    world.publish(2100, &small());
    world.push(2100);
    world.redis.wait_for_task(2100, "completed").await;
}

#[tokio::test]
async fn a_catalogue_that_is_not_there_and_a_backend_that_refuses() {
    let world = World::new();
    let nobody = format!("http://127.0.0.1:{}/catalog", port::free());
    let daemon = world.daemon().set("resolver.catalog_endpoint", nobody).set("queue.max_attempts", 2).start().await;
    world.redis.set_task(2201, "enrolled");
    world.redis.push_job(2201, &course_url(2201));
    let case = Case { task_id: 2201, kind: "catalog_unavailable", attempts: 2, says: "the catalogue" };
    assert_failed(&world, &daemon, &case).await;

    drop(daemon);
    world.backend.origin.fault(FINALIZE, Fault::status_with(403, &[]));
    let daemon =
        world.daemon().set("report.give_up_after_seconds", 2).set("report.retry_delay_seconds", 1).start().await;
    let published = Publish::of(&small()).at(&world.origin, "/2202");
    world.redis.set_task(2202, "enrolled");
    world.redis.push_job(2202, &published.url);
    world.redis.wait_for_task(2202, "failed").await;
    assert_eq!(world.error_log(2202)["kind"], "finalize_failed");
    let envelope = world.dead_of(2202).await;
    assert_eq!((&envelope["kind"], &envelope["attempts"]), (&"finalize_failed".into(), &1.into()));
    let kinds: Vec<_> = envelope["history"].as_array().unwrap().iter().map(|event| event["kind"].clone()).collect();
    assert!(kinds.len() >= 3 && kinds.iter().all(|kind| kind == "finalize_failed"), "{envelope:#}");
    assert_eq!(world.backend.finalize_calls().len(), kinds.len());
    // Delivered, but the backend does not know: the sandbox stays for the next attempt.
    assert_eq!(tree(daemon.delivered()).len(), 1);
    assert!(daemon.task_directory(2202).exists());
}

#[tokio::test]
async fn a_job_that_takes_too_long_has_a_name_too() {
    let world = World::new();
    let daemon = world.daemon().set("worker.job_timeout_seconds", 10).set("queue.max_attempts", 1).start().await;
    let paths = world.publish(2301, &media::synthetic(3, 1000));
    let hold = world.origin.hold(&paths[1]);
    world.push(2301);
    let start = std::time::Instant::now();
    assert_failed(&world, &daemon, &Case { task_id: 2301, kind: "job_timeout", attempts: 1, says: "10 s" }).await;
    assert!((9.0..16.0).contains(&start.elapsed().as_secs_f64()), "{:?}", start.elapsed());
    world.origin.wait_until_idle().await;
    assert_eq!(daemon.metric("hauld_jobs_running"), Some(0.0));
    hold.release();
    assert!(start.elapsed() < Duration::from_secs(30));
}
