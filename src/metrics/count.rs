//! How many of something the process has now.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// A number of things that exist.
#[derive(Debug, Default)]
pub struct Count(AtomicI64);

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct Counted(&'static Count);

impl Count {
    /// None yet.
    pub const fn new() -> Count {
        Count(AtomicI64::new(0))
    }

    /// One more.
    pub fn one(&'static self) -> Counted {
        self.0.fetch_add(1, Relaxed);
        Counted(self)
    }

    /// How many there are now.
    pub fn count(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_counted_no_more() {
        static COUNT: Count = Count::new();
        let (first, second) = (COUNT.one(), COUNT.one());
        assert_eq!(COUNT.count(), 2);
        drop(first);
        assert_eq!(COUNT.count(), 1);
        drop(second);
        assert_eq!(COUNT.count(), 0);
    }
}
