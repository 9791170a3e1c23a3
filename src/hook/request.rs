//! What is asked of the hook: JSON to types, every error at once with its JSON Pointer.
//!
//! Unknown fields are ignored; numbers may be strings of digits, as the queue's are.

use std::collections::HashSet;

use serde_json::{Map, Value};
use url::Url;

use super::problem::{FieldError, Problem};
use crate::http::is_host;
use crate::job::{JobSpec, TaskId};
use crate::orders::Order;

/// Longest address (RFC 5321 §4.5.3.1: 64 + 1 + 255).
const MAX_EMAIL_BYTES: usize = 320;

/// Enroll only.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Enrollment {
    pub email: String,
    /// At least one.
    pub urls: Vec<Url>,
    pub order_id: Option<u64>,
}

/// Reads the body of `POST /api/v1/orders`.
/// `hosts`: those that a course may be on; any when there is none.
pub(super) fn order(body: &Value, max_tasks: usize, hosts: &[String]) -> Result<Order, Problem> {
    let mut reader = Reader { hosts, errors: Vec::new() };
    let fields = reader.object(body, "");
    let order_id = reader.required(fields, "/orderId").and_then(|value| reader.number(value, "/orderId"));
    let mut tasks = Vec::new();
    let mut seen = HashSet::new();
    for (at, item) in reader.list(fields, "/tasks", max_tasks).iter().enumerate() {
        let pointer = |name: &str| format!("/tasks/{at}/{name}");
        let Some(fields) = reader.object(item, &format!("/tasks/{at}")) else { continue };
        let task_id = reader.required(Some(fields), &pointer("taskId"));
        let task_id = task_id.and_then(|value| reader.number(value, &pointer("taskId"))).and_then(TaskId::new);
        if task_id.is_some_and(|task_id| !seen.insert(task_id)) {
            reader.wrong(&pointer("taskId"), "stands in this order twice");
        }
        let email = reader.required(Some(fields), &pointer("email"));
        let email = email.and_then(|value| reader.email(value, &pointer("email")));
        let course_url = reader.required(Some(fields), &pointer("courseUrl"));
        let course_url = course_url.and_then(|value| reader.url(value, &pointer("courseUrl")));
        if let (Some(task_id), Some(email), Some(course_url)) = (task_id, email, course_url) {
            tasks.push(JobSpec { task_id, email, course_url, force: false, trace: None });
        }
    }
    reader.end(order_id.map(|order_id| Order { order_id, tasks }))
}

/// Reads the body of `POST /api/v1/enroll`.
/// `hosts`: as [`order`].
pub(super) fn enrollment(body: &Value, max_urls: usize, hosts: &[String]) -> Result<Enrollment, Problem> {
    let mut reader = Reader { hosts, errors: Vec::new() };
    let fields = reader.object(body, "");
    let email = reader.required(fields, "/email").and_then(|value| reader.email(value, "/email"));
    let mut urls = Vec::new();
    for (at, item) in reader.list(fields, "/urls", max_urls).iter().enumerate() {
        urls.extend(reader.url(item, &format!("/urls/{at}")));
    }
    let order_id = fields.and_then(|fields| fields.get("orderId")).filter(|value| !value.is_null());
    let order_id = order_id.and_then(|value| reader.number(value, "/orderId"));
    reader.end(email.map(|email| Enrollment { email, urls, order_id }))
}

/// Collects what is wrong. Each method says it itself and returns nothing then.
struct Reader<'a> {
    hosts: &'a [String],
    errors: Vec<FieldError>,
}

impl Reader<'_> {
    fn wrong(&mut self, pointer: &str, detail: impl Into<String>) {
        self.errors.push(FieldError { pointer: pointer.to_owned(), detail: detail.into() });
    }

    fn object<'a>(&mut self, value: &'a Value, pointer: &str) -> Option<&'a Map<String, Value>> {
        if !value.is_object() {
            self.wrong(pointer, "is not an object");
        }
        value.as_object()
    }

    /// The field that `pointer` ends in. That of a body which is no object has been told already.
    fn required<'a>(&mut self, fields: Option<&'a Map<String, Value>>, pointer: &str) -> Option<&'a Value> {
        let (_, name) = pointer.rsplit_once('/')?;
        let value = fields?.get(name);
        if value.is_none() {
            self.wrong(pointer, "is missing");
        }
        value
    }

    fn list<'a>(&mut self, fields: Option<&'a Map<String, Value>>, pointer: &str, max: usize) -> &'a [Value] {
        let Some(value) = self.required(fields, pointer) else { return &[] };
        match value.as_array() {
            Some(items) if (1..=max).contains(&items.len()) => return items,
            Some(items) => self.wrong(pointer, format!("has {} elements; 1 to {max} are taken", items.len())),
            None => self.wrong(pointer, "is not a list"),
        }
        &[]
    }

    fn number(&mut self, value: &Value, pointer: &str) -> Option<u64> {
        // The ids of orders and tasks are written alike.
        let number = TaskId::from_json(value).map(TaskId::get);
        if number.is_none() {
            self.wrong(pointer, "is not an integer from 1 to 2^63 - 1");
        }
        number
    }

    fn email(&mut self, value: &Value, pointer: &str) -> Option<String> {
        let Some(text) = value.as_str().map(str::trim) else {
            self.wrong(pointer, "is not a text");
            return None;
        };
        let parts = text.rsplit_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
        if !parts || text.len() > MAX_EMAIL_BYTES || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            self.wrong(pointer, "is not an e-mail address");
            return None;
        }
        Some(text.to_owned())
    }

    fn url(&mut self, value: &Value, pointer: &str) -> Option<Url> {
        let Some(text) = value.as_str() else {
            self.wrong(pointer, "is not a text");
            return None;
        };
        let url = crate::http::parse_url(text).map_err(|failure| self.wrong(pointer, failure.message)).ok()?;
        let host = url.host_str().unwrap_or_default();
        if !self.hosts.is_empty() && !self.hosts.iter().any(|allowed| is_host(allowed, host)) {
            self.wrong(pointer, format!("{} is on a host that is not allowed", crate::http::shown(&url)));
            return None;
        }
        Some(url)
    }

    fn end<T>(self, read: Option<T>) -> Result<T, Problem> {
        match read {
            Some(read) if self.errors.is_empty() => Ok(read),
            _ => Err(Problem::body_invalid(self.errors)),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use http_body_util::BodyExt;
    use serde_json::json;

    use super::*;

    /// The errors as the caller sees them: pointer and detail.
    async fn errors(problem: Problem) -> Vec<(String, String)> {
        let body = problem.into_response().into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let text = |error: &Value, name: &str| error[name].as_str().unwrap().to_owned();
        body["errors"].as_array().unwrap().iter().map(|e| (text(e, "pointer"), text(e, "detail"))).collect()
    }

    #[test]
    fn an_order_is_read_with_digits_and_unknown_fields() {
        let body = json!({"orderId": "41", "x": 1, "tasks": [
            {"taskId": "43", "email": " user@example.com ", "courseUrl": "https://learn.example.com/course/intro/", "y": {}},
            {"taskId": 44, "email": "a@b", "courseUrl": "http://h/c"},
        ]});
        let order = order(&body, 2, &[]).unwrap();
        assert_eq!((order.order_id, order.tasks.len()), (41, 2));
        assert_eq!(order.tasks[0].task_id.get(), 43);
        assert_eq!(order.tasks[0].email, "user@example.com");
        assert_eq!(order.tasks[0].course_url.as_str(), "https://learn.example.com/course/intro/");
    }

    #[tokio::test]
    async fn every_error_of_an_order_is_told_with_its_place() {
        let body = json!({"tasks": [
            {"taskId": 0, "email": 7, "courseUrl": "ftp://h/"},
            7,
            {"taskId": 3, "email": "a b@c", "courseUrl": 9},
            {"taskId": 3, "email": "a@b", "courseUrl": "http://h/"},
            {},
        ]});
        let errors = errors(order(&body, 5, &[]).unwrap_err()).await;
        let pointers: Vec<&str> = errors.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(
            pointers,
            [
                "/orderId",
                "/tasks/0/taskId",
                "/tasks/0/email",
                "/tasks/0/courseUrl",
                "/tasks/1",
                "/tasks/2/email",
                "/tasks/2/courseUrl",
                "/tasks/3/taskId",
                "/tasks/4/taskId",
                "/tasks/4/email",
                "/tasks/4/courseUrl",
            ]
        );
        assert_eq!(errors[7].1, "stands in this order twice");
    }

    #[tokio::test]
    async fn bodies_that_are_something_else_are_refused() {
        for (body, pointer) in [
            (json!([]), ""),
            (json!({"orderId": 1, "tasks": {}}), "/tasks"),
            (json!({"orderId": 1, "tasks": []}), "/tasks"),
            (json!({"orderId": 1, "tasks": [1, 2, 3]}), "/tasks"),
            (json!({"orderId": 1}), "/tasks"),
        ] {
            let errors = errors(order(&body, 2, &[]).unwrap_err()).await;
            assert_eq!(errors.len(), 1, "{body}: {errors:?}");
            assert_eq!(errors[0].0, pointer, "{body}");
        }
    }

    #[tokio::test]
    async fn an_enrollment_is_read_and_its_errors_told() {
        let body = json!({"email": "a@b", "urls": ["http://h/1", "http://h/2"], "orderId": null});
        let read = enrollment(&body, 2, &[]).unwrap();
        assert_eq!((read.email.as_str(), read.urls.len(), read.order_id), ("a@b", 2, None));
        let body = json!({"email": "@", "urls": ["http://u:p4ss@h/", "x"], "orderId": -1});
        let errors = errors(enrollment(&body, 2, &[]).unwrap_err()).await;
        let pointers: Vec<&str> = errors.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(pointers, ["/email", "/urls/0", "/urls/1", "/orderId"]);
        assert!(!errors[1].1.contains("p4ss"), "{errors:?}");
    }

    #[tokio::test]
    async fn courses_are_only_on_hosts_that_are_allowed() {
        let hosts = ["learn.example.com".to_owned(), "*.courses.example".to_owned()];
        let order_of = |url: &str| json!({"orderId": 1, "tasks": [{"taskId": 1, "email": "a@b", "courseUrl": url}]});
        for good in ["https://learn.example.com/c", "http://LEARN.example.com:81/c", "https://a.b.courses.example/"] {
            assert!(order(&order_of(good), 1, &hosts).is_ok(), "{good}");
        }
        for bad in [
            "https://example.com/",
            "https://xlearn.example.com/",
            "https://learn.example.com.evil/",
            "https://courses.example/",
            "https://xcourses.example/",
            "http://127.0.0.1/",
            "http://[::1]/",
        ] {
            let errors = errors(order(&order_of(bad), 1, &hosts).unwrap_err()).await;
            assert_eq!(errors[0].0, "/tasks/0/courseUrl", "{bad}");
        }
    }
}
