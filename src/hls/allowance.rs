//! What a job, and each lecture of it, may use up: retries in all, and bytes per second.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::failure::Failure;
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
    /// `retries` for all lectures of the job together. `rate` is its own, `process_rate` is shared.
    pub fn new(retries: u32, rate: RateLimit, process_rate: Arc<RateLimit>) -> Self {
        JobAllowance { retries: Retries::new("job", retries), rate, process_rate }
    }

    /// Without a limit of bytes.
    #[cfg(test)]
    pub fn unlimited(retries: u32) -> Self {
        JobAllowance::new(retries, RateLimit::new(0), Arc::new(RateLimit::new(0)))
    }

    /// Counts bytes that have arrived; waits while they came too fast.
    pub async fn pass(&self, bytes: usize) {
        for rate in [&self.rate, &self.process_rate] {
            rate.pass(bytes).await;
        }
    }
}

impl Allowance {
    /// `retries` for one lecture of the job.
    pub fn new(job: Arc<JobAllowance>, retries: u32) -> Allowance {
        Allowance { job, retries: Retries::new("lecture", retries) }
    }

    /// Whether a request that failed may be made again.
    ///
    /// # Errors
    /// The same failure, which now says that the budget is used up.
    pub fn retry(&self, failure: Failure) -> Result<Failure, Failure> {
        match self.retries.take().and_then(|()| self.job.retries.take()) {
            Ok(()) => Ok(failure),
            Err(used_up) => Err(Failure { message: format!("{} ({used_up})", failure.message), ..failure }),
        }
    }

    /// See [`JobAllowance::pass`].
    pub async fn pass(&self, bytes: usize) {
        self.job.pass(bytes).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureKind;

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
