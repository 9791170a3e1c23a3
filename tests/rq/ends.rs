//! How jobs of RQ end: finished, failed, tried again; and what waits for them.

use serde_json::json;

use crate::python::Python;
use crate::world::{World, eventually, key, until};

/// Enqueued by every version in every form, looked at by every version.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_any_version_runs_and_every_version_shows_it_finished() {
    let world = World::new();
    let instance = world.instance().await;
    let mut versions = Python::all(&world.server);
    let mut number = 0;
    for producer in &mut versions {
        for call in [
            "q.enqueue('app.run', kwargs=task(NUMBER)).id",
            "q.enqueue('app.run', args=list(task(NUMBER).values())).id",
            "q.enqueue('app.run', args=[{'taskId': NUMBER, 'email': 'finish@e', 'courseUrl': 'http://h/c'}]).id",
            "Queue('downloads', connection=c, serializer=JSONSerializer).enqueue('app.run', kwargs=task(NUMBER)).id",
        ] {
            number += 1;
            producer.run(&format!("id = {}", call.replace("NUMBER", &number.to_string())));
            until(producer, "fetch(id).get_status()", "finished").await;
            assert_eq!(world.runner.attempts(number), [1]);
        }
        let result = producer.run("result(id)");
        assert_eq!(result["type"], 1, "rq {}", producer.version);
        if producer.version != "1.16.2" {
            assert_eq!(result["worker"], json!(instance.name));
        }
        assert_eq!(producer.run("fetch(id).worker_name"), json!(instance.name));
        assert_eq!(producer.run("(fetch(id).ended_at >= fetch(id).started_at >= fetch(id).enqueued_at)"), true);
        assert_eq!(producer.run("0 < c.ttl('rq:job:' + id) <= 500"), true);
    }
    for observer in &mut versions {
        assert_eq!(observer.run("len(ids(FinishedJobRegistry))"), number);
        assert_eq!(observer.run("[started(), ids(FailedJobRegistry), q.job_ids]"), json!([[], [], []]));
        until(observer, "workers()[0]['state']", "idle").await;
        let worker = json!([{
            "name": instance.name, "state": "idle", "queues": ["downloads"], "job": null,
            "successful": number, "failed": 0,
        }]);
        assert_eq!(observer.run("workers()"), worker, "rq {}", observer.version);
        let info = observer.rq(&["info", "--raw"]);
        assert!(info.contains("downloads 0") && info.contains(&instance.name), "rq {}: {info}", observer.version);
    }
    world.assert_nothing_is_left_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_explained_and_requeued_by_rqs_own_command() {
    let world = World::new();
    let instance = world.instance().await;
    for (mut python, number) in Python::all(&world.server).into_iter().zip(1..) {
        // An error that cannot pass is not tried again, whatever the job says.
        let enqueue = format!("id = q.enqueue('app.run', kwargs=task({number}, 'refuse'), retry=Retry(3)).id");
        python.run(&enqueue);
        until(&mut python, "fetch(id).get_status()", "failed").await;
        assert_eq!(world.runner.attempts(number), [1]);
        assert_eq!(python.run("ids(FailedJobRegistry) == [id]"), true);
        let text = python.text("result(id)['text']");
        assert!(text.contains("course_not_found: as told"), "{text}");
        assert_eq!(python.text("fetch(id).exc_info"), text);
        assert_eq!(world.dead().first(), Some(&(python.text("id"), "course_not_found".into())));

        // The customer's fault is mended, the operator requeues.
        let id = python.text("id");
        python.run("import zlib, pickle");
        python.run(&format!(
            "job = fetch(id); job.kwargs; job.kwargs = task({number}); c.hset('rq:job:' + id, 'data', zlib.compress(job.data))"
        ));
        python.rq(&["requeue", "--queue", "downloads", &id]);
        until(&mut python, "fetch(id).get_status()", "finished").await;
        assert_eq!(python.run("[ids(FailedJobRegistry), ids(FinishedJobRegistry)]"), json!([[], [id]]));
        assert_eq!(python.run("result(id)['type']"), 1);
        assert_eq!(python.run("[workers()[0]['successful'], workers()[0]['failed']]"), json!([number, number]));
        python.run("fetch(id).delete()");
    }
    instance.stop().await;
    world.assert_nothing_is_left_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_tried_again_as_rq_says_and_else_as_we_do() {
    let world = World::new();
    let _instance = world.instance().await;
    for (mut python, number) in Python::all(&world.server).into_iter().zip([10, 20, 30]) {
        let task = |index: u64| number + index;
        python.run(&format!("a = q.enqueue('app.run', kwargs=task({}, 'fail'), retry=Retry(2)).id", task(1)));
        python.run(&format!(
            "b = q.enqueue('app.run', kwargs=task({}, 'stumble'), retry=Retry(3, interval=[1, 60])).id",
            task(2)
        ));
        until(&mut python, "fetch(b).get_status()", "scheduled").await;
        assert_eq!(python.run("[ids(ScheduledJobRegistry) == [b], fetch(b).retries_left]"), json!([true, 2]));
        until(&mut python, "fetch(a).get_status()", "failed").await;
        assert_eq!(world.runner.attempts(task(1)), [1, 2, 3]);
        assert_eq!(python.run("[fetch(a).retries_left, len(fetch(a).results())]"), json!([0, 1]));
        // Nobody but us brings it back.
        until(&mut python, "fetch(b).get_status()", "finished").await;
        assert_eq!(world.runner.attempts(task(2)), [1, 2]);
        assert_eq!(python.run("ids(ScheduledJobRegistry)"), json!([]));

        // Without Retry it is queue.max_attempts that counts, and enqueue_in works.
        python.run(&format!(
            "import datetime; d = q.enqueue_in(datetime.timedelta(seconds=1), 'app.run', kwargs=task({}, 'fail')).id",
            task(3)
        ));
        assert_eq!(python.run("fetch(d).get_status()"), "scheduled");
        until(&mut python, "fetch(d).get_status()", "failed").await;
        assert_eq!(world.runner.attempts(task(3)), [1, 2]);
    }
    assert_eq!(world.server.cli(&["HLEN", &key("records")]), "0");
    world.assert_nothing_is_left_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_job_is_enqueued_when_it_may_run() {
    let world = World::new();
    let instance = world.instance().await;
    for (mut python, number) in Python::all(&world.server).into_iter().zip([10, 20, 30]) {
        let task = |index: u64, conduct: &str| format!("kwargs=task({}, '{conduct}')", number + index);
        let after = |name: &str, on: &str, index: u64| {
            format!("{name} = q.enqueue('app.run', {}, depends_on={on}).id", task(index, "finish"))
        };
        python.run("from rq.job import Dependency");
        python.run(&format!("good = q.enqueue('app.run', {}).id", task(1, "later")));
        python.run(&format!("bad = q.enqueue('app.run', {}).id", task(2, "later-refuse")));
        until(&mut python, "sorted(started()) == sorted([good, bad])", true).await;
        python.run(&after("one", "fetch(good)", 3));
        python.run(&after("both", "[fetch(good), fetch(bad)]", 4));
        python.run(&after("never", "fetch(bad)", 5));
        python.run(&after("anyway", "Dependency(jobs=[fetch(bad), fetch(good)], allow_failure=True)", 6));
        python.run("other = Queue('other', connection=c).enqueue('app.run', depends_on=fetch(good)).id");
        python.run("states = lambda: [fetch(id).get_status() for id in [one, both, never, anyway, other]]");
        assert_eq!(python.run("states()"), json!(["deferred", "deferred", "deferred", "deferred", "deferred"]));

        world.runner.gate(true);
        until(&mut python, "states()", json!(["finished", "deferred", "deferred", "finished", "queued"])).await;
        assert_eq!(python.run("sorted(ids(DeferredJobRegistry)) == sorted([both, never])"), true);
        assert_eq!(python.run("Queue('other', connection=c).job_ids == [other]"), true);
        assert_eq!(
            python.run("{both, one} & {m.decode() for m in c.smembers(f'rq:job:{good}:dependents')} == {both}"),
            true
        );
        world.runner.gate(false);
        python.run("[fetch(id).delete() for id in (good, bad, one, both, never, anyway, other)]");
    }
    instance.stop().await;
    assert_eq!(world.server.cli(&["EXISTS", &key("rq_ended")]), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn results_and_failures_are_kept_as_long_as_the_job_says() {
    let world = World::new();
    let _instance = world.instance().await;
    let mut python = world.python("3.0.0");
    for (name, conduct, lives) in [
        ("none", "finish", "result_ttl=0"),
        ("ever", "finish", "result_ttl=-1"),
        ("forgotten", "refuse", "failure_ttl=0"),
        ("brief", "refuse", "failure_ttl=60"),
    ] {
        python.run(&format!("{name} = q.enqueue('app.run', kwargs=task(1, '{conduct}'), {lives}, ttl=1000).id"));
        let gone = format!("c.hget('rq:job:' + {name}, 'status') in (None, b'finished', b'failed')");
        until(&mut python, &gone, true).await;
    }
    // RQ's limit of one attempt counts before ours.
    python.run("slow = q.enqueue('app.run', kwargs=task(2, 'wait'), job_timeout=1).id");
    until(&mut python, "fetch(slow).get_status()", "failed").await;
    assert!(python.text("result(slow)['text']").contains("the attempt took longer than 1 s"));
    python.run("fetch(slow).delete()");
    assert_eq!(python.run("[c.exists('rq:job:' + id, 'rq:results:' + id) for id in (none, forgotten)]"), json!([0, 0]));
    assert_eq!(python.run("[c.ttl('rq:job:' + ever), c.ttl('rq:results:' + ever)]"), json!([-1, -1]));
    assert_eq!(python.run("[0 < c.ttl(k + brief) <= 60 for k in ('rq:job:', 'rq:results:')]"), json!([true, true]));
    assert_eq!(
        python.run("[ids(FinishedJobRegistry) == [ever], ids(FailedJobRegistry) == [brief]]"),
        json!([true, true])
    );
    world.assert_nothing_is_left_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_run_is_failed_with_its_reason() {
    let world = World::new();
    let _instance = world.instance().await;
    for mut python in Python::all(&world.server) {
        for (name, enqueue, kind, says) in [
            ("a", "q.enqueue('app.run', 'nothing')", "malformed_job", "taskId is not a positive integer"),
            ("b", "q.enqueue('app.run', kwargs=task(1), on_success=print)", "foreign_job", "success_callback_name"),
            ("d", "q.enqueue('app.run', kwargs=task(1), meta={'x': 'y' * 300000})", "", ""),
            ("e", "q.enqueue('app.run', kwargs=dict(task(1), x=os.urandom(300000)))", "malformed_job", "more than"),
        ] {
            python.run(&format!("{name} = {enqueue}.id"));
            if kind.is_empty() {
                // Meta data is the producer's own.
                until(&mut python, &format!("fetch({name}).get_status()"), "finished").await;
                continue;
            }
            until(&mut python, &format!("fetch({name}).get_status()"), "failed").await;
            let text = python.text(&format!("result({name})['text']"));
            assert!(text.contains(kind) && text.contains(says), "rq {}: {text}", python.version);
            assert_eq!(world.dead().first(), Some(&(python.text(name), kind.to_owned())));
        }
        // An id whose hash has expired is no job of anybody.
        python.run("c.rpush('rq:queue:downloads', 'expired-id')");
        eventually("the id is set aside", || world.dead()[0] == ("expired-id".into(), "malformed_job".into())).await;
    }
    world.assert_nothing_is_left_running();
}
