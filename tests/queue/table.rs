//! The task store in a real MariaDB table.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use hauld::config::{GateSettings, MysqlSettings};
use hauld::failure::FailureKind;
use hauld::gate::Gate;
use hauld::job::{Element, JobSpec, TaskId};
use hauld::store::{FinalStatus, MysqlStore, TaskRecord, TaskStore};
use serde_json::{Value, json};

use crate::support::certificates::{NEW_KEY, openssl};
use crate::support::mariadb::{PASSWORD, USER};
use crate::support::{MariaDb, wait};
use crate::world::element;

fn spec(task: u64) -> JobSpec {
    JobSpec::parse(&Element(element(task).into_bytes())).unwrap()
}

fn id(task: u64) -> TaskId {
    TaskId::new(task).unwrap()
}

fn store(server: &MariaDb) -> MysqlStore {
    MysqlStore::new(&server.settings()).unwrap()
}

/// With a limit that a test can wait for.
fn quick(server: &MariaDb) -> MysqlSettings {
    MysqlSettings { timeout: Duration::from_secs(1), ..server.settings() }
}

#[tokio::test]
async fn a_row_goes_through_its_life_and_nothing_else_is_touched() {
    // What another program has set for the whole server must not matter.
    let server = MariaDb::start_with(&["--autocommit=0", "--sql-mode=", "--character-set-server=latin1"]);
    let store = store(&server);
    store.ping().await.unwrap();
    server.sql(
        "SET autocommit = 1; INSERT INTO download_tasks (id, email, course_url, status) VALUES (7, 'o@x', 'u', 'paid')",
    );
    server.sql(
        "SET autocommit = 1; INSERT INTO download_tasks (id, order_id, email, course_url, status)
         VALUES (43, 41, 'user@example.com', 'https://learn.example.com/course/43/', 'paid')",
    );
    let row = |columns: &str| server.task_field(43, columns);

    assert_eq!(store.read(id(44)).await.unwrap(), None);
    assert_eq!(store.read(id(i64::MAX as u64)).await.unwrap(), None);
    store.finish(id(44), FinalStatus::Failed, Some("{}")).await.unwrap();
    assert_eq!(store.enroll(&spec(44), Some(9)).await.unwrap_err().kind, FailureKind::TaskNotFound);
    let expected = TaskRecord {
        status: "paid".into(),
        order_id: Some(41),
        email: Some("user@example.com".into()),
        course_url: Some("https://learn.example.com/course/43/".into()),
        failure: None,
    };
    assert_eq!(store.read(id(43)).await.unwrap(), Some(expected));
    assert_eq!(store.read(id(7)).await.unwrap().unwrap().order_id, None);

    store.finish(id(43), FinalStatus::Failed, Some(r#"{"kind":"not_found","message":"Лекция 🎬"}"#)).await.unwrap();
    assert_eq!(row("status, TIMESTAMPDIFF(MINUTE, updated_at, NOW())"), "failed\t0");
    let report: Value = serde_json::from_str(&row("error_log")).unwrap();
    assert_eq!(report, json!({"kind": "not_found", "message": "Лекция 🎬"}));
    assert_eq!(store.read(id(43)).await.unwrap().unwrap().failure.unwrap().kind, "not_found");

    server.sql("SET autocommit = 1; UPDATE download_tasks SET updated_at = '2026-01-13 02:00:00'");
    store.enroll(&spec(43), Some(9)).await.unwrap();
    assert_eq!(row("status, error_log, TIMESTAMPDIFF(MINUTE, updated_at, NOW())"), "enrolled\tNULL\t0");
    store.finish(id(43), FinalStatus::Completed, None).await.unwrap();
    assert_eq!(row("status"), "completed");

    // Nobody who is late undoes it; an operator who insists does.
    store.finish(id(43), FinalStatus::Failed, Some("{}")).await.unwrap();
    assert_eq!(store.enroll(&spec(43), None).await.unwrap_err().kind, FailureKind::UnexpectedStatus);
    assert_eq!(row("status, error_log"), "completed\tNULL");
    store.enroll(&JobSpec { force: true, ..spec(43) }, None).await.unwrap();
    assert_eq!(row("status, order_id, email"), "enrolled\t41\tuser@example.com");

    // An enum that lacks a status: refused, and not cut to the empty text.
    server.sql("ALTER TABLE download_tasks MODIFY status ENUM('paid','enrolled','completed')");
    let refused = store.finish(id(43), FinalStatus::Failed, None).await.unwrap_err();
    assert!(refused.kind == FailureKind::TaskStoreUnavailable && refused.message.contains("status"), "{refused}");
    let warnings = store.examine().await.unwrap().warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("cannot be failed"), "{warnings:?}");
    let others = server.sql("SELECT id, email, course_url, status, updated_at FROM download_tasks WHERE id <> 43");
    assert_eq!(others, "7\to@x\tu\tpaid\t2026-01-13 02:00:00");
}

#[tokio::test]
async fn a_report_is_cut_to_what_the_column_holds_and_left_out_where_there_is_none() {
    let server = MariaDb::start();
    let store = store(&server);
    server.insert(43, "enrolled");
    let long = json!({"kind": "not_found", "message": "é".repeat(100_000), "attempts": 3}).to_string();
    let written = || serde_json::from_str::<Value>(&server.task_field(43, "error_log")).unwrap();
    store.finish(id(43), FinalStatus::Failed, Some(&long)).await.unwrap();
    assert_eq!((&written()["kind"], &written()["attempts"]), (&"not_found".into(), &3.into()));
    assert!(server.task_field(43, "LENGTH(error_log)").parse::<usize>().unwrap() > 65_000);

    // The table changes under a connection that is open: found by the next try.
    server.sql("ALTER TABLE download_tasks DROP COLUMN error_log");
    let mut tries = 0;
    while store.finish(id(43), FinalStatus::Failed, Some(&long)).await.is_err() {
        tries += 1;
        assert!(tries < 2, "the column is gone, and is still written");
    }
    store.enroll(&spec(43), None).await.unwrap();
    assert_eq!(server.task_field(43, "status"), "enrolled");
    let record = store.read(id(43)).await.unwrap().unwrap();
    assert_eq!((record.status.as_str(), record.failure), ("enrolled", None));
    let warnings = store.examine().await.unwrap().warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("no column error_log"), "{warnings:?}");

    // A column that is there and not for us is none.
    server.sql("ALTER TABLE download_tasks ADD error_log VARCHAR(200)");
    let fresh = MysqlStore::new(&server.settings()).unwrap();
    fresh.finish(id(43), FinalStatus::Failed, Some(&long)).await.unwrap();
    assert!((185..=200).contains(&server.task_field(43, "error_log").len()), "{}", written());
    server.make_user(&["SELECT (id, status, order_id, email, course_url)", "UPDATE (status, updated_at)"]);
    let fresh = MysqlStore::new(&server.settings()).unwrap();
    fresh.enroll(&spec(43), None).await.unwrap();
    assert!(fresh.examine().await.unwrap().warnings[0].contains("no column error_log"));
}

#[tokio::test]
async fn a_server_that_is_away_silent_or_busy_is_unavailable_and_its_answers_are_never_mixed_up() {
    let mut server = MariaDb::start();
    let store = MysqlStore::new(&quick(&server)).unwrap();
    for task in 1..=20 {
        server.insert(task, "paid");
        server.sql(&format!("UPDATE download_tasks SET order_id = {task} WHERE id = {task}"));
    }
    let own_rows = async || {
        for task in 1..=20 {
            assert_eq!(store.read(id(task)).await.unwrap().unwrap().order_id, Some(task));
        }
    };
    own_rows().await;

    server.pause();
    let begin = Instant::now();
    let asked = futures_util::future::join_all((1..=20).map(|task| store.read(id(task)))).await;
    assert!(asked.iter().all(|answer| answer.as_ref().is_err_and(|f| f.kind == FailureKind::TaskStoreUnavailable)));
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    server.resume();
    own_rows().await;

    // A row that somebody else holds.
    let hold = "BEGIN; UPDATE download_tasks SET order_id = 8 WHERE id = 8; SELECT SLEEP(3); COMMIT";
    let mut holder = server.begin(hold);
    let held = || {
        (server.sql("SELECT COUNT(*) FROM information_schema.processlist WHERE state = 'User sleep'") != "0")
            .then_some(())
    };
    wait::until("the row is held", Duration::from_secs(10), held).await;
    let refused = store.finish(id(8), FinalStatus::Completed, None).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::TaskStoreUnavailable);
    own_rows().await;
    assert!(holder.wait().unwrap().success());
    store.finish(id(8), FinalStatus::Completed, None).await.unwrap();

    server.kill9();
    let failures = [
        store.read(id(1)).await.unwrap_err(),
        store.finish(id(1), FinalStatus::Completed, None).await.unwrap_err(),
        store.enroll(&spec(1), None).await.unwrap_err(),
        store.ping().await.unwrap_err(),
        store.examine().await.unwrap_err(),
    ];
    for failure in &failures {
        assert_eq!(failure.kind, FailureKind::TaskStoreUnavailable);
        assert!(
            failure.message.contains(&format!("127.0.0.1:{}, table shop.download_tasks", server.port())),
            "{failure}"
        );
    }
    server.restart();
    own_rows().await;
    assert_eq!(server.task_field(8, "status"), "completed", "it was committed before the power cut");
}

#[tokio::test]
async fn one_statement_reads_the_rows_of_all_jobs_that_wait() {
    const JOBS: u64 = 32;
    let server = MariaDb::start();
    (1..=JOBS).for_each(|task| server.insert(task, "pending"));
    let settings = GateSettings { wait: Duration::from_secs(5), poll: Duration::from_millis(500) };
    let gate = Arc::new(Gate::new(Arc::new(store(&server)), settings));
    let before = ["Com_stmt_execute", "Com_stmt_prepare"].map(|name| server.counter(name));
    let begin = Instant::now();
    let waiting = (1..=JOBS).map(|task| {
        let gate = gate.clone();
        tokio::spawn(async move { gate.admit(&spec(task)).await })
    });
    let waiting: Vec<_> = waiting.collect();
    for job in waiting {
        assert_eq!(job.await.unwrap().unwrap_err().kind, FailureKind::EnrollmentTimeout);
    }
    let rounds = begin.elapsed().as_millis() as u64 / 500;
    let after = ["Com_stmt_execute", "Com_stmt_prepare"].map(|name| server.counter(name));
    let (executed, prepared) = (after[0] - before[0], after[1] - before[1]);
    println!("{JOBS} jobs, {rounds} rounds: {executed} statements executed, {prepared} prepared");
    // The first looks and the last ones of jobs that did not come in the same instant may be several.
    assert!((9..=rounds + JOBS).contains(&executed), "{executed} statements in {rounds} rounds");
    assert!(prepared <= 20, "{prepared} statements prepared");
}

#[tokio::test]
async fn any_number_of_rows_is_read_by_few_statements() {
    let server = MariaDb::start();
    let store = store(&server);
    let rows: Vec<String> = (1..=300).map(|task| format!("({task}, {task}, 'a@b', 'u', 'paid')")).collect();
    let columns = "INSERT INTO download_tasks (id, order_id, email, course_url, status) VALUES";
    server.sql(&format!("{columns} {}", rows.join(", ")));
    store.ping().await.unwrap();
    for count in [1, 2, 8, 9, 33, 128, 129, 400] {
        let task_ids: Vec<TaskId> = (1..=count).map(id).collect();
        let before = server.counter("Com_stmt_execute");
        let found: BTreeMap<u64, Option<u64>> = store
            .read_many(&task_ids)
            .map(|(task_id, record)| (task_id.get(), record.unwrap().and_then(|record| record.order_id)))
            .collect()
            .await;
        let expected = (1..=count).map(|task| (task, (task <= 300).then_some(task))).collect();
        assert_eq!(found, expected);
        assert_eq!(server.counter("Com_stmt_execute") - before, count.div_ceil(128), "{count}");
    }
    assert!(store.read_many(&[]).collect::<Vec<_>>().await.is_empty());
}

#[tokio::test]
async fn what_is_wrong_with_the_access_is_said_without_the_password() {
    let server = MariaDb::start();
    let why = async |change: &dyn Fn(&mut MysqlSettings)| {
        let mut settings = server.settings();
        change(&mut settings);
        let message = MysqlStore::new(&settings).unwrap().examine().await.unwrap_err().message;
        assert!(!message.contains(PASSWORD) && !format!("{settings:?}").contains(PASSWORD), "{message}");
        message
    };
    let wrong = why(&|settings| settings.password = Some(String::from("wrong").into())).await;
    assert!(wrong.contains(&format!("Access denied for user '{USER}'")) && !wrong.contains("'wrong'"), "{wrong}");
    let database = why(&|settings| settings.database = "nowhere".into()).await;
    assert!(database.contains("nowhere"), "{database}");
    let table = why(&|settings| settings.table = "nothing".into()).await;
    assert!(table.contains("nothing"), "{table}");
    server.make_user(&["SELECT"]);
    let no_update = why(&|_| {}).await;
    assert!(no_update.contains("UPDATE command denied"), "{no_update}");
    server.sql("ALTER TABLE download_tasks DROP COLUMN order_id");
    let column = why(&|_| {}).await;
    assert!(column.contains("order_id"), "{column}");
}

#[tokio::test]
async fn by_a_socket_and_by_tls() {
    let directory = tempfile::tempdir().unwrap();
    let openssl = |arguments: &str| openssl(directory.path(), arguments);
    std::fs::write(
        directory.path().join("names"),
        "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n",
    )
    .unwrap();
    openssl(&format!("req -x509 {NEW_KEY} -keyout ca.key -out ca.crt -days 2 -subj /CN=ca"));
    openssl(&format!("req {NEW_KEY} -keyout server.key -out server.csr -subj /CN=server"));
    openssl("x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let server = MariaDb::start_with(&[
        &format!("--ssl-cert={}", path("server.crt")),
        &format!("--ssl-key={}", path("server.key")),
    ]);
    let socket = server.socket();
    let settings = MysqlSettings { host: socket.clone(), ..server.settings() };
    let found = MysqlStore::new(&settings).unwrap().examine().await.unwrap();
    assert!(found.place.contains("MariaDB") && found.place.contains(&socket), "{found:?}");

    server.sql(&format!("ALTER USER {USER}@'%' REQUIRE SSL"));
    store(&server).ping().await.expect_err("not without TLS");
    let with = |ca: Option<&str>, host: &str| MysqlSettings {
        tls: true,
        ca_file: ca.map(|name| path(name).into()),
        host: host.into(),
        ..server.settings()
    };
    for host in ["localhost", "127.0.0.1"] {
        MysqlStore::new(&with(Some("ca.crt"), host)).unwrap().ping().await.unwrap();
    }
    let stranger = MysqlStore::new(&with(None, "localhost")).unwrap().ping().await.unwrap_err();
    assert!(stranger.message.contains("certificate"), "{stranger}");
}
