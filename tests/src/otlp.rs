//! A collector of spans, as the services export them over OTLP, and the tree that they are.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::stack::Stack;

/// A span that was exported.
#[derive(Debug, Clone)]
pub struct Collected {
    /// The service that exported it.
    pub service: String,
    /// The span.
    pub span: Span,
}

impl Collected {
    /// An attribute's value as text; empty without it.
    pub fn attribute(&self, name: &str) -> String {
        texts(&self.span.attributes).remove(name).unwrap_or_default()
    }

    /// Its trace, as a `traceparent` has it.
    pub fn trace(&self) -> String {
        hex(&self.span.trace_id)
    }

    /// The trace that it is linked to.
    pub fn linked_to(&self) -> Option<String> {
        self.span.links.first().map(|link| hex(&link.trace_id))
    }

    fn line(&self) -> String {
        let kind = match self.span.kind() {
            SpanKind::Server => "server",
            SpanKind::Producer => "producer",
            SpanKind::Consumer => "consumer",
            SpanKind::Internal => "internal",
            SpanKind::Client | SpanKind::Unspecified => "other",
        };
        let mut line = format!("{} [{}, {kind}]", self.span.name, self.service);
        for name in ["saga.step", "saga.direction", "saga.attempt", "saga.outcome", "saga.status"] {
            let text = self.attribute(name);
            let is_usual = text.is_empty() || name == "saga.attempt" && text == "1";
            if !is_usual {
                line.push_str(&format!(" {}={text}", name.trim_start_matches("saga.")));
            }
        }
        let status = self.span.status.as_ref().filter(|status| status.code() == StatusCode::Error);
        if let Some(status) = status {
            line.push_str(&format!(" ERROR {}", status.message));
        }
        line
    }
}

/// Takes what services export.
#[derive(Debug)]
pub struct Collector {
    spans: Spans,
    count: Arc<AtomicU64>,
    endpoint: String,
    server: JoinHandle<()>,
}

type Spans = Arc<Mutex<Vec<Collected>>>;

impl Collector {
    /// Listens on a port of its own, and keeps what comes.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn start() -> Result<Self> {
        Self::listen(true).await
    }

    /// Listens on a port of its own, and only counts what comes.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn counting() -> Result<Self> {
        Self::listen(false).await
    }

    async fn listen(keeps: bool) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let spans = Spans::default();
        let count = Arc::new(AtomicU64::new(0));
        let kept = keeps.then(|| spans.clone());
        let service = TraceServiceServer::new(Service { kept, count: count.clone() });
        let server = tokio::spawn(async move {
            let incoming = TcpIncoming::from(listener);
            if let Err(error) = Server::builder().add_service(service).serve_with_incoming(incoming).await {
                eprintln!("the collector ended: {error}");
            }
        });
        Ok(Self { spans, count, endpoint, server })
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// How many spans have come.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Has the services of a stack that are started from now on export their spans to here, at once.
    pub fn collect_from(&self, stack: &Stack) {
        stack.tell("OTEL_EXPORTER_OTLP_ENDPOINT", &self.endpoint);
        stack.tell("OTEL_BSP_SCHEDULE_DELAY", "50");
    }

    /// The spans of a trace so far, each id once: what is repeated is written down again under its id.
    ///
    /// # Errors
    /// A test has panicked while it looked.
    pub fn trace(&self, id: &str) -> Result<Vec<Collected>> {
        let spans = self.spans.lock().ok().context("the collector has panicked")?;
        let mut seen = HashSet::new();
        let of_trace = spans.iter().filter(|one| one.trace() == id);
        Ok(of_trace.filter(|one| seen.insert(one.span.span_id.clone())).cloned().collect())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Service {
    kept: Option<Spans>,
    count: Arc<AtomicU64>,
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for of_resource in request.into_inner().resource_spans {
            let resource = of_resource.resource.unwrap_or_default();
            let service = texts(&resource.attributes).remove("service.name").unwrap_or_default();
            let spans: Vec<Span> =
                of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans).collect();
            self.count.fetch_add(spans.len() as u64, Ordering::Relaxed);
            if let Some(kept) = &self.kept {
                let spans = spans.into_iter().map(|span| Collected { service: service.clone(), span });
                kept.lock().map_err(|_| Status::internal("poisoned"))?.extend(spans);
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// The tree of a trace, a line a span; what has no parent here comes first, then what began first.
pub fn tree(spans: &[Collected]) -> String {
    let ids: HashSet<&[u8]> = spans.iter().map(|one| one.span.span_id.as_slice()).collect();
    let mut below: BTreeMap<&[u8], Vec<&Collected>> = BTreeMap::new();
    for one in spans {
        let parent = one.span.parent_span_id.as_slice();
        below.entry(if ids.contains(parent) { parent } else { &[] }).or_default().push(one);
    }
    for children in below.values_mut() {
        children.sort_by_key(|one| (one.span.start_time_unix_nano, one.span.name.clone()));
    }
    let mut text = String::new();
    draw(&below, &[], 0, &mut text);
    text
}

fn draw(below: &BTreeMap<&[u8], Vec<&Collected>>, parent: &[u8], depth: usize, text: &mut String) {
    for one in below.get(parent).into_iter().flatten() {
        text.push_str(&format!("{:1$}{2}\n", "", 2 * depth, one.line()));
        draw(below, &one.span.span_id, depth + 1, text);
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        _ => None,
    };
    attributes.iter().filter_map(|attribute| Some((attribute.key.clone(), text(attribute)?))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
