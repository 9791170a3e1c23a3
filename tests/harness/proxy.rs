//! What the proxy does to a connection, as a Redis client sees it.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, AsyncConnectionConfig, RedisResult};

use crate::support::{Proxy, RedisServer, wait};

const LIMIT: Duration = Duration::from_secs(10);

async fn connect(proxy: &Proxy) -> RedisResult<MultiplexedConnection> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{}/0", proxy.port()))?;
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await
}

#[tokio::test]
async fn what_is_frozen_arrives_later_and_what_is_cut_never() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let mut frozen = connect(&proxy).await.unwrap();
    proxy.freeze();
    let answer = tokio::spawn(async move { frozen.set::<_, _, ()>("a", 1).await.map(|()| frozen) });
    // Connecting succeeds, and the handshake gets no answer.
    assert!(tokio::time::timeout(Duration::from_millis(100), connect(&proxy)).await.is_err());
    assert_eq!((answer.is_finished(), server.cli(&["EXISTS", "a"])), (false, "0".into()));
    proxy.resume();
    let mut resumed = answer.await.unwrap().unwrap();
    assert_eq!(server.cli(&["GET", "a"]), "1");
    proxy.cut();
    assert!(resumed.get::<_, u8>("a").await.is_err());
    assert_eq!(connect(&proxy).await.unwrap().get::<_, u8>("a").await.unwrap(), 1);
}

#[tokio::test]
async fn a_swallowed_answer_belongs_to_a_command_that_was_executed() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let mut deaf = connect(&proxy).await.unwrap();
    proxy.swallow_answers();
    let answer = tokio::spawn(async move { deaf.incr::<_, _, u8>("a", 1).await });
    wait::until("the command is executed", LIMIT, || (server.cli(&["EXISTS", "a"]) == "1").then_some(())).await;
    assert!(!answer.is_finished());
    proxy.cut();
    assert!(answer.await.unwrap().is_err());
    proxy.resume();
    assert_eq!(connect(&proxy).await.unwrap().incr::<_, _, u8>("a", 1).await.unwrap(), 2);
}

#[tokio::test]
async fn delayed_pieces_arrive_later_and_whole() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let mut connection = connect(&proxy).await.unwrap();
    proxy.delay(Duration::from_millis(50));
    let begin = std::time::Instant::now();
    connection.set::<_, _, ()>("a", 1).await.unwrap();
    // There and back again.
    assert!(begin.elapsed() >= Duration::from_millis(100), "{:?}", begin.elapsed());
    proxy.resume();
    assert_eq!(server.cli(&["GET", "a"]), "1");
}
