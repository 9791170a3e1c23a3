//! Traces: which caller's work a job belongs to (W3C Trace Context), and, when built with the feature
//! `otlp`, the spans of a job for an OpenTelemetry collector.

#[cfg(feature = "otlp")]
mod export;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use tracing::{Instrument, Span};

use crate::failure::Result;

#[cfg(feature = "otlp")]
pub use export::Traces;

/// What spans that are for traces alone are marked with: the log leaves them out.
pub const TARGET: &str = "hauld_traces";

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Longest `tracestate` that is handed on, in bytes.
const MAX_STATE_BYTES: usize = 512;

/// Where in somebody's trace a job was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceContext {
    traceparent: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    tracestate: Option<String>,
}

impl TraceContext {
    /// `None` when it is not what <https://www.w3.org/TR/trace-context/> says: then it is passed over.
    pub fn new(traceparent: &str, tracestate: Option<&str>) -> Option<TraceContext> {
        let is_state = |state: &&str| {
            (1..=MAX_STATE_BYTES).contains(&state.len()) && state.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        };
        is_parent(traceparent).then(|| TraceContext {
            traceparent: traceparent.to_owned(),
            tracestate: tracestate.filter(is_state).map(str::to_owned),
        })
    }

    /// That of a request.
    pub fn of_request(headers: &HeaderMap) -> Option<TraceContext> {
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
        let states: Vec<&str> = headers.get_all(TRACESTATE).iter().filter_map(|state| state.to_str().ok()).collect();
        TraceContext::new(parent.to_str().ok()?, Some(&states.join(",")))
    }

    /// `version-trace-parent-flags`.
    pub fn traceparent(&self) -> &str {
        &self.traceparent
    }

    /// What vendors keep with it.
    pub fn tracestate(&self) -> Option<&str> {
        self.tracestate.as_deref()
    }

    fn headers(&self) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_str(text).ok();
        let parent = value(&self.traceparent).map(|value| (TRACEPARENT, value));
        let state = self.tracestate().and_then(value).map(|value| (TRACESTATE, value));
        parent.into_iter().chain(state).collect()
    }
}

fn is_parent(text: &str) -> bool {
    let is_hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let is_id = |part: &str, length| is_hex(part, length) && part.bytes().any(|byte| byte != b'0');
    let mut parts = text.splitn(5, '-');
    let [version, trace, parent, flags] = std::array::from_fn(|_| parts.next().unwrap_or_default());
    let is_known = is_hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
    is_known && is_id(trace, 32) && is_id(parent, 16) && is_hex(flags, 2) && text.len() <= 128
}

/// A span for traces alone; none when they are not built in.
macro_rules! span {
    ($name:literal $(, $($fields:tt)*)?) => {{
        #[cfg(feature = "otlp")]
        let span = tracing::info_span!(
            target: $crate::traces::TARGET,
            $name,
            "otel.status_code" = tracing::field::Empty,
            "error.type" = tracing::field::Empty
            $(, $($fields)*)?
        );
        #[cfg(not(feature = "otlp"))]
        let span = tracing::Span::none();
        span
    }};
}
pub(crate) use span;

/// Runs a step in its span, which says how it ended.
pub(crate) async fn within<T>(span: Span, step: impl Future<Output = Result<T>>) -> Result<T> {
    let result = step.instrument(span.clone()).await;
    if let Err(failure) = &result {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", failure.kind.name());
    }
    result
}

/// Makes the span of a job part of the trace in which it was asked for.
pub(crate) fn adopt(span: Span, context: Option<&TraceContext>) -> Span {
    #[cfg(feature = "otlp")]
    if let Some(context) = context {
        export::adopt(&span, &context.headers());
    }
    #[cfg(not(feature = "otlp"))]
    let _ = context;
    span
}

/// The headers that tell whoever is called now which trace it is in: that of the current span, or the
/// one that came with the job, as it came.
pub(crate) fn headers(context: Option<&TraceContext>) -> HeaderMap {
    #[cfg(feature = "otlp")]
    if let Some(headers) = export::headers_of_current_span() {
        return headers;
    }
    context.map(TraceContext::headers).unwrap_or_default()
}

/// Nothing: this program was built without the feature `otlp`, and its configuration refuses an endpoint.
#[cfg(not(feature = "otlp"))]
pub struct Traces;

#[cfg(not(feature = "otlp"))]
impl Traces {
    /// Of a daemon with this configuration.
    ///
    /// # Errors
    /// None.
    pub fn open(_config: &crate::config::Config) -> Result<Traces> {
        Ok(Traces)
    }

    /// What the log hands spans to.
    pub fn layer(&self) -> Option<crate::logging::BoxedLayer> {
        None
    }

    /// Sends what has not been sent yet.
    pub async fn close(self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn only_what_the_standard_calls_a_context_is_one() {
        assert_eq!(TraceContext::new(PARENT, None).unwrap().traceparent(), PARENT);
        assert!(TraceContext::new(&format!("cc{}-what-comes-later", &PARENT[2..]), None).is_some());
        for wrong in [
            "",
            "00",
            &PARENT[..54],
            &format!("{PARENT}-x"),
            &format!("ff{}", &PARENT[2..]),
            &PARENT.to_uppercase(),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-000f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::new(wrong, None), None, "{wrong}");
        }
        let state = |text: &str| TraceContext::new(PARENT, Some(text)).unwrap().tracestate;
        assert_eq!(state("a=1,b=2").as_deref(), Some("a=1,b=2"));
        assert_eq!((state(""), state("a=\n"), state(&"a".repeat(513))), (None, None, None));
    }

    #[test]
    fn a_context_comes_and_goes_as_headers() {
        let mut request = HeaderMap::new();
        assert_eq!(TraceContext::of_request(&request), None);
        request.append(TRACEPARENT, HeaderValue::from_static(PARENT));
        request.append(TRACESTATE, HeaderValue::from_static("a=1"));
        request.append(TRACESTATE, HeaderValue::from_static("b=2"));
        let sent = TraceContext::of_request(&request).unwrap().headers();
        assert_eq!((&sent[TRACEPARENT], &sent[TRACESTATE]), (&request[TRACEPARENT], &"a=1,b=2".parse().unwrap()));
        request.append(TRACEPARENT, HeaderValue::from_static(PARENT));
        assert_eq!(TraceContext::of_request(&request), None, "whose is it?");
    }
}
