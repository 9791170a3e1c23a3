//! Orders and enrollments, up to the queue.

use super::*;

#[tokio::test]
async fn an_order_enrolls_then_enqueues_and_tells_what_happened() {
    let world = World::new().await;
    let mut tasks =
        vec![task(43, "intro"), task(44, "refused"), task(45, "broken"), task(99, "two"), task(46, "three")];
    tasks[4]["taskId"] = json!("46");
    tasks.push(task(101, "four"));
    let (status, headers, first) = answer(world.post(ORDERS, json!({"orderId": 41, "tasks": tasks}))).await;
    assert_eq!((status, headers["content-type"].as_bytes()), (202, &b"application/json"[..]));
    assert_eq!(
        (&headers["location"], &headers["cache-control"]),
        (&"/api/v1/orders/41".parse().unwrap(), &"no-store".parse().unwrap())
    );
    assert_eq!((&first["state"], &first["stored"], &first["total"]), (&json!("open"), &json!("redis"), &json!(6)));

    let (status, _, body) = answer(world.get("/api/v1/orders/41?wait=30")).await;
    assert_eq!(status, 200);
    let broken = body["tasks"][2]["message"].as_str().unwrap();
    assert!(broken.contains("502 Bad Gateway"), "{broken}");
    let expected = json!({
        "orderId": 41, "state": "done", "stored": "redis",
        "total": 6, "enrolled": 4, "failed": 2, "queued": 3, "queueFailures": 1,
        "createdAt": body["createdAt"], "endedAt": body["endedAt"],
        "tasks": [
            {"taskId": 43, "status": "queued", "kind": null, "message": null, "courseId": 12345, "title": "Course Name"},
            {"taskId": 44, "status": "enrollment_failed", "kind": "enrollment_refused", "message": "no seat left", "courseId": null, "title": null},
            {"taskId": 45, "status": "enrollment_failed", "kind": "enrollment_unavailable", "message": broken, "courseId": null, "title": null},
            {"taskId": 99, "status": "queue_failed", "kind": "task_not_found", "message": "no such row", "courseId": 12345, "title": "Course Name"},
            {"taskId": 46, "status": "queued", "kind": null, "message": null, "courseId": 12345, "title": "Course Name"},
            {"taskId": 101, "status": "queued", "kind": null, "message": null, "courseId": 12345, "title": "Course Name"},
        ],
    });
    assert_eq!(body.to_string(), expected.to_string(), "also the order of the fields");

    let queued = world.queued().await;
    let ids: Vec<u64> = queued.iter().map(|element| element["taskId"].as_u64().unwrap()).collect();
    assert_eq!(ids, [43, 46, 101], "in the sequence of the order");
    for element in &queued {
        let spec = JobSpec::parse(&Element(element.to_string().into_bytes())).unwrap();
        assert_eq!(element["jobId"], format!("task-{}", spec.task_id));
        // With each status written when its element was not in the queue yet.
        let (order_id, waiting) = world.store.enrolled.lock().unwrap()[&spec.task_id];
        assert!(order_id == Some(41) && waiting < 3, "{waiting}");
    }
    assert_eq!(world.store.enrolled.lock().unwrap().len(), 3);
    for call in world.service.calls() {
        let body: Value = serde_json::from_slice(&call.body).unwrap();
        assert_eq!((&body["orderId"], body["urls"].as_array().unwrap().len()), (&json!(41), 1));
        assert!(call.headers["idempotency-key"].to_str().unwrap().starts_with("order-41-task-"));
    }

    let count = |outcome| world.metrics.enrollments.get_or_create(&OutcomeLabel { outcome }).get();
    assert_eq!((count("enrolled"), count("failed")), (4, 2));
    assert_eq!(world.metrics.hook_requests.get_or_create(&RouteLabel { route: ORDERS, code: 202 }).get(), 1);
    assert!(world.metrics.encode().contains("hauld_hook_request_duration_seconds_count 2"));
    assert_eq!(answer(world.get("/api/v1/orders/42")).await.0, 404);
}

#[tokio::test]
async fn what_failed_is_taken_up_again_and_nothing_else() {
    let refusing = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let service = Service::start({
        let refusing = refusing.clone();
        move |body: String| {
            let refusing = refusing.load(std::sync::atomic::Ordering::SeqCst);
            service(if refusing { body } else { String::new() })
        }
    });
    let world = World::with(service.await, |_| {}).await;
    let tasks = [task(43, "intro"), task(44, "refused"), task(99, "two")];
    let body = world.order(json!({"orderId": 41, "tasks": tasks})).await;
    assert_eq!((&body["queued"], &body["failed"], &body["queueFailures"]), (&json!(1), &json!(1), &json!(1)));
    refusing.store(false, std::sync::atomic::Ordering::SeqCst);
    let (status, _, body) = answer(world.post(&format!("{ORDERS}/41/retry?wait=30"), "")).await;
    assert_eq!(status, 200);
    assert_eq!((&body["queued"], &body["failed"], &body["queueFailures"]), (&json!(2), &json!(0), &json!(1)), "{body}");
    // 43 was not enrolled again, nor was 99, which was enrolled already.
    assert_eq!(world.service.calls().len(), 4);
    assert_eq!(world.queued().await.len(), 2);
    // With nothing left that could be taken up, nothing is.
    world.store.enrolled.lock().unwrap().clear();
    let (status, _, again) = answer(world.post(&format!("{ORDERS}/41/retry?wait=30"), "")).await;
    assert_eq!((status, &again["queueFailures"]), (200, &json!(1)));
    assert!(world.store.enrolled.lock().unwrap().is_empty());
    assert_eq!(answer(world.post(&format!("{ORDERS}/42/retry"), "")).await.0, 404);
}

#[tokio::test]
async fn a_hundred_equal_orders_are_one() {
    let world = World::new().await;
    let order = json!({"orderId": "41", "tasks": [task(43, "intro"), task(44, "two")]});
    let turned = json!({"tasks": [task(44, "two"), task(43, "intro")], "orderId": 41, "more": 1});
    let asked = (0..100).map(|turn| {
        let order = if turn % 2 == 0 { &order } else { &turned };
        let key = format!("key-{}", turn % 3);
        answer(world.post(&format!("{ORDERS}?wait=30"), order).header("Idempotency-Key", key))
    });
    let answers = futures_util::future::join_all(asked).await;
    for (status, _, body) in answers {
        assert_eq!((status, &body["queued"], &body["orderId"]), (200, &json!(2), &json!(41)), "{body}");
    }
    assert_eq!((world.service.calls().len(), world.queued().await.len()), (2, 2));
    let count = |outcome| world.metrics.orders.get_or_create(&OutcomeLabel { outcome }).get();
    assert_eq!((count("accepted"), count("repeated")), (1, 99));

    // Another order under a key that is known, and other tasks under an id that is known.
    let other = json!({"orderId": 42, "tasks": [task(45, "intro")]});
    let (status, _, body) = answer(world.post(ORDERS, &other).header("Idempotency-Key", "\"key-1\"")).await;
    assert_eq!((status, &body["kind"]), (422, &json!("idempotency_key_reused")));
    let (status, _, body) = answer(world.post(ORDERS, json!({"orderId": 41, "tasks": [task(43, "intro")]}))).await;
    assert_eq!((status, &body["kind"]), (409, &json!("order_conflict")));
    let (status, _, body) = answer(world.post(ORDERS, &other).header("Idempotency-Key", "ä")).await;
    assert_eq!((status, &body["kind"]), (400, &json!("header_invalid")));
    assert_eq!((world.service.calls().len(), world.queued().await.len()), (2, 2));
    assert_eq!(answer(world.post(ORDERS, &other).header("Idempotency-Key", "key-9")).await.0, 202);
}

#[tokio::test]
async fn while_redis_is_away_orders_are_kept_on_disk() {
    use std::os::unix::fs::PermissionsExt;
    let mut world = World::new().await;
    let order = json!({"orderId": 41, "tasks": [task(43, "intro")]});
    let url = world.redis.url();
    world.redis.kill();
    for _ in 0..2 {
        let (status, _, body) = answer(world.post(&format!("{ORDERS}?wait=0"), &order)).await;
        assert_eq!((status, &body["state"], &body["stored"]), (202, &json!("open"), &json!("disk")));
    }
    let (status, _, body) = answer(world.get("/api/v1/orders/41")).await;
    assert_eq!((status, &body["stored"], &body["tasks"][0]["status"]), (200, &json!("disk"), &json!("waiting")));
    let (status, _, body) = answer(world.post(ORDERS, json!({"orderId": 41, "tasks": [task(44, "x")]}))).await;
    assert_eq!((status, &body["kind"]), (409, &json!("order_conflict")));
    let file = world.folder.path().join("orders/41.json");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    // Neither Redis nor the disk: nothing of the directory can be written.
    let directory = world.folder.path().join("orders");
    let set_aside = world.folder.path().join("away");
    std::fs::rename(&directory, &set_aside).unwrap();
    std::fs::write(&directory, "not a directory").unwrap();
    let (status, headers, body) = answer(world.post(ORDERS, json!({"orderId": 42, "tasks": [task(44, "x")]}))).await;
    assert_eq!(
        (status, &body["kind"], &headers["retry-after"]),
        (503, &json!("queue_unavailable"), &"5".parse().unwrap())
    );
    std::fs::remove_file(&directory).unwrap();
    std::fs::rename(&set_aside, &directory).unwrap();

    world.redis = RedisServer::start_at(&url).await;
    let done = async {
        loop {
            let (status, _, body) = answer(world.get("/api/v1/orders/41?wait=30")).await;
            if status == 200 && body["state"] == "done" {
                return body;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let body = tokio::time::timeout(Duration::from_secs(30), done).await.unwrap();
    assert_eq!((&body["stored"], &body["queued"]), (&json!("redis"), &json!(1)));
    assert!(!file.exists());
    assert_eq!(world.queued().await.len(), 1);
}

#[tokio::test]
async fn enroll_answers_as_the_service_does_for_each_url() {
    let world = World::new().await;
    let urls = ["https://h/intro", "https://h/refused", "https://h/broken"];
    let (status, _, body) =
        answer(world.post(ENROLL, json!({"email": "user@example.com", "urls": urls, "orderId": 41}))).await;
    assert_eq!((status, &body["success"]), (200, &json!(true)));
    let results = body["results"].as_array().unwrap();
    assert_eq!(results[0], json!({"success": true, "status": "enrolled", "courseId": 12345, "title": "Course Name"}));
    assert_eq!(
        results[1],
        json!({"success": false, "status": "expired", "message": "no seat left", "kind": "enrollment_refused"})
    );
    assert_eq!((&results[2]["status"], &results[2]["kind"]), (&json!("failed"), &json!("enrollment_unavailable")));
    assert_eq!(results.len(), 3);
    assert!(world.queued().await.is_empty() && world.store.enrolled.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_work_goes_on_when_the_caller_has_gone() {
    let gate = Arc::new(Semaphore::new(0));
    let entered = Arc::new(Semaphore::new(0));
    let service = Service::start({
        let (gate, entered) = (gate.clone(), entered.clone());
        move |body| {
            let (gate, entered) = (gate.clone(), entered.clone());
            async move {
                entered.add_permits(1);
                gate.acquire().await.unwrap().forget();
                service(body).await
            }
        }
    })
    .await;
    let world = World::with(service, |_| {}).await;
    let request = world.post(ENROLL, json!({"email": "user@example.com", "urls": ["https://h/a", "https://h/b"]}));
    let caller = tokio::spawn(request.send());
    entered.acquire_many(2).await.unwrap().forget();
    caller.abort();
    assert!(caller.await.is_err_and(|error| error.is_cancelled()));
    gate.add_permits(2);
    world.hook.drain().await;
    let count = |outcome| world.metrics.enrollments.get_or_create(&OutcomeLabel { outcome }).get();
    assert_eq!(count("enrolled"), 2);
}

#[tokio::test]
async fn an_order_that_makes_us_panic_is_kept() {
    let world = World::new().await;
    let (status, _, _) = answer(world.post(ORDERS, json!({"orderId": 41, "tasks": [task(100, "intro")]}))).await;
    assert_eq!(status, 202);
    let enrolled = async {
        while answer(world.get("/api/v1/orders/41")).await.2["enrolled"] != 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), enrolled).await.unwrap();
    // It stays open: whoever takes it up when the claim has run out goes on.
    let body = answer(world.get("/api/v1/orders/41")).await.2;
    assert_eq!((&body["state"], &body["tasks"][0]["status"]), (&json!("open"), &json!("enrolled")));
    let open: u64 = world.redis.connection().zcard("{rq:queue:downloads}:hauld:orders").await.unwrap();
    assert_eq!(open, 1);
}
