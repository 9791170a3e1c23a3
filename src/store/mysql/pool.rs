//! Connections to the database, a few at most, each used by one statement at a time.
//!
//! A statement that was not answered in time, or whose caller has gone away, leaves a connection
//! that would hand its answer to the next one. Such a connection is closed and never used again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, IoError, Opts, OptsBuilder, SslOpts};
use secrecy::ExposeSecret;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::schema::{self, ErrorLog};
use crate::config::MysqlSettings;
use crate::failure::{Failure, FailureKind, Result};
use crate::redis_client::read_certificates;

/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(60);
/// Age at which a connection is closed: the next one looks at the table anew.
const LONGEST_LIFE: Duration = Duration::from_secs(600);
/// Different statements of ours are fewer.
const STATEMENTS: usize = 32;

pub(super) struct Pool {
    opts: Opts,
    table: String,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Session>>,
    /// What was last said about `error_log`.
    told: Mutex<Option<ErrorLog>>,
}

/// A connection that is ready for a statement.
pub(super) struct Session {
    pub conn: Conn,
    pub error_log: ErrorLog,
    opened: Instant,
    used: Instant,
}

/// A session in use, which ends with it unless it is kept.
pub(super) struct Lease {
    pub session: Session,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// The file of certificates cannot be used.
    pub fn new(settings: &MysqlSettings) -> Result<Pool> {
        Ok(Pool {
            opts: opts(settings)?,
            table: settings.table.clone(),
            permits: Arc::new(Semaphore::new(settings.connections)),
            idle: Mutex::default(),
            told: Mutex::default(),
        })
    }

    /// A session whose server answers: one that was kept, or a new one.
    pub async fn lease(&self) -> Result<Lease, Error> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        // cannot happen: nobody closes the semaphore
        let permit = permit.map_err(|closed| Error::Other(Box::new(closed)))?;
        while let Some(mut session) = self.kept() {
            if session.conn.ping().await.is_ok() {
                return Ok(Lease { session, _permit: permit });
            }
        }
        let session = self.open().await?;
        Ok(Lease { session, _permit: permit })
    }

    /// Keeps the session for the next statement, unless this one ended in a way that spoils it.
    pub fn keep<T>(&self, lease: Lease, result: Result<T, Error>) -> Result<T, Error> {
        if result.as_ref().err().is_none_or(|error| !error.is_fatal() && !schema::is_outdated(error)) {
            let Lease { mut session, _permit } = lease;
            session.used = Instant::now();
            // Before the permit is given back: whoever waits for it finds the session.
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        }
        result
    }

    /// The session that was used last; those that are too old are closed.
    fn kept(&self) -> Option<Session> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|session| session.used.elapsed() < IDLE && session.opened.elapsed() < LONGEST_LIFE);
        idle.pop()
    }

    async fn open(&self) -> Result<Session, Error> {
        let mut conn = Conn::new(self.opts.clone()).await?;
        let error_log = schema::find_error_log(&mut conn, &self.table).await?;
        self.tell(error_log);
        Ok(Session { conn, error_log, opened: Instant::now(), used: Instant::now() })
    }

    /// One line when the column has gone, and one when it has come. Whether it was there at the start
    /// is said by who examines the store then.
    fn tell(&self, found: ErrorLog) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match (told.replace(found), found) {
            (Some(ErrorLog::Holds(_)), ErrorLog::Missing) => tracing::warn!("{}", schema::missing(&self.table)),
            (Some(ErrorLog::Missing), ErrorLog::Holds(_)) => {
                tracing::info!("table {} has a column error_log now: failures are written there", self.table);
            }
            _ => {}
        }
    }
}

fn opts(settings: &MysqlSettings) -> Result<Opts> {
    let seconds = settings.timeout.as_secs();
    // What a row or a table is locked by may take as long as we wait. NOW() is that of the server.
    let session = format!(
        "SET NAMES utf8mb4, autocommit = 1, sql_mode = 'STRICT_ALL_TABLES', \
         innodb_lock_wait_timeout = {seconds}, lock_wait_timeout = {seconds}"
    );
    let mut builder = OptsBuilder::default()
        .user(Some(&settings.user))
        .pass(settings.password.as_ref().map(|password| password.expose_secret()))
        .db_name(Some(&settings.database))
        .init(vec![session])
        .stmt_cache_size(STATEMENTS)
        .client_found_rows(true)
        .tcp_keepalive(Some(IDLE))
        .prefer_socket(false);
    builder = match settings.is_socket() {
        true => builder.socket(Some(&settings.host)),
        false => builder.ip_or_hostname(&settings.host).tcp_port(settings.port),
    };
    if settings.tls {
        builder = builder.ssl_opts(tls(settings)?);
    }
    Ok(builder.into())
}

fn tls(settings: &MysqlSettings) -> Result<SslOpts> {
    crate::http::install_crypto_provider();
    let roots = match &settings.ca_file {
        Some(path) => {
            let unusable =
                |reason| Failure::new(FailureKind::TaskStoreUnavailable, format!("store.mysql_ca_file {reason}"));
            vec![read_certificates(path).map_err(unusable)?.into()]
        }
        None => rustls_native_certs::load_native_certs().certs.into_iter().map(|root| root.to_vec().into()).collect(),
    };
    Ok(SslOpts::default().with_disable_built_in_roots(true).with_root_certs(roots))
}

/// What went wrong, for the operator. Holds no password: the server never repeats it.
pub(super) fn shown(error: &Error) -> String {
    match error {
        Error::Server(error) => format!("{} (error {})", error.message, error.code),
        Error::Io(IoError::Io(error)) => error.to_string(),
        Error::Io(IoError::Tls(error)) => format!("TLS: {error}"),
        error => error.to_string(),
    }
}
