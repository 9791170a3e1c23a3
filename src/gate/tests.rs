use std::sync::Mutex;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};

use super::*;
use crate::job::{Element, TaskId};
use crate::store::{FinalStatus, Records};

/// What the store does from some second on.
#[derive(Clone, Copy)]
enum Answer {
    Status(&'static str),
    Nothing,
    Refuses,
    Hangs,
}
use Answer::{Hangs, Nothing, Refuses, Status};

struct FakeStore {
    started: Instant,
    /// From second to answer.
    script: Vec<(u64, Answer)>,
    read_at: Mutex<Vec<u64>>,
}

impl FakeStore {
    fn new(script: &[(u64, Answer)]) -> FakeStore {
        FakeStore { started: Instant::now(), script: script.to_vec(), read_at: Mutex::default() }
    }
}

#[async_trait]
impl TaskStore for FakeStore {
    async fn read(&self, _: TaskId) -> Result<Option<TaskRecord>> {
        let second = self.started.elapsed().as_secs();
        self.read_at.lock().unwrap().push(second);
        let (_, answer) = self.script.iter().rev().find(|(from, _)| *from <= second).unwrap();
        match answer {
            Status(status) => {
                Ok(Some(TaskRecord { status: (*status).into(), order_id: Some(41), ..TaskRecord::default() }))
            }
            Nothing => Ok(None),
            Refuses => Err(Failure::new(FailureKind::TaskStoreUnavailable, "connection refused")),
            Hangs => std::future::pending().await,
        }
    }

    async fn finish(&self, _: TaskId, _: FinalStatus, _: Option<&str>) -> Result<()> {
        unreachable!("the gate writes nothing")
    }

    async fn enroll(&self, _: &JobSpec, _: Option<u64>) -> Result<()> {
        unreachable!("the gate writes nothing")
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }
}

async fn admit_by(script: &[(u64, Answer)]) -> (Result<Enrolled>, Duration, Vec<u64>) {
    let store = Arc::new(FakeStore::new(script));
    let element = Element(br#"{"taskId":43,"email":"a@b","courseUrl":"https://h/c"}"#.to_vec());
    let settings = GateSettings { wait: Duration::from_secs(15), poll: Duration::from_secs(2) };
    let started = Instant::now();
    let result = Gate::new(store.clone(), settings).admit(&JobSpec::parse(&element).unwrap()).await;
    let read_at = store.read_at.lock().unwrap().clone();
    (result, started.elapsed(), read_at)
}

async fn refused_by(script: &[(u64, Answer)]) -> (FailureKind, String, Duration) {
    let (result, took, _) = admit_by(script).await;
    let failure = result.unwrap_err();
    (failure.kind, failure.message, took)
}

#[tokio::test(start_paused = true)]
async fn enrolled_passes_at_once() {
    let (result, took, read_at) = admit_by(&[(0, Status("enrolled"))]).await;
    assert_eq!(result.unwrap(), Enrolled { order_id: Some(41), waited: Duration::ZERO });
    assert_eq!((took, read_at), (Duration::ZERO, vec![0]));
}

#[tokio::test(start_paused = true)]
async fn final_statuses_stop_at_once_with_their_reason() {
    let now = Duration::ZERO;
    let says = |kind, message: &str| (kind, message.to_owned(), now);
    assert_eq!(refused_by(&[(0, Status("failed"))]).await, says(FailureKind::EnrollmentFailed, "enrollment failed"));
    assert_eq!(refused_by(&[(0, Nothing)]).await, says(FailureKind::TaskNotFound, "not found"));
    assert_eq!(
        refused_by(&[(0, Status("completed"))]).await,
        says(FailureKind::UnexpectedStatus, "unexpected status \"completed\"")
    );
    assert_eq!(refused_by(&[(0, Status(""))]).await, says(FailureKind::UnexpectedStatus, "unexpected status \"\""));
    assert_eq!(
        refused_by(&[(0, Status("Enrolled"))]).await,
        says(FailureKind::UnexpectedStatus, "unexpected status \"Enrolled\"")
    );
}

#[tokio::test(start_paused = true)]
async fn pending_statuses_are_looked_at_every_two_seconds_for_fifteen() {
    for status in ["paid", "pending", "processing"] {
        let (result, took, read_at) = admit_by(&[(0, Status(status))]).await;
        let failure = result.unwrap_err();
        assert_eq!(failure.kind, FailureKind::EnrollmentTimeout);
        assert_eq!(failure.message, "enrollment timeout after 15s");
        assert_eq!(took, Duration::from_secs(15));
        assert_eq!(read_at, [0, 2, 4, 6, 8, 10, 12, 14, 15]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_while_waiting_counts() {
    let (result, took, _) = admit_by(&[(0, Status("paid")), (3, Status("processing")), (7, Status("enrolled"))]).await;
    assert_eq!(result.unwrap().waited, Duration::from_secs(8));
    assert_eq!(took, Duration::from_secs(8));
    let (result, ..) = admit_by(&[(0, Status("paid")), (15, Status("enrolled"))]).await;
    assert_eq!(result.unwrap().waited, Duration::from_secs(15), "the last look");
    let (kind, _, took) = refused_by(&[(0, Status("paid")), (5, Status("failed"))]).await;
    assert_eq!((kind, took), (FailureKind::EnrollmentFailed, Duration::from_secs(6)));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_comes_back_in_time_is_forgiven() {
    let (result, took, _) = admit_by(&[(0, Refuses), (9, Status("enrolled"))]).await;
    assert_eq!(result.unwrap().waited, Duration::from_secs(10));
    assert_eq!(took, Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_is_unavailable_not_a_timeout_of_the_enrollment() {
    let (kind, message, took) = refused_by(&[(0, Refuses)]).await;
    assert_eq!((kind, took), (FailureKind::TaskStoreUnavailable, Duration::from_secs(15)));
    assert!(message.contains("connection refused"), "{message}");
    let (kind, _, took) = refused_by(&[(0, Hangs)]).await;
    assert_eq!((kind, took), (FailureKind::TaskStoreUnavailable, Duration::from_secs(15)));
    let (kind, ..) = refused_by(&[(0, Refuses), (4, Status("paid")), (6, Refuses)]).await;
    assert_eq!(kind, FailureKind::EnrollmentTimeout, "it has answered once");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_at_the_end_holds_nobody_for_long() {
    let (kind, _, took) = refused_by(&[(0, Status("paid")), (15, Hangs)]).await;
    assert_eq!(kind, FailureKind::EnrollmentTimeout);
    assert!(took <= Duration::from_millis(15_500), "{took:?}");
}

/// A store of many tasks, all `pending` until they are `enrolled` from that second on. Each question takes
/// 10 ms, one about task 99 an hour.
struct ManyTasks {
    started: Instant,
    enrolled_from: u64,
    /// When it was asked, in ms, and for which tasks.
    questions: Mutex<Vec<(u64, Vec<u64>)>>,
}

impl ManyTasks {
    fn new(enrolled_from: u64) -> Arc<ManyTasks> {
        Arc::new(ManyTasks { started: Instant::now(), enrolled_from, questions: Mutex::default() })
    }

    fn millis(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// When this task was asked for.
    fn looks(&self, task_id: u64) -> Vec<u64> {
        let questions = self.questions.lock().unwrap();
        questions.iter().filter(|(_, tasks)| tasks.contains(&task_id)).map(|(at, _)| *at).collect()
    }
}

#[async_trait]
impl TaskStore for ManyTasks {
    async fn read(&self, task_id: TaskId) -> Result<Option<TaskRecord>> {
        let took = if task_id.get() == 99 { Duration::from_secs(3600) } else { Duration::from_millis(10) };
        let status = if self.started.elapsed().as_secs() >= self.enrolled_from { "enrolled" } else { "pending" };
        tokio::time::sleep(took).await;
        Ok(Some(TaskRecord { status: status.into(), ..TaskRecord::default() }))
    }

    fn read_many<'a>(&'a self, task_ids: &'a [TaskId]) -> Records<'a> {
        let asked = task_ids.iter().map(|task_id| task_id.get()).collect();
        self.questions.lock().unwrap().push((self.millis(), asked));
        let reads = stream::iter(task_ids).map(async |task_id| (*task_id, self.read(*task_id).await));
        reads.buffer_unordered(64).boxed()
    }

    async fn finish(&self, _: TaskId, _: FinalStatus, _: Option<&str>) -> Result<()> {
        unreachable!("the gate writes nothing")
    }

    async fn enroll(&self, _: &JobSpec, _: Option<u64>) -> Result<()> {
        unreachable!("the gate writes nothing")
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }
}

fn many(store: &Arc<ManyTasks>) -> Arc<Gate> {
    let settings = GateSettings { wait: Duration::from_secs(15), poll: Duration::from_secs(2) };
    Arc::new(Gate::new(store.clone(), settings))
}

/// A job of this task that comes to the gate after so many milliseconds.
fn comes(gate: &Arc<Gate>, task_id: u64, after: u64) -> tokio::task::JoinHandle<Result<Enrolled>> {
    let element = format!(r#"{{"taskId":{task_id},"email":"a@b","courseUrl":"https://h/c"}}"#);
    let (gate, spec) = (gate.clone(), JobSpec::parse(&Element(element.into_bytes())).unwrap());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(after)).await;
        gate.admit(&spec).await
    })
}

#[tokio::test(start_paused = true)]
async fn all_that_wait_are_looked_at_by_one_question() {
    let store = ManyTasks::new(1000);
    let gate = many(&store);
    // Half of them at once, the others one after the other.
    let jobs: Vec<_> = (1..=32).map(|task| comes(&gate, task, task.saturating_sub(16) * 100)).collect();
    for job in futures_util::future::join_all(jobs).await {
        assert_eq!(job.unwrap().unwrap_err().kind, FailureKind::EnrollmentTimeout);
    }
    for task in 1..=32 {
        let looks = store.looks(task);
        assert_eq!(looks[0], task.saturating_sub(16) * 100, "at once when it comes");
        assert_eq!(looks.last().unwrap() - looks[0], 15_000, "the last look");
        assert!(looks.windows(2).all(|pair| pair[1] - pair[0] <= 2100), "{looks:?}");
        assert!((9..=10).contains(&looks.len()), "{looks:?}");
    }
    // One for each that comes alone and one for its end, two for those that came at once; in between
    // one in two seconds.
    let questions = store.questions.lock().unwrap();
    let in_between = questions.iter().filter(|(_, tasks)| tasks.len() > 16).count();
    assert!((6..=8).contains(&in_between), "{in_between}");
    assert!(questions.len() <= 2 * 16 + 2 * 2 + 8, "{questions:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_holds_up_no_other_job() {
    let store = ManyTasks::new(4);
    let gate = many(&store);
    let silent = comes(&gate, 99, 0);
    let (beside, later) = (comes(&gate, 1, 0), comes(&gate, 2, 5000));
    assert_eq!(later.await.unwrap().unwrap().waited, Duration::from_millis(110), "behind the one that is silent");
    let waited = beside.await.unwrap().unwrap().waited;
    assert!((4000..4500).contains(&waited.as_millis()), "{waited:?}");
    assert_eq!(silent.await.unwrap().unwrap_err().kind, FailureKind::TaskStoreUnavailable);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_stopped_takes_no_answer_away() {
    let store = ManyTasks::new(1);
    let gate = many(&store);
    let (stopped, other) = (comes(&gate, 1, 0), comes(&gate, 2, 0));
    tokio::time::sleep(Duration::from_millis(2015)).await;
    assert_eq!(store.looks(2).len(), 2, "the look is under way");
    stopped.abort();
    assert_eq!(other.await.unwrap().unwrap().waited, Duration::from_millis(2020));
    assert_eq!(store.looks(2).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn two_jobs_of_one_task_are_asked_for_once() {
    let store = ManyTasks::new(3);
    let gate = many(&store);
    let (one, other) = (comes(&gate, 1, 0), comes(&gate, 1, 0));
    one.await.unwrap().unwrap();
    other.await.unwrap().unwrap();
    assert!(store.questions.lock().unwrap().iter().all(|(_, tasks)| tasks == &[1]));
}
