//! Reading rows, any number of them by one statement.

use std::collections::HashMap;

use mysql_async::prelude::Queryable;
use mysql_async::{Error, Row, Value};

use super::super::{TaskRecord, failure_in};
use super::pool::Session;
use super::schema::ErrorLog;
use crate::job::TaskId;

/// How many rows a statement asks for: one of these, so that there are few statements to prepare.
const SIZES: [usize; 4] = [1, 8, 32, 128];

/// The rows of these tasks that there are.
pub(super) async fn rows(
    session: &mut Session,
    table: &str,
    task_ids: &[TaskId],
) -> Result<HashMap<TaskId, TaskRecord>, Error> {
    let error_log = match session.error_log {
        ErrorLog::Missing => "",
        ErrorLog::Holds(_) => ", error_log",
    };
    let mut found = HashMap::new();
    for task_ids in task_ids.chunks(SIZES[SIZES.len() - 1]) {
        let params = padded(task_ids);
        let marks = vec!["?"; params.len()].join(", ");
        let select =
            format!("SELECT id, status, order_id, email, course_url{error_log} FROM `{table}` WHERE id IN ({marks})");
        let rows: Vec<Row> = session.conn.exec(select, params).await?;
        found.extend(rows.iter().filter_map(|row| Some((task_id(row)?, record(row)))));
    }
    Ok(found)
}

/// The ids, the last of them again until there are as many as one of [`SIZES`].
fn padded(task_ids: &[TaskId]) -> Vec<Value> {
    let size = SIZES.into_iter().find(|size| *size >= task_ids.len()).unwrap_or(task_ids.len());
    let padding = task_ids.last().into_iter().cycle();
    task_ids.iter().chain(padding).take(size).map(|task_id| task_id.get().into()).collect()
}

fn task_id(row: &Row) -> Option<TaskId> {
    TaskId::new(text(row, 0)?.parse().ok()?)
}

fn record(row: &Row) -> TaskRecord {
    TaskRecord {
        status: text(row, 1).unwrap_or_default(),
        order_id: text(row, 2).and_then(|id| id.parse().ok()),
        email: text(row, 3),
        course_url: text(row, 4),
        failure: text(row, 5).as_deref().and_then(failure_in),
    }
}

/// A column as text, whatever its type; `None` when it is null or was not asked for.
fn text(row: &Row, column: usize) -> Option<String> {
    match row.as_ref(column)? {
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::Int(number) => Some(number.to_string()),
        Value::UInt(number) => Some(number.to_string()),
        _ => None,
    }
}
