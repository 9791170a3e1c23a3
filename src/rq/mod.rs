//! Jobs of RQ, the Python queue, in our list (`rq.compat = "worker"`).
//!
//! RQ's element is the id of a hash that says what is to be called. What of that we can run is a
//! call that names a task: by keywords (`task_id` or `taskId`, `email`, `course_url` or `courseUrl`),
//! by a dictionary with these keys, or by three arguments in that order. The name of the function
//! does not matter. Nothing here talks to Redis; the queue does, with what it is given here.
//!
//! * `graph`: values as data; `pickle`: Python's serialised ones
//! * [`decode`]: the hash of a job to what it asks for
//! * [`books`]: what RQ's keys say of the job at each step
//! * [`worker`]: this instance as RQ shows it and talks to it
//!
//! # Who tries again
//!
//! A job that was enqueued with `Retry` has RQ's number of attempts and RQ's pauses, because they
//! are what its producer asked for; one without has those of `queue.max_attempts` and
//! `queue.retry_delay_seconds`, because downloads fail in passing and RQ's own default, one attempt,
//! was made for code that does not. Only failures that can pass are tried again, either way. Between
//! two attempts the job is where RQ keeps such jobs, in its registry of scheduled ones, and not in
//! our delayed set: one place, which all tools know. Whoever holds RQ's scheduler lock brings it
//! back: an instance of ours, or a worker of RQ with a scheduler.
//!
//! `timeout` is honoured as RQ does (180 s when the producer does not say); -1 leaves the limit to
//! `worker.job_timeout_seconds`. Meta data is left alone. Callbacks, webhooks, repeats and rate
//! limits belong to RQ's workers: a job that asks for one is failed, with a text that says so.
//!
//! # Dependents
//!
//! What waits for a job is told in a step of its own after the job's end, which is noted in the
//! same script as the end. The step reads the dependents on the server while it moves them, so a
//! dependent that is enqueued meanwhile is either seen, or its producer sees the end; and should
//! the process die in between, the next sweep of any instance makes the step.
pub mod books;
pub mod decode;
mod graph;
mod pickle;
pub mod worker;

pub use books::{Command, Execution, execution_id};
pub use decode::RqJob;
pub use worker::{RqWorker, Run};
