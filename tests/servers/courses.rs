//! Whole jobs, from `LPUSH` to the delivered course, with the real binary.

use std::process::Output;
use std::time::Duration;

use serde_json::json;

use crate::jobs::{World, course_of, course_url, lecture_path, small};
use crate::support::cluster::Cluster;
use crate::support::daemon::{Builder, HOOK_TOKEN};
use crate::support::redis::{RedisServer, job};
use crate::support::sentinel::Sentinels;
use crate::support::{Backend, Catalog, Daemon, Origin, Publish, http_client, wait};
use crate::works::{LIST, key};

const LIMIT: Duration = Duration::from_secs(60);
const README: &str = include_str!("../../README.md");

/// The services around the daemon, without a Redis.
struct Site {
    origin: Origin,
    catalog: Catalog,
    backend: Backend,
}

impl Site {
    fn start() -> Site {
        let origin = Origin::start();
        Site { catalog: Catalog::on(&origin), origin, backend: Backend::start() }
    }

    fn daemon(&self, redis_url: String) -> Builder {
        let builder = Daemon::builder().catalog(&self.catalog).backend(&self.backend);
        builder.set("redis.url", redis_url).set("remux.container", "ts")
    }

    fn publish(&self, task_id: u64) -> Vec<String> {
        let published = Publish::of(&small()).encrypted().at(&self.origin, &format!("/{task_id}"));
        self.catalog.course(&course_url(task_id), &course_of(task_id, &published.url));
        published.segment_paths
    }
}

/// Runs the program with the daemon's configuration.
fn run(daemon: &Daemon, arguments: &[&str]) -> Output {
    daemon.command(arguments).output().expect("hauld runs")
}

fn assert_succeeds(daemon: &Daemon, arguments: &[&str]) {
    let output = run(daemon, arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
}

/// Watches the operator page until this is on it.
async fn page_shows(daemon: &Daemon, part: &str) {
    let events = format!("http://127.0.0.1:{}/api/events", daemon.admin_port());
    let mut page = http_client().get(events).send().await.unwrap();
    let mut shown = String::new();
    while !shown.contains(part) {
        let chunk = tokio::time::timeout(LIMIT, page.chunk()).await.expect("something every second").unwrap();
        shown.push_str(&String::from_utf8_lossy(&chunk.expect("no end")));
    }
}

#[tokio::test]
async fn a_download_goes_on_while_the_sentinels_choose_another_primary() {
    let mut redis = Sentinels::start();
    let site = Site::start();
    let daemon = site.daemon(redis.url()).start().await;
    let paths = site.publish(1);
    site.publish(2);
    let hold = site.origin.hold(&paths[1]);
    redis.servers[0].set_task(1, "enrolled");
    redis.servers[0].push_job(1, &course_url(1));
    hold.wait_for(1).await;
    redis.servers[0].kill9();
    redis.wait_for_primary(1).await;
    hold.release();

    let primary = &redis.servers[1];
    primary.wait_for_task(1, "completed").await;
    primary.set_task(2, "enrolled");
    primary.push_job(2, &course_url(2));
    primary.wait_for_task(2, "completed").await;
    for task_id in [1, 2] {
        assert!(std::fs::read(lecture_path(&daemon, task_id)).unwrap() == small().truth());
    }
    assert_eq!(site.backend.finalize_calls().len(), 2);
    assert!(paths.iter().all(|path| site.origin.count(path) == 1), "the download was not disturbed");
    daemon.wait_for_log(&["Redis has another primary now"]).await;
    assert!(daemon.exited().is_none());
    assert_succeeds(&daemon, &["check"]);
}

async fn completed(redis: &Cluster, task_id: u64) {
    wait::until("the task is completed", LIMIT, || {
        let status = redis.cli(&["HGET", &format!("hauld:task:{task_id}"), "status"]);
        (status == "completed").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_cluster_serves_a_whole_job_and_every_command() {
    let mut redis = Cluster::start();
    let site = Site::start();
    let daemon = site.daemon(redis.url()).hook().start().await;
    let listeners: Vec<_> = redis.nodes.iter().map(|node| node.subscribe("task:1:*")).collect();
    let hold = site.origin.hold(&site.publish(1)[1]);
    site.publish(2);
    redis.cli(&["HSET", "hauld:task:1", "status", "enrolled", "order_id", "7"]);
    redis.cli(&["LPUSH", LIST, &job(1, &course_url(1))]);
    page_shows(&daemon, "\"status\":\"downloading\"").await;
    hold.release();
    completed(&redis, 1).await;
    assert!(std::fs::read(lecture_path(&daemon, 1)).unwrap() == small().truth());
    // Every node tells everybody.
    for listener in &listeners {
        wait::until("the end is told", LIMIT, || {
            let told = listener.json("task:1:status");
            told.iter().any(|event| event["newStatus"] == "completed").then_some(())
        })
        .await;
    }
    assert!(redis.cli(&["GET", "progress:task:1"]).contains("\"percent\":100"));

    let order =
        json!({"orderId": 41, "tasks": [{"taskId": 2, "email": "user@example.com", "courseUrl": course_url(2)}]});
    let answer = http_client().post(daemon.hook_url("/api/v1/orders?wait=60")).bearer_auth(HOOK_TOKEN).json(&order);
    assert_eq!(answer.send().await.unwrap().status(), 200);
    completed(&redis, 2).await;
    assert_eq!(site.backend.finalize_calls().len(), 2);

    redis.cli(&["LPUSH", LIST, "{rubbish"]);
    wait::until("it is on the dead list", LIMIT, || (redis.cli(&["LLEN", &key("dead")]) == "1").then_some(())).await;
    for command in ["check", "queue verify", "dead list", "pause", "resume"] {
        assert_succeeds(&daemon, &command.split(' ').collect::<Vec<_>>());
    }

    redis.nodes.iter_mut().for_each(RedisServer::kill9);
    daemon.wait_for_log(&["Redis is away"]).await;
    wait::until("not ready without Redis", LIMIT, || (!daemon.is_ready()).then_some(())).await;
    let lines = daemon.log_lines();
    let foreign: Vec<_> = lines.iter().filter(|line| !line["target"].as_str().unwrap().starts_with("hauld")).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
}

/// The line of the README that makes the user, with a password.
fn acl() -> Vec<String> {
    let begin = README.find("ACL SETUSER hauld ").expect("the README has the line");
    let command = README[begin..].split("\n\n").next().unwrap().replace("\\\n", " ");
    command.split_whitespace().map(str::to_owned).collect()
}

#[tokio::test]
async fn the_acl_user_of_the_readme_may_do_what_hauld_does_and_nothing_else() {
    let world = World::on(RedisServer::start());
    let acl = acl();
    world.redis.cli(&acl.iter().map(String::as_str).collect::<Vec<_>>());
    let url = format!("redis://hauld:PASSWORD@127.0.0.1:{}/0", world.redis.port());
    let daemon = world.daemon().set("redis.url", url).set("queue.max_attempts", 2).hook().start().await;
    for task_id in [1, 2, 3, 4] {
        world.publish(task_id, &small());
    }
    world.push(1);
    world.redis.wait_for_task(1, "completed").await;
    // One that waits at the gate.
    world.redis.set_task(4, "pending");
    world.redis.push_job(4, &course_url(4));
    let listens = || (world.redis.listeners("hauld:task:4:enrolled") == 1).then_some(());
    wait::until("the gate listens", LIMIT, listens).await;
    // Somebody looks at the page while it waits.
    page_shows(&daemon, "\"status\":\"starting\"").await;
    world.redis.set_task(4, "enrolled");
    world.redis.wait_for_task(4, "completed").await;
    let order =
        json!({"orderId": 41, "tasks": [{"taskId": 2, "email": "user@example.com", "courseUrl": course_url(2)}]});
    let answer = http_client().post(daemon.hook_url("/api/v1/orders?wait=60")).bearer_auth(HOOK_TOKEN).json(&order);
    assert_eq!(answer.send().await.unwrap().status(), 200);
    world.redis.wait_for_task(2, "completed").await;

    // A failure with its retry, rubbish, the id of an RQ job, and a second element of a task.
    world.redis.set_task(3, "failed");
    world.redis.push_job(3, &course_url(3));
    world.redis.cli(&["HSET", "rq:job:0123-4567", "data", "x"]);
    for element in ["{rubbish", "0123-4567", &job(1, &course_url(1))] {
        world.redis.cli(&["LPUSH", LIST, element]);
    }
    wait::until("all is settled", LIMIT, || (world.dead().len() >= 3).then_some(())).await;
    for command in [
        "check",
        "queue verify",
        "queue repair",
        "dead list",
        "dead retry --kind enrollment_failed",
        "pause",
        "resume",
        "dead purge --all",
    ] {
        assert_succeeds(&daemon, &command.split(' ').collect::<Vec<_>>());
    }
    daemon.sigterm();
    assert_eq!(daemon.wait_exit(Duration::from_secs(25)).await.code(), Some(0));
    let log = world.redis.cli(&["ACL", "LOG"]);
    let mut denied: Vec<&str> = log.split("\nobject\n").skip(1).filter_map(|entry| entry.lines().next()).collect();
    denied.retain(|what| *what != "config|get");
    assert_eq!(denied, [""; 0]);
    assert_succeeds(&daemon, &["check"]);
    assert_succeeds(&daemon, &["queue", "verify"]);

    let denied = ["--user", "hauld", "--pass", "PASSWORD", "--no-auth-warning"];
    for command in [&["GET", "secret"][..], &["FLUSHALL"], &["KEYS", "*"], &["CONFIG", "SET", "save", ""]] {
        let output = std::process::Command::new("redis-cli")
            .args(["-p", &world.redis.port().to_string()])
            .args(denied)
            .args(command)
            .output()
            .expect("redis-cli runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.starts_with("NOPERM"), "{command:?}: {text}");
    }
}
