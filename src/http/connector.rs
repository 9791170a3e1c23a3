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
use hyper::header::HeaderValue;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls_platform_verifier::{BuilderVerifierExt, Verifier};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service;

use super::connection::Connection;
use super::guard::{Guard, host_and_port};
use super::lookup::{Lookup, LookupTimedOut};
use crate::config::ProxySettings;
use crate::failure::{Failure, FailureKind};

type BoxError = Box<dyn Error + Send + Sync>;
type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// Connects to http and https; cheap to clone.
#[derive(Clone)]
pub struct Connector {
    tcp: GuardedTcp,
    /// Made with the first https URL: reading the certificates of the host takes as long as
    /// downloading some megabytes.
    tls: Arc<OnceLock<HttpsConnector<GuardedTcp>>>,
    /// Certificates (PEM) of authorities beside those of this host.
    authorities: Option<Arc<[u8]>>,
}

impl Connector {
    /// Connecting over TCP may take `connect_timeout`. `authorities` (PEM) are believed beside those of
    /// this host.
    pub fn new(guard: Guard, connect_timeout: Duration, authorities: Option<&[u8]>, proxy: Option<Proxy>) -> Connector {
        let tcp = GuardedTcp { guard, connect_timeout, proxy };
        Connector { tcp, tls: Arc::default(), authorities: authorities.map(Arc::from) }
    }

    fn tls(&self) -> Result<HttpsConnector<GuardedTcp>, rustls::Error> {
        if let Some(tls) = self.tls.get() {
            return Ok(tls.clone());
        }
        super::install_crypto_provider();
        let config = match &self.authorities {
            None => rustls::ClientConfig::builder().with_platform_verifier()?.with_no_client_auth(),
            Some(authorities) => believing(authorities)?,
        };
        let builder = HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1();
        Ok(self.tls.get_or_init(|| builder.wrap_connector(self.tcp.clone())).clone())
    }
}

/// Checks certificates against the authorities of this host and these.
fn believing(authorities: &[u8]) -> Result<rustls::ClientConfig, rustls::Error> {
    let authorities: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(authorities).collect();
    let authorities = authorities.map_err(|error| rustls::Error::General(error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new_with_extra_roots(authorities, provider)?;
    // "Dangerous" is a verifier of one's own: this one checks all that the usual one does.
    let builder = rustls::ClientConfig::builder().dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    Ok(builder.with_no_client_auth())
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

/// A proxy that connects to hosts for us (RFC 9110 §9.3.6).
#[derive(Clone)]
pub struct Proxy {
    uri: Uri,
    authorization: Option<HeaderValue>,
}

impl Proxy {
    /// # Errors
    /// `internal` when its URL is not fit for a request.
    pub fn new(settings: &ProxySettings) -> Result<Proxy, Failure> {
        let uri = settings.url.as_str().parse();
        let uri = uri.map_err(|error| Failure::new(FailureKind::Internal, format!("network.proxy: {error}")))?;
        Ok(Proxy { uri, authorization: settings.authorization() })
    }
}

/// Connects over TCP to those addresses only that the guard has looked up and let through; where there
/// is a proxy, all but our own hosts through that.
#[derive(Clone)]
struct GuardedTcp {
    guard: Guard,
    connect_timeout: Duration,
    proxy: Option<Proxy>,
}

impl GuardedTcp {
    fn tcp<R>(&self, resolver: R) -> HttpConnector<R> {
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(self.connect_timeout));
        tcp
    }

    async fn connect(self, uri: Uri) -> Result<TokioIo<TcpStream>, BoxError> {
        if let Some(proxy) = self.proxy.as_ref().filter(|_| !self.guard.is_inside(&uri)) {
            self.guard.check_unresolved(&uri)?;
            let tunnel = Tunnel::new(proxy.uri.clone(), self.tcp(Lookup));
            let mut tunnel = match &proxy.authorization {
                Some(authorization) => tunnel.with_auth(authorization.clone()),
                None => tunnel,
            };
            // The tunnel takes 443 for the port of every URI that does not say one.
            let (host, port) = host_and_port(&uri);
            let target =
                Uri::builder().scheme("http").authority(format!("{host}:{port}")).path_and_query("/").build()?;
            return Ok(tunnel.call(target).await?);
        }
        let addresses =
            timeout(self.connect_timeout, self.guard.addresses(&uri)).await.map_err(|_| LookupTimedOut)??;
        // The connector puts the port of the URI in place of the 0.
        let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, 0)).collect();
        Ok(self.tcp(Pinned(addresses)).call(uri).await?)
    }
}

impl Service<Uri> for GuardedTcp {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Connecting<TokioIo<TcpStream>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
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
