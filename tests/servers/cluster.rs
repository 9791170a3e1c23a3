//! A Cluster: the queue is in one slot, tasks and progress in others.

use std::sync::Arc;
use std::time::Duration;

use hauld::config::{GateSettings, RedisSettings};
use hauld::gate::Gate;
use hauld::job::{Element, JobSpec, TaskId};
use hauld::queue::Producer;
use hauld::redis_client;
use hauld::store::{FinalStatus, RedisStore, TaskStore};

use crate::support::cluster::Cluster;
use crate::support::redis::job;
use crate::support::wait;
use crate::works::{LIST, RESUMED, Works, key};

fn push(cluster: &Cluster, task: u64) {
    cluster.cli(&["LPUSH", LIST, &job(task, "https://h/c")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_goes_where_its_slot_goes_and_with_a_replica_survives_its_node() {
    let mut cluster = Cluster::start();
    let home = cluster.owner(LIST);
    let works = Works::start(&RedisSettings::new(cluster.url())).await;
    push(&cluster, 1);
    works.wait_for([1]).await;
    assert_eq!(cluster.owner(&key("leases")), home);
    for node in &cluster.nodes {
        node.cli(&["SCRIPT", "FLUSH"]);
    }

    // Elements are pushed and taken while the slot moves.
    let target = (home + 1) % 3;
    tokio::task::block_in_place(|| {
        (2..100).for_each(|task| push(&cluster, task));
        cluster.move_slot(LIST, home, target);
        (100..200).for_each(|task| push(&cluster, task));
    });
    works.wait_for_within(199, RESUMED).await;
    works.wait_for(2..200).await;
    works.wait_for_empty().await;
    assert!((1..200).all(|task| works.runs(task) == 1));
    assert_ne!(cluster.nodes[target].cli(&["ZCARD", &key("leases")]), "0");

    let replica = cluster.add_replica(target);
    cluster.nodes[target].kill9();
    wait::until("the replica is the primary", Duration::from_secs(30), || {
        let role = cluster.nodes[replica].cli(&["ROLE"]);
        let state = cluster.nodes[replica].cli(&["CLUSTER", "INFO"]);
        (role.starts_with("master") && state.contains("cluster_state:ok")).then_some(())
    })
    .await;
    cluster.nodes[replica].cli(&["LPUSH", LIST, &job(200, "https://h/c")]);
    works.wait_for_within(200, RESUMED).await;
    works.wait_for_empty().await;
    works.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_of_all_slots_are_read_and_written() {
    let cluster = Cluster::start();
    let commands = redis_client::commands(&RedisSettings::new(cluster.url())).unwrap();
    let store = RedisStore::new(commands.clone());
    let mut owners = std::collections::BTreeSet::new();
    for number in 1..=12 {
        let task = TaskId::new(number).unwrap();
        let spec = JobSpec {
            task_id: task,
            email: "user@example.com".into(),
            course_url: "https://h/c".parse().unwrap(),
            force: false,
            trace: None,
        };
        store.enroll(&spec, Some(7)).await.unwrap();
        let record = store.read(task).await.unwrap().unwrap();
        assert_eq!((record.status.as_str(), record.order_id), ("enrolled", Some(7)));
        store.finish(task, FinalStatus::Completed, None).await.unwrap();
        assert_eq!(store.read(task).await.unwrap().unwrap().status, "completed");
        owners.insert(cluster.owner(&format!("hauld:task:{number}")));
    }
    assert_eq!(owners.len(), 3);

    // A pipeline through all nodes comes back in its order; scripts run where they are not known.
    let mut pipeline = redis::pipe();
    for number in 1..=12 {
        pipeline.hget(format!("hauld:task:{number}"), "email").publish(format!("task:{number}:status"), "x").ignore();
    }
    let emails: Vec<String> = pipeline.query_async(&mut commands.clone()).await.unwrap();
    assert_eq!(emails, vec!["user@example.com"; 12]);
    for node in &cluster.nodes {
        node.cli(&["SCRIPT", "FLUSH"]);
    }
    store.finish(TaskId::new(1).unwrap(), FinalStatus::Failed, Some("{}")).await.unwrap();
    store.ping().await.unwrap();
    let producer = Producer::new(commands.clone(), LIST.into());
    assert_eq!(producer.push(&hauld::job::Element(b"x".to_vec())).await.unwrap(), 1);
    let info: String = redis::cmd("INFO").arg("server").query_async(&mut commands.near(LIST)).await.unwrap();
    let port = cluster.nodes[cluster.owner(LIST)].port();
    assert!(info.contains(&format!("tcp_port:{port}\r")), "{info}");
}

#[tokio::test]
async fn a_gate_hears_what_is_published_on_any_node() {
    let cluster = Cluster::start();
    let commands = redis_client::commands(&RedisSettings::new(cluster.url())).unwrap();
    // It looks so seldom by itself that the test would not live to see it.
    let timing = GateSettings { wait: Duration::from_secs(3600), poll: Duration::from_secs(600) };
    let store = Arc::new(RedisStore::new(commands.clone()));
    let gate = Arc::new(Gate::new(store, timing).told_by(commands));
    for (task, node) in (1..).zip(&cluster.nodes) {
        cluster.cli(&["HSET", &format!("hauld:task:{task}"), "status", "pending"]);
        let (gate, spec) = (gate.clone(), JobSpec::parse(&Element(job(task, "https://h/c").into_bytes())).unwrap());
        let waiting = tokio::spawn(async move { gate.admit(&spec).await });
        let channel = format!("task:{task}:status");
        let heard = || (cluster.nodes.iter().map(|node| node.listeners(&channel)).sum::<u64>() == 1).then_some(());
        wait::until("the gate listens", Duration::from_secs(30), heard).await;
        cluster.cli(&["HSET", &format!("hauld:task:{task}"), "status", "enrolled"]);
        node.cli(&["PUBLISH", &channel, "{}"]);
        tokio::time::timeout(RESUMED, waiting).await.expect("the gate opens").unwrap().unwrap();
    }
}
