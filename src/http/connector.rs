//! How the media client connects: TCP to an address that the guard has let through, and TLS once
//! somebody asks for https.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, Ready, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioIo;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::net::TcpStream;
use tower_service::Service;

use super::connection::Connection;
use super::guard::Guard;

type BoxError = Box<dyn Error + Send + Sync>;
type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// Connects to http and https; cheap to clone.
#[derive(Clone)]
pub struct Connector {
    tcp: GuardedTcp,
    /// Made with the first https URL: reading the certificates of the host takes as long as
    /// downloading some megabytes.
    tls: Arc<OnceLock<HttpsConnector<GuardedTcp>>>,
}

impl Connector {
    /// Connecting over TCP may take `connect_timeout`.
    pub fn new(guard: Guard, connect_timeout: Duration) -> Connector {
        Connector { tcp: GuardedTcp { guard, connect_timeout }, tls: Arc::default() }
    }

    fn tls(&self) -> Result<HttpsConnector<GuardedTcp>, rustls::Error> {
        if let Some(tls) = self.tls.get() {
            return Ok(tls.clone());
        }
        super::install_crypto_provider();
        let config = rustls::ClientConfig::builder().with_platform_verifier()?.with_no_client_auth();
        let builder = HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1();
        Ok(self.tls.get_or_init(|| builder.wrap_connector(self.tcp.clone())).clone())
    }
}

impl Service<Uri> for Connector {
    type Response = Connection;
    type Error = BoxError;
    type Future = Connecting<Connection>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        if uri.scheme_str() == Some("https") {
            let tls = self.tls();
            return Box::pin(async move { Ok(Connection::new(tls?.call(uri).await?)) });
        }
        let connecting = self.tcp.call(uri);
        Box::pin(async move { Ok(Connection::new(MaybeHttpsStream::Http(connecting.await?))) })
    }
}

/// Connects over TCP to those addresses only that the guard has looked up and let through.
#[derive(Clone)]
struct GuardedTcp {
    guard: Guard,
    connect_timeout: Duration,
}

impl Service<Uri> for GuardedTcp {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Connecting<TokioIo<TcpStream>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let GuardedTcp { guard, connect_timeout } = self.clone();
        Box::pin(async move {
            let addresses = guard.addresses(&uri).await?;
            // The connector puts the port of the URI in place of the 0.
            let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, 0)).collect();
            let mut tcp = HttpConnector::new_with_resolver(Pinned(addresses));
            tcp.enforce_http(false);
            tcp.set_nodelay(true);
            tcp.set_connect_timeout(Some(connect_timeout));
            Ok(tcp.call(uri).await?)
        })
    }
}

/// A lookup whose answer is known already.
#[derive(Clone)]
struct Pinned(Vec<SocketAddr>);

impl Service<Name> for Pinned {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        ready(Ok(self.0.clone().into_iter()))
    }
}
