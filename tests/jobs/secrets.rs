//! No secret is ever shown: neither in a log at its most talkative, that of the libraries included, nor
//! in what is reported, kept, answered, or told to a child.

mod canaries;
mod children;
mod outputs;

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::support::backend::FINALIZE;
use crate::support::daemon::{Builder, HOOK_TOKEN, SECRET};
use crate::support::mariadb::{self, MariaDb};
use crate::support::origin::Reply;
use crate::support::{Daemon, Fault, Lecture, Manifest, Publish, RedisServer, http_client, port};
use crate::world::{World, folder, small};
use canaries::*;
use outputs::Output;

/// One is done at its second attempt, the others fail, each in another room.
const DONE: u64 = 3001;
const FAILED: std::ops::RangeInclusive<u64> = 3002..=3012;
const ORDER: u64 = 30;
/// A host that is asked through the proxy.
const PROXIED: &str = "http://media.example.com/x.m3u8";

fn course_url(task_id: u64) -> String {
    format!("https://learn.example.com/course/{task_id}/?token={COURSE_TOKEN}")
}

fn push(world: &World, database: &MariaDb, task_id: u64, lecture: Lecture) {
    world.catalog.course(&course_url(task_id), &Manifest::new(&folder(task_id)).section("Start", [lecture]));
    push_job(world, database, task_id);
}

fn push_job(world: &World, database: &MariaDb, task_id: u64) {
    database.insert(task_id, "enrolled");
    world.redis.push_job(task_id, &course_url(task_id));
}

/// A daemon that has been told every secret that there is a setting for, and is as talkative as can be.
fn daemon(world: &World, database: &MariaDb, directory: &Path) -> Builder {
    let file = |name: &str, content: &str| {
        let path = directory.join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let cookies = file("cookies.txt", &format!("127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\t{COOKIE}\n"));
    let user = "worker";
    world.redis.cli(&["ACL", "SETUSER", user, "on", &format!(">{REDIS_PASSWORD}"), "~*", "&*", "+@all"]);
    world.catalog.require_token(CATALOG_TOKEN);
    let settings = world.daemon().catalog_token(CATALOG_TOKEN).hook();
    settings
        .set("redis.url", format!("redis://{user}:{REDIS_PASSWORD}@127.0.0.1:{}/0", world.redis.port()))
        .set("store.mysql_host", "127.0.0.1")
        .set("store.mysql_port", i64::from(database.port()))
        .set("store.mysql_user", mariadb::USER)
        .set("store.mysql_database", mariadb::DATABASE)
        .secret("store.mysql_password", mariadb::PASSWORD)
        .secret("enrollment.token", ENROLLMENT_TOKEN)
        .secret("admin.token", ADMIN_TOKEN)
        .set("hook.signing_secret_files", vec![file("partner", SIGNING)])
        .secret("report.webhook_secret", &format!("whsec_{WEBHOOK}"))
        .set("network.proxy", format!("http://127.0.0.1:{}", port::free()))
        .secret("network.proxy_credentials", PROXY)
        .set("resolver.cookies_file", cookies.clone())
        .set("enrollment.cookies_file", cookies)
        .set("log.level", "trace")
        .set("hls.segment_attempts", 2)
        .set("queue.max_attempts", 2)
}

/// Jobs whose messages want to show URLs: of playlists, segments, keys, captions, redirects, the catalogue.
/// Returns the first segment of the good one.
fn push_jobs(world: &World, database: &MariaDb) -> String {
    let query = format!("Policy=x&Signature={SIGNATURE}");
    let signed = |base: &str| Publish::of(&small()).encrypted().signed(&query).at(&world.origin, base);
    let with_query = |url: &str| format!("{url}?{query}");
    let with_password = |url: &str| url.replace("http://", &format!("http://user:{URL_PASSWORD}@"));
    let lecture = |url: &str| {
        Lecture::new("Only").stream_with_headers(&with_query(url), &[("Referer", HEADER), ("X-Token", HEADER)])
    };
    let put = |task_id: u64, lecture: Lecture| push(world, database, task_id, lecture);
    // A backend that repeats the secret in its refusal, set before the first job can come that far.
    let refusal = Reply::ok("text/plain", format!("bad key {SECRET}")).with_status(400);
    world.backend.origin.fault(FINALIZE, Fault::Instead(refusal).times(1));
    let good = signed("/1");
    world.origin.fault(&good.segment_paths[1], Fault::Status(503).times(1));
    put(DONE, lecture(&good.url));
    put(3002, lecture(&world.origin.url("/gone.m3u8")));
    let (cut, keyless, html) = (signed("/3"), signed("/4"), signed("/5"));
    world.origin.fault(&cut.segment_paths[0], Fault::CutAt(10));
    put(3003, lecture(&cut.url));
    world.origin.fault(&keyless.key_paths[0], Fault::Status(403));
    put(3004, lecture(&keyless.url));
    world.origin.fault(&html.playlist_path, Fault::Html);
    put(3005, lecture(&html.url));
    put(3006, Lecture::new("Only").caption("en", &with_query(&world.origin.url("/gone.vtt"))));
    // A course that the catalogue does not know, and one whose answer repeats what it was asked.
    push_job(world, database, 3007);
    let wrong = json!({"title": 7, "sections": [{"lectures": [{"stream": {"url": format!("ftp://h/?{query}")}}]}]});
    world.catalog.course_json(&course_url(3008), wrong);
    push_job(world, database, 3008);
    // Passwords in URLs: of a stream, of where one is redirected to, of a key.
    put(3009, lecture(&with_password(&good.url)));
    let redirected = signed("/10");
    world.origin.fault(&redirected.playlist_path, Fault::Redirect(with_password(&good.url)));
    put(3010, lecture(&redirected.url));
    let playlist = format!(
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-KEY:METHOD=AES-128,URI=\"{}\"\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n",
        with_password(&with_query(&world.origin.url("/key"))),
        with_query(&good.segment_paths[0]),
    );
    world.origin.put("/11/x.m3u8", playlist);
    put(3011, lecture(&world.origin.url("/11/x.m3u8")));
    put(3012, lecture(PROXIED));
    good.segment_paths[0].clone()
}

/// An order that is taken in, one of a stranger, and one that is signed wrongly.
async fn order(daemon: &Daemon) {
    let orders = daemon.hook_url("/api/v1/orders");
    let task = json!({"taskId": DONE, "email": "user@example.com", "courseUrl": course_url(DONE)});
    let order = json!({"orderId": ORDER, "tasks": [task]});
    let taken = http_client().post(&orders).bearer_auth(HOOK_TOKEN).json(&order).send().await.unwrap();
    assert!(taken.status().is_success(), "{}", taken.text().await.unwrap());
    for request in [
        http_client().post(&orders).bearer_auth(WRONG_TOKEN),
        http_client().post(&orders).header("webhook-signature", format!("v1,{WRONG_TOKEN}")),
    ] {
        assert_eq!(request.json(&order).send().await.unwrap().status(), 401);
    }
}

#[tokio::test]
async fn not_in_success_and_not_in_failure() {
    let (world, database) = (World::on(RedisServer::start()), MariaDb::start());
    let subscription = world.redis.subscribe("*");
    let directory = tempfile::tempdir().unwrap();
    let daemon = daemon(&world, &database, directory.path()).start().await;
    let segment = push_jobs(&world, &database);
    database.wait_for_task(DONE, "completed").await;
    for task_id in FAILED {
        world.dead_of(task_id).await;
        database.wait_for_task(task_id, "failed").await;
    }
    order(&daemon).await;
    let tasks: Vec<u64> = FAILED.chain([DONE]).collect();
    let mut outputs = outputs::answers(&daemon, &tasks, ORDER).await;
    daemon.sigterm();
    assert!(daemon.wait_exit(Duration::from_secs(10)).await.success());

    let requests = world.origin.requests_for(&segment);
    assert_eq!(requests[0].query("Signature").as_deref(), Some(SIGNATURE), "the query is needed all the same");
    assert_eq!(requests[0].header("X-Token"), Some(HEADER));
    assert!(requests[0].header("Cookie").is_some_and(|cookie| cookie.contains(COOKIE)), "so is the cookie");
    let enrolled = &world.backend.enroll_calls()[0];
    assert!(enrolled.header("Authorization").is_some_and(|token| token.contains(ENROLLMENT_TOKEN)));
    assert_eq!(world.dead_of(3009).await["kind"], "manifest_invalid");
    assert_eq!(world.dead_of(3012).await["kind"], "connection_failed", "nobody is the proxy");
    let log = daemon.log_text();
    assert!(log.contains("[secret]"), "the refusal is shown without it");
    assert!(log.lines().any(|line| line.contains("TRACE") && line.contains("hyper")), "libraries have their say");
    let reasons: Vec<String> = world.dead().iter().map(|envelope| envelope["message"].to_string()).collect();
    let told: Vec<String> = subscription.messages().into_iter().map(|message| message.payload).collect();
    outputs.extend([
        Output::new("log", log),
        Output::new("error_log", database.sql("SELECT error_log FROM download_tasks")),
        Output::new("messages of the dead list", reasons.join("\n")),
        Output::new("messages on Redis", told.join("\n")),
        outputs::everything(&world.redis),
    ]);
    for Output { name, text, has_elements } in &outputs {
        let meant: &[&str] = if *has_elements { &[COURSE_TOKEN] } else { &[] };
        none_in(name, text, meant);
    }
}
