use super::*;
use crate::failure::FailureKind;

fn execution(job: RqJob) -> Execution {
    let started = "2026-01-13T02:00:00Z".parse().unwrap();
    let job = RqJob { id: "an-id".into(), origin: "downloads".into(), ..job };
    Execution { id: "exec".into(), job, worker: "h-0-1-a".into(), started }
}

fn now() -> Timestamp {
    "2026-01-13T02:00:01.5Z".parse().unwrap()
}

/// One line for each command; what is packed is left out.
fn text(commands: &[Command]) -> String {
    let line = |command: &Command| {
        command.iter().filter_map(|word| std::str::from_utf8(word).ok()).collect::<Vec<_>>().join(" ") + "\n"
    };
    commands.iter().map(line).collect()
}

#[test]
fn every_end_takes_out_what_the_start_put_in() {
    let execution = execution(RqJob::default());
    let failure = Failure::new(FailureKind::ServerError, "503");
    let started = text(&execution.started(&["stale".into()]));
    assert!(started.contains("ZREM rq:wip:downloads an-id:stale\n"), "{started}");
    assert!(started.contains("ZADD rq:wip:downloads 1768269690 an-id:exec\n"), "{started}");
    assert!(started.contains("status started started_at 2026-01-13T02:00:00.000000Z"), "{started}");
    for end in [
        execution.finished(now()),
        execution.failed(&failure, false, now()),
        execution.failed(&failure, true, now()),
        execution.retried(Duration::ZERO, "rq:queue:downloads", now()),
        execution.returned(now()),
    ] {
        let end = text(&end);
        for out in [
            "DEL rq:execution:an-id:exec\n",
            "ZREM rq:executions:an-id exec\n",
            "ZREM rq:wip:downloads an-id:exec\n",
            "SREM rq:worker:h-0-1-a:executions an-id:exec\n",
        ] {
            assert!(end.contains(out), "{out} is not in\n{end}");
        }
    }
}

#[test]
fn lives_of_results_and_failures_are_rqs() {
    let finished = |result_ttl| text(&execution(RqJob { result_ttl, ..RqJob::default() }).finished(now()));
    assert!(finished(500).contains("ZADD rq:finished:downloads 1768270101 an-id\nEXPIRE rq:job:an-id 500\n"));
    assert!(finished(-1).contains("PERSIST rq:results:an-id\nZADD rq:finished:downloads +inf an-id\n"));
    assert!(!finished(-1).contains("EXPIRE rq:job"));
    assert!(finished(0).contains("DEL rq:job:an-id ") && !finished(0).contains("XADD"));
    let failure = Failure::new(FailureKind::ServerError, "503");
    let failed =
        |failure_ttl| text(&execution(RqJob { failure_ttl, ..RqJob::default() }).failed(&failure, false, now()));
    assert!(failed(None).contains("EXPIRE rq:job:an-id 31536000\n") && !failed(None).contains("EXPIRE rq:results"));
    assert!(failed(Some(60)).contains("ZADD rq:failed:downloads 1768269661 an-id\n"));
    assert!(failed(Some(-1)).contains("ZADD rq:failed:downloads -1 an-id\n"));
    assert!(failed(Some(0)).contains("DEL rq:job:an-id ") && !failed(Some(0)).contains("ZADD"));
}

#[test]
fn a_retry_is_pushed_or_scheduled_and_counts_down() {
    let execution = execution(RqJob { retries_left: Some(2), ..RqJob::default() });
    let at_once = text(&execution.retried(Duration::ZERO, "rq:queue:downloads", now()));
    assert!(at_once.contains("retries_left 1\n") && at_once.contains("RPUSH rq:queue:downloads an-id\n"));
    let later = text(&execution.retried(Duration::from_secs(30), "rq:queue:downloads", now()));
    assert!(later.contains("status scheduled") && later.contains("ZADD rq:scheduled:downloads 1768269631 an-id\n"));
    assert!(!later.contains("PUSH"));
}
