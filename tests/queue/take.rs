use std::task::Poll;
use std::time::Duration;

use hauld::job::{Element, Outcome};
use redis::AsyncCommands;
use tokio_util::sync::CancellationToken;

use crate::world::{LIST, World, element, eventually, key, next, within};

#[tokio::test]
async fn elements_come_in_the_order_of_their_pushes_and_are_held() {
    let mut world = World::new().await;
    let queue = world.queue("0").await;
    let mut taker = queue.taker();
    for task in 1..=3 {
        world.push(element(task)).await;
    }
    for task in 1..=3 {
        let leased = next(&mut taker).await;
        assert_eq!(leased.spec.task_id.get(), task);
        assert_eq!(leased.attempt, 1);
        assert_eq!(leased.element, Element(element(task).into_bytes()));
        assert_eq!(leased.instance(), queue.instance());
    }
    assert!(world.waiting().await.is_empty());
    assert_eq!(world.held(&queue).await, [element(3), element(2), element(1)]);
    assert_eq!(queue.depths().await.unwrap().running, 3);
}

#[tokio::test]
async fn every_start_has_a_new_name_and_a_higher_token() {
    let world = World::new().await;
    let (first, second) = (world.queue("0").await, world.queue("0").await);
    assert_ne!(first.instance(), second.instance());
    let tokens: Vec<u64> =
        [&first, &second].map(|queue| queue.instance().rsplit('-').nth(1).unwrap().parse().unwrap()).to_vec();
    assert!(tokens[0] < tokens[1]);
    let about: String = world.redis.clone().hget(key("instances"), second.instance()).await.unwrap();
    let about: serde_json::Value = serde_json::from_str(&about).unwrap();
    assert_eq!(about["token"], tokens[1]);
    assert_eq!(about["pid"], std::process::id());
    assert!(about["started_at"].is_string() && about["host"].is_string() && about["version"].is_string());
}

#[tokio::test]
async fn rubbish_goes_to_the_dead_list_byte_for_byte_and_jobs_behind_it_run() {
    let mut world = World::new().await;
    let queue = world.queue("0").await;
    let _: () = world.redis.set("rq:job:string", "not a hash").await.unwrap();
    let rubbish: Vec<&[u8]> = vec![
        b"",
        b"not json",
        b"{\"taskId\":9,  \"email\":\"a@b\"}",
        b"[1,2]",
        b"\xff\xfe\x00\x80",
        b"{\"taskId\":10,\"email\":\"\xff\"}",
        b"task-28",
        b"string",
        "{\"taskId\": 11, \"courseUrl\": \"\u{e9}\"}\r\n".as_bytes(),
    ];
    for bytes in &rubbish {
        world.push(bytes).await;
    }
    world.push(element(1)).await;
    let leased = next(&mut queue.taker()).await;
    assert_eq!(leased.spec.task_id.get(), 1);

    let dead = queue.dead(100).await.unwrap();
    let bytes: Vec<_> = dead.iter().rev().map(|envelope| envelope.element().unwrap().0).collect();
    assert_eq!(bytes, rubbish);
    assert!(dead.iter().all(|envelope| envelope.kind == "malformed_job" && envelope.attempts == 0));
    assert_eq!(dead[0].task_id.unwrap().get(), 11);
    assert_eq!(dead[6].task_id.unwrap().get(), 9);
    assert!(dead[4].element_base64.is_some() && dead[4].element.is_none());
    assert_eq!(queue.dead(2).await.unwrap(), dead[..2]);
    assert_eq!(world.held(&queue).await, [element(1)]);
    assert_eq!(world.metrics.malformed.get(), rubbish.len() as u64);
}

#[tokio::test]
async fn the_id_of_an_rq_job_is_left_where_rq_takes_next() {
    let mut world = World::new().await;
    let queue = world.queue("0").await;
    for id in ["rq-1", "rq-2"] {
        let _: () = world.redis.hset(format!("rq:job:{id}"), "data", b"\x78\x9c").await.unwrap();
        world.push(id).await;
    }
    for task in 1..=2 {
        world.push(element(task)).await;
    }
    let mut taker = queue.taker();
    assert_eq!(next(&mut taker).await.spec.task_id.get(), 1);
    assert_eq!(next(&mut taker).await.spec.task_id.get(), 2);
    assert_eq!(world.waiting().await, ["rq-1", "rq-2"]);

    // Nothing else is there: no hurry, and still a job that comes is run.
    let calls = async |world: &mut World| {
        let info: String = redis::cmd("INFO").arg("commandstats").query_async(&mut world.redis).await.unwrap();
        let line = info.lines().find(|line| line.starts_with("cmdstat_lmove:")).unwrap_or_default().to_owned();
        let blocking = info.lines().find(|line| line.starts_with("cmdstat_blmove:")).unwrap_or_default().to_owned();
        let count = |line: &str| line.split(['=', ',']).nth(1).map_or(0, |calls| calls.parse::<u64>().unwrap());
        count(&line) + count(&blocking)
    };
    let before = calls(&mut world).await;
    let taking = tokio::spawn(async move { next(&mut taker).await.spec.task_id.get() });
    tokio::time::sleep(world.settings.block * 5).await;
    let moved = calls(&mut world).await - before;
    assert!((2..=30).contains(&moved), "{moved} moves in five times the block");
    world.push(element(3)).await;
    assert_eq!(within(taking).await.unwrap(), 3);
    let mut left = world.waiting().await;
    left.sort();
    assert_eq!(left, ["rq-1", "rq-2"]);
    assert!(queue.dead(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_connection_that_is_killed_while_it_waits_loses_nothing() {
    let mut world = World::new().await;
    world.settings.block = Duration::from_secs(60);
    let queue = world.queue("0").await;
    let mut taker = queue.taker();
    let mut redis = world.redis.clone();
    let killer = async {
        for task in 1..=5 {
            eventually("a blocked client", async || kill_blocked(&mut redis).await > 0).await;
            let _: u64 = redis.lpush(LIST, element(task)).await.unwrap();
            eventually("the element is taken", async || redis.llen::<_, u64>(LIST).await.unwrap() == 0).await;
        }
    };
    let jobs = async {
        for task in 1..=5 {
            assert_eq!(next(&mut taker).await.spec.task_id.get(), task);
        }
    };
    tokio::join!(killer, jobs);
    assert_eq!(world.held(&queue).await.len(), 5);
}

/// Kills the connections that wait in `BLMOVE`. Returns how many there were.
async fn kill_blocked(redis: &mut redis::aio::MultiplexedConnection) -> usize {
    let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(redis).await.unwrap();
    let blocked: Vec<_> = clients.lines().filter(|line| line.contains(" flags=b")).collect();
    for line in &blocked {
        let id = line.split_whitespace().next().unwrap().trim_start_matches("id=");
        let _: u64 = redis::cmd("CLIENT").arg("KILL").arg("ID").arg(id).query_async(redis).await.unwrap();
    }
    blocked.len()
}

#[tokio::test]
async fn an_element_that_was_handed_over_without_an_answer_is_run() {
    let mut world = World::new().await;
    let queue = world.queue("0").await;
    let mut taker = queue.taker();
    world.push(element(1)).await;
    next(&mut taker).await;
    world.push(element(2)).await;
    world.claim_beside_our_back(&queue).await;
    let mut redis = world.redis.clone();
    let stop = CancellationToken::new();
    let (leased, ()) = tokio::join!(within(taker.next(1, &stop)), async {
        eventually("a blocked client", async || kill_blocked(&mut redis).await > 0).await;
    });
    assert_eq!(leased.unwrap()[0].spec.task_id.get(), 2);
    // And no third one.
    world.push(element(3)).await;
    assert_eq!(next(&mut taker).await.spec.task_id.get(), 3);
    assert_eq!(world.held(&queue).await, [element(3), element(2), element(1)]);
}

#[tokio::test]
async fn the_sweep_gives_back_what_came_behind_our_back() {
    let mut world = World::new().await;
    let queue = world.queue("0").await;
    for task in 1..=2 {
        world.push(element(task)).await;
        world.claim_beside_our_back(&queue).await;
    }
    // The taker may be waiting for a permit: others can have them.
    queue.sweep().await.unwrap();
    assert_eq!(world.waiting().await, [element(1), element(2)]);
    assert_eq!(next(&mut queue.taker()).await.spec.task_id.get(), 1);
}

#[tokio::test]
async fn a_stop_ends_the_wait_at_once_and_takes_nothing_more() {
    let mut world = World::new().await;
    world.settings.block = Duration::from_secs(60);
    let queue = world.queue("0").await;
    let mut taker = queue.taker();
    let stop = CancellationToken::new();
    let mut redis = world.redis.clone();
    let (leased, ()) = tokio::join!(within(taker.next(1, &stop)), async {
        eventually("a blocked client", async || {
            let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut redis).await.unwrap();
            clients.contains(" flags=b")
        })
        .await;
        stop.cancel();
    });
    assert!(leased.is_none());
    world.push(element(1)).await;
    assert!(within(taker.next(1, &stop)).await.is_none());
    assert_eq!(world.waiting().await, [element(1)]);
    assert!(world.held(&queue).await.is_empty());
}

#[tokio::test]
async fn an_old_worker_beside_us_gets_its_share_and_nothing_is_done_twice() {
    let mut world = World::new().await;
    let queue = world.queue("0").await;
    let mut taker = queue.taker();
    let mut old = world.server.connection().await;
    old.set_response_timeout(Duration::from_secs(10));
    let stop = CancellationToken::new();
    let old_worker = tokio::spawn({
        let stop = stop.clone();
        async move {
            let mut tasks = Vec::new();
            while !stop.is_cancelled() {
                let popped: Option<(String, String)> = old.brpop(LIST, 0.05).await.unwrap();
                tasks.extend(popped.map(|(_, element)| element));
            }
            tasks
        }
    });
    let ours = tokio::spawn({
        let (queue, stop) = (queue.clone(), stop.clone());
        async move {
            let mut elements = Vec::new();
            while let Some(started) = taker.next(4, &stop).await {
                for leased in started {
                    elements.push(String::from_utf8(leased.element.0.clone()).unwrap());
                    queue.settle(&leased, Outcome::Done).await.unwrap();
                }
            }
            elements
        }
    });
    for task in 1..=300 {
        world.push(element(task)).await;
        if task % 10 == 0 {
            eventually("the list is empty", async || world.waiting().await.is_empty()).await;
        }
    }
    eventually("nothing runs", async || {
        let depths = queue.depths().await.unwrap();
        depths.waiting + depths.running == 0
    })
    .await;
    stop.cancel();
    let (mut all, ours) = (within(old_worker).await.unwrap(), within(ours).await.unwrap());
    assert!(!all.is_empty() && !ours.is_empty(), "{} {}", all.len(), ours.len());
    all.extend(ours);
    all.sort();
    let mut expected: Vec<_> = (1..=300).map(element).collect();
    expected.sort();
    assert_eq!(all, expected);
}

/// What the watchdog of systemd is fed by: a taker that hangs while the sweeps go on.
#[tokio::test]
async fn a_taker_that_hangs_is_silent() {
    let world = World::new().await;
    let queue = world.queue("0").await;
    let end = CancellationToken::new();
    let sweeping = tokio::spawn({
        let (queue, end) = (queue.clone(), end.clone());
        async move { queue.keep_sweeping(end).await }
    });
    let mut taker = queue.taker();
    let stop = CancellationToken::new();
    {
        let mut taking = Box::pin(taker.next(1, &stop));
        // Begun, and then nobody goes on with it.
        assert!(std::future::poll_fn(|context| Poll::Ready(taking.as_mut().poll(context).is_pending())).await);
        // Twenty rounds of the sweeps, which are no silence.
        eventually("the taker is seen to hang", async || queue.silence() > Duration::from_secs(2)).await;
        stop.cancel();
        assert!(within(taking).await.is_none());
    }
    assert!(queue.silence() < Duration::from_secs(2), "it waits no longer");
    end.cancel();
    sweeping.await.unwrap();
}
