//! The whole field at once: the old worker's host with its environment file, the backend's table, Node
//! producers, the enrollment service and the backend, which read every byte they get.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::daemon::{Builder, HOOK_TOKEN, SECRET};
use crate::support::origin::Request;
use crate::support::producer::{Node, node_check_call, node_push};
use crate::support::redis::{Subscription, job};
use crate::support::remotes::Remotes;
use crate::support::{Daemon, MariaDb, http_client, wait};
use crate::world::{LIST, World, assert_lines_name_the_task, course_url, folder, small};

const LIMIT: Duration = Duration::from_secs(30);
const PASSWORD: &str = "p@ss/of:the redis";
const DATABASE: &str = "2";
const INSTANCE: &str = "3";

struct Field {
    world: World,
    database: MariaDb,
    remotes: Remotes,
    told: Subscription,
}

impl Field {
    fn new() -> Field {
        let world = World::new();
        let told = world.redis.subscribe("*");
        // Whoever is connected already stays so.
        world.redis.cli(&["CONFIG", "SET", "requirepass", PASSWORD]);
        Field { world, database: MariaDb::start(), remotes: Remotes::new(), told }
    }

    /// `redis-cli` as the operator of such a host calls it.
    fn redis(&self, arguments: &[&str]) -> String {
        self.world.redis.cli(&[&["--no-auth-warning", "-a", PASSWORD, "-n", DATABASE], arguments].concat())
    }

    fn redis_url(&self) -> String {
        format!("redis://:p%40ss%2Fof%3Athe%20redis@127.0.0.1:{}/{DATABASE}", self.world.redis.port())
    }

    /// The old worker's environment file, with nothing else in it.
    fn environment(&self) -> String {
        let (redis, backend) = (self.world.redis.port(), self.world.backend.base_url());
        let quoted = |(name, value): (&str, String)| format!("{name}=\"{}\"\n", value.replace('"', "\\\""));
        let database = self.database.environment().map(quoted).concat();
        format!(
            "# Redis\nREDIS_HOST=127.0.0.1\nREDIS_PORT={redis}\nREDIS_PASSWORD=\"{PASSWORD}\"\nREDIS_DB={DATABASE}\n\n{database}\n\
             API_SECRET_KEY={SECRET}\nAPI_BASE_URL={backend}\nPYTHON_DOWNLOAD_TIMEOUT=1800\nINSTANCE_ID={INSTANCE}\n"
        )
    }

    /// With that file, and settings only for what the old worker had in its code: where courses and
    /// enrollments are asked for, which remote things go to.
    fn daemon(&self) -> Builder {
        let builder = Daemon::builder()
            .catalog(&self.world.catalog)
            .set("enrollment.endpoint", self.world.backend.enroll_url())
            .set("remux.container", "ts")
            .environment_file(&self.environment());
        self.remotes.deliver_to("s3:courses/of the field", builder)
    }

    /// A row for a small course.
    fn task(&self, task_id: u64, status: &str) {
        self.world.publish(task_id, &small());
        self.database.insert(task_id, status);
    }

    /// The lecture of a small course, as it is at the remote.
    fn delivered(&self, task_id: u64) -> Vec<u8> {
        let fetched = self.remotes.fetch(&format!("s3:courses/of the field/{}", folder(task_id)));
        std::fs::read(fetched.path().join("01 Start/001 Only.ts")).unwrap()
    }

    /// What was published about the status of a task: previous and new.
    fn statuses(&self, channel: &str) -> Vec<String> {
        let word = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let told = self.told.json(channel);
        told.iter().map(|event| format!("{} > {}", word(event, "previousStatus"), word(event, "newStatus"))).collect()
    }
}

fn order(order_id: u64, tasks: &[u64]) -> Value {
    let task = |id: &u64| json!({"taskId": id, "email": "user@example.com", "courseUrl": course_url(*id)});
    json!({"orderId": order_id, "tasks": tasks.iter().map(task).collect::<Vec<_>>()})
}

async fn post(daemon: &Daemon, path: &str, body: &Value) -> (u16, Value) {
    let response = http_client().post(daemon.hook_url(path)).bearer_auth(HOOK_TOKEN).json(body).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// Every byte that the enrollment service gets.
fn assert_enroll_call(call: &Request, task_id: u64) {
    let expected = format!(r#"{{"email":"user@example.com","urls":["{}"],"orderId":41}}"#, course_url(task_id));
    assert_eq!(String::from_utf8_lossy(&call.body), expected);
    assert_eq!((call.method.as_str(), call.header("Content-Type")), ("POST", Some("application/json")));
}

/// Every byte that the backend gets.
fn assert_finalize_call(call: &Request, task_id: u64) {
    node_check_call(call, SECRET, None);
    let timestamp = call.header("X-Timestamp").unwrap();
    let expected = format!(
        r#"{{"secret_key":"{SECRET}","task_id":{task_id},"folder_name":"{}","timestamp":"{timestamp}"}}"#,
        folder(task_id)
    );
    assert_eq!(String::from_utf8_lossy(&call.body), expected);
    let sent: i64 = timestamp.parse().unwrap();
    assert!((jiff::Timestamp::now().as_second() - sent).abs() < 300, "{timestamp} is not now, in seconds");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_and_jobs_of_old_producers_come_out_as_the_contracts_say() {
    let field = Field::new();
    for task_id in [43, 44, 45] {
        field.task(task_id, "paid");
    }
    field.world.backend.refuse(&course_url(45), "course is full");
    let _s3 = field.remotes.start_s3();
    let daemon = field.daemon().hook().start().await;
    daemon.wait_for_log(&["ready: taking jobs", &format!("-{INSTANCE}-")]).await;

    // The order's tasks are not enrolled yet: the hook does that. Those of the old backend are.
    let (status, answer) = post(&daemon, "/api/v1/orders?wait=30", &order(41, &[43, 44, 45])).await;
    assert_eq!(status, 200, "what failed for a task undoes no payment: {answer}");
    let outcomes: Vec<_> = answer["tasks"].as_array().unwrap().iter().map(|task| &task["status"]).collect();
    assert_eq!(outcomes, ["queued", "queued", "enrollment_failed"]);
    for (node, task_id) in [(Node::Redis, 46), (Node::IoRedis, 47)] {
        field.task(task_id, "enrolled");
        node_push(node, &field.redis_url(), LIST, &job(task_id, &course_url(task_id)));
    }
    // By hand, without what may be missing.
    field.task(48, "enrolled");
    let by_hand = json!({"taskId": "48", "email": "user@example.com", "courseUrl": course_url(48)}).to_string();
    field.redis(&["LPUSH", LIST, &by_hand]);

    let completed = [43, 44, 46, 47, 48];
    for task_id in completed {
        field.database.wait_for_task(task_id, "completed").await;
        assert_eq!(field.database.task_field(task_id, "error_log, updated_at > NOW() - INTERVAL 2 MINUTE"), "NULL\t1");
        assert!(field.delivered(task_id) == small().truth());
    }
    assert_eq!(field.database.task_field(45, "status"), "paid", "somebody enrolls it by hand, or nobody does");

    let mut calls = field.world.backend.enroll_calls();
    calls.sort_by_key(|call| call.body.clone());
    assert_eq!(calls.len(), 3);
    for (call, task_id) in calls.iter().zip([43, 44, 45]) {
        assert_enroll_call(call, task_id);
    }
    let mut calls = field.world.backend.finalize_calls();
    calls.sort_by_key(|call| call.json()["task_id"].as_u64());
    assert_eq!(calls.len(), completed.len());
    for (call, task_id) in calls.iter().zip(completed) {
        assert_finalize_call(call, task_id);
    }

    let story = ["enrolled > downloading", "downloading > uploading", "uploading > completed"];
    for task_id in completed {
        let channel = format!("task:{task_id}:status");
        wait::until("the last status is told", LIMIT, || (field.statuses(&channel).len() >= 3).then_some(())).await;
        assert_eq!(field.statuses(&channel), story);
        let percents: Vec<_> = field
            .told
            .json(&format!("task:{task_id}:progress"))
            .iter()
            .map(|event| event["percent"].as_f64())
            .collect();
        assert_eq!((percents.first(), percents.last()), (Some(&Some(0.0)), Some(&Some(100.0))));
        let last: Value = serde_json::from_str(&field.redis(&["GET", &format!("progress:task:{task_id}")])).unwrap();
        assert_eq!((&last["taskId"], &last["orderId"], &last["percent"]), (&json!(task_id), &json!(41), &json!(100)));
        for word in ["ENROLL CHECK", "DOWNLOAD"] {
            daemon.wait_for_log(&[word, &format!("\"task_id\":{task_id}")]).await;
        }
    }
    // Every row is of order 41, whose watchers hear of all of them.
    assert_eq!(field.statuses("order:41:status").len(), story.len() * completed.len());
    daemon.wait_for_log(&["\"order_id\":41", "\"total\":3,\"enrolled\":2,\"failed\":1"]).await;
    daemon.wait_for_log(&["\"order_id\":41", "\"enrolled\":2,\"queued\":2,\"queue_failures\":0"]).await;
    assert_lines_name_the_task(&daemon);
    let settled = || {
        field.redis(&["LLEN", LIST]) == "0"
            && std::fs::read_dir(daemon.staging())
                .unwrap()
                .flatten()
                .all(|entry| !entry.file_name().to_string_lossy().starts_with("Task_"))
    };
    wait::until("nothing is left of the jobs", LIMIT, || settled().then_some(())).await;
    for secret in [PASSWORD, SECRET, HOOK_TOKEN, crate::support::mariadb::PASSWORD] {
        assert!(!daemon.log_text().contains(secret), "a secret is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_after_the_payment_is_put_right_by_hand() {
    let field = Field::new();
    field.task(53, "paid");
    field.world.publish(54, &small());
    field.task(55, "paid");
    field.world.backend.refuse(&course_url(53), "course is full");
    let _s3 = field.remotes.start_s3();
    let daemon = field.daemon().hook().start().await;
    // No list any more: what is pushed is refused by the server, and waits.
    field.redis(&["SET", LIST, "in the way"]);
    assert_eq!(post(&daemon, "/api/v1/orders", &order(51, &[53, 54, 55])).await.0, 202);
    field.database.wait_for_task(55, "enrolled").await;
    daemon.wait_for_log(&["the order waits", "\"task_id\":55"]).await;
    field.redis(&["DEL", LIST]);
    field.database.wait_for_task(55, "completed").await;

    let (status, answer) = post(&daemon, "/api/v1/orders?wait=30", &order(51, &[53, 54, 55])).await;
    let outcomes: Vec<_> =
        answer["tasks"].as_array().unwrap().iter().map(|task| (&task["status"], &task["kind"])).collect();
    let expected = [
        (json!("enrollment_failed"), json!("enrollment_refused")),
        (json!("queue_failed"), json!("task_not_found")),
        (json!("queued"), Value::Null),
    ];
    assert_eq!((status, outcomes), (200, expected.iter().map(|(status, kind)| (status, kind)).collect()), "{answer}");

    // There is a place in the course now; the recovery call enrolls, and retrying the order takes it up.
    let enrolled = json!({"success": true, "status": "enrolled", "courseId": 12345, "title": "Course Name"});
    field.world.backend.result_for(&course_url(53), enrolled.clone());
    let recovery = json!({"email": "user@example.com", "urls": [course_url(53)], "orderId": 51});
    let (status, answer) = post(&daemon, "/api/v1/enroll", &recovery).await;
    assert_eq!((status, &answer["results"][0]["status"]), (200, &enrolled["status"]), "{answer}");
    assert_eq!(post(&daemon, "/api/v1/orders/51/retry", &json!({})).await.0, 202);
    field.database.wait_for_task(53, "completed").await;

    // The row that was missing is made by the backend, and the old tool puts the task into the queue.
    field.database.insert(54, "enrolled");
    let requeue = daemon.command(&["requeue", "54"]).output().unwrap();
    assert!(requeue.status.success(), "{}", String::from_utf8_lossy(&[requeue.stdout, requeue.stderr].concat()));
    field.database.wait_for_task(54, "completed").await;
    assert_eq!(field.world.backend.wait_for_finalize(3).await.len(), 3, "each once");
}
