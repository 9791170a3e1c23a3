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

/// The binary, its configuration, and what an operator sees in a browser.
#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_shows_what_the_daemon_does() {
    let world = World::new();
    let daemon = Daemon::builder().redis(&world.server).set("rq.compat", "worker").start().await;
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

    daemon.sigterm();
    daemon.wait_exit(Duration::from_secs(20)).await;
    assert_eq!(python.run("workers()"), json!([]));
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
