//! The sentinels: who is the primary, and their word when it changes.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{Client, ConnectionAddr, ConnectionInfo, RedisError, TlsCertificates, TlsMode};
use tokio::sync::Mutex;

use super::CONNECT_TIMEOUT;
use super::link::Link;

/// Between two tries to listen to any of them.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

pub(super) struct Sentinels {
    client: Mutex<SentinelClient>,
    /// For listening: one for each sentinel.
    each: Vec<ConnectionInfo>,
    /// The name under which they watch the primary.
    name: String,
}

/// That another server is the primary from now on. Addresses are `host:port`.
pub(super) struct Switch {
    pub(super) from: String,
    pub(super) to: String,
}

impl Sentinels {
    /// `nodes` are the sentinels' addresses with what the servers behind them want to know of us;
    /// `credentials` are for the sentinels themselves.
    pub(super) fn new(
        name: String,
        nodes: &[ConnectionInfo],
        credentials: (Option<String>, Option<String>),
        certificates: Option<TlsCertificates>,
    ) -> Result<Sentinels, RedisError> {
        let (user, password) = credentials;
        let redis = nodes[0].redis_settings();
        let addresses = nodes.iter().map(|node| node.addr().clone());
        let mut builder = SentinelClientBuilder::new(addresses, &name, SentinelServerType::Master)?
            .set_client_to_redis_tcp_settings(nodes[0].tcp_settings().clone())
            .set_client_to_sentinel_tcp_settings(nodes[0].tcp_settings().clone())
            .set_client_to_redis_db(redis.db());
        if let Some(user) = redis.username() {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = redis.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        let mut of_sentinels = redis::RedisConnectionInfo::default();
        if let Some(user) = user {
            of_sentinels = of_sentinels.set_username(&user);
            builder = builder.set_client_to_sentinel_username(user);
        }
        if let Some(password) = password {
            of_sentinels = of_sentinels.set_password(&password);
            builder = builder.set_client_to_sentinel_password(password);
        }
        if matches!(nodes[0].addr(), ConnectionAddr::TcpTls { .. }) {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        }
        if let Some(certificates) = &certificates {
            builder = builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates.clone());
        }
        let each = nodes.iter().map(|node| {
            let info = node.clone().set_redis_settings(of_sentinels.clone());
            match &certificates {
                Some(certificates) => {
                    Ok(Client::build_with_tls(info, certificates.clone())?.get_connection_info().clone())
                }
                None => Ok(info),
            }
        });
        let each = each.collect::<Result<_, RedisError>>()?;
        Ok(Sentinels { client: Mutex::new(builder.build()?), each, name })
    }

    /// The server that a sentinel names and that calls itself a primary too.
    pub(super) async fn primary(&self) -> Result<Client, RedisError> {
        self.client.lock().await.async_get_client().await
    }

    /// Listens as long as the link is there. It is told each switch, and nothing each time when we
    /// begin to listen and may have missed one.
    ///
    /// A primary that is asked to step down goes on for ten seconds as if nothing had happened:
    /// neither an error nor its role tells that it is the wrong one by now.
    pub(super) async fn listen(self: Arc<Self>, link: Weak<Link>) {
        loop {
            for info in &self.each {
                let Ok(Ok(mut words)) = tokio::time::timeout(CONNECT_TIMEOUT, subscribe(info)).await else { continue };
                let Some(()) = tell(&link, None).await else { return };
                let mut messages = words.on_message();
                while let Some(message) = messages.next().await {
                    let payload = String::from_utf8_lossy(message.get_payload_bytes()).into_owned();
                    if let Some(switch) = self.switch(&payload) {
                        let Some(()) = tell(&link, Some(switch)).await else { return };
                    }
                }
                break;
            }
            tokio::time::sleep(LISTEN_AGAIN).await;
        }
    }

    /// `<name> <old host> <old port> <new host> <new port>`, when it is about our primary.
    fn switch(&self, payload: &str) -> Option<Switch> {
        let mut words = payload.split(' ');
        if words.next()? != self.name {
            return None;
        }
        let mut address = || Some(format!("{}:{}", words.next()?, words.next()?));
        Some(Switch { from: address()?, to: address()? })
    }
}

/// `None` when the link has gone.
async fn tell(link: &Weak<Link>, switch: Option<Switch>) -> Option<()> {
    link.upgrade()?.hear(switch).await;
    Some(())
}

async fn subscribe(info: &ConnectionInfo) -> Result<redis::aio::PubSub, RedisError> {
    let mut words = Client::open(info.clone())?.get_async_pubsub().await?;
    words.subscribe("+switch-master").await?;
    Ok(words)
}
