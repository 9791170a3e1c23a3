//! A Redis Cluster of three primaries.

use std::time::Duration;

use super::redis::RedisServer;
use super::{port, wait};

const SLOTS: u32 = 16384;
const LIMIT: Duration = Duration::from_secs(30);

/// Three primaries `0`, `1`, `2` with a third of the slots each, and replicas of some of them.
pub struct Cluster {
    pub nodes: Vec<RedisServer>,
}

impl Cluster {
    /// Starts the three and waits until they are one Cluster.
    pub fn start() -> Cluster {
        let nodes: Vec<RedisServer> = (0..3).map(|_| node()).collect();
        for (number, node) in (0..).zip(&nodes) {
            let (first, last) = (SLOTS * number / 3, SLOTS * (number + 1) / 3 - 1);
            node.cli(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
            node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
        }
        let cluster = Cluster { nodes };
        for node in &cluster.nodes[1..] {
            cluster.meet(node);
        }
        cluster.wait();
        cluster
    }

    /// One more node, a replica of the primary `of`. Returns its number.
    pub fn add_replica(&mut self, of: usize) -> usize {
        let replica = node();
        self.meet(&replica);
        self.nodes.push(replica);
        self.wait();
        let number = self.nodes.len() - 1;
        self.nodes[number].cli(&["CLUSTER", "REPLICATE", &self.id(of)]);
        wait::until_blocking("the replica follows, and all know", LIMIT, || {
            let linked = self.nodes[number].cli(&["INFO", "replication"]).contains("master_link_status:up");
            let known = |node: &RedisServer| node.cli(&["CLUSTER", "NODES"]).contains("slave");
            (linked && self.nodes.iter().all(known)).then_some(())
        });
        number
    }

    fn meet(&self, node: &RedisServer) {
        let bus = node.cli(&["CONFIG", "GET", "cluster-port"]);
        let bus = bus.lines().nth(1).expect("its bus port").to_owned();
        self.nodes[0].cli(&["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string(), &bus]);
    }

    /// Waits until every node knows every other and every slot.
    pub fn wait(&self) {
        let known = format!("cluster_known_nodes:{}", self.nodes.len());
        for node in &self.nodes {
            wait::until_blocking("the nodes are one Cluster", LIMIT, || {
                let info = node.cli(&["CLUSTER", "INFO"]);
                let handshakes = node.cli(&["CLUSTER", "NODES"]).contains("handshake");
                (info.contains("cluster_state:ok") && info.contains(&known) && !handshakes).then_some(())
            });
        }
    }

    /// `redis+cluster://…`, by the first two nodes.
    pub fn url(&self) -> String {
        format!("redis+cluster://127.0.0.1:{},127.0.0.1:{}", self.nodes[0].port(), self.nodes[1].port())
    }

    /// The number of the node that has the key.
    pub fn owner(&self, key: &str) -> usize {
        let slot: u32 = self.nodes[0].cli(&["CLUSTER", "KEYSLOT", key]).parse().expect("a slot");
        (slot * 3 / SLOTS) as usize
    }

    fn id(&self, number: usize) -> String {
        self.nodes[number].cli(&["CLUSTER", "MYID"])
    }

    /// A command by way of any node that lives, following the key.
    pub fn cli(&self, arguments: &[&str]) -> String {
        let follow: Vec<&str> = ["-c"].into_iter().chain(arguments.iter().copied()).collect();
        let node = self.nodes.iter().find(|node| node.is_running()).expect("a node that runs");
        node.cli(&follow)
    }

    /// Moves the slot of the key, with all keys in it, as `redis-cli --cluster reshard` does.
    pub fn move_slot(&self, key: &str, from: usize, to: usize) {
        let slot = self.nodes[0].cli(&["CLUSTER", "KEYSLOT", key]);
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        target.cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &self.id(from)]);
        source.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &self.id(to)]);
        loop {
            let keys = source.cli(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"]);
            if keys.is_empty() {
                break;
            }
            let port = target.port().to_string();
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            migrate.extend(keys.lines());
            source.cli(&migrate);
        }
        for node in [target, source].into_iter().chain(&self.nodes) {
            node.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &self.id(to)]);
        }
    }
}

fn node() -> RedisServer {
    let bus = port::free();
    RedisServer::start_with(&[
        "--save",
        "",
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &bus.to_string(),
        "--cluster-node-timeout",
        "1500",
        "--repl-diskless-sync-delay",
        "0",
    ])
}
