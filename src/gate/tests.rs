use std::sync::Mutex;

use async_trait::async_trait;

use super::*;
use crate::job::{Element, TaskId};
use crate::store::FinalStatus;

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
    let store = FakeStore::new(script);
    let element = Element(br#"{"taskId":43,"email":"a@b","courseUrl":"https://h/c"}"#.to_vec());
    let settings = GateSettings { wait: Duration::from_secs(15), poll: Duration::from_secs(2) };
    let started = Instant::now();
    let result = admit(&store, &JobSpec::parse(&element).unwrap(), &settings).await;
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
