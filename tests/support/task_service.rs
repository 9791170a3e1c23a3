//! A backend that gives its tasks out over HTTP: `GET` and `PATCH /api/v1/tasks/<id>`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};

use super::origin::{Origin, Reply, Request};
use super::wait;

/// The path below which the tasks are, as a pattern of the origin.
pub const TASKS: &str = "/api/v1/tasks/*";
/// What it wants to see: a token that says when it expires (`{"exp":4000000000}`).
pub const TOKEN: &str = "e30.eyJleHAiOjQwMDAwMDAwMDB9.c2ln";
/// How long a task may take to get to a status.
const TASK_LIMIT: Duration = Duration::from_secs(60);

type Rows = BTreeMap<u64, Value>;

/// The service, on an origin of its own, which does what it is told wrong.
pub struct TaskService {
    pub origin: Origin,
    rows: Arc<Mutex<Rows>>,
}

impl TaskService {
    /// Starts it on a free port, without a task.
    pub fn start() -> TaskService {
        let origin = Origin::start();
        let rows: Arc<Mutex<Rows>> = Arc::default();
        let answering = Arc::clone(&rows);
        origin.answer(TASKS, move |request| answer(&mut answering.lock().expect("rows"), request));
        TaskService { origin, rows }
    }

    /// For `store.http_endpoint`.
    pub fn endpoint(&self) -> String {
        self.origin.url("/api/v1/tasks")
    }

    /// A task of order 41 with this status.
    pub fn insert(&self, task_id: u64, status: &str) {
        let row = json!({
            "id": task_id, "order_id": 41, "email": "user@example.com", "status": status, "error_log": null,
            "course_url": format!("https://learn.example.com/course/{task_id}/"),
        });
        self.rows().insert(task_id, row);
    }

    /// Changes a column.
    pub fn set(&self, task_id: u64, column: &str, value: impl Into<Value>) {
        self.rows().get_mut(&task_id).expect("the task")[column] = value.into();
    }

    /// A column; nothing when there is no such task.
    pub fn get(&self, task_id: u64, column: &str) -> Option<Value> {
        self.rows().get(&task_id).map(|row| row[column].clone())
    }

    /// The changes that were asked for, in order, with the status of the answer.
    pub fn changes(&self) -> Vec<(Value, Option<u16>)> {
        let requests = self.origin.requests_for(TASKS).into_iter();
        requests.filter(|request| request.method == "PATCH").map(|request| (request.json(), request.status)).collect()
    }

    /// Waits until a task has this status.
    ///
    /// # Panics
    /// After 60 s.
    pub async fn wait_for_task(&self, task_id: u64, status: &str) {
        let is = || (self.get(task_id, "status")? == status).then_some(());
        wait::until(&format!("task {task_id} of the service is {status}"), TASK_LIMIT, is).await;
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().expect("rows")
    }
}

fn answer(rows: &mut Rows, request: &Request) -> Reply {
    if request.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
        return Reply::status(401);
    }
    let id = request.path.rsplit('/').next().and_then(|id| id.parse().ok());
    let Some(row) = id.and_then(|id: u64| rows.get_mut(&id)) else { return Reply::status(404) };
    if request.method == "PATCH" {
        let change = request.json();
        if row["status"] == "completed" && change["status"] != "completed" && change["force"] != true {
            return Reply::status(409);
        }
        row["status"] = change["status"].clone();
        row["error_log"] = change["error_log"].clone();
    }
    Reply::json(row)
}
