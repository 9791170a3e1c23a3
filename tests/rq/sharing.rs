//! RQ's workers and ours on one list, and RQ's dashboard over both.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use hauld::config::RqCompat;
use serde_json::{Value, json};

use crate::python::Python;
use crate::support::redis::job;
use crate::support::{Daemon, port, wait};
use crate::world::{LIST, World, eventually, until};

const README: &str = include_str!("../../README.md");

#[tokio::test(flavor = "multi_thread")]
async fn without_compat_jobs_of_rq_are_left_to_its_workers() {
    let mut world = World::new();
    world.settings.rq = RqCompat::Off;
    let instance = world.instance().await;
    let directory = tempfile::tempdir().unwrap();
    for (mut python, number) in Python::all(&world.server).into_iter().zip([10, 20, 30]) {
        python.run(&format!("jobs = [q.enqueue('app.run', kwargs=task({number} + n)).id for n in range(3)]"));
        // Ours are run, whatever lies before them; theirs are still there.
        world.server.cli(&["LPUSH", LIST, &job(number + 5, "https://learn.example.com/")]);
        eventually("our job is run", || world.runner.attempts(number + 5) == [1]).await;
        let url = world.server.url();
        let arguments = ["worker", "--burst", "--url", &url, "downloads"];
        for _ in 0..20 {
            // A burst ends when the list is empty at the moment, and one of the ids may be on its way.
            python.start("rq", &arguments, directory.path()).wait_exit(Duration::from_secs(30)).await;
            if python.run("all(fetch(id).is_finished for id in jobs)") == true {
                break;
            }
        }
        assert_eq!(
            python.run("[fetch(id).get_status() for id in jobs]"),
            json!(["finished", "finished", "finished"]),
            "{}",
            python.version
        );
    }
    instance.stop().await;
    assert_eq!(world.dead(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_of_rq_and_ours_share_a_queue_and_run_every_job_once() {
    let mut world = World::new();
    world.settings.dedupe = Duration::from_secs(300);
    let instance = world.instance().await;
    let directory = tempfile::tempdir().unwrap();
    let url = world.server.url();
    let mut pythons = [world.python("2.12.0"), world.python("3.0.0")];
    for (python, number) in pythons.iter_mut().zip([100, 200]) {
        let theirs = python.start("rq", &["worker", "--burst", "--url", &url, "downloads"], directory.path());
        python.run(&format!("jobs = [q.enqueue('app.run', kwargs=task({number} + n)).id for n in range(40)]"));
        until(python, "[fetch(id).is_finished for id in jobs] == [True] * 40", true).await;
        assert_eq!(python.run("[len(fetch(id).results()) for id in jobs] == [1] * 40"), true);
        theirs.wait_exit(Duration::from_secs(30)).await;
        let ours = (number..number + 40).map(|task| world.runner.attempts(task).len()).sum::<usize>();
        let by = |name: &str| format!("sum(fetch(id).worker_name {name} '{}' for id in jobs)", instance.name);
        assert_eq!(python.run(&by("==")), ours);
    }
    // A second job of a task that we have just done: set aside, in our books and in theirs.
    let python = &mut pythons[1];
    python.run("first = q.enqueue('app.run', kwargs=task(300)).id");
    until(python, "fetch(first).get_status()", "finished").await;
    python.run("second = q.enqueue('app.run', kwargs=task(300)).id");
    until(python, "fetch(second).get_status()", "failed").await;
    assert!(python.text("result(second)['text']").contains("duplicate_job"));
    assert_eq!(world.dead(), [(python.text("second"), "duplicate_job".into())]);
    assert_eq!(world.runner.attempts(300), [1]);
    instance.stop().await;
}

/// The binary as a user that may do no more than README says, and what an operator sees in a browser.
#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_shows_what_the_daemon_does() {
    let world = World::new();
    for line in README.lines().collect::<Vec<_>>().join("\n").replace("\\\n", " ").lines() {
        if line.trim_start().starts_with("ACL SETUSER hauld ") {
            world.server.cli(&line.split_whitespace().collect::<Vec<_>>());
        }
    }
    let as_user = world.server.url().replace("redis://", "redis://hauld:PASSWORD@");
    let daemon = Daemon::builder().set("redis.url", as_user).set("rq.compat", "worker").start().await;
    let mut python = world.python("2.12.0");
    let directory = tempfile::tempdir().unwrap();
    let port = port::free();
    let (at, url) = (port.to_string(), world.server.url());
    let _dashboard = python.start("rq-dashboard", &["-b", "127.0.0.1", "-p", &at, "-u", &url], directory.path());
    let look = |path: &str| get(port, path);
    let up = || look("/0/data/workers.json");
    wait::until("the dashboard answers", Duration::from_secs(20), up).await;

    python.run("id = q.enqueue('app.run', kwargs=task(43)).id");
    until(&mut python, "fetch(id).get_status()", "failed").await;
    let id = python.text("id");
    let workers = look("/0/data/workers.json").unwrap();
    assert_eq!(workers["workers"].as_array().map(Vec::len), Some(1), "{workers}");
    assert_eq!(workers["workers"][0]["queues"], json!(["downloads"]));
    let queues = look("/0/data/queues.json").unwrap();
    assert_eq!(queues["queues"][0]["failed_job_registry_count"], 1, "{queues}");
    let shown = look(&format!("/0/data/job/{id}.json")).unwrap();
    assert_eq!(shown["status"], "failed");
    assert!(shown["exc_info"].as_str().unwrap().contains("task_not_found"), "{shown}");
    // The task is there now: requeued by the button, it gets further.
    world.server.set_task(43, "failed");
    ask(port, "POST", &format!("/job/{id}/requeue")).unwrap();
    until(&mut python, "'enrollment_failed' in result(id)['text']", true).await;

    // Our own commands see it too.
    for command in ["queue verify", "dead retry --kind enrollment_failed"] {
        let output = daemon.command(&command.split(' ').collect::<Vec<_>>()).output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stdout));
    }
    until(&mut python, "[len(fetch(id).results()), fetch(id).get_status()]", json!([3, "failed"])).await;
    daemon.sigterm();
    daemon.wait_exit(Duration::from_secs(20)).await;
    assert_eq!(python.run("workers()"), json!([]));
    let denied = world.server.cli(&["ACL", "LOG"]);
    let denied: Vec<&str> = denied.split("\nobject\n").skip(1).filter_map(|entry| entry.lines().next()).collect();
    assert!(denied.iter().all(|what| *what == "config|get"), "{denied:?}");
}

fn get(port: u16, path: &str) -> Option<Value> {
    serde_json::from_str(&ask(port, "GET", path).ok()?).ok()
}

/// The body of the answer, without a client library.
fn ask(port: u16, method: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}
