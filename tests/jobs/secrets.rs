//! No secret is ever shown: neither in a log at its most talkative, that of the libraries included, nor
//! in what is reported, kept or answered.

use crate::support::backend::FINALIZE;
use crate::support::daemon::{HOOK_TOKEN, SECRET};
use crate::support::origin::Reply;
use crate::support::{Daemon, Fault, Lecture, Manifest, Publish, RedisServer, http_client};
use crate::world::{World, folder, small};

const CATALOG_TOKEN: &str = "catalog-token-of-the-tests";
const SIGNATURE: &str = "signature-of-the-tests";
const REFERER: &str = "header-secret-of-the-tests";
const COURSE_TOKEN: &str = "course-token-of-the-tests";
const PASSWORD: &str = "password-of-the-tests";
const WRONG_TOKEN: &str = "wrong-token-of-the-tests";
const COOKIE: &str = "cookie-of-the-tests";
const SIGNING: &str = "signing-secret-of-the-tests";
const WEBHOOK: &str = "d2ViaG9vay1zZWNyZXQtb2YtdGhlLXRlc3Rz";
/// All that must stay where it is. The last one stands in queue elements, which are kept as they came.
const SECRETS: [&str; 11] = [
    SECRET,
    HOOK_TOKEN,
    CATALOG_TOKEN,
    SIGNATURE,
    REFERER,
    PASSWORD,
    WRONG_TOKEN,
    COOKIE,
    SIGNING,
    WEBHOOK,
    COURSE_TOKEN,
];
/// Every key of a database with all that it holds.
const EVERYTHING: &str = "local all = {} for _, key in ipairs(redis.call('KEYS', '*')) do \
    local kind, values = redis.call('TYPE', key).ok, {} \
    if kind == 'string' then values = {redis.call('GET', key)} \
    elseif kind == 'list' then values = redis.call('LRANGE', key, 0, -1) \
    elseif kind == 'hash' then values = redis.call('HGETALL', key) \
    elseif kind == 'zset' then values = redis.call('ZRANGE', key, 0, -1) \
    elseif kind == 'set' then values = redis.call('SMEMBERS', key) end \
    table.insert(all, key) for _, value in ipairs(values) do table.insert(all, value) end end return all";

fn course_url(task_id: u64) -> String {
    format!("https://learn.example.com/course/{task_id}/?token={COURSE_TOKEN}")
}

fn push(world: &World, task_id: u64, lecture: Lecture) {
    world.catalog.course(&course_url(task_id), &Manifest::new(&folder(task_id)).section("Start", [lecture]));
    world.redis.set_task(task_id, "enrolled");
    world.redis.push_job(task_id, &course_url(task_id));
}

#[tokio::test]
async fn not_in_success_and_not_in_failure() {
    let world = World::on(RedisServer::start());
    world.redis.cli(&["ACL", "SETUSER", "worker", "on", &format!(">{PASSWORD}"), "~*", "&*", "+@all"]);
    world.catalog.require_token(CATALOG_TOKEN);
    let subscription = world.redis.subscribe("*");
    let url = format!("redis://worker:{PASSWORD}@127.0.0.1:{}/0", world.redis.port());
    let directory = tempfile::tempdir().unwrap();
    let cookies = directory.path().join("cookies.txt");
    std::fs::write(&cookies, format!("127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\t{COOKIE}\n")).unwrap();
    let signing = directory.path().join("partner");
    std::fs::write(&signing, SIGNING).unwrap();
    std::fs::set_permissions(&signing, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let settings = world.daemon().catalog_token(CATALOG_TOKEN).hook().set("redis.url", url);
    let settings = settings
        .set("hook.signing_secret_files", vec![signing.display().to_string()])
        .secret("report.webhook_secret", &format!("whsec_{WEBHOOK}"));
    let settings = settings.set("resolver.cookies_file", cookies.display().to_string()).set("log.level", "trace");
    let daemon = settings.set("hls.segment_attempts", 2).set("queue.max_attempts", 2).start().await;

    let query = format!("Policy=x&Signature={SIGNATURE}");
    let signed = |base: &str| Publish::of(&small()).encrypted().signed(&query).at(&world.origin, base);
    let with_query = |url: &str| format!("{url}?{query}");
    let lecture = |url: &str| {
        Lecture::new("Only").stream_with_headers(&with_query(url), &[("Referer", REFERER), ("X-Token", REFERER)])
    };
    // A backend that repeats the secret in its refusal, set before the first job can come that far.
    let refusal = Reply::ok("text/plain", format!("bad key {SECRET}")).with_status(400);
    world.backend.origin.fault(FINALIZE, Fault::Instead(refusal).times(1));
    let good = signed("/1");
    world.origin.fault(&good.segment_paths[1], Fault::Status(503).times(1));
    push(&world, 3001, lecture(&good.url));
    // Failures whose messages want to show URLs: of playlists, segments, keys, captions, the catalogue.
    push(&world, 3002, lecture(&world.origin.url("/gone.m3u8")));
    let (cut, keyless, html) = (signed("/3"), signed("/4"), signed("/5"));
    world.origin.fault(&cut.segment_paths[0], Fault::CutAt(10));
    push(&world, 3003, lecture(&cut.url));
    world.origin.fault(&keyless.key_paths[0], Fault::Status(403));
    push(&world, 3004, lecture(&keyless.url));
    world.origin.fault(&html.playlist_path, Fault::Html);
    push(&world, 3005, lecture(&html.url));
    push(&world, 3006, Lecture::new("Only").caption("en", &with_query(&world.origin.url("/gone.vtt"))));
    // A course that the catalogue does not know, and one whose answer repeats what it was asked.
    world.redis.set_task(3007, "enrolled");
    world.redis.push_job(3007, &course_url(3007));
    let wrong =
        serde_json::json!({"title": 7, "sections": [{"lectures": [{"stream": {"url": format!("ftp://h/?{query}")}}]}]});
    world.catalog.course_json(&course_url(3008), wrong);
    world.redis.set_task(3008, "enrolled");
    world.redis.push_job(3008, &course_url(3008));
    let orders = daemon.hook_url("/api/v1/orders");
    let _ = http_client().post(orders).bearer_auth(WRONG_TOKEN).body("{}").send().await.unwrap();

    world.redis.wait_for_task(3001, "completed").await;
    for task_id in 3002..=3008 {
        world.redis.wait_for_task(task_id, "failed").await;
        world.dead_of(task_id).await;
    }
    let mut places = answers(&daemon).await;
    places.push(("command line".into(), std::fs::read_to_string(format!("/proc/{}/cmdline", daemon.pid())).unwrap()));
    daemon.sigterm();
    assert!(daemon.wait_exit(std::time::Duration::from_secs(10)).await.success());

    let requests = world.origin.requests_for(&good.segment_paths[0]);
    assert_eq!(requests[0].query("Signature").as_deref(), Some(SIGNATURE), "the query is needed all the same");
    assert_eq!(requests[0].header("X-Token"), Some(REFERER));
    assert!(requests[0].header("Cookie").is_some_and(|cookie| cookie.contains(COOKIE)), "so is the cookie");
    let error_logs: Vec<String> = (3001..=3008).map(|task_id| world.redis.task_field(task_id, "error_log")).collect();
    let reasons: Vec<String> = world.dead().iter().map(|envelope| envelope["message"].to_string()).collect();
    // Elements are kept verbatim; everything else on Redis that we wrote is looked at.
    let told: Vec<String> = subscription.messages().into_iter().map(|message| message.payload).collect();
    let log = daemon.log_text();
    assert!(log.contains("[secret]"), "the refusal is shown without it");
    assert!(log.lines().any(|line| line.contains("TRACE") && line.contains("hyper")), "libraries have their say");
    places.extend([
        ("log".into(), log),
        ("error_log".into(), error_logs.join("\n")),
        ("dead list".into(), reasons.join("\n")),
        ("events".into(), told.join("\n")),
    ]);
    for (place, text) in &places {
        no_secret_in(place, text, &SECRETS);
    }
    no_secret_in("keys of Redis", &world.redis.cli(&["EVAL", EVERYTHING, "0"]), &SECRETS[..10]);
}

fn no_secret_in(place: &str, text: &str, secrets: &[&str]) {
    assert!(!text.is_empty(), "nothing in the {place}");
    for secret in secrets {
        let line = text.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{secret} in the {place}: {line:?}");
    }
}

/// What the daemon and the commands answer to those who ask.
async fn answers(daemon: &Daemon) -> Vec<(String, String)> {
    let mut answers = Vec::new();
    for path in ["/metrics", "/readyz", "/"] {
        answers.push((path.to_owned(), daemon.admin(path).map(|(status, body)| format!("{status} {body}")).unwrap()));
    }
    for task_id in 3001..=3008 {
        let path = format!("/api/v1/tasks/{task_id}");
        let answer = http_client().get(daemon.hook_url(&path)).bearer_auth(HOOK_TOKEN).send().await.unwrap();
        answers.push((path, answer.text().await.unwrap()));
    }
    for arguments in [&["check"][..], &["queue", "verify", "--json"], &["dead", "list"]] {
        let output = daemon.command(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        answers.push((arguments.join(" "), String::from_utf8_lossy(&text).into_owned()));
    }
    answers
}
