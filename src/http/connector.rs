//! How the media client connects: TCP, and TLS once somebody asks for https.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls_platform_verifier::BuilderVerifierExt;
use tower_service::Service;

use super::connection::Connection;

type BoxError = Box<dyn Error + Send + Sync>;

/// Connects to http and https; cheap to clone.
#[derive(Clone)]
pub struct Connector {
    tcp: HttpConnector,
    /// Made with the first https URL: reading the certificates of the host takes as long as
    /// downloading some megabytes.
    tls: Arc<OnceLock<HttpsConnector<HttpConnector>>>,
}

impl Connector {
    /// Connecting over TCP may take `connect_timeout`.
    pub fn new(connect_timeout: Duration) -> Connector {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        Connector { tcp, tls: Arc::default() }
    }

    fn tls(&self) -> Result<HttpsConnector<HttpConnector>, rustls::Error> {
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
    type Future = Pin<Box<dyn Future<Output = Result<Connection, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
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
