//! Spans to an OpenTelemetry collector: OTLP over HTTP, in batches, beside the jobs.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry::KeyValue;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_http::{HeaderExtractor, HeaderInjector, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use reqwest::Client;
use reqwest::header::HeaderMap;
use tokio::runtime::Handle;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::Layer;

use super::TARGET;
use crate::config::Config;
use crate::failure::{Failure, FailureKind, Result};
use crate::http::{self, shown};
use crate::logging::BoxedLayer;

/// Limit of one call to the collector.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// How long the end of the daemon waits for the collector.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// What is read of the collector's answer, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// The way of spans to the collector; nothing when no endpoint is set.
pub struct Traces(Option<SdkTracerProvider>);

impl Traces {
    /// Of a daemon with this configuration. Call it within the runtime.
    ///
    /// # Errors
    /// `internal` when the exporter cannot be built.
    pub fn open(config: &Config) -> Result<Traces> {
        let Some(endpoint) = &config.traces.endpoint else { return Ok(Traces(None)) };
        let failed = |error: &dyn std::fmt::Display| Failure::new(FailureKind::Internal, format!("traces: {error}"));
        let address = format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/'));
        let client = Collector {
            client: http::client(&config.http)?,
            runtime: Handle::current(),
            shown: shown(endpoint),
            is_away: AtomicBool::new(false),
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(address)
            .with_timeout(CALL_LIMIT)
            .with_http_client(client)
            .build();
        let resource = Resource::builder().with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", config.worker.instance.clone()),
        ]);
        let resource = match std::env::var_os("OTEL_SERVICE_NAME") {
            Some(_) => resource,
            None => resource.with_service_name("hauld"),
        };
        // Bounded: with a collector that is away, what is too much is thrown away.
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter.map_err(|error| failed(&error))?)
            .with_resource(resource.build())
            .build();
        Ok(Traces(Some(provider)))
    }

    /// What the log hands spans to: those for traces, and that of a job.
    pub fn layer(&self) -> Option<BoxedLayer> {
        let tracer = self.0.as_ref()?.tracer("hauld");
        let layer = tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false);
        let is_traced =
            filter_fn(|metadata| metadata.is_span() && (metadata.target() == TARGET || metadata.name() == "job"));
        Some(layer.with_filter(is_traced).boxed())
    }

    /// Sends what has not been sent yet, for a while.
    pub async fn close(self) {
        let Some(provider) = self.0 else { return };
        // It waits for the thread that sends, which needs this one for its calls.
        let closed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(CLOSE_LIMIT)).await;
        if !matches!(closed, Ok(Ok(()))) {
            tracing::warn!("the last spans may not have reached the collector of traces");
        }
    }
}

pub(super) fn adopt(span: &Span, headers: &HeaderMap) {
    let context = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
    // It fails when nobody traces the span.
    let _ = span.set_parent(context);
}

pub(super) fn headers_of_current_span() -> Option<HeaderMap> {
    let context = Span::current().context();
    let is_valid = context.span().span_context().is_valid();
    is_valid.then(|| {
        let mut headers = HeaderMap::new();
        TraceContextPropagator::new().inject_context(&context, &mut HeaderInjector(&mut headers));
        headers
    })
}

/// Our HTTP client, for a thread outside the runtime.
#[derive(Debug)]
struct Collector {
    client: Client,
    runtime: Handle,
    /// The endpoint, for the log.
    shown: String,
    /// Whether the last call failed: an outage is told once.
    is_away: AtomicBool,
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = reqwest::Request::try_from(request)?;
        let client = self.client.clone();
        let call = async move {
            let response = client.execute(request).await.map_err(reqwest::Error::without_url)?;
            let (status, headers) = (response.status(), response.headers().clone());
            let body = http::read_body(response, MAX_ANSWER_BYTES).await?;
            Ok::<_, HttpError>((status, headers, body))
        };
        let answer = self.runtime.spawn(async { tokio::time::timeout(CALL_LIMIT, call).await }).await?;
        let late = |_| Err(format!("no answer within {} s", CALL_LIMIT.as_secs()).into());
        let answer = answer.unwrap_or_else(late);
        let failed = match &answer {
            Ok((status, ..)) if status.is_success() => None,
            Ok((status, ..)) => Some(format!("it answers {status}")),
            Err(error) => Some(error.to_string()),
        };
        match (failed, self.is_away.load(Relaxed)) {
            (Some(reason), false) => {
                self.is_away.store(true, Relaxed);
                tracing::warn!("no traces reach {}: {reason}; nothing else is affected", self.shown);
            }
            (None, true) => {
                self.is_away.store(false, Relaxed);
                tracing::info!("traces reach {} again", self.shown);
            }
            _ => {}
        }
        let (status, headers, body) = answer?;
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}
