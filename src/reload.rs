//! Reload: the configuration is read again while the daemon runs. What is wrong with it leaves everything
//! as it was; what can be applied is applied, and what takes a restart is said.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::config::{Change, Config, ConfigError, Sources, Values};
use crate::hook::{Credentials, Hook};
use crate::logging::{Filter, Level};
use crate::logins::Logins;
use crate::report::FinalizeClient;
use crate::worker::{Limits, Pipeline};

/// Where the admin port says what a reload would do.
pub const PREVIEW: &str = "/reload";
/// Longest look at the files of the configuration for it.
const PREVIEW_LIMIT: Duration = Duration::from_secs(4);

/// What runs, and where to look for what should run.
pub struct Reload {
    sources: Sources,
    running: Mutex<Running>,
    /// One look at the files at a time for those who ask what a reload would do: a hanging mount takes one
    /// thread, not one for each of them.
    previews: Arc<Semaphore>,
}

#[derive(Clone)]
struct Running {
    config: Config,
    values: Values,
}

/// Everything that a reload changes.
pub struct Rooms {
    pub level: Level,
    pub limits: Arc<Limits>,
    pub pipeline: Arc<Pipeline>,
    pub hook: Option<Arc<Hook>>,
    pub logins: Arc<Logins>,
}

/// What a reload would do.
#[derive(Debug, Serialize, Deserialize)]
pub struct Preview {
    /// The configuration file of the daemon.
    pub file: Option<PathBuf>,
    /// What is wrong with the configuration; then nothing would change.
    pub errors: Vec<String>,
    /// What a reload applies, `name old -> new`.
    pub applied: Vec<String>,
    /// What takes a restart.
    pub needs_restart: Vec<String>,
}

/// A configuration that can be used, with all of it that can fail done.
struct Prepared {
    running: Running,
    changes: Vec<Change>,
    filter: Filter,
    /// `None` when nothing of it has changed.
    finalize: Option<FinalizeClient>,
    /// `None` when the hook is off.
    credentials: Option<Credentials>,
}

/// The admin port's page for `hauld check`.
pub fn router(reload: Arc<Reload>) -> Router {
    Router::new().route(PREVIEW, get(preview)).with_state(reload)
}

async fn preview(State(reload): State<Arc<Reload>>) -> Response {
    let looked = tokio::time::timeout(PREVIEW_LIMIT, async {
        let turn = reload.previews.clone().acquire_owned().await.ok()?;
        // It reads files.
        let looked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            reload.preview()
        });
        looked.await.ok()
    });
    match looked.await {
        Ok(Some(preview)) => ([(header::CACHE_CONTROL, "no-store")], Json(preview)).into_response(),
        Ok(None) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

impl Reload {
    /// Of a daemon that is started with this configuration.
    pub fn new(sources: Sources, config: Config, values: Values) -> Reload {
        Reload { sources, running: Mutex::new(Running { config, values }), previews: Arc::new(Semaphore::new(1)) }
    }

    /// The configuration that is in use.
    pub fn config(&self) -> Config {
        self.running().config.clone()
    }

    /// What [`Reload::run`] would do now. Reads files.
    pub fn preview(&self) -> Preview {
        let file = self.sources.file().map(Path::to_owned);
        let running = self.running().clone();
        let (errors, changes) = match self.prepare(&running) {
            Ok(prepared) => (Vec::new(), prepared.changes),
            Err(errors) => (errors.iter().map(ToString::to_string).collect(), Vec::new()),
        };
        let (applied, needs_restart): (Vec<_>, Vec<_>) = changes.iter().partition(|change| change.reloadable);
        let shown = |changes: Vec<&Change>| changes.into_iter().map(ToString::to_string).collect();
        Preview { file, errors, applied: shown(applied), needs_restart: shown(needs_restart) }
    }

    /// Reads the configuration again and applies it, all or nothing; the log says what. Reads files.
    pub fn run(&self, rooms: &Rooms) {
        let mut running = self.running();
        let prepared = match self.prepare(&running) {
            Ok(prepared) => prepared,
            Err(errors) => {
                for error in errors {
                    tracing::error!("reload refused, everything stays as it was: {error}");
                }
                return;
            }
        };
        let Prepared { running: new, changes, filter, finalize, credentials } = prepared;
        let config = &new.config;
        rooms.level.change(filter);
        rooms.limits.use_settings(&config.worker);
        rooms.pipeline.gate.use_settings(config.gate.clone());
        rooms.pipeline.courses.streams.engine.use_settings(&config.hls, &config.live);
        if let Some(finalize) = finalize {
            rooms.pipeline.finalize.replace(finalize);
        }
        rooms.logins.read_again();
        if let (Some(hook), Some(credentials)) = (&rooms.hook, credentials) {
            let (tokens, secrets) = credentials.len();
            hook.use_settings(&config.hook, &config.enrollment, credentials);
            tracing::info!(tokens, secrets, "the hook's tokens and secrets were read again");
        }
        for change in &changes {
            match change.reloadable {
                true => tracing::info!("reloaded: {change}"),
                false => tracing::warn!("not reloaded, this takes a restart: {change}"),
            }
        }
        tracing::info!(changes = changes.len(), "the configuration was read again");
        *running = new;
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        // It is replaced in a single step, so a poisoned lock still holds a whole one.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prepare(&self, running: &Running) -> Result<Prepared, Vec<ConfigError>> {
        let (config, values) = self.sources.load()?;
        let changes = running.values.changes(&values);
        let config = running.config.reloaded(&config)?;
        let wrong = |name: &str, reason: String| {
            let (name, origin) = (name.to_owned(), "configuration".to_owned());
            vec![ConfigError { name, value: None, reason, origin }]
        };
        let credentials = config.hook.listen.map(|_| Credentials::read(&config.hook)).transpose();
        let reports_otherwise = changes.iter().any(|change| change.reloadable && change.name.starts_with("report."));
        let finalize = reports_otherwise.then(|| FinalizeClient::new(&config.report, &config.http)).transpose();
        Ok(Prepared {
            filter: Filter::new(&config.log).map_err(|error| vec![error])?,
            finalize: finalize.map_err(|failure| wrong("report", failure.message))?,
            credentials: credentials.map_err(|reason| wrong("hook", reason))?,
            changes,
            running: Running { config, values: running.values.reloaded(&values) },
        })
    }
}
