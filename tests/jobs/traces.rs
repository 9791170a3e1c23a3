//! Whose trace a job is part of, and the spans of a job.

use serde_json::json;

use crate::support::daemon::HOOK_TOKEN;
use crate::support::http_client;
use crate::world::{World, course_url, small};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// Orders a course by the hook, in somebody's trace.
async fn order(url: String, task_id: u64) {
    let tasks = [json!({"taskId": task_id, "email": "a@example.com", "courseUrl": course_url(task_id)})];
    let request = http_client().post(url).bearer_auth(HOOK_TOKEN);
    let request = request.header("traceparent", format!("00-{TRACE}-{CALLER}-01")).header("tracestate", "shop=7");
    let answer = request.json(&json!({"orderId": 5, "tasks": tasks})).send().await.unwrap();
    assert_eq!(answer.status(), 202);
}

#[tokio::test]
async fn the_trace_of_an_order_goes_on_to_its_finalize_call() {
    let world = World::new();
    let daemon = world.daemon().hook().start().await;
    world.publish(4101, &small());
    order(daemon.hook_url("/api/v1/orders"), 4101).await;
    let calls = world.backend.wait_for_finalize(1).await;
    assert_eq!(calls[0].header("traceparent"), Some(format!("00-{TRACE}-{CALLER}-01").as_str()));
    assert_eq!(calls[0].header("tracestate"), Some("shop=7"));
}

#[cfg(not(feature = "otlp"))]
#[tokio::test]
async fn a_program_without_traces_refuses_an_endpoint_for_them() {
    let world = World::new();
    let daemon = world.daemon().env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318").launch();
    assert_eq!(daemon.wait_exit(std::time::Duration::from_secs(10)).await.code(), Some(78));
    daemon.wait_for_log(&["traces.endpoint", "built without --features otlp"]).await;
}

#[cfg(feature = "otlp")]
mod export {
    use std::time::Duration;

    use super::{CALLER, TRACE, order};
    use crate::support::origin::Reply;
    use crate::support::{Fault, Origin};
    use crate::world::{World, small};

    const TRACES: &str = "/v1/traces";

    #[derive(Debug, Default)]
    struct Span {
        trace: String,
        id: String,
        parent: String,
        name: String,
        is_error: bool,
    }

    /// The fields of a message of protocol buffers: number and content, a number as its eight bytes.
    fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
        fn number(bytes: &mut &[u8]) -> u64 {
            let mut number = 0;
            for shift in (0..).step_by(7) {
                let (first, rest) = bytes.split_first().expect("a whole number");
                *bytes = rest;
                number |= u64::from(first & 0x7f) << shift;
                if first & 0x80 == 0 {
                    break;
                }
            }
            number
        }
        fn take(bytes: &mut &[u8], count: usize) -> Vec<u8> {
            let (taken, rest) = bytes.split_at(count);
            *bytes = rest;
            taken.to_vec()
        }
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let tag = number(&mut bytes);
            let content = match tag & 7 {
                0 => number(&mut bytes).to_le_bytes().to_vec(),
                1 => take(&mut bytes, 8),
                2 => {
                    let length = number(&mut bytes) as usize;
                    take(&mut bytes, length)
                }
                5 => take(&mut bytes, 4),
                other => panic!("wire type {other}"),
            };
            fields.push((tag >> 3, content));
        }
        fields
    }

    fn inside(bytes: &[u8], path: &[u64]) -> Vec<Vec<u8>> {
        let Some((number, path)) = path.split_first() else { return vec![bytes.to_vec()] };
        let fields = fields(bytes).into_iter().filter(|(field, _)| field == number);
        fields.flat_map(|(_, content)| inside(&content, path)).collect()
    }

    /// What is in the calls to the collector (opentelemetry/proto/trace/v1/trace.proto).
    fn spans(collector: &Origin) -> Vec<Span> {
        let calls = collector.requests_for(TRACES);
        let encoded = calls.iter().flat_map(|call| inside(&call.body, &[1, 2, 2])).collect::<Vec<_>>();
        let span = |bytes: &Vec<u8>| {
            let one = |path: &[u64]| inside(bytes, path).pop().unwrap_or_default();
            Span {
                trace: hex::encode(one(&[1])),
                id: hex::encode(one(&[2])),
                parent: hex::encode(one(&[4])),
                name: String::from_utf8(one(&[5])).unwrap(),
                is_error: one(&[15, 3]).first() == Some(&2),
            }
        };
        encoded.iter().map(span).collect()
    }

    fn collector() -> Origin {
        let collector = Origin::start();
        collector.answer(TRACES, |_| Reply::ok("application/x-protobuf", ""));
        collector
    }

    #[tokio::test]
    async fn the_spans_of_a_job_are_in_the_trace_of_its_order() {
        let world = World::new();
        let collector = collector();
        let daemon = world.daemon().hook().set("traces.endpoint", collector.url("")).start().await;
        let paths = world.publish(4111, &small());
        world.origin.fault(&paths[0], Fault::Status(503).times(1));
        order(daemon.hook_url("/api/v1/orders"), 4111).await;
        world.redis.wait_for_task(4111, "completed").await;
        daemon.sigterm();
        assert!(daemon.wait_exit(Duration::from_secs(20)).await.success());

        let spans = spans(&collector);
        let named = |name: &str| {
            let mut found = spans.iter().filter(|span| span.name == name);
            match (found.next(), found.next()) {
                (Some(span), None) => span,
                _ => panic!("one {name} is not in {spans:?}"),
            }
        };
        assert!(spans.iter().all(|span| span.trace == TRACE && !span.is_error), "{spans:?}");
        let job = named("job");
        assert_eq!(job.parent, CALLER);
        for name in ["gate", "resolve", "lecture", "delivery", "finalize"] {
            assert_eq!(named(name).parent, job.id, "{name}");
        }
        assert_eq!(named("segment").parent, named("lecture").id);
        let call = &world.backend.finalize_calls()[0];
        assert_eq!(call.header("traceparent"), Some(format!("00-{TRACE}-{}-01", named("finalize").id).as_str()));
        assert_eq!(call.header("tracestate"), Some("shop=7"));
        let log = daemon.log_text();
        assert!(!log.contains("[\"job\",") && !log.contains("otel."), "the log is as without traces: {log}");
    }

    #[tokio::test]
    async fn a_collector_that_is_away_costs_no_job_anything_and_a_failure_is_in_its_span() {
        let world = World::new();
        let collector = collector();
        collector.fault(TRACES, Fault::Status(400).times(1));
        let builder = world.daemon().env("OTEL_BSP_SCHEDULE_DELAY", "100").set("queue.max_attempts", 1);
        let daemon = builder.set("traces.endpoint", collector.url("/")).start().await;
        world.push(4121);
        world.redis.wait_for_task(4121, "failed").await;
        daemon.wait_for_log(&["WARN", "no traces reach", "400"]).await;
        world.publish(4122, &small());
        world.push(4122);
        world.redis.wait_for_task(4122, "completed").await;
        daemon.wait_for_log(&["traces reach", "again"]).await;
        world.push(4123);
        world.redis.wait_for_task(4123, "failed").await;
        daemon.sigterm();
        assert!(daemon.wait_exit(Duration::from_secs(20)).await.success());
        let spans = spans(&collector);
        let failed = spans.iter().filter(|span| span.name == "resolve" && span.is_error).count();
        assert!(failed >= 1, "{spans:?}");
    }
}
