//! Names to addresses, by the means of this host: they block a thread, for as long as they like.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use reqwest::dns::{Addrs, Resolve, Resolving};
use tokio::sync::Semaphore;
use tower_service::Service;

/// Look-ups at once. One that hangs keeps its thread when nobody waits for it any more, and files are read
/// and written by threads of the same pool.
const AT_ONCE: usize = 64;
static LOOKUPS: Semaphore = Semaphore::const_new(AT_ONCE);

/// A name service that does not answer.
#[derive(Debug, thiserror::Error)]
#[error("looking up the name took too long")]
pub struct LookupTimedOut;

/// The addresses of a host. Waits while too many look-ups are under way; who calls sets the limit.
///
/// # Errors
/// What the system says.
pub async fn look_up(host: String) -> io::Result<Vec<IpAddr>> {
    look_up_by(&LOOKUPS, move || Ok((host.as_str(), 0).to_socket_addrs()?.map(|address| address.ip()).collect())).await
}

async fn look_up_by<T: Send + 'static>(
    lookups: &'static Semaphore,
    look: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let permit = lookups.acquire().await.map_err(io::Error::other)?;
    let looked = tokio::task::spawn_blocking(move || {
        let _until_it_answers = permit;
        look()
    });
    looked.await.map_err(io::Error::other)?
}

/// The look-ups of clients that are not guarded.
#[derive(Debug, Clone, Copy)]
pub struct Lookup;

impl Resolve for Lookup {
    fn resolve(&self, name: reqwest::dns::Name) -> Resolving {
        let host = name.as_str().to_owned();
        Box::pin(async move { Ok(Box::new(without_port(look_up(host).await?)) as Addrs) })
    }
}

impl Service<Name> for Lookup {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let host = name.as_str().to_owned();
        Box::pin(async move { Ok(without_port(look_up(host).await?)) })
    }
}

/// Who connects puts the port of the URI in place of the 0.
fn without_port(addresses: Vec<IpAddr>) -> std::vec::IntoIter<SocketAddr> {
    addresses.into_iter().map(|address| SocketAddr::new(address, 0)).collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn look_ups_that_hang_are_few_even_when_nobody_waits_for_them() {
        static FEW: Semaphore = Semaphore::const_new(2);
        let (answers, service) = mpsc::channel::<()>();
        let service = std::sync::Arc::new(std::sync::Mutex::new(service));
        let hanging = || {
            let service = service.clone();
            // It ends when nobody can answer any more.
            look_up_by(&FEW, move || service.lock().unwrap().recv().or(Ok(())))
        };
        for _ in 0..5 {
            assert!(timeout(Duration::from_millis(20), hanging()).await.is_err());
        }
        assert_eq!(FEW.available_permits(), 0, "those that began still hang");
        drop(answers);
        assert_eq!(look_up_by(&FEW, || Ok(7)).await.unwrap(), 7);
    }
}
