//! How much goes on at once, where that may change while it goes on.

use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// A semaphore with a size that can be changed.
#[derive(Debug)]
pub struct Permits {
    semaphore: Arc<Semaphore>,
    size: watch::Sender<usize>,
}

impl Permits {
    /// So many at once.
    pub fn new(size: usize) -> Permits {
        Permits { semaphore: Arc::new(Semaphore::new(size)), size: watch::Sender::new(size) }
    }

    /// Where permits are taken; never closed.
    pub fn semaphore(&self) -> Arc<Semaphore> {
        self.semaphore.clone()
    }

    /// Sees every change of the size.
    pub fn size(&self) -> watch::Receiver<usize> {
        self.size.subscribe()
    }

    /// Changes the size. What is more than before can be taken at once. What is less is taken away as it
    /// comes back, before anybody who begins to wait from now on gets any of it. Call it within the
    /// runtime.
    pub fn resize(&self, wanted: usize) {
        self.size.send_if_modified(|size| {
            if wanted > *size {
                self.semaphore.add_permits(wanted - *size);
            } else if wanted < *size {
                self.take_away(*size - wanted);
            }
            std::mem::replace(size, wanted) != wanted
        });
    }

    fn take_away(&self, count: usize) {
        // No size comes near that.
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let mut taking = Box::pin(self.semaphore.clone().acquire_many_owned(count));
        // Asked at once: for the place in front of those who wait from now on.
        let taken = (&mut taking).now_or_never();
        tokio::spawn(async move {
            let taken = match taken {
                Some(taken) => taken,
                None => taking.await,
            };
            // The semaphore is never closed.
            let _ = taken.map(OwnedSemaphorePermit::forget);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_less_is_taken_away_as_it_comes_back() {
        let permits = Permits::new(3);
        let semaphore = permits.semaphore();
        let mut held: Vec<_> = (0..3).map(|_| semaphore.clone().try_acquire_owned().unwrap()).collect();
        let mut size = permits.size();
        permits.resize(1);
        assert_eq!(*size.borrow_and_update(), 1);
        let next = semaphore.clone().acquire_owned();
        tokio::pin!(next);
        for _ in 0..2 {
            assert!(futures_util::poll!(next.as_mut()).is_pending());
            held.pop();
        }
        assert!(futures_util::poll!(next.as_mut()).is_pending(), "one is held, and there is but one");
        permits.resize(2);
        let second = next.await.unwrap();
        tokio::task::yield_now().await;
        assert_eq!(semaphore.available_permits(), 0);
        drop((held, second));
        assert_eq!(semaphore.available_permits(), 2);
        permits.resize(2);
        assert!(size.has_changed().unwrap());
        size.borrow_and_update();
        permits.resize(2);
        assert!(!size.has_changed().unwrap(), "nothing has changed");
    }
}
