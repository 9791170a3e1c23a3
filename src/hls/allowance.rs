//! What a job, and each lecture of it, may use up: retries in all, and bytes per second.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::failure::{Failure, FailureKind, Result};
use crate::http::RateLimit;

/// What a lecture may use; made out of that of its job.
#[derive(Debug)]
pub struct Allowance {
    job: Arc<JobAllowance>,
    retries: Retries,
}

/// What a job may use.
#[derive(Debug)]
pub struct JobAllowance {
    retries: Retries,
    max_bytes: u64,
    received: AtomicU64,
    rate: RateLimit,
    process_rate: Arc<RateLimit>,
}

#[derive(Debug)]
struct Retries {
    whose: &'static str,
    allowed: u32,
    left: AtomicU32,
}

impl Retries {
    fn new(whose: &'static str, allowed: u32) -> Retries {
        Retries { whose, allowed, left: AtomicU32::new(allowed) }
    }

    /// Takes one; the sentence says that there is none left.
    fn take(&self) -> Result<(), String> {
        let taken = self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        taken.map(drop).map_err(|_| format!("all {} retries of the {} are used up", self.allowed, self.whose))
    }
}

impl JobAllowance {
    /// `retries` and `max_bytes` for all lectures of the job together. `rate` is its own, `process_rate`
    /// is shared.
    pub fn new(retries: u32, max_bytes: u64, rate: RateLimit, process_rate: Arc<RateLimit>) -> Self {
        let retries = Retries::new("job", retries);
        JobAllowance { retries, max_bytes, received: AtomicU64::new(0), rate, process_rate }
    }

    /// Without a limit of bytes.
    #[cfg(test)]
    pub fn unlimited(retries: u32) -> Self {
        JobAllowance::new(retries, u64::MAX, RateLimit::new(0), Arc::new(RateLimit::new(0)))
    }

    /// Counts bytes that have arrived; waits while they came too fast.
    ///
    /// # Errors
    /// `job_too_large` when they are more than the job may receive.
    pub async fn pass(&self, bytes: usize) -> Result<()> {
        let received = self.received.fetch_add(bytes as u64, Relaxed).saturating_add(bytes as u64);
        if received > self.max_bytes {
            let message = format!("more than {} bytes came for one job (hls.max_job_bytes)", self.max_bytes);
            return Err(Failure::new(FailureKind::JobTooLarge, message));
        }
        for rate in [&self.rate, &self.process_rate] {
            rate.pass(bytes).await;
        }
        Ok(())
    }
}

impl Allowance {
    /// `retries` for one lecture of the job.
    pub fn new(job: Arc<JobAllowance>, retries: u32) -> Allowance {
        Allowance { job, retries: Retries::new("lecture", retries) }
    }

    /// Whether bytes per second are limited: a second request would cost the first one.
    pub fn is_rate_limited(&self) -> bool {
        self.job.rate.is_limited() || self.job.process_rate.is_limited()
    }

    /// Takes one request that is made again.
    ///
    /// # Errors
    /// A sentence that says that there is none left.
    pub fn ask_again(&self) -> Result<(), String> {
        self.retries.take().and_then(|()| self.job.retries.take())
    }

    /// Whether a request that failed may be made again.
    ///
    /// # Errors
    /// The same failure, which now says that the budget is used up.
    pub fn retry(&self, failure: Failure) -> Result<Failure, Failure> {
        match self.ask_again() {
            Ok(()) => Ok(failure),
            Err(used_up) => Err(Failure { message: format!("{} ({used_up})", failure.message), ..failure }),
        }
    }

    /// See [`JobAllowance::pass`].
    ///
    /// # Errors
    /// As there.
    pub async fn pass(&self, bytes: usize) -> Result<()> {
        self.job.pass(bytes).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_receives_so_many_bytes_and_not_one_more() {
        let job = Arc::new(JobAllowance { max_bytes: 1000, ..JobAllowance::unlimited(0) });
        let (one, two) = (Allowance::new(job.clone(), 0), Allowance::new(job, 0));
        one.pass(400).await.unwrap();
        two.pass(600).await.unwrap();
        assert_eq!(one.pass(1).await.unwrap_err().kind, FailureKind::JobTooLarge);
    }

    #[test]
    fn retries_end_with_the_lecture_and_with_the_job() {
        let job = Arc::new(JobAllowance::unlimited(3));
        let (one, two) = (Allowance::new(job.clone(), 2), Allowance::new(job, 2));
        let failed = || Failure::new(FailureKind::ServerError, "500");
        assert!(one.retry(failed()).is_ok() && one.retry(failed()).is_ok());
        assert_eq!(one.retry(failed()).unwrap_err().message, "500 (all 2 retries of the lecture are used up)");
        assert!(two.retry(failed()).is_ok());
        assert_eq!(two.retry(failed()).unwrap_err().message, "500 (all 3 retries of the job are used up)");
    }
}
