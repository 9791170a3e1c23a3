//! What becomes of a job whose earlier run died, or runs still.

use redis::AsyncCommands;
use secrecy::SecretString;
use tokio::sync::Mutex;

use super::super::ending::write_end;
use super::*;
use crate::config::Config;
use crate::job::TaskId;
use crate::report::test_redis::RedisServer;
use crate::store::{FinalStatus, RedisStore, TaskRecord};

const LIST: &str = "rq:queue:downloads";

struct World {
    redis: RedisServer,
    folder: tempfile::TempDir,
    pipeline: Arc<Pipeline>,
    /// Bodies of the finalize calls.
    calls: Arc<Mutex<Vec<String>>>,
}

impl World {
    async fn new() -> World {
        let redis = RedisServer::start().await;
        let folder = tempfile::tempdir().unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let mut config = Config::load(None, Default::default(), Default::default()).unwrap();
        config.redis = redis.settings();
        config.delivery.directory = folder.path().join("out");
        config.report.api_base_url = Some(backend(calls.clone()).await);
        config.report.secret = Some(SecretString::from("s3cret"));
        let metrics = Metrics::new();
        let queue = Queue::connect(&config.redis, &config.queue, "0", folder.path().join("outcomes"), metrics.clone());
        let queue = queue.await.unwrap();
        let engine = crate::hls::Engine::new(&config, metrics.clone()).unwrap();
        let streams =
            crate::media::StreamDownload { engine: Arc::new(engine), remux: None, container: config.remux.container };
        let resolver = Arc::new(Resolver::new(&config.resolver, &config.http, Arc::default()).unwrap());
        let client = crate::http::MediaClient::new(&config.http).unwrap();
        let courses = CourseDownload {
            streams,
            client,
            files: config.files,
            resolver: resolver.clone(),
            metrics: metrics.clone(),
        };
        let store = Arc::new(RedisStore::new(redis.connection()));
        let pipeline = Pipeline {
            store_patience: Duration::from_secs(60),
            gate: Gate::new(store.clone(), config.gate),
            store,
            resolver,
            cookies: Arc::default(),
            courses,
            sharing: None,
            delivery: Delivery::new(&config.delivery),
            finalize: Current::new(FinalizeClient::new(&config.report, &config.http).unwrap()),
            events: Events::new(redis.connection()),
            queue,
            staging: folder.path().join("staging"),
            volumes: Arc::new(Volumes::new(Vec::new(), 0)),
            max_attempts: 3,
            metrics,
        };
        World { redis, folder, pipeline: Arc::new(pipeline), calls }
    }

    async fn take(&self) -> Arc<Leased> {
        let element = br#"{"taskId":7,"email":"a@b","courseUrl":"http://127.0.0.1:9/course.m3u8"}"#;
        let _: u64 = self.redis.connection().lpush(LIST, &element[..]).await.unwrap();
        let mut jobs = self.pipeline.queue.taker().next(1, &CancellationToken::new()).await.unwrap();
        Arc::new(jobs.remove(0))
    }

    async fn set_status(&self, status: &str) {
        let _: u64 = self.redis.connection().hset("hauld:task:7", "status", status).await.unwrap();
    }

    async fn status(&self) -> String {
        self.redis.connection().hget("hauld:task:7", "status").await.unwrap()
    }

    async fn has_looked_at_the_gate(&self) -> bool {
        let info: String =
            redis::cmd("INFO").arg("commandstats").query_async(&mut self.redis.connection()).await.unwrap();
        info.contains("cmdstat_hgetall")
    }

    /// Leaves what a run leaves that is killed after it has delivered.
    async fn deliver(&self, spec: &JobSpec) {
        let sandbox = Sandbox::open(&self.pipeline.staging, spec).await.unwrap().unwrap();
        std::fs::create_dir(sandbox.path().join("Course")).unwrap();
        let (progress, cancel) = (Progress::default(), CancellationToken::new());
        let task_id = TaskId::new(7).unwrap();
        self.pipeline.delivery.deliver(&sandbox, "Course", task_id, &progress, &cancel).await.unwrap();
    }
}

async fn backend(calls: Arc<Mutex<Vec<String>>>) -> url::Url {
    let router = axum::Router::new().fallback(async move |body: String| calls.lock().await.push(body));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(crate::serve::serve(listener, router, CancellationToken::new()));
    url.parse().unwrap()
}

#[tokio::test]
async fn a_job_that_was_killed_after_its_finalize_call_is_done() {
    let world = World::new().await;
    let job = world.take().await;
    world.deliver(&job.spec).await;
    world.set_status("completed").await;
    let outcome = world.pipeline.run(job.clone(), CancellationToken::new()).await;
    assert_eq!(outcome.name(), "done", "{outcome:?}");
    assert_eq!(world.status().await, "completed");
    assert!(world.calls.lock().await.is_empty(), "the backend knows it already");
    world.pipeline.settled(&job).await;
    assert!(!world.pipeline.staging.join("Task_7").exists());
}

#[tokio::test]
async fn a_job_that_was_killed_before_its_finalize_call_makes_it() {
    let world = World::new().await;
    let job = world.take().await;
    world.deliver(&job.spec).await;
    world.set_status("enrolled").await;
    let outcome = world.pipeline.run(job, CancellationToken::new()).await;
    assert_eq!(outcome.name(), "done", "{outcome:?}");
    assert_eq!(world.status().await, "completed");
    assert_eq!(world.calls.lock().await.len(), 1);
    assert!(world.folder.path().join("out/Course").is_dir());
}

#[tokio::test]
async fn a_job_that_was_lost_after_its_finalize_call_does_not_make_it_again() {
    let world = World::new().await;
    let job = world.take().await;
    world.deliver(&job.spec).await;
    world.set_status("enrolled").await;
    let sandbox = Sandbox::open(&world.pipeline.staging, &job.spec).await.unwrap().unwrap();
    // That of another element of the task is no reason.
    sandbox.note_finalized("another").await.unwrap();
    assert!(!sandbox.is_finalized(&job.id).await);
    sandbox.note_finalized(&job.id).await.unwrap();
    drop(sandbox);
    let outcome = world.pipeline.run(job.clone(), CancellationToken::new()).await;
    assert_eq!(outcome.name(), "done", "{outcome:?}");
    assert_eq!(world.status().await, "completed");
    assert!(world.calls.lock().await.is_empty());
    world.pipeline.settled(&job).await;
    assert!(!world.pipeline.staging.join("Task_7").exists());
}

#[tokio::test]
async fn a_completed_task_without_a_delivery_stays_completed_and_nobody_hears_that_it_failed() {
    let world = World::new().await;
    let job = world.take().await;
    world.set_status("completed").await;
    let client = redis::Client::open(world.redis.url()).unwrap();
    let mut events = client.get_async_pubsub().await.unwrap();
    events.subscribe("task:7:status").await.unwrap();
    let outcome = world.pipeline.run(job, CancellationToken::new()).await;
    assert_eq!(outcome.name(), "dead", "{outcome:?}");
    assert_eq!(world.status().await, "completed");
    let _: u64 = world.redis.connection().publish("task:7:status", "the end").await.unwrap();
    let first = futures_util::StreamExt::next(&mut events.on_message()).await.unwrap();
    assert_eq!(first.get_payload::<String>().unwrap(), "the end");
    assert!(!world.pipeline.staging.join("Task_7").exists());
}

#[tokio::test]
async fn a_second_job_of_a_task_waits_for_the_first_and_then_asks_the_gate_again() {
    let world = World::new().await;
    let job = world.take().await;
    world.set_status("enrolled").await;
    let first = Sandbox::open(&world.pipeline.staging, &job.spec).await.unwrap().unwrap();
    let (pipeline, second) = (world.pipeline.clone(), job.clone());
    let running = tokio::spawn(async move { pipeline.run(second, CancellationToken::new()).await });
    while !world.has_looked_at_the_gate().await {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    // As the first ends: delivered, completed, settled.
    world.set_status("completed").await;
    first.remove().await.unwrap();
    let outcome = running.await.unwrap();
    assert_eq!(outcome.name(), "dead", "{outcome:?}");
    assert!(world.calls.lock().await.is_empty());
}

/// A store that is away until then.
struct AwayUntil(tokio::time::Instant, Mutex<Option<FinalStatus>>);

#[async_trait]
impl TaskStore for AwayUntil {
    async fn read(&self, _: TaskId) -> Result<Option<TaskRecord>> {
        unreachable!("only the end is written")
    }

    async fn finish(&self, _: TaskId, status: FinalStatus, _: Option<&str>) -> Result<()> {
        if tokio::time::Instant::now() < self.0 {
            return Err(Failure::new(FailureKind::TaskStoreUnavailable, "away"));
        }
        *self.1.lock().await = Some(status);
        Ok(())
    }

    async fn enroll(&self, _: &JobSpec, _: Option<u64>) -> Result<()> {
        unreachable!("only the end is written")
    }

    async fn ping(&self) -> Result<()> {
        unreachable!("only the end is written")
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_task_waits_for_its_store_but_not_for_ever() {
    let spec = JobSpec::parse(&crate::job::Element(
        br#"{"taskId":7,"email":"a@b","courseUrl":"http://127.0.0.1:9/course.m3u8"}"#.to_vec(),
    ));
    let spec = spec.unwrap();
    for (seconds, written) in [(50, Some(FinalStatus::Completed)), (3600, None)] {
        let (begin, patience) = (tokio::time::Instant::now(), Duration::from_secs(60));
        let store = AwayUntil(begin + Duration::from_secs(seconds), Mutex::new(None));
        let ended = write_end(&store, patience, &spec, FinalStatus::Completed, None).await;
        assert_eq!(ended.is_ok(), written.is_some());
        assert_eq!(*store.1.lock().await, written, "{seconds}");
        assert!(begin.elapsed() <= patience);
    }
}

/// A store that takes no end of a task as long as it is away.
struct Away(RedisStore, std::sync::atomic::AtomicBool);

#[async_trait]
impl TaskStore for Away {
    async fn read(&self, task_id: TaskId) -> Result<Option<TaskRecord>> {
        self.0.read(task_id).await
    }

    async fn finish(&self, task_id: TaskId, status: FinalStatus, error_log: Option<&str>) -> Result<()> {
        match self.1.load(std::sync::atomic::Ordering::SeqCst) {
            true => Err(Failure::new(FailureKind::TaskStoreUnavailable, "away")),
            false => self.0.finish(task_id, status, error_log).await,
        }
    }

    async fn enroll(&self, spec: &JobSpec, order_id: Option<u64>) -> Result<()> {
        self.0.enroll(spec, order_id).await
    }

    async fn ping(&self) -> Result<()> {
        self.0.ping().await
    }
}

#[tokio::test]
async fn a_delivered_job_waits_for_a_store_that_does_not_take_its_end() {
    let mut world = World::new().await;
    let store = Arc::new(Away(RedisStore::new(world.redis.connection()), true.into()));
    let pipeline = Arc::get_mut(&mut world.pipeline).expect("nobody else has it yet");
    (pipeline.store, pipeline.store_patience) = (store.clone(), Duration::ZERO);
    let job = world.take().await;
    world.deliver(&job.spec).await;
    world.set_status("enrolled").await;
    let outcome = world.pipeline.run(job.clone(), CancellationToken::new()).await;
    assert_eq!(outcome.name(), "untold", "{outcome:?}");
    world.pipeline.queue.settle(&job, outcome).await.unwrap();

    store.1.store(false, std::sync::atomic::Ordering::SeqCst);
    let (untold, mut redis) = ("{rq:queue:downloads}:hauld:untold", world.redis.connection());
    let waiting: Vec<Vec<u8>> = redis.zrange(untold, 0, -1).await.unwrap();
    let _: u64 = redis.zadd(untold, &waiting[0], 0).await.unwrap();
    let again = Arc::new(world.pipeline.queue.next_untold(&CancellationToken::new()).await.unwrap());
    let outcome = world.pipeline.run(again, CancellationToken::new()).await;
    assert_eq!(outcome.name(), "done", "{outcome:?}");
    assert_eq!(world.status().await, "completed");
    assert_eq!(world.calls.lock().await.len(), 1, "the backend was told before, and is not told again");
}
