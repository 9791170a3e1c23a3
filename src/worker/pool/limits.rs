//! What a reload may change of a running pool.

use std::sync::Arc;
use std::time::Duration;

use crate::config::WorkerSettings;
use crate::current::Current;
use crate::permits::Permits;

/// What a running pool keeps to.
pub struct Limits {
    pub(super) jobs: Permits,
    pub(super) drain: Current<Duration>,
    pub(super) job_timeout: Current<Duration>,
}

impl Limits {
    /// Those of the settings.
    pub fn new(settings: &WorkerSettings) -> Arc<Limits> {
        Arc::new(Limits {
            jobs: Permits::new(settings.jobs),
            drain: Current::new(settings.drain),
            job_timeout: Current::new(settings.job_timeout),
        })
    }

    /// Other ones: more jobs begin at once, of fewer those that run come to their end. The limit of an
    /// attempt is for those that begin from now on.
    pub fn use_settings(&self, settings: &WorkerSettings) {
        self.jobs.resize(settings.jobs);
        self.drain.replace(settings.drain);
        self.job_timeout.replace(settings.job_timeout);
    }
}
