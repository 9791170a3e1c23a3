//! `/api/v1/enroll`: the enrollment service's own call and answer, for several URLs.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use serde_json::{Value, json};
use url::Url;

use super::problem::Problem;
use super::{Hook, body, request};
use crate::enroll::EnrollmentResult;

/// `POST /api/v1/enroll`.
pub(super) async fn enroll(State(hook): State<Arc<Hook>>, request: Request) -> Result<Response, Problem> {
    let limits = hook.limits.get();
    let request = request::enrollment(&body::read(request).await?, limits.max_tasks, &limits.allowed_course_hosts)?;
    let results = hook.see_through({
        let hook = hook.clone();
        async move { join_all(request.urls.iter().map(|url| enroll_one(&hook, &request, url))).await }
    });
    // The call was carried out; whether a course was enrolled in stands in its result.
    Ok(Json(json!({"success": true, "results": results.await?})).into_response())
}

async fn enroll_one(hook: &Hook, request: &request::Enrollment, url: &Url) -> Value {
    let course = crate::http::shown(url);
    let result = hook.enrollment.enroll(&request.email, url, request.order_id, None).await;
    let status = result.as_ref().ok().and_then(|result| result.status.clone());
    match result.and_then(EnrollmentResult::into_enrolled) {
        Ok(result) => {
            tracing::info!(order_id = request.order_id, course, "enrolled");
            json!({"success": true, "status": status, "courseId": result.course_id, "title": result.title})
        }
        Err(failure) => {
            let kind = failure.kind.name();
            tracing::warn!(order_id = request.order_id, course, kind, %failure, "enrollment failed");
            let status = status.unwrap_or_else(|| "failed".into());
            json!({"success": false, "status": status, "message": failure.message, "kind": kind})
        }
    }
}
