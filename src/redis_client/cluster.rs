//! What is different in a Cluster: commands go where their key is.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures_util::future::try_join_all;
use redis::aio::ConnectionLike;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, Slot, SlotAddr};
use redis::{
    Arg, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, Pipeline, RedisError, Script, ServerErrorKind,
    TlsCertificates, Value,
};

use super::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT};

/// How often a command follows the key or waits for the Cluster before its caller learns of it.
const RETRIES: u32 = 4;

/// Sources of scripts by their hash.
#[derive(Default)]
pub(super) struct KnownScripts(Mutex<HashMap<String, String>>);

pub(super) async fn open(
    nodes: &[ConnectionInfo],
    certificates: Option<TlsCertificates>,
) -> Result<ClusterConnection, RedisError> {
    let mut builder = ClusterClientBuilder::new(nodes.to_vec())
        .connection_timeout(CONNECT_TIMEOUT)
        .response_timeout(RESPONSE_TIMEOUT)
        .tcp_settings(nodes[0].tcp_settings().clone())
        .retries(RETRIES)
        .min_retry_wait(50)
        .max_retry_wait(500);
    if let Some(certificates) = certificates {
        builder = builder.certs(certificates);
    }
    builder.build()?.get_async_connection().await
}

/// Runs one command. One without a key goes to the node of `home`, or to any primary.
pub(super) async fn run(
    connection: &mut ClusterConnection,
    scripts: &KnownScripts,
    home: Option<Route>,
    command: &Cmd,
) -> Result<Value, RedisError> {
    let name = argument(command, 0).unwrap_or_default().to_ascii_uppercase();
    match name.as_slice() {
        // Sent to every node, it would fail as long as one of them is away.
        b"SCRIPT" if argument(command, 1).is_some_and(|word| word.eq_ignore_ascii_case(b"LOAD")) => {
            let source = argument(command, 2).and_then(|source| std::str::from_utf8(source).ok());
            let hash = scripts.learn(source.unwrap_or_default());
            Ok(Value::BulkString(hash.into_bytes()))
        }
        b"EVALSHA" => {
            let answer = connection.req_packed_command(command).await.and_then(Value::extract_error);
            let unknown = |error: &RedisError| error.kind() == ErrorKind::Server(ServerErrorKind::NoScript);
            if !answer.as_ref().is_err_and(unknown) {
                return answer;
            }
            match scripts.spelled_out(command) {
                Some(command) => connection.req_packed_command(&command).await,
                None => answer,
            }
        }
        b"INFO" | b"CONFIG" | b"TIME" | b"CLUSTER" => {
            let node = match home {
                Some(route) => SingleNodeRoutingInfo::SpecificNode(route),
                None => SingleNodeRoutingInfo::RandomPrimary,
            };
            connection.route_command(command.clone(), RoutingInfo::SingleNode(node)).await
        }
        _ => connection.req_packed_command(command).await,
    }
}

/// Runs a pipeline. One that is no transaction is taken apart by slots, whose parts run side by
/// side: only commands on keys of one slot keep their order.
pub(super) async fn run_all(
    connection: &ClusterConnection,
    pipeline: &Pipeline,
    offset: usize,
    count: usize,
) -> Result<Vec<Value>, RedisError> {
    let mut parts: Vec<(Option<Slot>, Pipeline, Vec<usize>)> = Vec::new();
    if !pipeline.is_transaction() {
        for (index, command) in pipeline.cmd_iter().enumerate() {
            let slot = key(command).map(Slot::for_key);
            let part = match parts.iter().position(|(of, ..)| *of == slot) {
                Some(part) => part,
                None => {
                    parts.push((slot, redis::pipe(), Vec::new()));
                    parts.len() - 1
                }
            };
            parts[part].1.add_command(command.clone());
            parts[part].2.push(index);
        }
    }
    if parts.len() < 2 {
        return connection.clone().req_packed_commands(pipeline, offset, count).await;
    }
    let running = parts.iter().map(async |(_, part, _)| {
        let mut connection = connection.clone();
        connection.req_packed_commands(part, 0, part.len()).await
    });
    let answers = try_join_all(running).await?;
    let mut in_order = vec![Value::Nil; pipeline.len()];
    for ((.., indices), answers) in parts.iter().zip(answers) {
        for (index, answer) in indices.iter().zip(answers) {
            in_order[*index] = answer;
        }
    }
    Ok(in_order)
}

/// The node that has the key now, for a connection of its own. `known` is any node, whose
/// credentials hold for all of them.
pub(super) async fn node_of(
    connection: &mut ClusterConnection,
    known: &ConnectionInfo,
    key: &str,
) -> Result<Client, RedisError> {
    let any = || RoutingInfo::SingleNode(SingleNodeRoutingInfo::RandomPrimary);
    let slot = connection.route_command(redis::cmd("CLUSTER").arg("KEYSLOT").arg(key).take(), any()).await?;
    let slot: i64 = redis::from_redis_value(slot)?;
    let ranges = connection.route_command(redis::cmd("CLUSTER").arg("SLOTS").take(), any()).await?;
    let Value::Array(ranges) = ranges else { return Err(not_covered()) };
    let (host, port) = ranges.iter().find_map(|range| primary_of(range, slot)).ok_or_else(not_covered)?;
    let own_host = |of: &ConnectionAddr| match of {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.clone(),
        _ => String::new(),
    };
    // A node that does not know its own address leaves the host out.
    let host = if host.is_empty() || host == "?" { own_host(known.addr()) } else { host };
    let address = match known.addr() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
        }
        _ => ConnectionAddr::Tcp(host, port),
    };
    Client::open(known.clone().set_addr(address))
}

/// Of one range in the answer to `CLUSTER SLOTS` the primary's address, if the slot is in it.
fn primary_of(range: &Value, slot: i64) -> Option<(String, u16)> {
    let Value::Array(range) = range else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = range.as_slice() else { return None };
    let [host, Value::Int(port), ..] = primary.as_slice() else { return None };
    if !(*first..=*last).contains(&slot) {
        return None;
    }
    let host: Option<String> = redis::from_redis_value_ref(host).ok()?;
    Some((host.unwrap_or_default(), u16::try_from(*port).ok()?))
}

fn not_covered() -> RedisError {
    (ErrorKind::ClusterConnectionNotFound, "no node of the Cluster has the slot of the queue").into()
}

impl KnownScripts {
    /// Returns the hash.
    fn learn(&self, source: &str) -> String {
        let hash = Script::new(source).get_hash().to_owned();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(hash.clone(), source.to_owned());
        hash
    }

    /// The `EVALSHA` as an `EVAL`, which also makes the node remember the script.
    fn spelled_out(&self, command: &Cmd) -> Option<Cmd> {
        let hash = std::str::from_utf8(argument(command, 1)?).ok()?;
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut spelled_out = redis::cmd("EVAL");
        spelled_out.arg(known.get(hash)?);
        for argument in command.args_iter().skip(2) {
            if let Arg::Simple(argument) = argument {
                spelled_out.arg(argument);
            }
        }
        Some(spelled_out)
    }
}

/// The route to the node that has the key.
pub(super) fn route(key: &str) -> Route {
    Route::with_key(key, SlotAddr::Master)
}

/// The key that decides where a command goes: for every command that we send, and that has one,
/// the first.
fn key(command: &Cmd) -> Option<&[u8]> {
    let name = argument(command, 0)?.to_ascii_uppercase();
    match name.as_slice() {
        b"EVAL" | b"EVALSHA" => argument(command, 3),
        _ => argument(command, 1),
    }
}

fn argument(command: &Cmd, index: usize) -> Option<&[u8]> {
    match command.args_iter().nth(index)? {
        Arg::Simple(argument) => Some(argument),
        _ => None,
    }
}
