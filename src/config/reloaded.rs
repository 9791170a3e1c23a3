//! What a reload applies.

use super::{Config, ConfigError, EnrollmentSettings, HlsSettings, HookSettings, LogSettings};
use super::{ReportSettings, Source, WorkerSettings};

impl Config {
    /// This configuration, with what a reload applies taken from `new`. They are the settings that are
    /// read with [`Source::reloadable`]; a test compares.
    ///
    /// # Errors
    /// What only makes no sense together with the settings that stay.
    pub fn reloaded(&self, new: &Config) -> Result<Config, Vec<ConfigError>> {
        let (old, new) = (self.clone(), new.clone());
        let reloaded = Config {
            worker: WorkerSettings { instance: old.worker.instance, ..new.worker },
            gate: new.gate,
            enrollment: EnrollmentSettings {
                timeout: new.enrollment.timeout,
                concurrency: new.enrollment.concurrency,
                ..old.enrollment
            },
            hls: HlsSettings { quality: old.hls.quality, ..new.hls },
            live: new.live,
            report: ReportSettings {
                api_base_url: old.report.api_base_url,
                on_failure: old.report.on_failure,
                ..new.report
            },
            hook: HookSettings {
                listen: old.hook.listen,
                keep_orders: old.hook.keep_orders,
                // They are what requests may be made to as well, which is settled at the start.
                allowed_course_hosts: old.hook.allowed_course_hosts,
                ..new.hook
            },
            log: LogSettings { level: new.log.level, ..old.log },
            ..old
        };
        let mut source = Source::new(Default::default(), Default::default(), Default::default(), String::new());
        reloaded.cross_check(&mut source);
        if source.errors.is_empty() { Ok(reloaded) } else { Err(source.errors) }
    }
}
