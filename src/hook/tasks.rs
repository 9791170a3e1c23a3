//! `/api/v1/tasks`: one task: how it is, once more, or no more.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Hook;
use super::orders::{number, parameter};
use super::problem::Problem;
use crate::failure::{Failure, FailureKind};
use crate::job::TaskId;

/// `GET /api/v1/tasks/{task_id}`.
pub(super) async fn look(State(hook): State<Arc<Hook>>, Path(task_id): Path<String>) -> Result<Response, Problem> {
    let looked = hook.tasks.look(id(&task_id)?).await.map_err(problem)?;
    looked.map(|task| Json(task).into_response()).ok_or_else(unknown)
}

/// `POST /api/v1/tasks/{task_id}/requeue`.
pub(super) async fn requeue(
    State(hook): State<Arc<Hook>>,
    Path(task_id): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let task_id = id(&task_id)?;
    let force = match parameter(&uri, "force").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Problem::query_invalid("force", "is not true or false")),
    };
    let said = hook.tasks.requeue(task_id, force).await.map_err(problem)?;
    Ok(Json(json!({"taskId": task_id, "message": said})).into_response())
}

/// `POST /api/v1/tasks/{task_id}/cancel`.
pub(super) async fn cancel(State(hook): State<Arc<Hook>>, Path(task_id): Path<String>) -> Result<Response, Problem> {
    let task_id = id(&task_id)?;
    let said = hook.tasks.cancel(task_id).await.map_err(problem)?;
    Ok(Json(json!({"taskId": task_id, "message": said})).into_response())
}

fn id(text: &str) -> Result<TaskId, Problem> {
    number(text).and_then(TaskId::new).ok_or_else(unknown)
}

fn unknown() -> Problem {
    Problem::not_found("Neither the task store nor the queue has such a task.")
}

/// What a task answers when nothing was done about it.
fn problem(failure: Failure) -> Problem {
    match failure.kind {
        FailureKind::QueueUnavailable | FailureKind::TaskStoreUnavailable => Problem::unavailable(&failure),
        FailureKind::TaskNotFound => unknown(),
        _ => Problem::conflict(&failure),
    }
}
