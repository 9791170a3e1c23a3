//! The Redis of the tests, and the Node clients that push to it.

use std::time::Duration;

use crate::support::producer::{Node, node_push};
use crate::support::redis::job;
use crate::support::{RedisServer, wait};

#[test]
fn a_server_restarts_on_its_port_with_or_without_its_data() {
    for (mut redis, survives) in [(RedisServer::start(), ""), (RedisServer::start_durable(), "value")] {
        assert_eq!(redis.cli(&["SET", "key", "value"]), "OK");
        let url = redis.url();
        redis.kill9();
        redis.restart();
        assert_eq!(redis.url(), url);
        assert_eq!(redis.cli(&["GET", "key"]), survives);
    }
}

#[test]
fn servers_are_apart_and_gone_when_dropped() {
    let (one, two) = (RedisServer::start(), RedisServer::start());
    one.push_job(43, "https://learn.example.com/course/intro/");
    one.set_task(43, "enrolled");
    assert_eq!(one.list("rq:queue:downloads"), [job(43, "https://learn.example.com/course/intro/")]);
    assert_eq!((one.task_field(43, "status"), one.task_field(44, "status")), ("enrolled".into(), "".into()));
    assert_eq!(two.cli(&["DBSIZE"]), "0");
    let port = one.port();
    drop(one);
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
#[should_panic(expected = "unknown command")]
fn a_failed_command_fails_the_test() {
    RedisServer::start().cli(&["NONSENSE"]);
}

#[tokio::test]
async fn a_paused_server_keeps_its_connections_and_says_nothing() {
    let redis = RedisServer::start();
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    connection.set_response_timeout(Duration::from_millis(200));
    redis.pause();
    let error = redis::cmd("PING").query_async::<String>(&mut connection).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    redis.resume();
    connection.set_response_timeout(Duration::from_secs(5));
    assert_eq!(redis::cmd("PING").query_async::<String>(&mut connection).await.unwrap(), "PONG");
}

#[tokio::test]
async fn published_messages_are_collected() {
    let redis = RedisServer::start();
    let subscription = redis.subscribe("task:43:*");
    redis.cli(&["PUBLISH", "task:44:progress", "{}"]);
    redis.cli(&["PUBLISH", "task:43:progress", r#"{"percent":37.5}"#]);
    redis.cli(&["PUBLISH", "task:43:status", r#"{"newStatus":"downloading"}"#]);
    let two = || (subscription.messages().len() == 2).then_some(());
    wait::until("both messages have come", Duration::from_secs(5), two).await;
    assert_eq!(subscription.json("task:43:progress"), [serde_json::json!({"percent": 37.5})]);
    assert_eq!(subscription.messages()[1].channel, "task:43:status");
}

#[tokio::test]
async fn the_status_of_a_task_is_waited_for() {
    let redis = RedisServer::start();
    redis.set_task(43, "pending");
    tokio::join!(redis.wait_for_task(43, "completed"), async { redis.set_task(43, "completed") });
}

#[test]
fn node_clients_push_elements_byte_for_byte() {
    let redis = RedisServer::start();
    let elements = [job(43, "https://learn.example.com/c/é"), job(44, "https://learn.example.com/c/2")];
    node_push(Node::Redis, &redis.url(), "rq:queue:downloads", &elements[0]);
    node_push(Node::IoRedis, &redis.url(), "rq:queue:downloads", &elements[1]);
    let [first, second] = elements;
    assert_eq!(redis.list("rq:queue:downloads"), [second, first]);
}

#[test]
#[should_panic(expected = "push-redis.mjs")]
fn a_failed_push_fails_the_test() {
    let redis = RedisServer::start();
    redis.cli(&["SET", "rq:queue:downloads", "not a list"]);
    node_push(Node::Redis, &redis.url(), "rq:queue:downloads", "{}");
}
