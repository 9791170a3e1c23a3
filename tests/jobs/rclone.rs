//! Delivery by rclone: real rclone, an S3 server and a directory.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::daemon::{Builder, HOOK_TOKEN, tree};
use crate::support::remotes::{Remotes, SECRET_KEY};
use crate::support::{Daemon, Proxy, Reply, Stream, hauld, http_client, media, port, wait};
use crate::world::{LIST, World, complaints, course_url, folder, small};

const LIMIT: Duration = Duration::from_secs(30);
const LECTURE: &str = "01 Start/001 Only.ts";

fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    tree(directory).into_iter().map(|path| (path.clone(), std::fs::read(directory.join(path)).unwrap())).collect()
}

/// Exactly this is at the remote: the course, once, whole, and nothing of ours.
fn assert_delivered(remotes: &Remotes, remote: &str, name: &str, stream: &Stream) {
    let fetched = contents(remotes.fetch(remote).path());
    assert_eq!(fetched.keys().collect::<Vec<_>>(), [&format!("{name}/{LECTURE}")]);
    assert!(fetched.values().all(|content| *content == stream.truth()));
}

/// The rclone of this daemon that copies, if one runs.
fn copier(daemon: &Daemon) -> Option<i32> {
    let is_copy = |pid: &i32| {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let is_child = read("status").lines().any(|line| line == format!("PPid:\t{}", daemon.pid()));
        is_child && read("cmdline").split('\0').nth(1) == Some("copy")
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(is_copy)
}

fn runs(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !matches!(stat.rsplit(") ").next().and_then(|rest| rest.chars().next()), None | Some('Z' | 'X'))
}

async fn gone(pid: i32) {
    wait::until("rclone is gone", LIMIT, || (!runs(pid)).then_some(())).await;
}

/// A daemon whose uploads take a minute.
fn slowly(builder: Builder) -> Builder {
    builder.env("RCLONE_BWLIMIT", "50k").env("RCLONE_BUFFER_SIZE", "0")
}

/// Of a size that [`slowly`] does not get through, nor a buffer hold.
fn large() -> Stream {
    media::synthetic(3, 1_000_000)
}

/// Waits until a copy is under way, and something of it is there.
async fn upload_begun(daemon: &Daemon, remotes: &Remotes) -> i32 {
    let begun = || copier(daemon).filter(|_| tree(&remotes.directory()).iter().any(|path| path.ends_with(".ts")));
    wait::until("an upload is under way", LIMIT, begun).await
}

#[tokio::test]
async fn a_course_goes_to_s3_byte_for_byte() {
    let (world, remotes) = (World::new(), Remotes::new());
    let _s3 = remotes.start_s3();
    let statuses = world.redis.subscribe("task:1501:status");
    let daemon = remotes.deliver_to("s3:courses/of the field", world.daemon()).start().await;
    let stream = media::synthetic(6, 100_000);
    world.publish(1501, &stream);
    world.push(1501);
    world.redis.wait_for_task(1501, "completed").await;
    assert_delivered(&remotes, "s3:courses", &format!("of the field/{}", folder(1501)), &stream);
    world.settled(1501).await;
    wait::until("the sandbox is removed", LIMIT, || (!daemon.task_directory(1501).exists()).then_some(())).await;
    assert_eq!(world.backend.finalize_calls()[0].json()["folder_name"], folder(1501));
    let told: Vec<_> = statuses.json("task:1501:status").iter().map(|event| event["newStatus"].clone()).collect();
    assert_eq!(told, ["downloading", "uploading", "completed"]);
    assert!(!daemon.log_text().contains(SECRET_KEY));
}

#[tokio::test]
async fn the_course_of_another_task_is_neither_replaced_nor_mixed() {
    let (world, remotes) = (World::new(), Remotes::new());
    let _s3 = remotes.start_s3();
    for (task_id, remote) in [(1511, "s3:courses"), (1512, "directory:")] {
        remotes.put(&format!("{remote}/{}/mine", folder(task_id)), "precious");
        let daemon = remotes.deliver_to(remote, world.daemon()).start().await;
        world.publish(task_id, &small());
        world.push(task_id);
        world.redis.wait_for_task(task_id, "completed").await;
        let own = format!("{} (Task {task_id})", folder(task_id));
        let expected = [
            (format!("{own}/{LECTURE}"), small().truth().to_vec()),
            (format!("{}/mine", folder(task_id)), b"precious".to_vec()),
        ];
        assert_eq!(contents(remotes.fetch(remote).path()), BTreeMap::from(expected));
        drop(daemon);
    }
}

#[tokio::test]
async fn what_the_server_answers_decides_whether_it_is_tried_again() {
    let world = World::new();
    let status = Arc::new(AtomicU16::new(500));
    world.origin.answer("/courses*", {
        let status = status.clone();
        move |_| {
            let code = match status.load(Ordering::Relaxed) {
                403 => "AccessDenied",
                507 => "StorageFull",
                _ => "InternalError",
            };
            let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>No.</Message></Error>");
            Reply::ok("application/xml", body).with_status(status.load(Ordering::Relaxed))
        }
    });
    let port = world.origin.url("").rsplit(':').next().unwrap().trim_end_matches('/').parse().unwrap();
    let remotes = Remotes::with_s3_on(port);
    // It starts all the same: the server may be mended.
    let daemon = remotes.deliver_to("s3:courses", world.daemon().set("queue.max_attempts", 2)).start().await;
    daemon.wait_for_log(&["courses cannot be delivered now", "delivery_failed"]).await;
    for (task_id, answer, kind, attempts) in [(1521, 500, "delivery_failed", 2), (1523, 403, "delivery_refused", 1)] {
        status.store(answer, Ordering::Relaxed);
        world.publish(task_id, &small());
        world.push(task_id);
        world.redis.wait_for_task(task_id, "failed").await;
        let log = world.error_log(task_id);
        assert_eq!((log["kind"].as_str(), log["attempts"].as_u64()), (Some(kind), Some(attempts)), "{log}");
        assert!(log["message"].as_str().unwrap().contains(&format!("s3:courses/{}", folder(task_id))), "{log}");
        assert!(daemon.task_directory(task_id).join(folder(task_id)).join(LECTURE).exists(), "kept for a look");
    }
    // A remote without room is waited for, for more attempts than there are.
    status.store(507, Ordering::Relaxed);
    world.publish(1522, &small());
    world.push(1522);
    let told = || complaints(&daemon, 1522).into_iter().filter(|line| line["kind"] == "disk_full").count();
    wait::until("it was tried three times", LIMIT, || (told() >= 3).then_some(())).await;
    assert_eq!(world.redis.task_field(1522, "status"), "enrolled");
    assert!(!daemon.log_text().contains(SECRET_KEY));
    drop(daemon);
    // Nobody takes jobs into a remote that refuses.
    status.store(403, Ordering::Relaxed);
    let refused = remotes.deliver_to("s3:courses", world.daemon()).launch();
    assert_eq!(refused.wait_for_log(&["no jobs are taken"]).await["kind"], "delivery_refused");
}

#[tokio::test]
async fn a_remote_that_refuses_holds_up_jobs_and_no_orders() {
    let (world, remotes) = (World::new(), Remotes::new());
    world.publish(1591, &small());
    let daemon = remotes.deliver_to("later:", world.daemon().hook()).launch();
    let line = daemon.wait_for_log(&["no jobs are taken"]).await;
    assert_eq!((line["level"].as_str(), line["kind"].as_str()), (Some("ERROR"), Some("delivery_refused")), "{line}");
    let task = json!({"taskId": 1591, "email": "user@example.com", "courseUrl": course_url(1591)});
    let order = json!({"orderId": 15, "tasks": [task]});
    let orders = daemon.hook_url("/api/v1/orders");
    let answer = http_client().post(&orders).bearer_auth(HOOK_TOKEN).json(&order).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    let answer = http_client().get(format!("{orders}/15?wait=60")).bearer_auth(HOOK_TOKEN).send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["queued"], 1);
    let (status, body) = daemon.admin("/readyz").unwrap();
    assert!(status == 503 && body.contains("didn't find section in config file"), "{status} {body}");
    assert_eq!(world.redis.list(LIST).len(), 1, "the job waits");

    let mut config = OpenOptions::new().append(true).open(remotes.config()).unwrap();
    write!(config, "\n[later]\ntype = alias\nremote = {}\n", remotes.directory().display()).unwrap();
    world.redis.wait_for_task(1591, "completed").await;
    assert_delivered(&remotes, "directory:", &folder(1591), &small());
    assert!(daemon.is_ready());
}

#[tokio::test]
async fn a_server_that_is_away_gets_the_course_when_it_is_back() {
    let (world, remotes) = (World::new(), Remotes::new());
    let daemon = remotes.deliver_to("s3:courses", world.daemon().set("queue.max_attempts", 100)).start().await;
    world.publish(1531, &small());
    world.push(1531);
    let failed = daemon.wait_for_log(&["attempt 1 of 100 failed", "connection refused"]).await;
    assert_eq!(failed["kind"], "delivery_failed");
    let _s3 = remotes.start_s3();
    world.redis.wait_for_task(1531, "completed").await;
    assert_delivered(&remotes, "s3:courses", &folder(1531), &small());
}

#[tokio::test]
async fn after_a_kill_in_the_middle_of_an_upload_there_is_one_course() {
    let (world, remotes) = (World::new(), Remotes::new());
    let staging = tempfile::tempdir().unwrap();
    let start = |builder: Builder| remotes.deliver_to("directory:", builder).staging(staging.path()).start();
    let daemon = start(slowly(world.daemon())).await;
    world.publish(1541, &large());
    world.push(1541);
    let pid = upload_begun(&daemon, &remotes).await;
    daemon.sigkill();
    gone(pid).await;
    let cut = remotes.directory().join(folder(1541)).join(LECTURE);
    assert!(std::fs::metadata(cut).unwrap().len() < large().truth().len() as u64, "it was under way");
    world.origin.forget_requests();
    let _successor = start(world.daemon()).await;
    world.redis.wait_for_task(1541, "completed").await;
    assert_delivered(&remotes, "directory:", &folder(1541), &large());
    assert_eq!(world.backend.finalize_calls().len(), 1);
    assert_eq!(world.origin.count("/1541/*.ts"), 0, "nothing is downloaded twice");
}

#[tokio::test]
async fn a_stop_ends_the_upload_and_the_next_instance_finishes_it() {
    let (world, remotes) = (World::new(), Remotes::new());
    let staging = tempfile::tempdir().unwrap();
    let start = |builder: Builder| remotes.deliver_to("directory:", builder).staging(staging.path()).start();
    let daemon = start(slowly(world.daemon()).set("worker.drain_seconds", 0)).await;
    world.publish(1551, &large());
    world.push(1551);
    let pid = upload_begun(&daemon, &remotes).await;
    daemon.sigterm();
    assert_eq!(daemon.wait_exit(LIMIT).await.code(), Some(0));
    assert!(!runs(pid));
    let successor = start(world.daemon()).await;
    world.redis.wait_for_task(1551, "completed").await;
    assert_delivered(&remotes, "directory:", &folder(1551), &large());
    assert_eq!(successor.wait_for_log(&["task completed"]).await["attempt"], 1, "a stop costs no attempt");
}

#[tokio::test]
async fn an_upload_that_stands_still_is_given_up_and_made_again() {
    let (world, remotes) = (World::new(), Remotes::new());
    let builder = remotes.deliver_to("directory:", slowly(world.daemon())).set("delivery.rclone_stall_seconds", 5);
    let daemon = builder.start().await;
    let stream = media::synthetic(3, 100_000);
    world.publish(1561, &stream);
    world.push(1561);
    let pid = wait::until("a copy runs", LIMIT, || copier(&daemon)).await;
    kill_process(Pid::from_raw(pid).unwrap(), Signal::STOP).unwrap();
    let line = daemon.wait_for_log(&["rclone copy has stood still for 5 s"]).await;
    assert_eq!(line["kind"], "delivery_failed");
    gone(pid).await;
    world.redis.wait_for_task(1561, "completed").await;
    assert_delivered(&remotes, "directory:", &folder(1561), &stream);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let target = port::free();
    let proxy = Proxy::to(target);
    let (world, remotes) = (World::new(), Remotes::with_s3_on(proxy.port()));
    let s3 = Remotes::with_s3_on(target);
    let _s3 = s3.start_s3();
    let builder = remotes.deliver_to("s3:courses", world.daemon()).set("delivery.rclone_stall_seconds", 5);
    let daemon = builder.set("queue.max_attempts", 100).start().await;
    proxy.freeze();
    world.publish(1571, &small());
    world.push(1571);
    daemon.wait_for_log(&["attempt 1 of 100 failed", "rclone lsf has stood still for 5 s"]).await;
    proxy.resume();
    world.redis.wait_for_task(1571, "completed").await;
    assert_delivered(&s3, "s3:courses", &folder(1571), &small());
}

#[tokio::test]
async fn what_rclone_has_not_done_is_not_delivered_whatever_it_says() {
    let (world, remotes) = (World::new(), Remotes::new());
    // The first copy is none, the second crashes, of the third the lecture is cut.
    let program = remotes.config().with_file_name("rclone-that-lies");
    let cut = remotes.directory().join(folder(1581)).join(LECTURE);
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = copy ] || exec rclone \"$@\"\necho >>\"$0.runs\"\ncase $(wc -l <\"$0.runs\") in\n\
         1) exit 0;;\n2) kill -SEGV $$;;\n3) rclone \"$@\" && truncate -s -1 '{}';;\n*) exec rclone \"$@\";;\nesac\n",
        cut.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let builder = remotes.deliver_to("directory:", world.daemon()).set("queue.max_attempts", 4);
    let daemon = builder.set("delivery.rclone_program", program.display().to_string()).start().await;
    world.publish(1581, &small());
    world.push(1581);
    world.redis.wait_for_task(1581, "completed").await;
    let complaints = complaints(&daemon, 1581);
    let missing = format!("0 of 1 files are there as they should be; not so: {LECTURE}");
    assert_eq!(complaints.len(), 3, "{complaints:#?}");
    for (complaint, says) in complaints.iter().zip([&missing, "rclone copy (killed)", &missing]) {
        assert_eq!(complaint["kind"], "delivery_failed");
        assert!(complaint["message"].as_str().unwrap().contains(says), "{says}: {complaint}");
    }
    assert_delivered(&remotes, "directory:", &folder(1581), &small());
}

/// What `hauld check` says of a daemon's configuration.
fn check(daemon: &Daemon) -> Output {
    hauld().arg("check").arg("--config").arg(daemon.config()).output().unwrap()
}

fn delivery_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().find(|line| line.contains("delivery  ")).unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[tokio::test]
async fn what_cannot_work_is_said_at_the_start_and_by_the_check() {
    let (world, remotes) = (World::new(), Remotes::new());
    let builder = || remotes.deliver_to("directory:new", world.daemon());
    for (name, value, reason) in [
        ("delivery.rclone_program", "/nonexistent/rclone", "/nonexistent/rclone cannot be started: No such file"),
        ("delivery.rclone_remote", "nowhere:", "didn't find section in config file"),
    ] {
        let daemon = builder().set(name, value).launch();
        daemon.wait_for_log(&["ERROR", "delivery_refused", reason]).await;
        let output = check(&daemon);
        assert_eq!(output.status.code(), Some(1));
        let line = delivery_line(&output);
        assert!(line.starts_with("FAIL") && line.contains(reason), "{line}");
        daemon.sigterm();
        assert_eq!(daemon.wait_exit(LIMIT).await.code(), Some(0), "it does not wait for the remote");
    }
    let daemon = builder().start().await;
    let line = delivery_line(&check(&daemon));
    assert!(line.starts_with("ok") && line.contains("rclone v"), "{line}");
    assert!(line.ends_with("directory:new is not there yet: the first delivery makes it"), "{line}");
    assert_eq!(std::fs::read_dir(remotes.directory()).unwrap().count(), 0, "a look writes nothing");
}

/// What the unit gives the daemon, and every command reads.
#[tokio::test]
async fn a_remote_of_the_environment_file_is_known_to_the_daemon_and_the_check() {
    let (world, remotes) = (World::new(), Remotes::new());
    let _s3 = remotes.start_s3();
    let variables = format!(
        "RCLONE_CONFIG_FROMENV_TYPE=s3\nRCLONE_CONFIG_FROMENV_PROVIDER=Other\nRCLONE_CONFIG_FROMENV_ENV_AUTH=true\n\
         RCLONE_CONFIG_FROMENV_FORCE_PATH_STYLE=true\nRCLONE_CONFIG_FROMENV_ENDPOINT={}\n\
         AWS_ACCESS_KEY_ID=S3RVER\nAWS_SECRET_ACCESS_KEY={SECRET_KEY}\nAWS_EC2_METADATA_DISABLED=true\n\
         AWS_CA_BUNDLE=/nonexistent\n",
        remotes.s3_endpoint()
    );
    let daemon = remotes.deliver_to("fromenv:courses", world.daemon()).environment_file(&variables).start().await;
    let output = check(&daemon);
    let line = delivery_line(&output);
    assert!(line.starts_with("ok") && line.ends_with("fromenv:courses can be listed"), "{line}");
    world.publish(1595, &small());
    world.push(1595);
    world.redis.wait_for_task(1595, "completed").await;
    assert_delivered(&remotes, "s3:courses", &folder(1595), &small());
    assert!(!daemon.log_text().contains(SECRET_KEY) && !String::from_utf8_lossy(&output.stdout).contains(SECRET_KEY));
}
