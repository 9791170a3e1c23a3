use std::collections::BTreeSet;
use std::time::Duration;

use hauld::failure::FailureKind;
use hauld::job::Outcome;
use hauld::queue::{DeadFilter, Finding, QueueView};
use hauld::redis_client;
use redis::AsyncCommands;

use crate::world::{LIST, World, element, failure, key, next};

fn view(world: &World) -> QueueView {
    QueueView::new(redis_client::commands(&world.server.settings()).unwrap(), LIST)
}

fn kinds(findings: &[Finding]) -> BTreeSet<String> {
    findings.iter().map(|finding| serde_json::to_value(finding.kind).unwrap().as_str().unwrap().to_owned()).collect()
}

/// An element in every place, and every count moved.
async fn full(world: &mut World) -> hauld::queue::Queue {
    world.settings.retry_delay = Duration::from_secs(600);
    world.settings.dedupe = Duration::from_secs(600);
    let queue = world.queue("0").await;
    let mut taker = queue.taker();
    for task in 1..=8 {
        world.push(element(task)).await;
    }
    queue.settle(&next(&mut taker).await, Outcome::Done).await.unwrap();
    queue.settle(&next(&mut taker).await, Outcome::Retry(failure())).await.unwrap();
    queue.settle(&next(&mut taker).await, Outcome::Dead(failure())).await.unwrap();
    next(&mut taker).await;
    next(&mut taker).await;
    queue
}

#[tokio::test]
async fn the_account_adds_up_and_looking_changes_no_key() {
    let mut world = World::new().await;
    let empty = view(&world).account().await.unwrap();
    assert_eq!((empty.depths, empty.findings), (Default::default(), vec![]));
    let _queue = full(&mut world).await;
    let before = world.dump().await;
    let account = view(&world).account().await.unwrap();
    let depths = account.depths;
    assert_eq!((depths.waiting, depths.running, depths.delayed, depths.dead, depths.done), (3, 2, 1, 1, 1));
    assert_eq!((account.findings, account.instances), (vec![], 1));
    let entries = view(&world).dead_entries(&DeadFilter::default(), 10).await.unwrap();
    assert_eq!(entries.len(), 1);
    view(&world).pauses().await.unwrap();
    assert_eq!(world.dump().await, before);
}

#[tokio::test]
async fn what_is_handed_over_and_not_started_is_in_the_account_as_running() {
    let mut world = World::new().await;
    let queue = world.queue("0").await;
    world.push(element(1)).await;
    world.claim_beside_our_back(&queue).await;
    let account = view(&world).account().await.unwrap();
    assert_eq!((account.depths.waiting, account.depths.running), (0, 1));
    assert_eq!(account.depths, queue.depths().await.unwrap());
}

#[tokio::test]
async fn whatever_does_not_add_up_is_found_and_mended_where_it_can_be() {
    let mut world = World::new().await;
    let queue = full(&mut world).await;
    let redis = &mut world.redis;
    // Places without a lease, as a restore from an old backup leaves them.
    let held = |task: u64| {
        let id = hauld::job::Element(element(task).into_bytes()).id();
        format!("{id}:{task}:{}", element(task))
    };
    let _: u64 = redis.rpush(key("claimed:gone-0-1-aa"), &[element(102), element(101)]).await.unwrap();
    let _: u64 = redis.hset(key("running:gone-0-1-aa"), "12", held(100)).await.unwrap();
    let _: u64 = redis.hset(key("running:gone-0-1-aa"), "3", held(99)).await.unwrap();
    let _: u64 = redis.hset(key("guards"), "99", "gone-0-1-aa/3").await.unwrap();
    let _: () = redis.set(key("claimed:left-0-1-bb"), "gone").await.unwrap();
    // An instance that died when nobody else was there.
    let _: u64 = redis.zadd(key("leases"), "dead-0-2-cc", 1).await.unwrap();
    let _: u64 = redis.hset(key("running:dead-0-2-cc"), "1", held(98)).await.unwrap();
    let now: (u64, u64) = redis::cmd("TIME").query_async(redis).await.unwrap();
    let _: () = redis.hset_multiple(key("sweeps"), &[("grace", 0), ("last", now.0 * 1000)]).await.unwrap();
    let _: u64 = redis.zadd(key("delayed"), format!("1-9:{}", held(97)), 1).await.unwrap();
    // Leftovers.
    let _: u64 = redis.hset(key("guards"), "7", "nobody/1").await.unwrap();
    let _: u64 = redis.hset(key("records"), "0".repeat(32), "{}").await.unwrap();
    let _: u64 = redis.lpush(format!("{LIST}:intermediate"), &[element(96), "rq-id".to_owned()]).await.unwrap();
    // By hand.
    let _: u64 = redis.lpush(key("dead"), "by hand").await.unwrap();
    let _: u64 = redis.hset(key("running:gone-0-1-aa"), "4", "damaged").await.unwrap();
    let _: u64 = redis.sadd("rq:queues", LIST).await.unwrap();

    let operator = view(&world);
    let account = operator.account().await.unwrap();
    let expected = [
        "count",
        "dead_instance",
        "foreign",
        "known_to_rq",
        "orphan",
        "overdue",
        "stale_guard",
        "stale_record",
        "taken_by_rq",
    ];
    assert_eq!(kinds(&account.findings), expected.map(str::to_owned).into(), "{:#?}", account.findings);
    assert_eq!(account.depths.waiting, 3);
    for finding in account.findings.iter().filter(|finding| finding.kind.is_mendable()) {
        queue.repair(finding).await.unwrap();
    }
    let account = operator.account().await.unwrap();
    assert_eq!(kinds(&account.findings), ["foreign", "known_to_rq"].map(str::to_owned).into());
    let waiting = world.waiting().await;
    for task in [6, 7, 8, 96, 97, 98, 99, 100, 101, 102] {
        assert_eq!(waiting.iter().filter(|waits| **waits == element(task)).count(), 1, "{task}");
    }
    let at = |task| waiting.iter().position(|waits| *waits == element(task)).unwrap();
    assert!(at(99) < at(100) && at(100) < at(101) && at(101) < at(102), "{waiting:?}");
    assert!(waiting.contains(&"damaged".to_owned()));
    let left: Vec<String> = world.redis.lrange(format!("{LIST}:intermediate"), 0, -1).await.unwrap();
    assert_eq!(left, ["rq-id"]);
}

#[tokio::test]
async fn the_same_element_in_two_places_is_seen() {
    let mut world = World::new().await;
    let queue = full(&mut world).await;
    let running: Vec<String> = world.redis.hvals(key(&format!("running:{}", queue.instance()))).await.unwrap();
    let _: u64 = world.redis.zadd(key("delayed"), format!("9-9:{}", running[0]), 1e15).await.unwrap();
    let account = view(&world).account().await.unwrap();
    assert_eq!(kinds(&account.findings), ["count", "twice"].map(str::to_owned).into());
}

#[tokio::test]
async fn dead_elements_are_brought_back_or_thrown_away_each_once() {
    let mut world = World::new().await;
    let queue = world.queue("0").await;
    let mut taker = queue.taker();
    let mut limited = failure();
    limited.kind = FailureKind::RateLimited;
    for (task, failure) in [(1, failure()), (2, limited), (3, failure())] {
        world.push(element(task)).await;
        queue.settle(&next(&mut taker).await, Outcome::Dead(failure)).await.unwrap();
    }
    world.push("rubbish \u{0}\u{1}").await;
    world.push(element(4)).await;
    next(&mut taker).await;
    let operator = view(&world);
    let entries = operator.dead_entries(&DeadFilter::default(), 10).await.unwrap();
    assert_eq!(entries.len(), 4);
    let ids = async |filter: DeadFilter| {
        let entries = operator.dead_entries(&filter, 10).await.unwrap();
        entries.into_iter().map(|entry| entry.id).collect::<Vec<_>>()
    };
    let of_kind = DeadFilter { kinds: vec![FailureKind::RateLimited], ..Default::default() };
    assert_eq!(ids(of_kind).await, [entries[2].id.clone()]);
    let of_task = DeadFilter { task_ids: vec![hauld::job::TaskId::new(3).unwrap()], ..Default::default() };
    assert_eq!(ids(of_task).await, [entries[1].id.clone()]);
    let of_id = DeadFilter { ids: vec![entries[0].id[..6].to_owned()], ..Default::default() };
    assert_eq!(ids(of_id).await, [entries[0].id.clone()]);
    assert!(ids(DeadFilter { older_than: Some(Duration::from_secs(3600)), ..Default::default() }).await.is_empty());

    // Two operators at once: one of them does it.
    let (first, second) = tokio::join!(operator.revive(&entries[3], false), operator.revive(&entries[3], false));
    assert!(first.unwrap() ^ second.unwrap());
    assert!(operator.purge(&entries[2]).await.unwrap());
    assert!(!operator.purge(&entries[2]).await.unwrap());
    assert!(operator.revive(&entries[0], false).await.unwrap());
    assert_eq!(world.waiting().await, [element(1), "rubbish \u{0}\u{1}".to_owned()]);
    let leased = next(&mut taker).await;
    assert_eq!(leased.attempt, 1, "all attempts before it");
    let history: Vec<_> = leased.record.history.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(history, ["server_error", "revived"]);
    assert!(operator.account().await.unwrap().findings.is_empty());

    // A task that is under way, all the same.
    world.push(element(3)).await;
    next(&mut taker).await;
    assert!(operator.revive(&entries[1], true).await.unwrap());
    assert_eq!(next(&mut taker).await.spec.task_id.get(), 3);
}

#[tokio::test]
async fn the_dead_list_keeps_to_its_limits() {
    let mut world = World::new().await;
    world.settings.max_dead = 5;
    let queue = world.queue("0").await;
    let mut taker = queue.taker();
    for task in 1..=8 {
        world.push(element(task)).await;
        queue.settle(&next(&mut taker).await, Outcome::Dead(failure())).await.unwrap();
    }
    queue.sweep().await.unwrap();
    let left: Vec<u64> = queue.dead(10).await.unwrap().iter().map(|envelope| envelope.task_id.unwrap().get()).collect();
    assert_eq!(left, [8, 7, 6, 5, 4]);
    assert_eq!(world.metrics.dead_purged.get(), 3);
    assert_eq!(world.count("purged").await, 3);

    let oldest: String = world.redis.lindex(key("dead"), -1).await.unwrap();
    let mut envelope: serde_json::Value = serde_json::from_str(&oldest).unwrap();
    envelope["failed_at"] = "2026-01-01T00:00:00Z".into();
    let _: () = world.redis.lset(key("dead"), -1, envelope.to_string()).await.unwrap();
    queue.sweep().await.unwrap();
    assert_eq!(queue.dead(10).await.unwrap().len(), 4, "one was too old");
    assert!(view(&world).account().await.unwrap().findings.is_empty());
}
