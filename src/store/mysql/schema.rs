//! What the table looks like, and what we may do with it.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};

use super::super::Findings;

/// What a `text` holds.
const TEXT_BYTES: usize = 65_535;
/// The server's numbers of "no such column" and "no right to the column".
const GONE: [u16; 2] = [1054, 1143];
/// The statuses that we write.
const WRITTEN: [&str; 3] = ["enrolled", "completed", "failed"];

/// The column for error reports, which not every table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorLog {
    Missing,
    /// It takes so many characters.
    Holds(usize),
}

/// Looks for the column `error_log`. One that we have no right to is not seen.
pub(super) async fn find_error_log(conn: &mut Conn, table: &str) -> Result<ErrorLog, Error> {
    const FIND: &str = "SELECT CAST(character_maximum_length AS UNSIGNED) FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = ? AND column_name = 'error_log'";
    let found: Option<Option<u64>> = conn.exec_first(FIND, (table,)).await?;
    Ok(match found {
        None => ErrorLog::Missing,
        Some(limit) => {
            let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(TEXT_BYTES);
            ErrorLog::Holds(limit.min(TEXT_BYTES))
        }
    })
}

/// Whether the table is not any more what it was when the connection was opened.
pub(super) fn is_outdated(error: &Error) -> bool {
    matches!(error, Error::Server(error) if GONE.contains(&error.code))
}

/// What it means that there is no column `error_log`.
pub(super) fn missing(table: &str) -> String {
    format!(
        "table {table} has no column error_log that we may use: of a failed task only the status is written; \
         its error report stands in the log and in the dead list"
    )
}

/// Whether everything that we read can be read, and what we write can be written. Changes nothing.
pub(super) async fn examine(conn: &mut Conn, table: &str, error_log: ErrorLog) -> Result<Findings, Error> {
    let version: Option<String> = conn.query_first("SELECT VERSION()").await?;
    conn.query_drop(format!("SELECT id, status, order_id, email, course_url FROM `{table}` LIMIT 0")).await?;
    let report = if error_log == ErrorLog::Missing { "" } else { "error_log = NULL, " };
    conn.query_drop(format!("UPDATE `{table}` SET status = 'failed', {report}updated_at = NOW() WHERE FALSE")).await?;

    const FIND: &str = "SELECT column_type FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = ? AND column_name = 'status'";
    let kind: Option<String> = conn.exec_first(FIND, (table,)).await?;
    let kind = kind.unwrap_or_default().to_ascii_lowercase();
    let mut warnings = Vec::new();
    for status in WRITTEN.iter().filter(|status| kind.starts_with("enum(") && !kind.contains(&format!("'{status}'"))) {
        warnings.push(format!("column status of table {table} cannot be {status}: that will not be written"));
    }
    if error_log == ErrorLog::Missing {
        warnings.push(missing(table));
    }
    Ok(Findings { place: version.unwrap_or_default(), warnings })
}
