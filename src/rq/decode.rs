//! From the hash of an RQ job to a job of ours. Pure.

use std::collections::HashMap;
use std::io::Read;
use std::time::Duration;

use flate2::read::ZlibDecoder;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::graph::{Graph, Node, NodeId};
use crate::failure::{Failure, FailureKind, Result};
use crate::job::{Element, JobSpec};

/// The most bytes that `data` may have, as stored and unpacked: a task is described in far fewer.
pub const LARGEST_DATA: usize = 256 * 1024;
/// Arguments of a call that are looked at.
const MOST_ARGUMENTS: usize = 16;
/// How long the result of a job is kept that does not say so: RQ's default, in seconds.
const RESULT_TTL: i64 = 500;
/// How long a failed job is kept that does not say so: RQ's default, in seconds.
pub(super) const FAILURE_TTL: i64 = 31_536_000;

/// The fields of `rq:job:<id>` that are read.
pub const FIELDS: &[&str] = &[
    "data",
    "status",
    "origin",
    "worker_name",
    "started_at",
    "enqueued_at",
    "timeout",
    "ttl",
    "result_ttl",
    "failure_ttl",
    "retries_left",
    "retry_intervals",
    "enqueue_at_front_on_retry",
    "repeats_left",
    "webhooks",
    "success_callback_name",
    "failure_callback_name",
    "stopped_callback_name",
    "rate_limit_key",
];

/// Names under which a task's fields come: as our own elements have them, and as Python writes them.
const NAMES: [(&str, &[&str]); 3] =
    [("taskId", &["taskId", "task_id"]), ("email", &["email"]), ("courseUrl", &["courseUrl", "course_url"])];

/// What a job can ask for that we cannot give it: to leave it out would be to do half the job.
const PYTHON_ONLY: &[(&str, &str)] = &[
    ("success_callback_name", "a callback"),
    ("failure_callback_name", "a callback"),
    ("stopped_callback_name", "a callback"),
    ("webhooks", "webhooks"),
    ("repeats_left", "repeats"),
    ("rate_limit_key", "a rate limit"),
];

/// What RQ's hash says about a job.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RqJob {
    /// The element of the list.
    pub id: String,
    /// The name of the queue whose registries have the job.
    pub origin: String,
    /// RQ's word for where the job is.
    pub status: String,
    /// The worker that has it, or had it last.
    pub worker_name: String,
    /// When its last execution began, as it stands there.
    pub started_at: String,
    /// When it was put into the list last.
    pub enqueued_at: Option<Timestamp>,
    /// Limit of one attempt; `None` when it has none.
    pub timeout: Option<Duration>,
    /// Life of the hash while the job waits, in seconds.
    pub ttl: Option<i64>,
    /// Life of a result, in seconds; 0 for none, -1 for ever.
    pub result_ttl: i64,
    /// Life of a failed job, in seconds; -1 for ever.
    pub failure_ttl: Option<i64>,
    /// `None` when the job was enqueued without `Retry`.
    pub retries_left: Option<u32>,
    /// Pauses before the retries, in seconds.
    pub retry_intervals: Vec<u64>,
    /// Whether a retry is pushed to the left end.
    pub retry_at_front: bool,
}

impl RqJob {
    /// Reads the hash (a name that it does not have is missing or empty), and what the job asks for.
    /// `queue` is the name of the queue for a job that does not say where it comes from. `None` when
    /// it is not the hash of a job.
    ///
    /// The task is a failure, of kind `malformed_job` or `foreign_job`, when the job cannot be run
    /// here; RQ's books are kept for such a job too. A hash whose `data` is larger than
    /// [`LARGEST_DATA`] may be given with the first so many bytes and one more.
    pub fn read(id: &str, queue: &str, fields: &HashMap<String, Vec<u8>>) -> Option<(RqJob, Result<JobSpec>)> {
        let data = fields.get("data")?;
        let text =
            |name: &str| fields.get(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
        let number = |name: &str| text(name).parse::<i64>().ok();
        let seconds = |name: &str| -> Vec<u64> {
            let numbers: Vec<Value> = serde_json::from_str(&text(name)).unwrap_or_default();
            numbers.iter().map(|number| number.as_f64().unwrap_or(0.0) as u64).collect()
        };
        let count = |name: &str| number(name).map(|number| u32::try_from(number).unwrap_or(0));
        let origin = Some(text("origin")).filter(|origin| !origin.is_empty());
        let job = RqJob {
            id: id.to_owned(),
            origin: origin.unwrap_or_else(|| queue.to_owned()),
            status: text("status"),
            worker_name: text("worker_name"),
            started_at: text("started_at"),
            enqueued_at: text("enqueued_at").parse().ok(),
            timeout: number("timeout")
                .and_then(|seconds| u64::try_from(seconds).ok())
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
            ttl: number("ttl"),
            result_ttl: number("result_ttl").unwrap_or(RESULT_TTL),
            failure_ttl: number("failure_ttl"),
            retries_left: count("retries_left"),
            retry_intervals: seconds("retry_intervals"),
            retry_at_front: text("enqueue_at_front_on_retry") == "1",
        };
        let foreign = PYTHON_ONLY.iter().find(|(name, _)| !matches!(text(name).as_str(), "" | "0" | "[]"));
        let spec = match foreign {
            Some((name, what)) => Err(Failure::new(
                FailureKind::ForeignJob,
                format!("the RQ job {id} has {what} ({name}), which only a worker of RQ can give it"),
            )),
            None => task(data).map_err(|what| {
                Failure::new(FailureKind::MalformedJob, format!("the data of the RQ job {id}: {what}"))
            }),
        };
        Some((job, spec))
    }
}

/// What `data` asks for; `Err` says why it cannot be told.
pub(crate) fn task(data: &[u8]) -> Result<JobSpec, String> {
    let call = unpack(data)?;
    let graph = match call.first() {
        Some(b'[') => Graph::from_json(serde_json::from_slice(&call).map_err(|error| format!("not JSON: {error}"))?),
        Some(_) => Graph::from_pickle(&call)?,
        None => return Err("it is empty".into()),
    };
    let Node::List(parts) = graph.node(graph.root()) else { return Err("it is not a call".into()) };
    let &[function, _instance, args, kwargs] = &parts[..] else { return Err("it is not a call of RQ".into()) };
    let function = match graph.node(function) {
        Node::Text(name) => name.chars().take(80).collect(),
        _ => "a function".to_owned(),
    };
    let spec = JobSpec::parse(&Element(described(&graph, args, kwargs).to_string().into_bytes()));
    spec.map_err(|failure| format!("a call of {function}: {}", failure.message))
}

/// `data` is packed by zlib; what is not was stored as it is.
fn unpack(data: &[u8]) -> Result<Vec<u8>, String> {
    let too_large = || format!("it has more than {LARGEST_DATA} bytes");
    if data.len() > LARGEST_DATA {
        return Err(too_large());
    }
    let mut unpacked = Vec::new();
    match ZlibDecoder::new(data).take(LARGEST_DATA as u64 + 1).read_to_end(&mut unpacked) {
        Ok(length) if length > LARGEST_DATA => Err(too_large()),
        Ok(_) => Ok(unpacked),
        Err(_) => Ok(data.to_vec()),
    }
}

/// The task's fields in our own element's form. A keyword counts before a dictionary, a dictionary
/// before a place in the row of arguments.
fn described(graph: &Graph, args: NodeId, kwargs: NodeId) -> Value {
    let mut fields = serde_json::Map::new();
    let mut add = |name: &str, value: NodeId| {
        let value = match graph.node(value) {
            Node::Int(number) => json!(number),
            Node::Text(text) => json!(text),
            Node::None => Value::Null,
            // Named in the error as what it is: nothing that describes a task.
            Node::List(_) | Node::Dict(_) | Node::Other => json!([]),
        };
        fields.entry(name).or_insert(value);
    };
    let args = match graph.node(args) {
        Node::List(args) => &args[..args.len().min(MOST_ARGUMENTS)],
        _ => &[],
    };
    let kwargs = match graph.node(kwargs) {
        Node::Dict(kwargs) => &kwargs[..],
        _ => &[],
    };
    let dictionaries = args.iter().copied().chain(kwargs.iter().take(MOST_ARGUMENTS).map(|(_, value)| *value));
    let keywords = std::iter::once(kwargs).chain(dictionaries.filter_map(|id| match graph.node(id) {
        Node::Dict(members) => Some(&members[..]),
        _ => None,
    }));
    for members in keywords {
        for (name, value) in members {
            let Node::Text(given) = graph.node(*name) else { continue };
            if let Some((name, _)) = NAMES.iter().find(|(_, names)| names.contains(&given.as_str())) {
                add(name, *value);
            }
        }
    }
    for ((name, _), value) in NAMES.iter().zip(args) {
        if !matches!(graph.node(*value), Node::Dict(_)) {
            add(name, *value);
        }
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(fields: &[(&str, &[u8])]) -> (RqJob, Result<JobSpec>) {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect();
        RqJob::read("an-id", "downloads", &fields).unwrap()
    }

    fn why(data: &[u8]) -> String {
        let failure = read(&[("data", data)]).1.unwrap_err();
        assert_eq!(failure.kind, FailureKind::MalformedJob);
        failure.message
    }

    fn packed(data: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(data).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn the_task_is_found_in_what_three_versions_of_rq_write() {
        let mut lines = 0;
        for line in include_str!("payloads.txt").lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let &[_version, _serializer, shape, data] = &words[..] else { panic!("{line}") };
            let (_, spec) = read(&[("data", &hex::decode(data).unwrap())]);
            lines += 1;
            if shape == "no_email" {
                let failure = spec.unwrap_err();
                assert!(failure.message.contains("downloads.run: email is missing"), "{}", failure.message);
                continue;
            }
            let spec = spec.unwrap_or_else(|failure| panic!("{line}: {failure}"));
            assert_eq!((spec.task_id.get(), spec.email.as_str()), (43, "user@example.com"), "{line}");
            assert_eq!(spec.course_url.as_str(), "https://learn.example.com/course/intro/");
        }
        assert_eq!(lines, 3 * (9 + 8));
    }

    #[test]
    fn what_is_no_call_is_said_and_never_too_large() {
        let json = br#"["f",null,[1,"a","http://h/c"],{}]"#;
        assert!(read(&[("data", json)]).1.is_ok());
        assert!(read(&[("data", &packed(json))]).1.is_ok());
        assert!(why(b"").contains("empty"));
        assert!(why(b"[1").contains("not JSON"));
        assert!(why(b"[]").contains("not a call of RQ"));
        assert!(why(b"\x80\x05N.").contains("not a call"));
        assert!(why(b"\xff\xfe").contains("the pickle is damaged"));
        assert!(why(br#"["f",null,[{"taskId":1}],{"email":["a"]}]"#).contains("email is not a text"));
        let nested = [vec![b'['; 5000], vec![b']'; 5000]].concat();
        assert!(why(&nested).contains("not JSON"));
        // 10 MiB in some 50 kB.
        let bomb = packed(&vec![b' '; 10 << 20]);
        assert!(bomb.len() < LARGEST_DATA && why(&bomb).contains("more than 262144 bytes"));
        assert!(why(&vec![b'['; LARGEST_DATA + 1]).contains("more than 262144 bytes"));
        // Half an archive is not taken for the whole.
        assert!(why(&packed(json)[..20]).contains("damaged"));
    }

    #[test]
    fn what_only_python_can_do_is_refused() {
        let data = br#"["f",null,[1,"a","http://h/c"],{}]"#;
        for (field, _) in PYTHON_ONLY {
            let failure = read(&[("data", data), (field, b"app.tell")]).1.unwrap_err();
            assert_eq!(failure.kind, FailureKind::ForeignJob);
            assert!(failure.message.contains(field));
            assert!(read(&[("data", data), (field, b"")]).1.is_ok());
        }
    }

    #[test]
    fn limits_and_retries_are_read_with_rqs_defaults() {
        let data = br#"["f",null,[1,"a","http://h/c"],{}]"#;
        let (job, _) = read(&[("data", data)]);
        assert_eq!((job.result_ttl, job.failure_ttl, job.timeout, job.retries_left), (500, None, None, None));
        assert_eq!(job.origin, "downloads");
        let (job, _) = read(&[
            ("data", data),
            ("origin", b"videos"),
            ("timeout", b"180"),
            ("result_ttl", b"-1"),
            ("failure_ttl", b"60"),
            ("retries_left", b"2"),
            ("retry_intervals", b"[1, 30]"),
        ]);
        assert_eq!((job.result_ttl, job.failure_ttl, job.timeout), (-1, Some(60), Some(Duration::from_secs(180))));
        assert_eq!((job.retries_left, job.retry_intervals, job.origin.as_str()), (Some(2), vec![1, 30], "videos"));
        assert_eq!(read(&[("data", data), ("timeout", b"-1"), ("retries_left", b"x")]).0.timeout, None);
        assert!(RqJob::read("an-id", "downloads", &HashMap::new()).is_none());
    }
}
