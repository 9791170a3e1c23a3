//! Jobs of RQ while they run: how they are shown, stopped, suspended; and what a death leaves.

use std::time::Duration;

use serde_json::json;

use crate::python::Python;
use crate::world::{World, eventually, key, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_is_shown_stopped_by_rqs_command_and_never_tried_again() {
    let world = World::new();
    let instance = world.instance().await;
    for (mut python, number) in Python::all(&world.server).into_iter().zip(1..) {
        python.run(&format!("id = q.enqueue('app.run', kwargs=task({number}, 'wait'), retry=Retry(3)).id"));
        until(&mut python, "workers()[0]['state']", "busy").await;
        assert_eq!(python.run("started() == [id] and fetch(id).get_status() == 'started'"), true);
        let shown = python.run("[fetch(id).worker_name, workers()[0]['job'] == id, len(workers())]");
        assert_eq!(shown, json!([instance.name, true, 1]), "rq {}", python.version);
        if python.version != "1.16.2" {
            assert_eq!(python.run("[e.job_id == id for e in fetch(id).get_executions()]"), json!([true]));
        }
        python.run("send_stop_job_command(c, id)");
        until(&mut python, "fetch(id).get_status()", "stopped").await;
        assert_eq!(python.run("ids(FailedJobRegistry) == [id] and result(id)['type'] == 2"), true);
        assert_eq!(world.dead().first(), Some(&(python.text("id"), "job_stopped".into())));
        assert_eq!(world.runner.gave_up_on(number).len(), 1, "the backend is told");
        assert_eq!(world.runner.attempts(number), [1]);
        world.assert_nothing_is_left_running();

        // Too late for this one.
        python.run("send_stop_job_command(c, id) if fetch(id).worker_name else None");
        until(&mut python, "workers()[0]['state']", "idle").await;
        python.run("fetch(id).delete()");
    }
    world.server.cli(&["PUBLISH", &format!("rq:pubsub:{}", instance.name), r#"{"command": "shutdown"}"#]);
    instance.ended().await;
    assert_eq!(world.python("3.0.0").run("workers()"), json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn rq_suspend_is_a_pause_and_rq_resume_its_end() {
    let world = World::new();
    let instance = world.instance().await;
    for (mut python, number) in Python::all(&world.server).into_iter().zip(1..) {
        python.rq(&["suspend"]);
        // At once, also for a wait that is under way.
        python.run(&format!("id = q.enqueue('app.run', kwargs=task({number})).id"));
        until(&mut python, "workers()[0]['state']", "suspended").await;
        let info = python.rq(&["info", "--raw"]);
        assert!(info.contains("downloads 1"), "rq {}: {info}", python.version);
        assert_eq!(python.run("[fetch(id).get_status(), q.job_ids == [id]]"), json!(["queued", true]));
        assert_eq!(world.runner.attempts(number), [0; 0]);
        python.rq(&["resume"]);
        until(&mut python, "fetch(id).get_status()", "finished").await;
    }
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_hands_jobs_back_and_a_death_is_made_good() {
    let mut world = World::new();
    world.settings.lease = Duration::from_secs(2);
    world.settings.max_crashes = 2;
    for (mut python, number) in Python::all(&world.server).into_iter().zip(1..) {
        python.run(&format!("id = q.enqueue('app.run', kwargs=task({number}, 'wait')).id"));
        let first = world.instance().await;
        until(&mut python, "started() == [id]", true).await;
        until(&mut python, "len(workers())", 1).await;
        first.stop().await;
        assert_eq!(python.run("[fetch(id).get_status(), q.job_ids == [id]]"), json!(["queued", true]));
        assert_eq!(python.run("[workers(), started(), ids(FailedJobRegistry)]"), json!([[], [], []]));
        world.assert_nothing_is_left_running();

        // The first death gives it to the next, the second puts it aside.
        world.instance_dies_with(&mut python, number).await;
        world.instance_dies_with(&mut python, number).await;
        let last = world.instance().await;
        until(&mut python, "fetch(id).get_status()", "failed").await;
        assert!(python.text("result(id)['text']").contains("worker_crashed"));
        assert_eq!(python.run("ids(FailedJobRegistry) == [id]"), true);
        assert_eq!(python.run("[w['name'] for w in workers()]"), json!([last.name]), "rq {}", python.version);
        assert_eq!(world.dead()[0], (python.text("id"), "worker_crashed".into()));
        eventually("the backend is told", || world.runner.gave_up_on(number).len() == 1).await;
        assert_eq!(world.runner.attempts(number), [1, 1, 1]);
        last.stop().await;
        world.assert_nothing_is_left_running();
        python.run("fetch(id).delete()");
    }
    assert_eq!(world.server.cli(&["ZCARD", &key("leases")]), "0");
}

/// A reader who saw no sign of life for too long has failed the job. The next sign, or its end, puts
/// that right. (RQ 1.16 does not look behind the id of an execution, so it never fails one.)
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_taken_for_abandoned_is_shown_as_it_is() {
    let world = World::new();
    let instance = world.instance().await;
    let mut pythons = [world.python("2.12.0"), world.python("3.0.0")];
    for (python, number) in pythons.iter_mut().zip(1..) {
        python.run(&format!("id = q.enqueue('app.run', kwargs=task({number}, 'later')).id"));
        until(python, "id in started()", true).await;
    }
    // As after an outage of Redis: nothing was renewed for more than 90 s, and the worker is forgotten.
    let forget = "k = 'rq:wip:downloads'; [c.zadd(k, {m: 1}) for m in c.zrange(k, 0, -1)]; \
                  c.delete('rq:workers', *c.keys('rq:worker:*'), *c.keys('rq:execution:*'))";
    pythons[0].run(forget);
    for python in &mut pythons {
        until(python, "[started(), fetch(id).get_status()]", json!([[], "failed"])).await;
    }
    // Within 30 s of the last sign.
    for python in &mut pythons {
        until(python, "[id in started(), fetch(id).get_status()]", json!([true, "started"])).await;
        assert_eq!(python.run("[ids(FailedJobRegistry), workers()[0]['state']]"), json!([[], "busy"]));
    }
    pythons[0].run(forget);
    until(&mut pythons[0], "[started(), fetch(id).get_status()]", json!([[], "failed"])).await;
    world.runner.gate(true);
    for python in &mut pythons {
        until(python, "fetch(id).get_status()", "finished").await;
        assert_eq!(python.run("[id in ids(FailedJobRegistry), id in ids(FinishedJobRegistry)]"), json!([false, true]));
    }
    instance.stop().await;
    world.assert_nothing_is_left_running();
}
