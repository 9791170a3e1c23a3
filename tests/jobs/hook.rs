//! The hook of the real binary: what dies on the way, what an operator does, who is let in.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::support::daemon::HOOK_TOKEN;
use crate::support::{Daemon, http_client, wait};
use crate::world::{LIST, World, course_url, small};

const LIMIT: Duration = Duration::from_secs(30);
/// Writes of an order of two tasks: taken in; noted as enrolled, each; the status, each; told to the gates,
/// each; pushed, each; and the first one of each of three scripts, which the server does not know yet.
const STEPS: usize = 12;

fn order(order_id: u64, tasks: &[u64]) -> Value {
    let task = |id: &u64| json!({"taskId": id, "email": "user@example.com", "courseUrl": course_url(*id)});
    json!({"orderId": order_id, "tasks": tasks.iter().map(task).collect::<Vec<_>>()})
}

async fn ask(daemon: &Daemon, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let request = http_client().request(method.parse().unwrap(), daemon.hook_url(path)).bearer_auth(HOOK_TOKEN);
    let request = if let Some(body) = body { request.json(body) } else { request };
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// Runs a command with the configuration of a daemon: whether it succeeded, and what it said.
fn run(daemon: &Daemon, arguments: &[&str]) -> (bool, String) {
    let output = daemon.command(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// A way to Redis on which the write number `step` about an order is the last thing that moves: it does
/// not arrive, or it arrives and its answer does not.
struct Tripwire {
    port: u16,
    tripped: Arc<Notify>,
}

impl Tripwire {
    /// Runs on a thread of its own: a test blocks its own with commands.
    fn to(target: u16, step: usize, arrives: bool) -> Tripwire {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let tripped = Arc::new(Notify::new());
        let told = tripped.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let forwarding =
                async { forward(TcpListener::from_std(listener).unwrap(), target, step, arrives, told).await };
            runtime.block_on(forwarding);
        });
        Tripwire { port, tripped }
    }
}

async fn forward(listener: TcpListener, target: u16, step: usize, arrives: bool, tripped: Arc<Notify>) {
    let seen = Arc::new(AtomicUsize::new(0));
    while let Ok((client, _)) = listener.accept().await {
        let server = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
        let (seen, tripped) = (seen.clone(), tripped.clone());
        tokio::spawn(async move {
            let ((mut from, mut back), (mut answers, mut to)) = (client.into_split(), server.into_split());
            let answering = tokio::spawn(async move { tokio::io::copy(&mut answers, &mut back).await });
            let mut buffer = vec![0; 1 << 16];
            while let Ok(length @ 1..) = from.read(&mut buffer).await {
                let text = String::from_utf8_lossy(&buffer[..length]);
                let writes = text.matches("hauld:order:41").count() + text.matches("hauld:task:").count();
                if seen.fetch_add(writes, SeqCst) + writes >= step {
                    answering.abort();
                    if arrives {
                        to.write_all(&buffer[..length]).await.unwrap();
                    }
                    tripped.notify_one();
                    return std::future::pending::<()>().await;
                }
                to.write_all(&buffer[..length]).await.unwrap();
            }
        });
    }
}

/// Kills the daemon at one write of an order, and has another one go on.
async fn killed_at(step: usize, arrives: bool) {
    let place = format!("write {step}, {}", if arrives { "its answer lost" } else { "not arrived" });
    let world = World::new();
    world.publish(43, &small());
    world.publish(44, &small());
    // Who may take the elements is not the question here.
    world.redis.cli(&["HSET", "{rq:queue:downloads}:hauld:paused", "*", "{}"]);
    let wire = Tripwire::to(world.redis.port(), step, arrives);
    let url = format!("redis://127.0.0.1:{}/0", wire.port);
    // On the same host: while its way to Redis is gone, the order is kept on disk.
    let staging = tempfile::tempdir().unwrap();
    let daemon = world.daemon().staging(staging.path()).set("redis.url", url).hook().start().await;
    let answer =
        http_client().post(daemon.hook_url("/api/v1/orders")).bearer_auth(HOOK_TOKEN).json(&order(41, &[43, 44]));
    let answer = tokio::spawn(answer.send());
    tokio::time::timeout(LIMIT, wire.tripped.notified()).await.unwrap_or_else(|_| panic!("{place}: never made"));
    if step > 1 {
        assert_eq!(answer.await.unwrap().unwrap().status(), 202, "{place}: answered when it is stored");
    }
    daemon.sigkill();
    assert!(world.redis.list(LIST).len() < 2 || (step == STEPS && arrives), "{place}");

    // As if its claim had run out.
    world.redis.cli(&["ZADD", "{rq:queue:downloads}:hauld:orders", "XX", "0", "41"]);
    let successor = world.daemon().staging(staging.path()).hook().start().await;
    if step == 1 {
        // The caller had no answer, so it asks again.
        assert_eq!(ask(&successor, "POST", "/api/v1/orders", Some(&order(41, &[43, 44]))).await.0, 202);
    }
    let (status, body) = ask(&successor, "GET", "/api/v1/orders/41?wait=60", None).await;
    assert_eq!((status, &body["state"], &body["queued"]), (200, &json!("done"), &json!(2)), "{place}: {body}");
    let pushed = world.redis.list(LIST);
    assert_eq!(pushed.len(), 2, "{place}: each is pushed once: {pushed:?}");
    let calls = world.backend.enroll_calls();
    for task in [43, 44] {
        let key = format!("order-41-task-{task}");
        let times = calls.iter().filter(|call| call.header("Idempotency-Key") == Some(key.as_str())).count();
        // Twice only when the kill came between the service's answer and the note about it.
        assert!((1..=2).contains(&times), "{place}: task {task} was enrolled {times} times");
        assert_eq!(world.redis.task_field(task, "status"), "enrolled", "{place}");
    }
    assert!(run(&successor, &["resume"]).0);
    for task in [43, 44] {
        world.redis.wait_for_task(task, "completed").await;
    }
    assert_eq!(world.backend.wait_for_finalize(2).await.len(), 2, "{place}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_finished_wherever_its_instance_is_killed_and_nothing_is_done_twice() {
    let places = (1..=STEPS).flat_map(|step| [(step, false), (step, true)]);
    // All at once they would starve each other: the hook ends a connection that is silent for 10 s.
    let kills = places.map(async |(step, arrives)| tokio::spawn(killed_at(step, arrives)).await.unwrap());
    stream::iter(kills).buffer_unordered(8).collect::<Vec<()>>().await;
}

#[tokio::test]
async fn an_order_goes_on_by_itself_when_the_claim_of_a_dead_instance_runs_out() {
    let world = World::new();
    world.publish(43, &small());
    let hold = world.backend.origin.hold(crate::support::backend::ENROLL);
    let daemon = world.daemon().hook().start().await;
    let successor = world.daemon().set("worker.instance", "1").hook().start().await;
    assert_eq!(ask(&daemon, "POST", "/api/v1/orders", Some(&order(41, &[43]))).await.0, 202);
    hold.wait_for(1).await;
    daemon.sigkill();
    hold.release();
    // The claim is for 30 s, and every instance looks every 5 s.
    world.redis.wait_for_task(43, "completed").await;
    let (_, body) = ask(&successor, "GET", "/api/v1/orders/41", None).await;
    assert_eq!((&body["state"], &body["queued"]), (&json!("done"), &json!(1)));
    assert_eq!(world.backend.finalize_calls().len(), 1);
}

#[tokio::test]
async fn orders_on_disk_outlive_the_process_and_go_on_when_redis_is_back() {
    let mut world = World::on(crate::support::RedisServer::start_durable());
    let staging = tempfile::tempdir().unwrap();
    for task in [43, 44] {
        world.publish(task, &small());
    }
    let daemon = world.daemon().staging(staging.path()).hook().start().await;
    world.redis.kill9();
    for order_id in [41, 42] {
        let (status, body) = ask(&daemon, "POST", "/api/v1/orders", Some(&order(order_id, &[order_id + 2]))).await;
        assert_eq!((status, &body["stored"]), (202, &json!("disk")));
    }
    assert_eq!(daemon.metric("hauld_orders_on_disk"), Some(2.0));
    daemon.sigkill();
    world.redis.restart();
    let successor = world.daemon().staging(staging.path()).hook().start().await;
    for task in [43, 44] {
        world.redis.wait_for_task(task, "completed").await;
    }
    assert_eq!((world.backend.enroll_calls().len(), world.backend.finalize_calls().len()), (2, 2));
    wait::until("nothing is left on disk", LIMIT, || {
        (std::fs::read_dir(staging.path().join(".orders")).unwrap().count() == 0).then_some(())
    })
    .await;
    assert_eq!(successor.metric("hauld_orders_on_disk"), Some(0.0));
}

#[tokio::test]
async fn a_task_is_requeued_only_when_its_customer_is_enrolled() {
    let world = World::new();
    let daemon = world.daemon().set("queue.max_attempts", 1).hook().start().await;
    let (ok, said) = run(&daemon, &["requeue", "51"]);
    assert!(!ok && said.contains("task_not_found"), "{said}");
    assert_eq!(ask(&daemon, "POST", "/api/v1/tasks/51/requeue", None).await.0, 404);

    // Failed after its enrollment: the catalogue did not know the course.
    let (_, body) = ask(&daemon, "POST", "/api/v1/orders?wait=60", Some(&order(41, &[51, 52]))).await;
    assert_eq!(body["queued"], 2, "{body}");
    for task in [51, 52] {
        world.redis.wait_for_task(task, "failed").await;
        world.dead_of(task).await;
    }
    let (_, task) = ask(&daemon, "GET", "/api/v1/tasks/51", None).await;
    assert_eq!(
        (&task["status"], &task["place"], &task["failure"]["kind"], &task["orderId"]),
        (&json!("failed"), &json!("dead"), &json!("course_not_found"), &json!(41))
    );
    world.publish(51, &small());
    world.publish(52, &small());
    let (ok, said) = run(&daemon, &["requeue", "51"]);
    assert!(ok && said.contains("from the dead list"), "{said}");
    let (status, said) = ask(&daemon, "POST", "/api/v1/tasks/52/requeue", None).await;
    assert_eq!((status, &said["taskId"]), (200, &json!(52)));
    for task in [51, 52] {
        world.redis.wait_for_task(task, "completed").await;
    }
    wait::until("both are settled", LIMIT, || {
        let done = world.redis.cli(&["HGET", "{rq:queue:downloads}:hauld:counts", "done"]);
        (done == "2").then_some(())
    })
    .await;
    assert!(world.dead().is_empty());
    let (status, problem) = ask(&daemon, "POST", "/api/v1/tasks/51/requeue", None).await;
    assert_eq!((status, &problem["kind"]), (409, &json!("unexpected_status")));
    assert_eq!(ask(&daemon, "POST", "/api/v1/tasks/51/requeue?force=yes", None).await.0, 400);
    assert_eq!(ask(&daemon, "POST", "/api/v1/tasks/51/requeue?force=true", None).await.0, 200);
    world.backend.wait_for_finalize(3).await;
    world.redis.wait_for_task(51, "completed").await;

    // Failed before it was enrolled, be it because the job ran out of time at the gate.
    for (task, error_log) in [
        (53, r#"{"kind":"enrollment_failed"}"#),
        (54, r#"{"kind":"job_timeout","enrolled":false}"#),
        (55, r#"{"kind":"job_timeout"}"#),
        (56, ""),
    ] {
        world.publish(task, &small());
        let (key, url) = (format!("hauld:task:{task}"), course_url(task));
        world.redis.cli(&[
            "HSET",
            &key,
            "status",
            "failed",
            "email",
            "a@b",
            "course_url",
            &url,
            "error_log",
            error_log,
        ]);
        let (ok, said) = run(&daemon, &["requeue", &task.to_string()]);
        assert!(!ok && said.contains("enrollment_failed"), "{said}");
        assert_eq!(world.redis.task_field(task, "status"), "failed");
    }
    world.redis.cli(&["HSET", "hauld:task:54", "error_log", r#"{"kind":"job_timeout","enrolled":true}"#]);
    assert!(run(&daemon, &["requeue", "54"]).0);
    world.redis.wait_for_task(54, "completed").await;
    // What is not enrolled yet: with force the gate decides.
    world.redis.cli(&["HSET", "hauld:task:53", "status", "pending"]);
    assert!(!run(&daemon, &["requeue", "53"]).0);
    assert!(run(&daemon, &["requeue", "--force", "53"]).0);
    daemon.wait_for_log(&["ENROLL CHECK waiting", "\"task_id\":53"]).await;
    world.redis.set_task(53, "enrolled");
    world.redis.wait_for_task(53, "completed").await;
}

#[tokio::test]
async fn a_task_is_cancelled_wherever_it_is() {
    let world = World::new();
    let retry = world.daemon().set("queue.retry_delay_seconds", 600).set("queue.max_attempts", 3);
    let daemon = retry.set("worker.jobs", 1).set("queue.sweep_seconds", 1).hook().start().await;
    let (status, problem) = ask(&daemon, "POST", "/api/v1/tasks/61/cancel", None).await;
    assert_eq!((status, &problem["kind"]), (404, &json!("not_found")));

    // Delayed: its first attempt has failed.
    world.redis.cli(&["HSET", "hauld:task:62", "status", "enrolled"]);
    let paths = world.publish(62, &small());
    world.origin.fault(&paths[0], crate::support::origin::Fault::Status(404));
    world.push(62);
    let place = async |task: u64| ask(&daemon, "GET", &format!("/api/v1/tasks/{task}"), None).await.1["place"].clone();
    while place(62).await != "delayed" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Running, and two that wait behind it.
    let running = world.publish(61, &small());
    let hold = world.origin.hold(&running[0]);
    world.push(61);
    hold.wait_for(1).await;
    for task in [63, 64] {
        world.publish(task, &small());
        world.push(task);
    }
    assert_eq!((place(61).await, place(63).await), (json!("running"), json!("waiting")));
    let (status, problem) = ask(&daemon, "POST", "/api/v1/tasks/63/requeue", None).await;
    assert_eq!((status, &problem["kind"]), (409, &json!("duplicate_job")));

    let (ok, said) = run(&daemon, &["cancel", "62", "63"]);
    assert!(ok && said.matches("is on the dead list now").count() == 2, "{said}");
    let (status, said) = ask(&daemon, "POST", "/api/v1/tasks/61/cancel", None).await;
    assert_eq!(status, 200);
    assert!(said["message"].as_str().unwrap().contains("is being stopped on"), "{said}");
    for task in [61, 62, 63] {
        assert_eq!(world.dead_of(task).await["kind"], "job_stopped", "{task}");
        world.redis.wait_for_task(task, "failed").await;
        assert_eq!(world.error_log(task)["kind"], "job_stopped");
    }
    hold.release();
    world.redis.wait_for_task(64, "completed").await;
    assert_eq!(world.redis.cli(&["ZCARD", "{rq:queue:downloads}:hauld:delayed"]), "0");
    // What was cancelled can be wanted again, at once.
    let (ok, said) = run(&daemon, &["requeue", "61", "63"]);
    assert!(ok, "{said}");
    for task in [61, 63] {
        world.redis.wait_for_task(task, "completed").await;
    }
    wait::until("all adds up", LIMIT, || run(&daemon, &["queue", "verify"]).0.then_some(())).await;
}

#[tokio::test]
async fn a_token_is_replaced_while_the_daemon_runs() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop");
    let write = |text: &str| {
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    };
    write("first-token\n");
    let files = vec![toml::Value::from(file.to_str().unwrap())];
    let daemon = world.daemon().hook().set("hook.token_files", files).start().await;
    let status = async |token: &str| {
        let request = http_client().get(daemon.hook_url("/api/v1/orders/1")).bearer_auth(token);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!((status("first-token").await, status("second-token").await), (404, 401));
    write("second-token\n");
    daemon.sighup();
    daemon.wait_for_log(&["were read again"]).await;
    assert_eq!((status("first-token").await, status("second-token").await), (401, 404));
    write("");
    daemon.sighup();
    daemon.wait_for_log(&["everything stays as it was", "hook.token_files"]).await;
    assert_eq!(status("second-token").await, 404);
    assert!(!daemon.log_text().contains("second-token"));
    // Without a hook the signal harms nobody.
    let other = world.daemon().set("worker.instance", "1").start().await;
    other.sighup();
    world.publish(43, &small());
    world.push(43);
    world.redis.wait_for_task(43, "completed").await;
    assert!(other.is_ready());
}

#[tokio::test]
async fn instances_of_a_host_share_the_port_and_one_that_ends_is_not_missed() {
    let world = World::new();
    let first = world.daemon().hook().start().await;
    let port = first.hook_port().unwrap();
    let second = world.daemon().set("worker.instance", "1").hook_at(port).start().await;
    assert_eq!(ask(&second, "GET", "/api/v1/orders/41", None).await.0, 404);
    first.sigterm();
    wait::until("the first one has stopped", LIMIT, || first.exited()).await;
    for _ in 0..20 {
        assert_eq!(ask(&second, "GET", "/api/v1/orders/41", None).await.0, 404, "whoever is left answers");
    }
}

#[tokio::test]
async fn the_hook_does_not_open_itself_to_everybody() {
    let world = World::new();
    let world_daemon = || world.daemon().set("enrollment.endpoint", world.backend.enroll_url());
    let refused = world_daemon().set("hook.listen", "0.0.0.0:0").launch();
    assert_eq!(refused.wait_exit(LIMIT).await.code(), Some(78));
    assert!(refused.log_text().contains("or everybody gets in"), "{}", refused.log_text());
}
